//! Setting `log`: one URL says which log, and how. One file for each kind.

mod file;
mod memory;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis_url;

pub use file::{FileLogConfig, Fsync};
pub use memory::MemoryLogConfig;
#[cfg(feature = "rabbitmq")]
pub use rabbitmq::RabbitMqLogConfig;
#[cfg(feature = "redis")]
pub use redis_url::RedisLogConfig;

use super::reader::Reader;
use super::value::{Raw, text};

/// Setting `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogConfig {
    /// `memory:?records=100000&size=64MiB`: kept in this process, gone with it. For development and tests.
    Memory(MemoryLogConfig),
    /// `file:PATH?fsync=20ms&segment=64MiB&retention=1GiB&age=7d`: the embedded log, in a folder of this machine.
    File(FileLogConfig),
    /// `amqp://user:password@host:5672/vhost?exchange=iotsphere&queue=anabranch&…`: a stream of RabbitMQ.
    #[cfg(feature = "rabbitmq")]
    RabbitMq(RabbitMqLogConfig),
    /// `redis://user:password@host:6379/0?stream=iotsphere&…`: streams on a Redis server or cluster.
    #[cfg(feature = "redis")]
    Redis(RedisLogConfig),
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
        match &mut log {
            LogConfig::File(file) => {
                file.path = reader.resolve(&file.path.to_string_lossy(), &setting.place);
            }
            #[cfg(feature = "rabbitmq")]
            LogConfig::RabbitMq(rabbitmq) => {
                let authorities = rabbitmq.authorities.take();
                let resolved =
                    |path: std::path::PathBuf| reader.resolve(&path.to_string_lossy(), &setting.place);
                rabbitmq.authorities = authorities.map(resolved);
            }
            #[cfg(feature = "redis")]
            LogConfig::Redis(redis) => {
                let ca = redis.ca.take();
                redis.ca = ca.map(|path| reader.resolve(&path.to_string_lossy(), &setting.place));
            }
            LogConfig::Memory(_) => {}
        }
        log
    }
}

/// Takes a URL apart. It may hold a broker's password, so no problem shows more of it than its scheme and its options.
fn parse(url: &str, problems: &mut Vec<String>) -> Option<LogConfig> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if matches!(scheme, "amqp" | "amqps" | "redis" | "rediss") && has_torn_password(rest) {
        problems.push(
            "an @ stands behind the host; in a user or a password write %40 for @, %2F for /, %3F for ?"
                .to_owned(),
        );
        return None;
    }
    let mut options = Options::new(query, problems);
    let log = match scheme {
        "memory" => LogConfig::Memory(MemoryLogConfig::parse(path, &mut options)),
        "file" => LogConfig::File(FileLogConfig::parse(path, &mut options)),
        #[cfg(feature = "rabbitmq")]
        "amqp" | "amqps" => LogConfig::RabbitMq(rabbitmq::parse(scheme == "amqps", path, &mut options)),
        #[cfg(not(feature = "rabbitmq"))]
        "amqp" | "amqps" => {
            problems.push(format!("{scheme}:// is not in this build; it has memory: and file:PATH"));
            return None;
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" => LogConfig::Redis(redis_url::parse(scheme, path, &mut options)),
        #[cfg(not(feature = "redis"))]
        "redis" | "rediss" => {
            problems.push(format!("{scheme}:// is not in this build; it has memory: and file:PATH"));
            return None;
        }
        _ => {
            problems.push("expected file:PATH, memory:, amqp://HOST or redis://HOST".to_owned());
            return None;
        }
    };
    options.finish();
    Some(log)
}

/// Whether an `@` stands behind the host. Then a `/` or `?` of the password was taken for the host's end, and what is
/// behind it must not be quoted in any problem.
fn has_torn_password(rest: &str) -> bool {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    rest.find(['/', '?']).is_some_and(|end| rest[end..].contains('@'))
}

/// The options behind a URL's `?`.
pub(super) struct Options<'a> {
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

    pub(super) fn read<T>(
        &mut self,
        name: &'static str,
        default: T,
        take: impl Fn(&Raw) -> Result<T, String>,
    ) -> T {
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

    pub(super) fn problem(&mut self, problem: String) {
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

    #[test]
    fn a_password_that_ends_the_host_too_early_is_not_shown() {
        let schemes = [
            #[cfg(feature = "rabbitmq")]
            "amqp",
            #[cfg(feature = "redis")]
            "redis",
        ];
        for scheme in schemes {
            for password in
                ["hunter/2", "hun?hunter", "hun?hunter=2&hunter", "hunt/er?hunter", "h@unter/hunter"]
            {
                let mut problems = Vec::new();
                let log = parse(&format!("{scheme}://me:{password}@broker:1?partitions=2"), &mut problems);
                assert!(log.is_none() && problems.len() == 1, "{password}: {problems:?}");
                assert!(problems[0].contains("%2F") && !problems[0].contains("hunt"), "{problems:?}");
            }
            let mut problems = Vec::new();
            assert!(parse(&format!("{scheme}://me:h@nter@broker:1"), &mut problems).is_some());
            assert!(problems.is_empty(), "{problems:?}");
        }
    }
}
