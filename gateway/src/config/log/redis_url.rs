//! `redis:`, streams on a Redis server or cluster.

use super::Options;
use crate::config::Secret;
use crate::config::value::{Raw, duration, filter, text, whole};
use crate::log::RedisOptions;
use anabranch_protocol::limits;
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use std::time::Duration;

/// `redis://user:password@host:6379/0?stream=iotsphere&maxlen=1000000&age=7d&partitions=1&wait=0&cluster=no`, and with TLS
/// `rediss://…&ca=FILE`.
pub type RedisLogConfig = RedisOptions;

const PORT: u16 = 6379;

/// Reads what stands between the scheme and the `?`. No problem shows any of it: a password may be in it.
pub(super) fn parse(scheme: &str, rest: &str, options: &mut Options<'_>) -> RedisLogConfig {
    let mut config = RedisLogConfig::new("", PORT);
    config.tls = scheme == "rediss";
    let authority = rest.strip_prefix("//").unwrap_or_else(|| {
        options.problem(format!("{scheme}: needs two slashes and a host, such as {scheme}://127.0.0.1:6379"));
        ""
    });
    let (authority, database) = authority.split_once('/').unwrap_or((authority, ""));
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (Some(credentials), hosts),
        None => (None, authority),
    };
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let mut decoded = |text: &str| match percent_decode_str(text).decode_utf8() {
            Ok(text) => Some(text.into_owned()).filter(|text| !text.is_empty()),
            Err(_) => {
                options.problem("the user or the password is not UTF-8 behind its %XX".to_owned());
                None
            }
        };
        config.user = decoded(user);
        config.password = decoded(password).map(Secret::new);
    }
    match nodes(hosts) {
        Ok(nodes) => config.nodes = nodes,
        Err(problem) => options.problem(problem),
    }
    match if database.is_empty() { Ok(0) } else { database.parse() } {
        Ok(number) => config.database = number,
        Err(_) => {
            options.problem("behind the host's / stands the number of the database, such as /0".to_owned())
        }
    }
    config.stream = options.read("stream", config.stream, stream);
    config.partitions =
        options.read("partitions", 1, |raw| whole(1..=limits::PARTITIONS)(raw).map(|n| n as u16));
    config.max_length = options.read("maxlen", config.max_length, |raw| match text(raw)?.as_str() {
        "none" => Ok(None),
        _ => whole(100..=1_000_000_000)(raw)
            .map(|length| Some(length as u64))
            .map_err(|_| "expected none or a whole number from 100 to 1000000000".to_owned()),
    });
    let age = duration(Duration::from_secs(1)..=Duration::from_secs(100 * 365 * 24 * 3600));
    config.max_age = options.read("age", None, |raw| age(raw).map(Some));
    config.wait = options.read("wait", 0, |raw| whole(0..=16)(raw).map(|replicas| replicas as u16));
    config.cluster = options.read("cluster", false, |raw| match text(raw)?.as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("expected yes or no".to_owned()),
    });
    config.transient = options.read("transient", Vec::new(), |raw| {
        let filters = text(raw)?;
        filters.split(',').map(|text| filter(&Raw::Text(text.to_owned()))).collect()
    });
    config.ca = options.read("ca", None, |raw| text(raw).map(|path| Some(PathBuf::from(path))));
    if config.ca.is_some() && !config.tls {
        options.problem("option ca needs TLS: rediss://".to_owned());
    }
    if config.nodes.len() > 1 && !config.cluster {
        options.problem("several hosts need cluster=yes".to_owned());
    }
    if config.cluster && config.database != 0 {
        options.problem("a cluster has no database but 0".to_owned());
    }
    config
}

/// `host`, `host:6379`, `[::1]:6379`, several with commas between them.
fn nodes(hosts: &str) -> Result<Vec<(String, u16)>, String> {
    hosts.split(',').map(node).collect()
}

fn node(text: &str) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("a host that begins with [ needs a ]")?,
        None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
    };
    if host.is_empty() {
        return Err("a host is needed, such as 127.0.0.1:6379".to_owned());
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => Some(PORT),
        Some(port) => port.parse().ok(),
        None => None,
    };
    Ok((host.to_owned(), port.ok_or("behind a host's : stands its port, such as :6379")?))
}

/// A key that can have parts added to it, in a cluster too.
fn stream(raw: &Raw) -> Result<String, String> {
    let name = text(raw)?;
    let plain = name.len() <= 128 && name.chars().all(|c| c.is_ascii_graphic());
    let braces = name.chars().filter(|c| matches!(c, '{' | '}')).count();
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    if plain && (braces == 0 || braces == 2 && tag.is_some_and(|(tag, _)| !tag.is_empty())) {
        return Ok(name);
    }
    Err("expected at most 128 letters, digits and signs, with braces only as in {plant}:log".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> (RedisLogConfig, Vec<String>) {
        let (scheme, rest) = url.split_once(':').unwrap();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut problems = Vec::new();
        let mut options = Options::new(query, &mut problems);
        let config = parse(scheme, path, &mut options);
        options.finish();
        (config, problems)
    }

    fn good(url: &str) -> RedisLogConfig {
        let (config, problems) = read(url);
        assert_eq!(problems, [""; 0], "{url}");
        config
    }

    #[test]
    fn a_url_says_everything() {
        assert_eq!(good("redis://127.0.0.1:7000"), RedisLogConfig::new("127.0.0.1", 7000));
        assert_eq!(good("redis://broker"), RedisLogConfig::new("broker", 6379));
        assert_eq!(good("redis://[::1]:7000/3").nodes, [("::1".to_owned(), 7000)]);
        let config = good(
            "rediss://gate%40way:p%2Fa%3Ass@h:1/2?stream={eu}plant&partitions=3&maxlen=none&age=7d&wait=1&ca=/ca.pem",
        );
        assert!(config.tls);
        assert_eq!(config.user.as_deref(), Some("gate@way"));
        assert_eq!(config.password, Some(Secret::new("p/a:ss")));
        assert_eq!((config.database, config.partitions, config.wait), (2, 3, 1));
        assert_eq!((&*config.stream, config.max_length), ("{eu}plant", None));
        assert_eq!(config.max_age, Some(Duration::from_secs(7 * 86_400)));
        let config = good("redis://:secret@a:1,b:2,[::1]?cluster=yes");
        assert_eq!((config.user, config.password), (None, Some(Secret::new("secret"))));
        assert_eq!(config.nodes, [("a".to_owned(), 1), ("b".to_owned(), 2), ("::1".to_owned(), 6379)]);
    }

    #[test]
    fn every_mistake_is_told_and_no_password() {
        let (config, problems) = read(
            "redis://me:hunter2@:x/db?stream=a{b&partitions=65&maxlen=1&age=3&wait=-1&cluster=maybe&ca=x&colour=red",
        );
        assert_eq!(problems.len(), 10, "{problems:#?}");
        assert!(!format!("{config:?} {problems:?}").contains("hunter2"));
        for bad in
            ["redis:", "redis:h", "redis://", "redis://h:", "redis://h:99999", "redis://[::1", "redis://a,b"]
        {
            assert!(!read(bad).1.is_empty(), "{bad}");
        }
    }
}
