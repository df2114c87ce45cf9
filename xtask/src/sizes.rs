//! What a browser must load before the first message: measured with gzip -9, and gated.

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, thread};

const KIB: f64 = 1024.0;

/// What `@anabranch/client` is.
const ENTRY: &str = "index.js";

/// One measured part: its gzipped size against what we aim at and what we accept, KiB.
struct Budget {
    what: &'static str,
    target: f64,
    gate: f64,
}

const CORE: Budget = Budget { what: "core wasm", target: 40.0, gate: 55.0 };
const FIRST_LOAD: Budget = Budget { what: "first load", target: 60.0, gate: 75.0 };

/// Prints every file of the first load, and fails over a gate. The npm package must be built.
pub fn check() -> Result<()> {
    println!("{:<34}{:>10}{:>10}{:>9}{:>7}", "file", "raw KiB", "gzip KiB", "target", "gate");
    let (mut core, mut all) = (0.0, 0.0);
    for file in first_load()? {
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let gzip = gzip_len(&content)? as f64 / KIB;
        println!("{:<34}{:>10.1}{:>10.1}", name(&file), content.len() as f64 / KIB, gzip);
        all += gzip;
        if file.extension().is_some_and(|e| e == "wasm") {
            core += gzip;
        }
    }
    for file in files(|name| name.ends_with(".js") && name != ENTRY)? {
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let gzip = gzip_len(&content)? as f64 / KIB;
        println!("{:<34}{:>10.1}{:>10.1}   if imported", name(&file), content.len() as f64 / KIB, gzip);
    }
    let mut over = Vec::new();
    for (budget, size) in [(CORE, core), (FIRST_LOAD, all)] {
        println!("{:<34}{:>20.1}{:>9}{:>7}", budget.what, size, budget.target, budget.gate);
        if size > budget.gate {
            over.push(format!("{} is {size:.1} KiB, over the gate of {} KiB", budget.what, budget.gate));
        }
    }
    if !over.is_empty() {
        bail!("{}", over.join("; "));
    }
    Ok(())
}

/// The package's main script, and its wasm. The other scripts are entries of their own.
fn first_load() -> Result<Vec<PathBuf>> {
    let files = files(|name| name == ENTRY || name.ends_with(".wasm"))?;
    if !files.iter().any(|file| file.extension().is_some_and(|e| e == "wasm")) {
        bail!("the npm package has no .wasm file; run `cargo xtask wasm`");
    }
    Ok(files)
}

fn files(wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let dist = workspace::npm_package().join("dist");
    let mut files = Vec::new();
    for entry in fs::read_dir(&dist).with_context(|| format!("cannot read {}", dist.display()))? {
        let path = entry?.path();
        if wanted(&name(&path)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The length after `gzip -9`, which every system has: a compressor of our own would be one more crate to build first.
fn gzip_len(content: &[u8]) -> Result<usize> {
    let mut gzip = Command::new("gzip")
        .args(["-9", "-n", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("gzip is needed to measure sizes")?;
    let mut stdin = gzip.stdin.take().expect("stdin is piped");
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(content));
        gzip.wait_with_output()
    })?;
    if !output.status.success() {
        bail!("gzip failed ({})", output.status);
    }
    Ok(output.stdout.len())
}
