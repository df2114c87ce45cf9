//! Where a RabbitMQ is, and what is used of it.

use crate::config::Secret;
use anabranch_protocol::cursor::Partition;
use std::path::PathBuf;
use std::time::Duration;

/// A RabbitMQ, and the exchange and streams that are used there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub server: Server,
    /// The topic exchange that publishers use, and gateways too.
    pub exchange: String,
    /// The stream queue. With several partitions the first part of each one's name.
    pub queue: String,
    /// Binding keys by which records reach the stream, in the broker's notation: `#`, `iotsphere.*.d1.#`.
    pub bindings: Vec<String>,
    /// Exchanges from which records come into ours.
    pub from: Vec<Feed>,
    pub partitions: Partition,
    /// How many bytes the stream keeps, in whole segments, for each partition. `None`: all.
    pub retention_bytes: Option<u64>,
    /// How long records are kept, in whole segments. `None`: for ever.
    pub retention_age: Option<Duration>,
    /// Size at which the broker begins a new segment.
    pub segment_bytes: u64,
    /// Whether exchange, streams and bindings are declared. Otherwise they must be there, with whatever retention they
    /// have.
    pub declare: bool,
    /// How often each side says that it lives; a silence of twice as long is the end of a connection.
    pub heartbeat: Duration,
    /// Most records on their way to a tail, at the least one of the broker's chunks.
    pub prefetch: u16,
    /// PEM file of the authorities that may vouch for the broker; else those of the web.
    pub authorities: Option<PathBuf>,
}

/// An exchange whose records come into ours, and which of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    pub exchange: String,
    pub binding: String,
}

/// Where a broker is, and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// The virtual host.
    pub vhost: String,
    pub user: String,
    pub password: Secret,
}

#[cfg(test)]
impl Server {
    /// For tests that ask nobody.
    pub(super) fn nowhere() -> Server {
        let (host, vhost, user) = ("h".into(), "/".into(), "u".into());
        Server { tls: false, host, port: 1, vhost, user, password: Secret::new("p") }
    }
}

/// The nodes' canaries. A node whose canaries do not come back is never ready.
const CANARIES: &str = "$anabranch.#";

impl Options {
    /// The binding keys: those that are set, and the canaries'.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let covered = self.bindings.iter().any(|key| key == "#" || key == CANARIES);
        self.bindings.iter().map(String::as_str).chain((!covered).then_some(CANARIES))
    }

    /// The defaults, for a server.
    pub fn at(server: Server) -> Options {
        Options {
            server,
            exchange: "iotsphere".to_owned(),
            queue: "anabranch".to_owned(),
            bindings: vec!["#".to_owned()],
            from: Vec::new(),
            partitions: 1,
            retention_bytes: Some(1 << 30),
            retention_age: None,
            segment_bytes: 64 << 20,
            declare: true,
            heartbeat: Duration::from_secs(10),
            prefetch: 5_000,
            authorities: None,
        }
    }

    /// The streams of a log that is divided among so many.
    pub(super) fn streams(&self, partitions: Partition) -> impl Iterator<Item = String> {
        let queue = self.queue.clone();
        (0..partitions).map(move |n| if partitions == 1 { queue.clone() } else { format!("{queue}-{n}") })
    }

    /// The queue that only one node can have at a time.
    pub(super) fn turn(&self) -> String {
        format!("{}.turn", self.queue)
    }

    /// The small stream that holds the names of the histories.
    pub(super) fn history(&self) -> String {
        format!("{}.history", self.queue)
    }

    /// The exchange that divides topics among partitions.
    pub(super) fn divider(&self) -> String {
        format!("{}.partitions", self.queue)
    }

    /// For people: where this is, without the password.
    pub(super) fn place(&self) -> String {
        let Server { tls, host, port, vhost, .. } = &self.server;
        format!("{}://{host}:{port} (virtual host {vhost:?})", if *tls { "amqps" } else { "amqp" })
    }
}
