//! What the broker has taken, written down by somebody who forgets nothing and is told of every lie.

use super::is_state;
use crate::log::memory::Lies;
use anabranch_protocol::cursor::{Cursor, LogId, Offset, Partition, Position};
use anabranch_protocol::envelope::Envelope;
use std::collections::{BTreeMap, BTreeSet};

/// Of the simulated log.
pub const PARTITIONS: Partition = 2;

/// One record.
pub struct Stored {
    pub position: Position,
    pub topic: Box<str>,
    pub number: u64,
    pub message_id: Box<str>,
    /// Retention has dropped it.
    pub forgotten: bool,
    /// It kills whoever reads it, or did once.
    pub poisoned: bool,
    /// The same message stands before it, or may be thought to.
    pub repeated: bool,
    /// One was lost that stood here and killed whoever read it: who had stepped over that one cannot know that another stands here.
    stepped_over: bool,
}

/// The book of one world.
pub struct Truth {
    lies: Lies,
    /// What stands in the present history, the forgotten included, partition by partition.
    standing: Vec<Vec<Stored>>,
    /// Where each message was ever stored, by message id.
    ever: BTreeMap<Box<str>, Vec<Position>>,
    /// Message ids of which a copy was lost.
    lost: BTreeSet<Box<str>>,
    /// Where it stood, and whether it killed whoever read it.
    lost_places: BTreeMap<(Partition, Offset), bool>,
    /// State topics whose newest value was lost, and nobody can know the one before.
    unknown: BTreeSet<Box<str>>,
    /// Histories that have lost their end: an offset of theirs says nothing.
    torn: BTreeSet<u64>,
    /// Message ids whose first copy was lost or forgotten: another copy may be delivered.
    pub doubled: BTreeSet<Box<str>>,
}

impl Truth {
    pub fn new(lies: Lies) -> Truth {
        Truth {
            lies,
            standing: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            ever: BTreeMap::new(),
            lost: BTreeSet::new(),
            lost_places: BTreeMap::new(),
            unknown: BTreeSet::new(),
            torn: BTreeSet::new(),
            doubled: BTreeSet::new(),
        }
    }

    /// Writes down what has been appended since.
    pub fn read(&mut self) {
        for partition in 0..PARTITIONS {
            for record in self.lies.records(partition, self.last(partition)) {
                let text = std::str::from_utf8(&record.envelope).expect("text");
                let envelope = Envelope::parse(text).expect("an envelope");
                let message_id: Box<str> = envelope.message_id.as_deref().expect("a message id").into();
                let number = envelope.payload.parse().expect("a number");
                self.unknown.remove(&*record.topic);
                let line = &mut self.standing[usize::from(partition)];
                let torn = self.lies.history().is_some_and(|log| self.torn.contains(&log.0));
                let repeated = line.iter().any(|one| one.message_id == message_id)
                    // A node that had read the copy that is lost, and cannot know that it is, takes this for the second.
                    || (torn && self.lost.contains(&message_id));
                self.ever.entry(message_id.clone()).or_default().push(record.position);
                let (position, topic) = (record.position, record.topic);
                let stepped_over = self.lost_places.get(&(partition, position.offset)) == Some(&true);
                line.push(Stored {
                    position,
                    topic: topic.as_ref().into(),
                    number,
                    message_id,
                    forgotten: false,
                    poisoned: false,
                    repeated,
                    stepped_over,
                });
            }
        }
    }

    pub fn last(&self, partition: Partition) -> Offset {
        self.standing[usize::from(partition)].last().map_or(Offset(0), |one| one.position.offset)
    }

    /// What the broker still has of a partition.
    pub fn there(&self, partition: Partition) -> impl Iterator<Item = &Stored> {
        self.standing[usize::from(partition)].iter().filter(|one| !one.forgotten)
    }

    /// The first record that can be read, or the next to come.
    pub fn oldest(&self, partition: Partition) -> Offset {
        self.there(partition).next().map_or(self.lies.next(partition), |one| one.position.offset)
    }

    /// Up to where retention has dropped everything.
    pub fn forgotten(&self) -> impl Iterator<Item = Position> {
        let last = |line: &Vec<Stored>| line.iter().rev().find(|one| one.forgotten).map(|one| one.position);
        self.standing.iter().filter_map(last)
    }

    pub fn standing(&self) -> impl Iterator<Item = &Stored> {
        self.standing.iter().flatten()
    }

    /// What stands at a position.
    pub fn at(&self, position: Position) -> Option<&Stored> {
        let line = self.standing.get(usize::from(position.partition))?;
        line.iter().find(|one| one.position.offset == position.offset)
    }

    /// The newest record of each state topic, unless nobody can know it.
    pub fn newest(&self) -> BTreeMap<&str, &Stored> {
        let mut newest: BTreeMap<&str, &Stored> = BTreeMap::new();
        for one in self.standing().filter(|one| is_state(&one.topic)) {
            // Whether a node remembers the first copy that is gone, nobody knows.
            if !one.repeated || self.doubled.contains(&one.message_id) {
                newest.insert(&one.topic, one);
            }
        }
        newest.retain(|topic, one| {
            let gone = one.forgotten || one.poisoned || one.stepped_over || self.is_hidden(one);
            !gone && !one.repeated && !self.unknown.contains(*topic)
        });
        newest
    }

    pub fn was_stored(&self, message_id: &str) -> bool {
        self.ever.contains_key(message_id)
    }

    pub fn was_stored_at(&self, message_id: &str, position: Position) -> bool {
        self.ever.get(message_id).is_some_and(|places| places.contains(&position))
    }

    /// Message ids in the order of the log, each once.
    pub fn order(&self) -> impl Iterator<Item = &str> {
        self.standing().filter(|one| !one.repeated).map(|one| &*one.message_id)
    }

    /// The end of the present history, for people.
    pub fn describe(&self) -> String {
        let log = self.lies.history().map_or("no name".to_owned(), |log| log.to_string());
        let last: Vec<String> = (0..PARTITIONS).map(|partition| self.last(partition).to_string()).collect();
        format!("log {log} at {}", last.join(" and "))
    }

    /// Whether this is the end of the present history.
    pub fn is_at_head(&self, cursor: &Cursor) -> bool {
        let is_end = |partition| {
            let at = cursor.position(partition).map_or(Offset(0), |position| position.offset);
            // Behind the last record there may be a hole.
            at < self.lies.next(partition) && self.there(partition).all(|one| one.position.offset <= at)
        };
        self.lies.history() == Some(cursor.log()) && (0..PARTITIONS).all(is_end)
    }

    /// Whether an offset of this history says which record is meant.
    pub fn is_whole(&self, log: LogId) -> bool {
        self.lies.history() == Some(log) && !self.torn.contains(&log.0)
    }

    /// Whether the end of this history was lost before: where what came in its place is forgotten, nobody can tell the two apart.
    pub fn was_torn(&self, log: LogId) -> bool {
        self.torn.contains(&log.0)
    }

    /// The last place at which what a client has seen cannot be compared: a failover took a record back, and what came in its place
    /// was forgotten, or kills whoever reads it.
    pub fn blind_to(&self, partition: Partition) -> Offset {
        let taken =
            |one: &&Stored| one.poisoned && self.lost_places.contains_key(&(partition, one.position.offset));
        let killing = self.there(partition).filter(taken).last().map(|one| one.position.offset);
        killing.unwrap_or_default().max(Offset(self.oldest(partition).0 - 1))
    }

    /// Whether this came in the place of what was lost, at or before a place at which the two cannot be told apart: who had come there
    /// before does not know that another stands here.
    pub fn is_hidden(&self, one: &Stored) -> bool {
        let Position { partition, offset, .. } = one.position;
        self.lost_places.contains_key(&(partition, offset)) && offset <= self.blind_to(partition)
    }

    /// The broker has lost its newest `count` records, and told nobody.
    pub fn lose(&mut self, partition: Partition, count: usize) {
        let line = &mut self.standing[usize::from(partition)];
        // What was forgotten before is not lost once more.
        let there = line.iter().rev().take(count).take_while(|one| !one.forgotten).count();
        let lost = line.split_off(line.len() - there);
        if !lost.is_empty() {
            self.torn.extend(self.lies.history().map(|log| log.0));
        }
        for lost in lost {
            if is_state(&lost.topic) {
                self.unknown.insert(lost.topic);
            }
            *self.lost_places.entry((partition, lost.position.offset)).or_default() |= lost.poisoned;
            self.doubled.insert(lost.message_id.clone());
            self.lost.insert(lost.message_id);
        }
    }

    /// The broker was made anew.
    pub fn lose_all(&mut self) {
        for partition in 0..PARTITIONS {
            self.standing[usize::from(partition)].iter_mut().for_each(|one| one.forgotten = false);
            self.lose(partition, usize::MAX);
        }
    }

    /// Retention has dropped what stands before.
    pub fn forget(&mut self, partition: Partition, before: Offset) {
        let line = &mut self.standing[usize::from(partition)];
        for gone in line.iter_mut().filter(|one| one.position.offset < before) {
            gone.forgotten = true;
            self.doubled.insert(gone.message_id.clone());
        }
    }

    /// A record kills whoever reads it.
    pub fn poison(&mut self, position: Position) {
        let line = &mut self.standing[usize::from(position.partition)];
        for one in line.iter_mut().filter(|one| one.position == position) {
            one.poisoned = true;
            self.doubled.insert(one.message_id.clone());
        }
    }
}
