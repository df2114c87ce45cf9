//! How a Redis log is set up.

use crate::config::Secret;
use anabranch_protocol::cursor::Partition;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::limits;
use std::path::PathBuf;
use std::time::Duration;

/// In place of a partition: the log as a whole, which has a place of its own whatever the number of partitions.
pub(super) const WHOLE: Partition = Partition::MAX;

/// Where a Redis log is, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Host and port. More than one only with `cluster`: whichever answers names the others.
    pub nodes: Vec<(String, u16)>,
    /// Speaks TLS (`rediss://`).
    pub tls: bool,
    /// With TLS: a file with the certificates (PEM) of those who may vouch for the server, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The ACL user; without one, Redis' default user.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// The number of the database; 0 in a cluster.
    pub database: u16,
    /// The stream's key. With several partitions they are `stream:0`, `stream:1`, …
    pub stream: String,
    pub partitions: Partition,
    /// Most entries kept in each partition; `None` for any number. Trimmed once a second, so it is exceeded by what a
    /// second brings.
    pub max_length: Option<u64>,
    /// How long entries are kept, by the server's clock.
    pub max_age: Option<Duration>,
    /// The server is a node of a Redis Cluster.
    pub cluster: bool,
    /// How many replicas must have a record before its publish is confirmed. They can still be lost together.
    pub wait: u16,
    /// Topics whose messages are not kept: they come by Pub/Sub, on channels of the same names.
    pub transient: Vec<Filter>,
    /// Largest envelope taken, in bytes.
    pub max_record: usize,
    /// How often the entries that are to be forgotten are looked for.
    pub tend_every: Duration,
}

impl Options {
    /// The defaults, for one server.
    pub fn new(host: impl Into<String>, port: u16) -> Options {
        Options {
            nodes: vec![(host.into(), port)],
            tls: false,
            ca: None,
            user: None,
            password: None,
            database: 0,
            stream: "iotsphere".into(),
            partitions: 1,
            max_length: Some(1_000_000),
            max_age: None,
            cluster: false,
            wait: 0,
            transient: Vec::new(),
            max_record: limits::ENVELOPE_BYTES,
            tend_every: Duration::from_secs(1),
        }
    }

    /// The stream of a partition, and what is kept beside it (see [`script`](super::script)).
    ///
    /// Both hash to one slot of a cluster, and partitions to different ones, unless the name says otherwise with
    /// braces of its own.
    pub(super) fn keys(&self, partition: Partition) -> Keys {
        let stream = match self.partitions {
            0 | 1 => self.stream.clone(),
            _ if partition == WHOLE => self.stream.clone(),
            _ => format!("{}:{partition}", self.stream),
        };
        let beside = if stream.contains('{') {
            format!("{stream}:anabranch")
        } else {
            format!("{{{stream}}}:anabranch")
        };
        Keys { stream, beside }
    }
}

/// The keys of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// The stream.
    pub stream: String,
    /// A hash: the log's `id` and its `partitions`, and what was `forgotten`.
    pub beside: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_a_stream_hashes_to_its_slot() {
        let mut options = Options { stream: "plant".into(), ..Options::new("h", 1) };
        let keys = options.keys(0);
        assert_eq!((&*keys.stream, &*keys.beside), ("plant", "{plant}:anabranch"));
        options.partitions = 3;
        let keys = options.keys(2);
        assert_eq!((&*keys.stream, &*keys.beside), ("plant:2", "{plant:2}:anabranch"));
        let whole = options.keys(WHOLE);
        options.partitions = 1;
        assert_eq!(options.keys(0), whole, "one place for every number of partitions");
        options.partitions = 3;
        options.stream = "{eu}plant".into();
        let keys = options.keys(1);
        assert_eq!((&*keys.stream, &*keys.beside), ("{eu}plant:1", "{eu}plant:1:anabranch"));
    }
}
