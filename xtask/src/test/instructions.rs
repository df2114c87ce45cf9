//! The two hottest paths cost no more instructions than they are expected to.

use super::count::Count;
use super::install;
use super::steps::{self, Told};
use crate::instructions::{self, Expected, PATHS, Verdict};
use crate::progress::Log;
use anyhow::{Context, Result, bail};

pub fn check(log: &Log) -> Result<Told> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Ok(Told::Skipped("the expected counts are those of Linux on x86-64".to_owned()));
    }
    if install::on_path("valgrind").is_none() {
        let missing = "valgrind is not installed; get it with: sudo apt-get install valgrind";
        if std::env::var("CI").as_deref() == Ok("true") {
            bail!("instructions are not counted, because {missing}");
        }
        log.line(&format!("not run, because {missing}"));
        return Ok(Told::Counted(Count { not_run: PATHS.len() as u64, ..Count::default() }));
    }
    steps::build(log)?;
    let expected = Expected::read()?;
    let compiler = instructions::compiler()?;
    let mut wrong = Vec::new();
    for path in PATHS {
        let known = expected.count(path);
        let known = known
            .with_context(|| format!("no count is expected of {path}: cargo xtask instructions --renew"))?;
        let verdict = Verdict::new(path, known, instructions::count(log, path)?);
        let text = verdict.describe(&expected, &compiler);
        log.line(&text);
        if verdict.is_failure() {
            wrong.push(text);
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n      "));
    }
    Ok(Told::Counted(Count { passed: PATHS.len() as u64, ..Count::default() }))
}
