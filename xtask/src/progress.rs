//! What a developer sees while a step runs: on a terminal a spinner with the time and the log's last line, elsewhere a
//! line at least once a minute, so that nobody wonders whether it still works.

use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::tool;
use anyhow::{Context, Result, bail};

const REFRESH: Duration = Duration::from_millis(200);
const REMINDER: Duration = Duration::from_secs(60);

/// The log of one step: all that its programs print goes there, and not to the developer's screen.
#[derive(Clone)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// An empty log, with its folder.
    pub fn create(path: PathBuf) -> Result<Log> {
        let parent = path.parent().expect("a log lies in a folder");
        fs::create_dir_all(parent)?;
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Log { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a command to its end, with both its outputs in the log.
    pub fn run(&self, command: &mut Command) -> Result<()> {
        self.line(&format!("$ {}", tool::words(command)));
        let status = self.attach(command)?.status().map_err(|error| tool::missing(command, &error))?;
        if !status.success() {
            bail!("`{}` failed ({status})", tool::words(command));
        }
        Ok(())
    }

    /// Points both outputs of a command that is about to start at the log.
    pub fn attach<'c>(&self, command: &'c mut Command) -> Result<&'c mut Command> {
        let file = self.append()?;
        Ok(command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file))
    }

    /// Adds a line. A log that cannot be written to must not fail the step that it tells of.
    pub fn line(&self, line: &str) {
        if let Ok(mut file) = self.append() {
            let _ = writeln!(file, "{line}");
        }
    }

    pub fn read(&self) -> String {
        fs::read(&self.path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines, without terminal colours.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let text = plain(&self.end(16 * 1024));
        let says = |line: &&str| line.contains(char::is_alphanumeric);
        let all: Vec<&str> = text.lines().filter(says).collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| line.to_string()).collect()
    }

    fn end(&self, bytes: u64) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&self.path) {
            let len = file.metadata().map(|m| m.len()).unwrap_or(0);
            let _ = file.seek(SeekFrom::Start(len.saturating_sub(bytes)));
            let _ = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn append(&self) -> Result<File> {
        let file = OpenOptions::new().append(true).open(&self.path);
        file.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Text without the escape sequences that colour it.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
        } else if chars.next() == Some('[') {
            chars.by_ref().find(|c| c.is_ascii_alphabetic());
        }
    }
    out
}

/// Runs `work` and shows that it is alive. `name` is padded by the caller.
pub fn show<T: Send>(name: &str, log: &Log, work: impl FnOnce() -> T + Send) -> T {
    let started = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let bar = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed:>4}  {wide_msg:.dim}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_prefix(name.to_string());
    let (done, waiting) = sync_channel(1);
    let result = thread::scope(|scope| {
        scope.spawn(move || {
            // The receiver waits below until this arrives.
            let _ = done.send(work());
        });
        let mut reminded = started;
        loop {
            match waiting.recv_timeout(REFRESH) {
                Ok(result) => break Some(result),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            bar.tick();
            if terminal {
                bar.set_message(log.tail(1).pop().unwrap_or_default());
            } else if reminded.elapsed() >= REMINDER {
                reminded = Instant::now();
                let last = log.tail(1).pop().unwrap_or_default();
                println!("      {name} {:>4} s … {}", started.elapsed().as_secs(), last.trim());
            }
        }
    });
    bar.finish_and_clear();
    result.expect("a step ends with a result; its panic was printed above")
}
