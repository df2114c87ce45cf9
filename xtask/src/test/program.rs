//! A program that runs beside a step, and is listened to.

use crate::progress::Log;
use crate::tool;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// Longer than a line takes on a machine with other work to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program, and the lines of its output as they come. Ended when it is dropped.
pub struct Program {
    child: Child,
    /// Closed when this is dropped.
    _stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Program {
    pub fn start(log: &Log, command: &mut Command) -> Result<Program> {
        let words = tool::words(command);
        log.line(&format!("$ {words}"));
        log.attach(command)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| tool::missing(command, &error))?;
        let output = child.stdout.take().expect("stdout is piped");
        let (tell, lines) = sync_channel(64);
        let log = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Tokens are nobody's business.
                if !line.contains("TOKEN") {
                    log.line(&line);
                }
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Program { _stdin: child.stdin.take(), child, lines })
    }

    /// The next line that is wanted.
    pub fn until(&self, wanted: impl Fn(&str) -> bool) -> Result<String> {
        loop {
            let line =
                self.lines.recv_timeout(PATIENCE).context("the line that was waited for did not come")?;
            if wanted(&line) {
                return Ok(line);
            }
        }
    }

    /// Waits until it has ended by itself, which it does well.
    pub fn ended(mut self) -> Result<()> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("it does not end"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
