//! WebSocket conformance: Autobahn's cases, driven by kosoku, against the echo server that speaks through our socket room.

use super::count::Count;
use super::install;
use super::steps::{self, Told};
use crate::progress::Log;
use crate::workspace;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Cases 12 and 13 ask for permessage-deflate, which we do not offer.
const LEFT_OUT: [&str; 2] = ["12.*", "13.*"];

#[derive(Deserialize)]
struct Case {
    behavior: String,
    #[serde(rename = "behaviorClose")]
    behavior_close: String,
}

pub fn check(log: &Log) -> Result<Told> {
    steps::build(log)?;
    let (mut echo, address) = start_echo()?;
    let reports = workspace::target().join("test-logs/websocket");
    let mut kosoku = Command::new(install::venv_bin("kosoku"));
    kosoku.args(["--mode", "fuzzingclient", "--parallelism", "4", "--outdir"]).arg(&reports);
    LEFT_OUT.iter().for_each(|case| {
        kosoku.args(["--exclude", case]);
    });
    // It also ends in failure for verdicts that are no failure of ours, so the report decides, not the exit code.
    let ran = log.run(kosoku.arg(&address));
    let _ = echo.kill();
    let _ = echo.wait();
    let index = reports.join("index.json");
    let text = fs::read_to_string(&index).with_context(|| match ran {
        Ok(()) => format!("cannot read {}", workspace::shown(&index)),
        Err(error) => format!("{error:#}"),
    })?;
    judge(log, &text)
}

/// The echo server says on its first line where it listens.
fn start_echo() -> Result<(Child, String)> {
    let program = workspace::built("echo");
    let mut echo = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", workspace::shown(&program)))?;
    let mut line = String::new();
    BufReader::new(echo.stdout.take().expect("stdout is piped")).read_line(&mut line)?;
    match line.split_whitespace().last() {
        Some(address) => Ok((echo, address.trim_start_matches("ws://").to_string())),
        None => bail!("the echo server ended without saying where it listens"),
    }
}

fn judge(log: &Log, index: &str) -> Result<Told> {
    let agents: BTreeMap<String, BTreeMap<String, Case>> = serde_json::from_str(index)?;
    let mut count = Count::default();
    let mut verdicts: BTreeMap<&str, u32> = BTreeMap::new();
    for (id, case) in agents.values().flatten() {
        *verdicts.entry(&case.behavior).or_default() += 1;
        let accepted =
            |verdict: &str| matches!(verdict, "OK" | "NON-STRICT" | "INFORMATIONAL" | "UNIMPLEMENTED");
        if accepted(&case.behavior) && accepted(&case.behavior_close) {
            count.passed += 1;
        } else {
            log.line(&format!("FAIL  case {id}: {}, close {}", case.behavior, case.behavior_close));
            count.failed += 1;
        }
    }
    log.line(&format!("{verdicts:?}"));
    if count.passed + count.failed == 0 {
        bail!("kosoku ran no case");
    }
    Ok(Told::Counted(count))
}
