//! `file:`, the embedded log in a folder of this machine.

use super::Options;
use crate::config::value::{Raw, duration, size, text};
use crate::log::embedded;
use std::path::PathBuf;
use std::time::Duration;

/// The options of `file:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLogConfig {
    /// The folder; made if it is not there. A relative path in the configuration file starts from the file's folder.
    /// The path is taken as it is (no `%20`) and ends at the first `?`.
    pub path: PathBuf,
    /// `fsync`: `always`, `none`, or a time from `1ms` to `10s`. Default `20ms`.
    pub fsync: Fsync,
    /// `segment`: size at which a new segment file is begun. Default 64MiB, at least 1MiB.
    pub segment_bytes: u64,
    /// `retention`: how much is kept; the oldest segments go first. Default 1GiB, at least two segments.
    pub retention_bytes: u64,
    /// `age`: how long records are kept, at least 1s. Default for ever.
    pub retention_age: Option<Duration>,
}

/// When a publish is confirmed, with respect to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Once the operating system has it: survives the end of the process, not a power loss.
    None,
    /// Once it is on the disk, which is asked this often. Subscribers see records before that; after a power loss they
    /// are told of a gap.
    Interval(Duration),
    /// Once it is on the disk, at once; what is published meanwhile shares the next turn. Subscribers see nothing that
    /// a power loss could take back.
    Always,
}

impl FileLogConfig {
    /// The defaults, in a folder.
    pub fn new(path: impl Into<PathBuf>) -> FileLogConfig {
        FileLogConfig {
            path: path.into(),
            fsync: Fsync::Interval(Duration::from_millis(20)),
            segment_bytes: 64 << 20,
            retention_bytes: 1 << 30,
            retention_age: None,
        }
    }

    pub(super) fn parse(path: &str, options: &mut Options<'_>) -> FileLogConfig {
        // file:///var/lib/x and file:/var/lib/x are the same place.
        let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
        if path.is_empty() {
            options.problem("file: needs a path, such as file:/var/lib/anabranch".to_owned());
        }
        let default = FileLogConfig::new(path);
        let segment_bytes = options.read("segment", default.segment_bytes, size(1 << 20..=4 << 30));
        let retention_bytes = default.retention_bytes.max(2 * segment_bytes);
        let age = duration(Duration::from_secs(1)..=Duration::from_secs(100 * 365 * 24 * 3600));
        FileLogConfig {
            fsync: options.read("fsync", default.fsync, fsync),
            segment_bytes,
            retention_bytes: options.read("retention", retention_bytes, size(2 * segment_bytes..=1 << 50)),
            retention_age: options.read("age", None, |raw| age(raw).map(Some)),
            path: default.path,
        }
    }
}

impl From<&FileLogConfig> for embedded::Options {
    fn from(config: &FileLogConfig) -> embedded::Options {
        let mut options = embedded::Options {
            segment_bytes: config.segment_bytes,
            retention_bytes: config.retention_bytes,
            retention_seconds: config.retention_age.map(|age| age.as_secs()),
            ..embedded::Options::at(&config.path)
        };
        options.sync = match config.fsync {
            Fsync::None => embedded::Sync::None,
            Fsync::Always => embedded::Sync::Always,
            Fsync::Interval(interval) => {
                options.sync_interval_ms = interval.as_millis() as u64;
                embedded::Sync::Interval
            }
        };
        options
    }
}

fn fsync(raw: &Raw) -> Result<Fsync, String> {
    match text(raw)?.as_str() {
        "always" => Ok(Fsync::Always),
        "none" => Ok(Fsync::None),
        _ => duration(Duration::from_millis(1)..=Duration::from_secs(10))(raw)
            .map(Fsync::Interval)
            .map_err(|_| "expected always, none or a time from 1ms to 10s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manual names the log's defaults, so they must be the log's own.
    #[test]
    fn our_defaults_are_the_logs_defaults() {
        let (ours, theirs) = (embedded::Options::from(&FileLogConfig::new("x")), embedded::Options::at("x"));
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }
}
