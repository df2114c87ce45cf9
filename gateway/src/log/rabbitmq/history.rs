//! The names of the histories, kept by the broker so that all nodes agree.
//!
//! A stream of its own, `QUEUE.history`, holds a chain: each record says which history ended and which began. Many
//! nodes may write at once; of several records that end the same history the first one holds, and the stream's order
//! is the same for all.
//!
//! ```text
//!   0 → a      a → b      a → c      b → d          0 → a → b → d: the history is d
//!                          └ too late, ignored
//! ```

use super::blank;
use super::fault::Fault;
use super::shared::Shared;
use super::stream::{self, Place, attach};
use crate::log::now;
use anabranch_protocol::cursor::LogId;
use lapin::BasicProperties;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// A stream that answers nothing for so long has nothing. If that is wrong, one record too many is written, and ignored.
const SILENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(3);

/// A history that is younger than this belongs to a stream that another node is about to make.
const FRESH_MS: u64 = 30_000;

/// Before the first history.
const ROOT: LogId = LogId(0);

#[derive(Debug, Serialize, Deserialize)]
struct Link {
    /// Which history ended, in hexadecimal: not every reader of JSON has 64 bits.
    void: String,
    id: String,
    /// When, in milliseconds since 1970.
    time: u64,
}

/// Every history that there was.
#[derive(Debug, Default)]
pub(super) struct Chain {
    next: HashMap<LogId, (LogId, u64)>,
}

impl Chain {
    fn add(&mut self, body: &[u8]) {
        let Ok(link) = serde_json::from_slice::<Link>(body) else { return };
        let id = |text: &str| u64::from_str_radix(text, 16).map(LogId);
        let (Ok(void), Ok(new)) = (id(&link.void), id(&link.id)) else { return };
        // A circle would have no end.
        if new != ROOT && new != void && !self.next.values().any(|(known, _)| *known == new) {
            self.next.entry(void).or_insert((new, link.time));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// The newest history.
    pub(super) fn end(&self) -> LogId {
        let mut end = ROOT;
        while let Some((next, _)) = self.next.get(&end) {
            end = *next;
        }
        end
    }

    /// The newest history's name, if any has one.
    pub(super) fn name(&self) -> Option<LogId> {
        Some(self.end()).filter(|end| *end != ROOT)
    }

    /// Whether the newest history has only just begun.
    pub(super) fn is_fresh(&self) -> bool {
        let end = self.end();
        let began = self.next.values().find(|(id, _)| *id == end).map(|(_, time)| *time);
        began.is_some_and(|began| now().abs_diff(began) < FRESH_MS)
    }
}

/// Reads the chain.
pub(super) async fn read(shared: &Shared) -> Result<Chain, Fault> {
    let queue = shared.options.history();
    let lane = shared.lanes.take().await?;
    let mut chain = Chain::default();
    let newest = stream::newest(lane.connection(), &queue, SILENCE).await?;
    let Some(newest) = newest.last() else { return Ok(chain) };
    let last = stream::offset(newest)?;
    let mut attached = attach(lane.connection(), &queue, Place::First, u16::MAX).await?;
    loop {
        let Some(delivery) = attached.next(PATIENCE).await? else {
            return Err(Fault::Unreachable(format!("the stream {queue} delivers nothing")));
        };
        chain.add(&delivery.data);
        if stream::offset(&delivery)? >= last {
            break;
        }
    }
    drop(attached);
    lane.give_back();
    Ok(chain)
}

/// Ends the history `void` with a new one, unless it has ended already, and reads the chain.
pub(super) async fn append(shared: &Shared, void: LogId) -> Result<Chain, Fault> {
    let id = getrandom::u64().map_err(|error| Fault::Unreachable(format!("no random numbers: {error}")))?;
    let link = Link { void: format!("{:016x}", void.0), id: format!("{:016x}", id.max(1)), time: now() };
    let body = serde_json::to_vec(&link).map_err(|error| Fault::Refused(error.to_string()))?;
    let properties =
        BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(2);
    blank::publish(shared, &shared.options.history(), properties, &body).await?;
    let chain = read(shared).await?;
    if chain.is_empty() {
        let queue = shared.options.history();
        return Err(Fault::Unreachable(format!("the stream {queue} does not deliver what it confirmed")));
    }
    Ok(chain)
}

/// The history after `void`. If no history has a name any more, the first of another chain.
pub(super) async fn rename(shared: &Shared, void: LogId) -> Result<LogId, Fault> {
    match read(shared).await?.end() {
        end if end == void || end == ROOT => Ok(append(shared, end).await?.end()),
        end => Ok(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(links: &[(u64, u64)]) -> Chain {
        let mut chain = Chain::default();
        for (void, id) in links {
            chain.add(format!(r#"{{"void":"{void:x}","id":"{id:x}","time":1}}"#).as_bytes());
        }
        chain
    }

    #[test]
    fn the_first_successor_holds() {
        assert_eq!(chain(&[]).end(), ROOT);
        assert_eq!(chain(&[(0, 10), (10, 11), (10, 12), (11, 13), (12, 14)]).end(), LogId(13));
        assert_eq!(chain(&[(0, 10), (0, 20), (20, 21)]).end(), LogId(10));
    }

    #[test]
    fn nonsense_is_passed_over() {
        let mut odd = chain(&[(0, 10), (10, 10), (10, 0), (10, 11), (11, 10)]);
        odd.add(b"not json");
        odd.add(br#"{"void":"xyz","id":"1","time":1}"#);
        assert_eq!(odd.end(), LogId(11));
    }
}
