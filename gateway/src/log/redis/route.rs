//! Which server holds a partition: always the same one, or in a cluster whichever has its slot at present.

use super::link::{self, Connection};
use super::options::Options;
use anabranch_protocol::cursor::Partition;
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub host: String,
    pub port: u16,
    /// It answers for this partition only if asked to: the slot is still on its way.
    pub asking: bool,
}

impl Place {
    fn new(host: &str, port: u16) -> Place {
        Place { host: host.to_owned(), port, asking: false }
    }
}

/// Finds servers, and remembers.
pub(super) struct Router {
    options: Arc<Options>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    places: HashMap<Partition, Place>,
    /// Primaries seen: when every configured node is gone, one of these may be there.
    seen: HashSet<Place>,
}

impl Router {
    pub(super) fn new(options: Arc<Options>) -> Router {
        Router { options, known: Mutex::default() }
    }

    /// Connects to the server that holds a partition.
    pub(super) async fn connect(&self, partition: Partition, answer: Duration) -> RedisResult<Connection> {
        let place = self.place(partition).await?;
        let result = link::connect(&self.options, &place, answer).await;
        if let Err(error) = &result {
            self.note(partition, error);
        }
        result
    }

    /// Learns from an error where a partition is, or that it is not where it was.
    pub(super) fn note(&self, partition: Partition, error: &RedisError) {
        if !self.options.cluster {
            return;
        }
        let asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
        let moved = error.redirect_node().and_then(|(address, _)| parse(address, asking));
        let mut known = self.lock();
        let before = known.places.remove(&partition);
        if let Some(mut place) = moved {
            if place.host.is_empty() {
                // `MOVED 3999 :6381`: the host that said so.
                let Some(before) = before else { return };
                place.host = before.host;
            }
            known.places.insert(partition, place);
        }
    }

    async fn place(&self, partition: Partition) -> RedisResult<Place> {
        if !self.options.cluster {
            let (host, port) = self.options.nodes.first().ok_or_else(nobody)?;
            return Ok(Place::new(host, *port));
        }
        let seen = {
            let known = self.lock();
            if let Some(place) = known.places.get(&partition) {
                return Ok(place.clone());
            }
            known.seen.clone()
        };
        let configured = self.options.nodes.iter().map(|(host, port)| Place::new(host, *port));
        let mut last = None;
        for node in configured.chain(seen) {
            match self.discover(partition, &node).await {
                Ok(Some(place)) => {
                    let mut known = self.lock();
                    known.places.insert(partition, place.clone());
                    known.seen.insert(place.clone());
                    return Ok(place);
                }
                Ok(None) => last = Some(nobody()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(nobody))
    }

    /// Asks one node of the cluster who has the partition's slot.
    async fn discover(&self, partition: Partition, node: &Place) -> RedisResult<Option<Place>> {
        let mut connection = link::connect(&self.options, node, link::ANSWER).await?;
        let mut slot = redis::cmd("CLUSTER");
        slot.arg("KEYSLOT").arg(self.options.keys(partition).stream);
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("SLOTS");
        let mut answers = connection.send([slot, slots]).await?.into_iter();
        let (Some(slot), Some(slots)) = (answers.next(), answers.next()) else { return Ok(None) };
        let (Value::Int(slot), Value::Array(ranges)) = (slot?, slots?) else { return Ok(None) };
        Ok(ranges.iter().find_map(|range| primary(range, slot, node)))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // No code panics half-way through a change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The primary of a range of slots `[from, to, [host, port, …], …]`, if the slot is in it.
fn primary(range: &Value, slot: i64, asked: &Place) -> Option<Place> {
    let Value::Array(range) = range else { return None };
    let [Value::Int(from), Value::Int(to), Value::Array(primary), ..] = &range[..] else { return None };
    if !(from..=to).contains(&&slot) {
        return None;
    }
    let port = match primary.get(1)? {
        Value::Int(port) => u16::try_from(*port).ok()?,
        _ => return None,
    };
    let host = match primary.first()? {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        _ => "",
    };
    // A node that does not know its own name answers with none: it is where we found it.
    Some(Place::new(if host.is_empty() { &asked.host } else { host }, port))
}

fn parse(address: &str, asking: bool) -> Option<Place> {
    let (host, port) = address.rsplit_once(':')?;
    Some(Place { asking, ..Place::new(host, port.parse().ok()?) })
}

fn nobody() -> RedisError {
    (ErrorKind::Client, "no node of the cluster knows who holds the log's slots").into()
}
