//! What the broker delivers becomes what a source delivers.

use super::fault::Fault;
use super::shared::Shared;
use super::{key, mark, stream};
use crate::log::ingest::{self, Arrival, Quarantine};
use crate::log::source::Delivery;
use crate::log::{fingerprint, now};
use anabranch_protocol::cursor::{Offset, Partition, Position};
use lapin::message::Delivery as Raw;
use std::sync::Arc;

/// The first offset of a stream, in our counting: a mark there stands before every record.
const BEGINNING: Offset = Offset(1);

/// While a gateway's time is no older than this, a tail is at the log's end.
const LIVE_MS: u64 = 5_000;

/// RabbitMQ's own entries take one or two offsets. A wider hole is left to be judged.
const WIDEST_HOLE: u64 = 64;

/// Follows one consumer.
pub(super) struct Reading {
    shared: Arc<Shared>,
    partition: Partition,
    previous: Option<Offset>,
    /// The latest time that a gateway wrote on a record so far: canaries come every two seconds from each node.
    dated: Option<u64>,
    purpose: Purpose,
}

/// Why something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What comes is new, once the tail has caught up: a record without a time is then dated by our clock.
    Tail,
    /// What comes is old.
    Replay,
    /// Only its place matters, and it is looked at again and again: what is quarantined is not counted.
    Probe,
}

/// Our offset, for the broker's.
pub(super) fn ours(offset: u64) -> Offset {
    Offset(offset.saturating_add(1))
}

/// The broker's offset, for ours.
pub(super) fn theirs(offset: Offset) -> u64 {
    offset.0.saturating_sub(1)
}

impl Reading {
    pub(super) fn new(shared: Arc<Shared>, partition: Partition, purpose: Purpose) -> Reading {
        Reading { shared, partition, previous: None, dated: None, purpose }
    }

    /// Takes the next one: nothing, if it stands before every record, or what it is, behind the hole before it. A hole
    /// that is known as one is filled with blanks: whoever reads it late, when retention is at its heels, could not tell
    /// it from a loss.
    pub(super) fn take(&mut self, raw: Raw) -> Result<impl Iterator<Item = Delivery>, Fault> {
        let offset = ours(stream::offset(&raw)?);
        let sight = self.shared.sight(self.partition);
        sight.note(self.previous, offset);
        let expected = self.previous.map_or(offset, |previous| Offset(previous.0 + 1));
        self.previous = Some(offset);
        let known = expected < offset
            && offset.0 - expected.0 <= WIDEST_HOLE
            && sight.is_hole(expected, Offset(offset.0 - 1));
        let hole = if known { expected.0..offset.0 } else { 0..0 };
        let delivery = self.delivery(offset, raw);
        Ok(hole.map(|offset| Delivery::Blank(Offset(offset))).chain(delivery))
    }

    /// When a record was published that nobody has dated. Live, every node says what its clock says when the record comes. Read
    /// later, by whichever node, it is as old as the gateway's record before it, some two seconds at most.
    fn guess(&self) -> u64 {
        let now = now();
        match self.dated {
            Some(dated) if self.purpose != Purpose::Tail || now.saturating_sub(dated) > LIVE_MS => dated,
            _ => now,
        }
    }

    fn delivery(&mut self, offset: Offset, raw: Raw) -> Option<Delivery> {
        let time = mark::time(&raw);
        let mark = mark::mark(&raw);
        if mark.is_some() {
            self.dated = self.dated.max(time);
        }
        if mark::is_blank(&raw) {
            return (offset != BEGINNING).then_some(Delivery::Blank(offset));
        }
        let time = time.unwrap_or_else(|| self.guess());
        let Raw { routing_key, properties, data, .. } = raw;
        let body = bytes::Bytes::from(data);
        if let Some(mark) = mark {
            let position =
                Position { partition: self.partition, offset, fingerprint: Some(fingerprint(&body)) };
            self.shared.echoes.seen(mark, routing_key.as_str(), &body, position);
        }
        let record = match key::topic(routing_key.as_str()) {
            None => Err(Quarantine::Topic),
            Some(topic) => ingest::record(Arrival {
                partition: self.partition,
                offset,
                time,
                topic: &topic,
                body,
                message_id: properties.message_id().as_ref().map(|id| id.as_str()),
                source: properties.app_id().as_ref().map_or("rabbitmq", |app| app.as_str()),
                from_gateway: mark.is_some(),
            }),
        };
        Some(match record {
            Ok(record) => Delivery::Record(record),
            Err(why) => {
                if self.purpose != Purpose::Probe {
                    self.shared.ward.note(why, self.partition, offset);
                }
                Delivery::Blank(offset)
            }
        })
    }
}
