//! `amqp://` and `amqps://`, a stream of RabbitMQ.

use super::Options;
use crate::config::Secret;
use crate::config::value::{Raw, duration, size, text, whole};
use crate::log::rabbitmq::{Feed, Server};
use std::path::PathBuf;
use std::time::Duration;

/// The address and the options of `amqp:`.
///
/// `amqp://user:password@host:5672/vhost`: with `%` and two hexadecimal digits for what has a meaning in a URL. Absent
/// are `guest`, `guest`, 5672 (5671 with TLS) and the virtual host `/`.
///
/// * `exchange`: the topic exchange. Default `iotsphere`; `amq.topic` is where RabbitMQ's MQTT plugin puts records.
/// * `queue`: the stream. Default `anabranch`.
/// * `bind`: binding keys, separated by commas, in RabbitMQ's notation. Default `#`.
/// * `from`: exchanges from which records come too, separated by commas: `amq.topic`, or `amq.topic:iotsphere.#`.
/// * `partitions`: from 1 to 64. Default 1.
/// * `retention`: bytes that the stream keeps, at least two segments; `all` for no limit. Default 1GiB.
/// * `age`: how long records are kept. Default for ever.
/// * `segment`: from 64KiB to 2GiB. Default 64MiB.
/// * `declare`: `yes`, or `no` to use only what is there.
/// * `heartbeat`: from 1s to 5m. Default 10s.
/// * `prefetch`: from 10 to 20000. Default 5000.
/// * `ca`: PEM file of the authorities that may vouch for the broker.
pub type RabbitMqLogConfig = crate::log::rabbitmq::Options;

pub(super) fn parse(tls: bool, rest: &str, options: &mut Options<'_>) -> RabbitMqLogConfig {
    let server = match server(tls, rest) {
        Ok(server) => server,
        Err(problem) => {
            options.problem(format!("expected amqp://user:password@host:port/vhost: {problem}"));
            local(tls)
        }
    };
    let default = RabbitMqLogConfig::at(server);
    let segment_bytes = options.read("segment", default.segment_bytes, size(64 << 10..=2 << 30));
    let least = 2 * segment_bytes;
    let retention_bytes =
        options.read("retention", Some((1 << 30).max(least)), |raw| match text(raw)?.as_str() {
            "all" => Ok(None),
            _ => size(least..=1 << 50)(raw).map(Some),
        });
    let age = duration(Duration::from_secs(1)..=Duration::from_secs(100 * 365 * 24 * 3600));
    RabbitMqLogConfig {
        exchange: options.read("exchange", default.exchange, name),
        queue: options.read("queue", default.queue, name),
        bindings: options.read("bind", default.bindings, list),
        from: options.read("from", default.from, |raw| {
            let feed = |text: String| match text.split_once(':') {
                Some((exchange, binding)) => {
                    Feed { exchange: exchange.to_owned(), binding: binding.to_owned() }
                }
                None => Feed { exchange: text, binding: "#".to_owned() },
            };
            Ok(list(raw)?.into_iter().map(feed).collect())
        }),
        partitions: options.read("partitions", 1, whole(1..=64)) as u16,
        retention_bytes,
        retention_age: options.read("age", None, |raw| age(raw).map(Some)),
        segment_bytes,
        declare: options.read("declare", true, |raw| match text(raw)?.as_str() {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err("expected yes or no".to_owned()),
        }),
        heartbeat: options.read(
            "heartbeat",
            default.heartbeat,
            duration(Duration::from_secs(1)..=Duration::from_secs(300)),
        ),
        prefetch: options.read("prefetch", usize::from(default.prefetch), whole(10..=20_000)) as u16,
        authorities: options.read("ca", None, |raw| Ok(Some(PathBuf::from(decoded(&text(raw)?)?)))),
        server: default.server,
    }
}

/// The server that stands in for one that cannot be read, so that the options are read too.
fn local(tls: bool) -> Server {
    Server {
        tls,
        host: "localhost".to_owned(),
        port: if tls { 5671 } else { 5672 },
        vhost: "/".to_owned(),
        user: "guest".to_owned(),
        password: Secret::new("guest"),
    }
}

/// No problem shows a part of the address: what cannot be told apart may be the password.
fn server(tls: bool, rest: &str) -> Result<Server, String> {
    let mut server = local(tls);
    let rest = rest.strip_prefix("//").ok_or("it has no //")?;
    let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
    if !vhost.is_empty() {
        server.vhost = decoded(vhost)?;
    }
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    if let Some(user) = user {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        server.user = decoded(name)?;
        server.password = Secret::new(decoded(password)?);
    }
    let (host, port) = match place.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("it has no host".to_owned());
    }
    server.host = decoded(host)?;
    if let Some(port) = port {
        server.port = port.parse().ok().filter(|port| *port > 0).ok_or("the port is no port number")?;
    }
    Ok(server)
}

/// What `%41` and the like stand for.
fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err("a % must be followed by two hexadecimal digits".to_owned());
        };
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| "what % stands for must be UTF-8".to_owned())
}

/// A name of the broker's, or a binding key: at most 255 bytes.
fn name(raw: &Raw) -> Result<String, String> {
    let name = decoded(&text(raw)?)?;
    // Room for what is put behind it.
    if name.len() > 230 { Err("it is longer than 230 bytes".to_owned()) } else { Ok(name) }
}

fn list(raw: &Raw) -> Result<Vec<String>, String> {
    text(raw)?.split(',').map(|part| name(&Raw::Text(part.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> (RabbitMqLogConfig, Vec<String>) {
        let mut problems = Vec::new();
        let (scheme, rest) = url.split_once(':').unwrap();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut options = Options::new(query, &mut problems);
        let config = parse(scheme == "amqps", path, &mut options);
        options.finish();
        (config, problems)
    }

    #[test]
    fn an_address_is_taken_apart() {
        let (config, problems) = read("amqps://us%40er:p%2F%3Fs@[::1]:77/a%2fb");
        assert_eq!(problems, [""; 0]);
        let Server { tls, host, port, vhost, user, password } = config.server;
        assert_eq!((tls, &*host, port, &*vhost, &*user), (true, "::1", 77, "a/b", "us@er"));
        assert_eq!(password.reveal(), b"p/?s");
        for short in ["amqp://h", "amqp://h/", "amqp://h/%2f"] {
            let (config, problems) = read(short);
            assert_eq!(problems, [""; 0]);
            assert_eq!(config.server, Server { host: "h".to_owned(), ..local(false) });
        }
    }

    #[test]
    fn options_are_read() {
        let (config, problems) = read(
            "amqp://h?exchange=amq.topic&queue=q&bind=a.#,%23&from=amq.topic,other:b.*&partitions=3&retention=all\
             &age=7d&segment=1MiB&declare=no&heartbeat=2s&prefetch=100",
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!(config.bindings, ["a.#", "#"]);
        let feed =
            |exchange: &str, binding: &str| Feed { exchange: exchange.into(), binding: binding.into() };
        assert_eq!(config.from, [feed("amq.topic", "#"), feed("other", "b.*")]);
        assert_eq!((config.partitions, config.retention_bytes, config.declare), (3, None, false));
    }

    #[test]
    fn mistakes_are_told_all_at_once_and_never_show_the_password() {
        let (_, problems) =
            read("amqp://u:hunter2@h:x?retention=1KiB&declare=perhaps&colour=red&partitions=0");
        assert_eq!(problems.len(), 5, "{problems:?}");
        let (config, more) = read("amqp://u:hunter2%4@h");
        assert_eq!(more.len(), 1, "{more:?}");
        let (shown, _) = read("amqp://u:hunter2@h");
        assert!(!format!("{problems:?} {more:?} {config:?} {shown:?}").contains("hunter"));
    }
}
