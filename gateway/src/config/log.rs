//! Setting `log`: one URL says which log, and how.

use super::reader::Reader;
use super::value::{Raw, duration, size, text, whole};
use crate::log::{embedded, memory};
use std::path::PathBuf;
use std::time::Duration;

/// Setting `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogConfig {
    /// `memory:?records=100000&size=64MiB`: kept in this process, gone with it. For development and tests.
    Memory(MemoryLogConfig),
    /// `file:PATH?fsync=20ms&segment=64MiB&retention=1GiB&age=7d`: the embedded log, in a folder of this machine.
    File(FileLogConfig),
}

/// The options of `memory:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLogConfig {
    /// `records`: most records kept. Default 100,000.
    pub records: usize,
    /// `size`: most bytes of envelopes kept. Default 64MiB.
    pub bytes: u64,
}

impl From<&MemoryLogConfig> for memory::Options {
    fn from(config: &MemoryLogConfig) -> memory::Options {
        let bytes = usize::try_from(config.bytes).unwrap_or(usize::MAX);
        memory::Options { records: config.records, bytes, ..memory::Options::default() }
    }
}

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

impl Default for MemoryLogConfig {
    fn default() -> Self {
        MemoryLogConfig { records: 100_000, bytes: 64 << 20 }
    }
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

impl LogConfig {
    pub(super) fn read(reader: &mut Reader, dev: bool) -> LogConfig {
        let default = if dev {
            LogConfig::Memory(MemoryLogConfig::default())
        } else {
            LogConfig::File(FileLogConfig::new("anabranch-log"))
        };
        let Some(setting) = reader.find("log") else { return default };
        let mut problems = Vec::new();
        let log = match text(&setting.raw) {
            Ok(url) => parse(&url, &mut problems),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        for problem in problems {
            reader.mistake(setting.place.clone(), format!("log: {problem}"));
        }
        let mut log = log.unwrap_or(default);
        if let LogConfig::File(file) = &mut log {
            file.path = reader.resolve(&file.path.to_string_lossy(), &setting.place);
        }
        log
    }
}

/// Takes a URL apart. It may hold a broker's password, so no problem shows more of it than its scheme and its options.
fn parse(url: &str, problems: &mut Vec<String>) -> Option<LogConfig> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut options = Options::new(query, problems);
    let log = match scheme {
        "memory" => {
            let d = MemoryLogConfig::default();
            if !path.is_empty() {
                options.problem("memory: has no path; its options are ?records=…&size=…".to_owned());
            }
            LogConfig::Memory(MemoryLogConfig {
                records: options.read("records", d.records, whole(1..=100_000_000)),
                bytes: options.read("size", d.bytes, size(1 << 20..=1 << 40)),
            })
        }
        "file" => {
            // file:///var/lib/x and file:/var/lib/x are the same place.
            let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
            if path.is_empty() {
                options.problem("file: needs a path, such as file:/var/lib/anabranch".to_owned());
            }
            let d = FileLogConfig::new(path);
            let segment_bytes = options.read("segment", d.segment_bytes, size(1 << 20..=4 << 30));
            LogConfig::File(FileLogConfig {
                fsync: options.read("fsync", d.fsync, fsync),
                segment_bytes,
                retention_bytes: options.read(
                    "retention",
                    d.retention_bytes.max(2 * segment_bytes),
                    size(2 * segment_bytes..=1 << 50),
                ),
                retention_age: options.read("age", None, |raw| {
                    duration(Duration::from_secs(1)..=Duration::from_secs(100 * 365 * 24 * 3600))(raw)
                        .map(Some)
                }),
                path: d.path,
            })
        }
        "amqp" | "amqps" | "redis" | "rediss" => {
            problems.push(format!("{scheme}:// is not in this build; it has memory: and file:PATH"));
            return None;
        }
        _ => {
            problems.push("expected file:PATH or memory:".to_owned());
            return None;
        }
    };
    options.finish();
    Some(log)
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

/// The options behind a URL's `?`.
struct Options<'a> {
    pairs: Vec<(&'a str, &'a str)>,
    known: Vec<&'static str>,
    problems: &'a mut Vec<String>,
}

impl<'a> Options<'a> {
    fn new(query: &'a str, problems: &'a mut Vec<String>) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        Options { pairs, known: Vec::new(), problems }
    }

    fn read<T>(&mut self, name: &'static str, default: T, take: impl Fn(&Raw) -> Result<T, String>) -> T {
        self.known.push(name);
        let Some((_, value)) = self.pairs.iter().find(|(key, _)| *key == name) else { return default };
        match take(&Raw::Text((*value).to_owned())) {
            Ok(value) => value,
            Err(problem) => {
                self.problem(format!("option {name}: {problem}"));
                default
            }
        }
    }

    fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn finish(self) {
        for (index, (name, _)) in self.pairs.iter().enumerate() {
            if !self.known.contains(name) {
                self.problems
                    .push(format!("there is no option {name:?}; there are {}", self.known.join(", ")));
            } else if self.pairs[..index].iter().any(|(earlier, _)| earlier == name) {
                self.problems.push(format!("option {name} is given twice"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manual names the defaults of the logs, so they must be the logs' own.
    #[test]
    fn our_defaults_are_the_logs_defaults() {
        let (ours, theirs) = (embedded::Options::from(&FileLogConfig::new("x")), embedded::Options::at("x"));
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        let (ours, theirs) = (memory::Options::from(&MemoryLogConfig::default()), memory::Options::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }
}
