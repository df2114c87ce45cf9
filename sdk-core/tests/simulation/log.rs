//! A log with two partitions and sparse offsets, that forgets its oldest part and can be replaced.

use anabranch_protocol::cursor::{Cursor, Fingerprint, LogId, Offset, Partition, Position};
use std::collections::HashSet;

pub const TOPICS: [&str; 5] = ["a", "a/x", "a/y", "b", "published"];

#[derive(Clone)]
pub struct Record {
    pub position: Position,
    pub topic: &'static str,
    pub message_id: String,
}

pub struct Log {
    pub id: LogId,
    /// All that ever was in this history, also what is trimmed.
    pub history: Vec<Record>,
    heads: [u64; 2],
    /// Up to where each partition is forgotten.
    pub trimmed: [u64; 2],
    published: HashSet<String>,
    /// Over all histories.
    pub publish_order: Vec<String>,
}

pub fn position(partition: Partition, offset: u64) -> Position {
    Position { partition, offset: Offset(offset), fingerprint: Some(Fingerprint(offset as u32)) }
}

impl Log {
    pub fn new() -> Log {
        Log {
            id: LogId(1),
            history: Vec::new(),
            heads: [0; 2],
            trimmed: [0; 2],
            published: HashSet::new(),
            publish_order: Vec::new(),
        }
    }

    pub fn append(
        &mut self,
        partition: Partition,
        step: u64,
        topic: &'static str,
        message_id: String,
    ) -> Position {
        let head = &mut self.heads[usize::from(partition)];
        *head += step;
        let position = position(partition, *head);
        self.history.push(Record { position, topic, message_id });
        position
    }

    /// Stores a publish once; `true` if it was there already.
    pub fn publish(&mut self, message_id: &str) -> (Position, bool) {
        if self.published.contains(message_id) {
            let known = self.history.iter().find(|r| r.message_id == message_id).map(|r| r.position);
            return (known.unwrap_or_else(|| position(0, 0)), true);
        }
        self.published.insert(message_id.into());
        self.publish_order.push(message_id.into());
        (self.append(0, 1, "published", message_id.into()), false)
    }

    pub fn head(&self) -> Cursor {
        let mut cursor = Cursor::beginning(self.id);
        for partition in [0, 1] {
            if self.heads[usize::from(partition)] > 0 {
                cursor.set(position(partition, self.heads[usize::from(partition)]));
            }
        }
        cursor
    }

    pub fn earliest(&self) -> Cursor {
        let mut cursor = Cursor::beginning(self.id);
        for partition in [0, 1] {
            if self.trimmed[usize::from(partition)] > 0 {
                cursor.set(Position {
                    fingerprint: None,
                    ..position(partition, self.trimmed[usize::from(partition)])
                });
            }
        }
        cursor
    }

    pub fn trim(&mut self, partition: Partition, count: usize) {
        let trimmed = &mut self.trimmed[usize::from(partition)];
        let in_partition = self.history.iter().filter(|r| r.position.partition == partition);
        if let Some(last) = in_partition.filter(|r| r.position.offset.0 > *trimmed).take(count).last() {
            *trimmed = last.position.offset.0;
        }
    }

    /// A new history. The publishes of the old one stay known, as in a broker that deduplicates by time.
    pub fn replace(&mut self) {
        self.id = LogId(self.id.0 + 1);
        self.history.clear();
        self.heads = [0; 2];
        self.trimmed = [0; 2];
    }

    /// The first record of a partition after an offset that is not trimmed.
    pub fn after(&self, partition: Partition, offset: u64) -> Option<&Record> {
        let from = offset.max(self.trimmed[usize::from(partition)]);
        self.history.iter().find(|r| r.position.partition == partition && r.position.offset.0 > from)
    }
}

/// A cursor's offset in a partition; 0 is the beginning.
pub fn offset(cursor: &Cursor, partition: Partition) -> u64 {
    cursor.position(partition).map_or(0, |p| p.offset.0)
}
