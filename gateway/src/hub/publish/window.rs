//! The keys of recent messages: those whose confirm has not come, and the newest of those that are stored.
//!
//! Every message is looked up here, at a place as random as hashes are. In one table of keys and positions, 19 MB of it,
//! from which each message also pushed the oldest out, that was 0.5 µs of waiting for memory. So what is stored stands in
//! the order in which it came, the tables hold 4 bytes for each, and nothing is pushed out by itself: when the newer of two
//! generations is full, the older one goes as a whole. That most messages are new is then seen from one byte for each that
//! is known, which the processor's second cache holds.

use super::{Appended, WINDOW, is_before};
use crate::log::MessageKey;
use anabranch_protocol::cursor::{Cursor, LogId, Offset, Partition, Position};
use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use std::hash::BuildHasher;
use tokio::sync::oneshot::{Receiver, Sender, channel};

pub(super) struct Window {
    /// Appends under way, each with the later publishers of the same message, who wait for its end too.
    appending: HashMap<MessageKey, Vec<Sender<Appended>>>,
    known: Known,
    /// The newest one that was read, in each partition. A confirm alone moves it not: whoever took over after a failover
    /// confirms, and nobody has yet seen that the history goes on.
    pub newest: HashMap<Partition, (MessageKey, Position)>,
    /// Which history all of this is of.
    pub log: LogId,
    /// The last place of each partition at which it was seen what stands there. Not forgotten with a record that is lost.
    pub seen: HashMap<Partition, Position>,
    /// Up to where each partition has been read, in order: every record up to there has been noted.
    read_to: HashMap<Partition, Offset>,
    /// How often the log was found to lack a record. What was read before that vouches for nothing that was read after, and
    /// the other way round.
    pub losses: u64,
    /// How many histories ended before this one.
    pub epoch: u64,
}

#[derive(Clone, Copy)]
pub(super) struct Stored {
    pub position: Position,
    /// Whether it was read there, by whoever judges that the history goes on: the losses by then. `None` is known from a
    /// confirm alone.
    pub read: Option<u64>,
}

/// What is known of a message when it comes.
pub(super) enum Seen {
    /// Nothing.
    New,
    Appending(Receiver<Appended>),
    Stored(Stored),
}

impl Window {
    pub fn new(log: LogId) -> Window {
        Window {
            appending: HashMap::default(),
            known: Known::default(),
            newest: HashMap::default(),
            log,
            seen: HashMap::default(),
            read_to: HashMap::default(),
            losses: 0,
            epoch: 0,
        }
    }

    /// A publisher wants this message appended. If it is under way, the publisher waits for its end from now on.
    pub fn look_up(&mut self, key: MessageKey) -> Seen {
        if let Some(stored) = self.known.get(key) {
            return Seen::Stored(*stored);
        }
        match self.appending.get_mut(&key) {
            Some(waiting) => {
                let (sender, receiver) = channel();
                waiting.push(sender);
                Seen::Appending(receiver)
            }
            None => Seen::New,
        }
    }

    /// The append of a new message is under way.
    pub fn begin(&mut self, key: MessageKey) {
        self.appending.insert(key, Vec::new());
    }

    /// An append has ended. Who waited for it.
    pub fn end(&mut self, key: MessageKey) -> Vec<Sender<Appended>> {
        self.appending.remove(&key).unwrap_or_default()
    }

    /// The append of a message was confirmed before anything else could become known since it was [`Seen::New`]: looking for it
    /// again, as [`Window::note`] does, would cost 0.08 µs.
    pub fn add(&mut self, key: MessageKey, position: Position) {
        self.known.push(key, Stored { position, read: None });
    }

    /// Where the message is known to be stored.
    pub fn stored(&mut self, key: MessageKey) -> Option<Position> {
        self.known.get(key).map(|stored| stored.position)
    }

    /// See [`Publisher::note`](super::Publisher::note). `read` if it was read from the log, not only confirmed. If it is a
    /// duplicate, the first copy's position.
    pub fn note(&mut self, key: MessageKey, position: Position, read: bool) -> Option<Position> {
        if read {
            self.pass(position.partition, position.offset);
            let newest = self.newest.entry(position.partition).or_insert((key, position));
            if newest.1.offset <= position.offset {
                *newest = (key, position);
            }
            self.see(position);
        }
        let stored = Stored { position, read: read.then_some(self.losses) };
        let Some(first) = self.known.get(key) else {
            self.known.push(key, stored);
            return None;
        };
        let known = first.position;
        // Records are read in order: what was confirmed before this place, and was not met there, a failover has taken back.
        let taken_back = read && first.read.is_none() && is_before(known, position);
        if taken_back || is_before(position, known) || (read && known.offset == position.offset) {
            *first = stored;
        }
        (!taken_back && is_before(known, position)).then_some(known)
    }

    /// This record stands there.
    pub fn see(&mut self, position: Position) {
        let seen = self.seen.entry(position.partition).or_insert(position);
        if seen.offset <= position.offset {
            *seen = position;
        }
    }

    /// A partition has been read up to here.
    pub fn pass(&mut self, partition: Partition, offset: Offset) {
        let read_to = self.read_to.entry(partition).or_default();
        *read_to = offset.max(*read_to);
    }

    pub fn read_to(&self, partition: Partition) -> Offset {
        self.read_to.get(&partition).copied().unwrap_or_default()
    }

    /// What was stored there is not there any more.
    pub fn lose(&mut self, key: MessageKey, position: Position) {
        if self.stored(key) == Some(position) {
            self.known.remove(key);
            self.losses += 1;
            self.newest.remove(&position.partition);
        }
    }

    /// Another history begins, which agrees with the one before up to `head`.
    pub fn part(&mut self, head: &Cursor) {
        self.epoch += 1;
        self.appending.clear();
        self.log = head.log();
        self.newest.retain(|_, (_, position)| head.includes(*position));
        self.seen.clear();
        self.read_to.clear();
        for position in head.positions() {
            self.pass(position.partition, position.offset);
            if position.fingerprint.is_some() {
                self.see(*position);
            }
        }
        self.known.retain(|stored| head.includes(stored.position));
    }

    /// How many are known, stored or on their way.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.known.newer.places.len() + self.known.older.places.len() + self.appending.len()
    }
}

/// Stored messages by their keys: the newest [`WINDOW`], and up to as many before them.
#[derive(Default)]
struct Known {
    newer: Generation,
    older: Generation,
    /// Seeded: whoever could choose where keys fall could make them all fall into one place.
    hasher: DefaultHashBuilder,
}

#[derive(Default)]
struct Generation {
    /// As they came. One that was lost stays, and has no place any more.
    stored: Vec<(MessageKey, Stored)>,
    places: HashTable<u32>,
}

impl Known {
    fn get(&mut self, key: MessageKey) -> Option<&mut Stored> {
        let hash = self.hasher.hash_one(key);
        [&mut self.newer, &mut self.older].into_iter().find_map(|generation| {
            let stored = &mut generation.stored;
            let place = *generation.places.find(hash, |&place| stored[place as usize].0 == key)?;
            Some(&mut stored[place as usize].1)
        })
    }

    /// Adds one that is not there.
    fn push(&mut self, key: MessageKey, one: Stored) {
        if self.newer.stored.len() >= WINDOW {
            std::mem::swap(&mut self.newer, &mut self.older);
            self.newer.stored.clear();
            self.newer.places.clear();
        }
        let Generation { stored, places } = &mut self.newer;
        let place = stored.len() as u32;
        stored.push((key, one));
        let hasher = &self.hasher;
        places.insert_unique(hasher.hash_one(key), place, |&place| hasher.hash_one(stored[place as usize].0));
    }

    /// Keeps those alone for which this holds.
    fn retain(&mut self, keep: impl Fn(&Stored) -> bool) {
        let [newer, older] = [&mut self.newer, &mut self.older].map(std::mem::take);
        for generation in [older, newer] {
            let known: HashSet<u32> = generation.places.iter().copied().collect();
            for (place, (key, stored)) in (0..).zip(generation.stored) {
                if known.contains(&place) && keep(&stored) {
                    self.push(key, stored);
                }
            }
        }
    }

    fn remove(&mut self, key: MessageKey) {
        let hash = self.hasher.hash_one(key);
        for Generation { stored, places } in [&mut self.newer, &mut self.older] {
            if let Ok(entry) = places.find_entry(hash, |&place| stored[place as usize].0 == key) {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_protocol::cursor::{LogId, Offset};

    fn key(n: u64) -> MessageKey {
        MessageKey::new("t", &n.to_string())
    }

    fn at(offset: u64) -> Position {
        Position { partition: 0, offset: Offset(offset), fingerprint: None }
    }

    #[test]
    fn the_newest_are_known_unless_they_are_lost() {
        let mut window = Window::new(LogId(1));
        let many = 2 * WINDOW as u64 + 5000;
        for n in 0..many {
            assert!(window.note(key(n), at(n), true).is_none());
            if n % 1000 == 7 {
                window.lose(key(n), at(n));
            }
        }
        for n in 0..many {
            let is_known = n >= WINDOW as u64 && n % 1000 != 7;
            assert_eq!(window.stored(key(n)), is_known.then(|| at(n)), "message {n}");
        }
        let lost = many - 5000 + 7 - (many - 5000) % 1000 + 1000;
        window.note(key(lost), at(many), true);
        assert_eq!(window.stored(key(lost)), Some(at(many)), "stored again");
    }

    #[test]
    fn what_stands_in_another_history_is_known_there() {
        let mut window = Window::new(LogId(1));
        for n in 1..10 {
            window.note(key(n), at(n), true);
        }
        window.lose(key(3), at(3));
        let mut head = Cursor::beginning(LogId(2));
        head.set(at(5));
        window.part(&head);
        let known: Vec<u64> = (1..10).filter(|n| window.stored(key(*n)).is_some()).collect();
        assert_eq!(known, [1, 2, 4, 5]);
        assert!(window.newest.is_empty() && window.len() == 4);
        assert_eq!(window.note(key(5), at(6), true), Some(at(5)), "a copy is told as one");
        window.part(&Cursor::beginning(LogId(3)));
        assert_eq!(window.len(), 0);
    }
}
