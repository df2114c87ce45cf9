//! Entries beyond the last offset, and what they stop.
//!
//! Somebody has chosen an id beyond the range of offsets (see [`id`](super::id)), in the year 2109 or later. From then on the server itself gives only
//! higher ones, so nothing that is appended can be delivered to anybody. What stands before is delivered and read as ever;
//! appends are refused as soon as it is known, and the tail says what an operator has to do. Nothing is deleted here: who
//! chose the id may want what it holds.

use super::Shared;
use super::id::EntryId;
use super::script::Look;
use crate::log::source::SourceError;
use anabranch_protocol::cursor::{Offset, Partition};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often it is looked whether the entries have gone.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// The first entry known to be beyond, in each partition.
pub(super) struct Beyond(Vec<Mutex<Option<EntryId>>>);

impl Beyond {
    pub(super) fn new(partitions: usize) -> Beyond {
        Beyond((0..partitions).map(|_| Mutex::default()).collect())
    }

    /// The entry, if one is known.
    pub(super) fn known(&self, partition: Partition) -> Option<EntryId> {
        *self.0.get(usize::from(partition))?.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an entry; answers with the first that is known.
    fn note(&self, partition: Partition, id: EntryId) -> EntryId {
        let Some(known) = self.0.get(usize::from(partition)) else { return id };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let first = known.map_or(id, |known| known.min(id));
        *known = Some(first);
        first
    }

    /// The stream gives ids within the range again.
    pub(super) fn clear(&self, partition: Partition) {
        if let Some(known) = self.0.get(usize::from(partition)) {
            *known.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl Shared {
    /// Notes an entry beyond the last offset; answers with what an operator has to know.
    pub(super) fn beyond(&self, partition: Partition, id: EntryId) -> String {
        let first = self.beyond.note(partition, id);
        let stream = self.keys.get(usize::from(partition)).map_or("", |keys| &keys.stream);
        format!(
            "the stream {stream} has an entry {first}, beyond what an offset can tell (4398046511103-4194303): somebody \
             chose that id, and nothing behind it can be delivered. Delete it and what follows (XRANGE {stream} {first} + \
             lists them, XDEL), then give the id of the last entry that is left to XSETID {stream}; where the server \
             refuses that, see the documentation of Redis as the log"
        )
    }

    /// See [`Source::earliest`](crate::log::source::Source::earliest).
    pub(super) fn earliest(&self, look: &Look, partition: Partition) -> Result<Offset, SourceError> {
        look.earliest().ok_or_else(|| match look.first().or(look.beyond()) {
            Some(id) => SourceError::Unreachable(self.beyond(partition, id)),
            None => super::strange(),
        })
    }
}
