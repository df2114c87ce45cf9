//! One server process: ours, or one that another process started.

use crate::unavailable::Unavailable;
use crate::wait::until;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const DEATH: Duration = Duration::from_secs(20);

/// A process, told apart from a later one with the same number by the time of its start.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    /// In clock ticks since the machine started (`/proc/PID/stat`, field 22).
    started: u64,
    /// Where it is our child: it has to be waited for, or it stays as a zombie.
    child: Option<Child>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Kill,
    Stop,
    Continue,
}

/// A command in a session of its own when `detached`: then neither a test's end nor a Ctrl-C reaches it.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, detached: bool) -> Command {
    if !detached {
        return Command::new(program);
    }
    let mut command = Command::new("setsid");
    command.arg(program);
    command
}

impl Process {
    /// Starts it, with both outputs added to a file.
    pub(crate) fn spawn(command: &mut Command, output: &Path) -> Result<Process, Unavailable> {
        let name = command.get_program().to_string_lossy().into_owned();
        let wrong =
            |error: std::io::Error| Unavailable::failed(format!("{name} could not be started: {error}"));
        let file = OpenOptions::new().create(true).append(true).open(output).map_err(wrong)?;
        let errors = file.try_clone().map_err(wrong)?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn().map_err(wrong)?;
        let pid = child.id();
        Ok(Process { pid, started: started(pid).unwrap_or(0), child: Some(child) })
    }

    /// A process that is written down as [`Process::to_text`]; whether it lives is another question.
    pub(crate) fn from_text(text: &str) -> Option<Process> {
        let (pid, started) = text.split_once('@')?;
        Some(Process { pid: pid.parse().ok()?, started: started.parse().ok()?, child: None })
    }

    pub(crate) fn to_text(&self) -> String {
        format!("{}@{}", self.pid, self.started)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Does nothing to a process that has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Unavailable> {
        if !self.is_alive() {
            return Ok(());
        }
        send(self.pid, signal)
            .map_err(|error| Unavailable::failed(format!("{signal:?} to process {}: {error}", self.pid)))
    }

    /// SIGKILL; returns when the process is gone.
    pub(crate) fn kill(&mut self) -> Result<(), Unavailable> {
        self.signal(Signal::Kill)?;
        if let Some(mut child) = self.child.take() {
            // It got SIGKILL, so this ends; and an error would mean that it has been waited for.
            let _ = child.wait();
        }
        let pid = self.pid;
        until(&format!("the end of process {pid}"), DEATH, || Ok((!self.is_alive()).then_some(())))
    }
}

/// The time of a living process's start. None for a zombie too.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before this parenthesis may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    match fields.first()? {
        &"Z" | &"X" => None,
        _ => fields.get(19)?.parse().ok(),
    }
}

#[cfg(unix)]
fn send(pid: u32, signal: Signal) -> std::io::Result<()> {
    use rustix::process::{Pid, kill_process};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("no such process"))?;
    let signal = match signal {
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Continue => rustix::process::Signal::CONT,
    };
    Ok(kill_process(pid, signal)?)
}

#[cfg(not(unix))]
fn send(_: u32, _: Signal) -> std::io::Result<()> {
    Err(std::io::Error::other("signals need a Unix system"))
}
