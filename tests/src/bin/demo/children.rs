//! The programs of the demo as child processes. They are asked to stop by the end of their standard input, which says the
//! same when this process dies. They stand in process groups of their own, so that a Ctrl-C in the terminal reaches this
//! process alone, and they end in its order.

use crate::Failure;
use crate::state::State;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{ChildStdin, Command};

/// How long a program may take to stop before it is killed: longer than the gateway's drain.
const PATIENCE: Duration = Duration::from_secs(20);
const TAIL: usize = 15;

pub struct Child {
    name: String,
    process: tokio::process::Child,
    lifeline: Option<ChildStdin>,
    log: PathBuf,
}

/// How a program ended, and its last words.
pub struct Ended {
    pub status: String,
    pub log: String,
    pub tail: String,
}

impl Child {
    /// Starts a program of this workspace; its output goes to `NAME.log`.
    pub fn start(state: &State, name: &str, arguments: &[String]) -> Result<Child, Failure> {
        let program = state.program(name);
        let log = state.path(&format!("{name}.log"));
        let output = OpenOptions::new().create(true).write(true).truncate(true).open(&log)?;
        let mut process = Command::new(&program)
            .args(arguments)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                format!("cannot start {}: {error}; run `cargo xtask demo`", program.display())
            })?;
        let lifeline = process.stdin.take();
        Ok(Child { name: name.to_string(), process, lifeline, log })
    }

    /// Waits until the program has ended by itself. Cancel safe.
    pub async fn ended(&mut self) -> Ended {
        let status = match self.process.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("its end is unknown: {error}"),
        };
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail =
            lines[lines.len().saturating_sub(TAIL)..].iter().map(|line| format!("  {line}\n")).collect();
        Ended { status, log: self.log.display().to_string(), tail }
    }

    /// Asks the program to stop, waits, and kills it where it does not.
    pub async fn stop(mut self) {
        drop(self.lifeline.take());
        if tokio::time::timeout(PATIENCE, self.process.wait()).await.is_err() {
            eprintln!("{} did not stop within {} s and is killed", self.name, PATIENCE.as_secs());
            let _ = self.process.kill().await;
        }
    }
}
