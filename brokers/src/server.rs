//! A server's process, which may be down: killed, frozen, let go on.

use crate::process::{Process, Signal};
use crate::unavailable::Unavailable;
use std::path::Path;
use std::process::Command;

/// None is running before the first start, and between a kill and the next start.
#[derive(Debug, Default)]
pub(crate) struct Server(Option<Process>);

impl Server {
    /// One that another process has started.
    pub(crate) fn attached(process: Process) -> Server {
        Server(Some(process))
    }

    /// Starts it, with both outputs added to a file.
    pub(crate) fn start(&mut self, command: &mut Command, output: &Path) -> Result<(), Unavailable> {
        self.0 = Some(Process::spawn(command, output)?);
        Ok(())
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.0.as_ref().map(Process::pid)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.0.as_ref().is_some_and(Process::is_alive)
    }

    /// Ends it with SIGKILL, as a crash would, and returns when it is gone.
    pub(crate) fn kill(&mut self) -> Result<(), Unavailable> {
        self.0.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Stops it in its tracks, with its sockets open.
    pub(crate) fn freeze(&self) -> Result<(), Unavailable> {
        self.signal(Signal::Stop)
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Result<(), Unavailable> {
        self.signal(Signal::Continue)
    }

    fn signal(&self, signal: Signal) -> Result<(), Unavailable> {
        self.0.as_ref().map_or(Ok(()), |process| process.signal(signal))
    }

    /// For [`crate::state::State`]; empty while none is running.
    pub(crate) fn to_text(&self) -> String {
        self.0.as_ref().map(Process::to_text).unwrap_or_default()
    }
}
