//! One file for each scenario: it starts its gateway, makes its load, and returns its figures.

pub mod alarm;
pub mod churn;
pub mod client;
pub mod fan_out;
pub mod idle;
pub mod slow;
pub mod slow_state;
pub mod snapshot;
pub mod storm;
pub mod through;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files and sockets of each process beside the connections.
const OTHER_FILES: u64 = 200;

/// Raises the limit of open files to what this process and the gateway, which inherits it, need each.
pub fn raise_file_limit(connections: u64) -> Result<()> {
    let needed = connections + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "{connections} connections need {needed} open files; the limit is {}: raise it (`ulimit -Hn`, as root), or \
         measure fewer with --connections",
        limit.maximum.unwrap_or_default()
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })
        .context("raising the limit of open files")
}
