//! `cargo xtask instructions`: what the two hottest paths cost, in instructions, beside what they are expected to cost.
//!
//! Seconds differ from machine to machine and from run to run; instructions, as callgrind counts them, do not
//! (`docs/BENCHMARKS.md` says how far). The program is `gateway/examples/instructions/`, built as the tests are, so that
//! nothing is compiled for this alone.

mod expected;

pub use expected::{Expected, Verdict};

use crate::progress::Log;
use crate::{tool, workspace};
use anyhow::{Context, Result, bail};
use indicatif::HumanCount;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The paths, by the names that the program knows them by.
pub const PATHS: [&str; 2] = ["fan-out", "publish"];

/// Measures and prints; with `renew` writes what was found to the file that the tests compare with.
pub fn run(renew: bool) -> Result<()> {
    let log = Log::create(workspace::target().join("test-logs").join("instructions.log"))?;
    tool::run(tool::cargo("build").args(["--workspace", "--all-targets"]))?;
    let known = Expected::read().ok();
    let compiler = compiler()?;
    let mut found = Expected { compiler: compiler.clone(), counts: Vec::new() };
    for path in PATHS {
        let count = count(&log, path)?;
        match known.as_ref().and_then(|known| Some((known, known.count(path)?))) {
            Some((known, expected)) => {
                println!("{}", Verdict::new(path, expected, count).describe(known, &compiler))
            }
            None => println!("{path}: {} instructions, nothing is expected yet", HumanCount(count)),
        }
        found.counts.push((path.to_owned(), count));
    }
    if renew {
        found.write()?;
        println!("wrote {}", workspace::shown(&expected::file()));
    }
    Ok(())
}

/// Counts one path. The program must have been built.
pub fn count(log: &Log, path: &str) -> Result<u64> {
    let profile = profile(path);
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--toggle-collect=*instructions*counted*"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(workspace::built("examples").join("instructions"))
        .arg(path);
    log.run(&mut valgrind)?;
    total(&profile)
}

/// Where callgrind writes what it found.
pub fn profile(path: &str) -> PathBuf {
    workspace::target().join("test-logs").join(format!("instructions-{path}.callgrind"))
}

fn total(profile: &Path) -> Result<u64> {
    let text =
        fs::read_to_string(profile).with_context(|| format!("cannot read {}", workspace::shown(profile)))?;
    let total = text.lines().rev().find_map(|line| line.strip_prefix("totals:"));
    match total.and_then(|total| total.trim().parse().ok()) {
        Some(0) | None => {
            bail!("{} has no count: is there no function `counted`?", workspace::shown(profile))
        }
        Some(total) => Ok(total),
    }
}

/// The compiler that builds the workspace.
pub fn compiler() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Ok(tool::output(Command::new(rustc).arg("--version").current_dir(workspace::root()))?.trim().to_owned())
}
