//! What an operator chooses, and why opening fails.

use anabranch_protocol::limits;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the embedded log.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where the log lives. Made if it is not there. Nothing else may lie in it, and no two processes may use it.
    pub folder: PathBuf,
    /// When a publish is confirmed:
    ///
    /// * `none`: once the operating system has it. Survives the end of the process, not a power loss.
    /// * `interval`: once it is on the disk; the disk is asked every `sync_interval_ms`. Subscribers see records
    ///   before that, so after a power loss they may have seen some that the log has lost: they are told of a gap.
    /// * `always`: once it is on the disk, at once; what is published meanwhile shares the next turn. Subscribers
    ///   see nothing that a power loss could take back.
    pub sync: Sync,
    /// Milliseconds between two writes through to the disk under `interval`. 1 to 10,000.
    pub sync_interval_ms: u64,
    /// Size of one file, in bytes. The log forgets whole files, so it keeps up to one file more or less than it is
    /// told. At least 4096.
    pub segment_bytes: u64,
    /// Bytes kept on the disk; the oldest files beyond go. The newest file always stays.
    pub retention_bytes: u64,
    /// Seconds for which records are kept at most; by default for ever. A file goes when its newest record is too
    /// old, by the clock of this machine.
    pub retention_seconds: Option<u64>,
    /// Largest envelope taken, in bytes; at most 16 MiB.
    pub max_record: usize,
    /// Bytes of the newest records held in memory, from which live readers are served. Older ones are read from disk.
    pub recent_bytes: usize,
    /// Bytes of publishes that may wait for the disk; beyond that they are refused.
    pub queue_bytes: usize,
}

/// When a record counts as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sync {
    /// Once the operating system has it.
    None,
    /// With the next of the periodic writes to the disk.
    Interval,
    /// After a write to the disk of its own, shared with what came meanwhile.
    Always,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            folder: PathBuf::from("anabranch-log"),
            sync: Sync::Interval,
            sync_interval_ms: 20,
            segment_bytes: 64 * 1024 * 1024,
            retention_bytes: 1024 * 1024 * 1024,
            retention_seconds: None,
            max_record: limits::ENVELOPE_BYTES,
            recent_bytes: 8 * 1024 * 1024,
            queue_bytes: 32 * 1024 * 1024,
        }
    }
}

/// Largest envelope that any log on disk may hold: bounds what a damaged length field can make a reader allocate.
pub(super) const MAX_ENVELOPE: usize = 16 * 1024 * 1024;

impl Options {
    /// The defaults, in this folder.
    pub fn at(folder: impl Into<PathBuf>) -> Options {
        Options { folder: folder.into(), ..Options::default() }
    }

    pub(super) fn interval(&self) -> Duration {
        Duration::from_millis(self.sync_interval_ms)
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        let refuse = |what: &str| Err(OpenError::Options(what.into()));
        if !(1..=10_000).contains(&self.sync_interval_ms) {
            return refuse("sync_interval_ms must lie between 1 and 10000");
        }
        if self.segment_bytes < 4096 {
            return refuse("segment_bytes must be at least 4096");
        }
        if !(1..=MAX_ENVELOPE).contains(&self.max_record) {
            return refuse("max_record must lie between 1 and 16777216");
        }
        Ok(())
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the log in {0} is in use by another process: stop that one, or give this one a folder of its own \
         (two gateways cannot share an embedded log)"
    )]
    Locked(PathBuf),
    /// The folder holds something else, or parts that do not belong together.
    #[error("the log in {folder} is damaged: {what}")]
    Damaged { folder: PathBuf, what: String },
    /// The disk or the operating system refused.
    #[error("the log in {folder} cannot be opened: {what}: {error}")]
    Io { folder: PathBuf, what: &'static str, error: io::Error },
    /// A setting is out of its range.
    #[error("the log's settings are not usable: {0}")]
    Options(String),
}
