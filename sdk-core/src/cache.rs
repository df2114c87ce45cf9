//! The newest messages of each topic, so that an app has something to show before the connection is there.
//!
//! Bounded in bytes. The newest message of a topic outlives the older ones of all others: a chatty topic does not push
//! a quiet one out.

use alloc::boxed::Box;
use alloc::collections::{BinaryHeap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use anabranch_protocol::cursor::Position;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::About;
use core::cmp::{Ordering, Reverse};

/// Messages kept of one topic.
pub const PER_TOPIC: usize = 128;
/// The default bound, in bytes of envelopes and topics.
pub const BYTES: usize = 4 * 1024 * 1024;
/// What an entry costs beside its envelope, about.
const ENTRY_BYTES: usize = 64;

/// One message.
#[derive(Clone, Debug)]
pub struct Cached {
    /// When it arrived, as a running number over all topics.
    arrival: u64,
    pub position: Position,
    pub about: About,
    pub envelope: Arc<str>,
}

impl Ord for Cached {
    /// By arrival, which no two share.
    fn cmp(&self, other: &Cached) -> Ordering {
        self.arrival.cmp(&other.arrival)
    }
}

impl PartialOrd for Cached {
    fn partial_cmp(&self, other: &Cached) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cached {
    fn eq(&self, other: &Cached) -> bool {
        self.arrival == other.arrival
    }
}

impl Eq for Cached {}

struct Topic {
    name: Box<str>,
    /// Oldest first.
    messages: VecDeque<Cached>,
}

/// The newest messages by topic.
pub struct Cache {
    /// Sorted by name. A sorted list costs less code than a map, which matters in a browser, and new topics are rare.
    topics: Vec<Topic>,
    bytes: usize,
    limit: usize,
    arrivals: u64,
    /// Topics of which messages were dropped, and how many of each are left. Noted only for a store.
    dropped: Option<Vec<(Box<str>, usize)>>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache::new(BYTES)
    }
}

impl Cache {
    /// A cache of at most so many bytes; 0 keeps nothing.
    pub fn new(limit: usize) -> Cache {
        Cache { topics: Vec::new(), bytes: 0, limit, arrivals: 0, dropped: None }
    }

    /// From here on, notes what is dropped, for [`take_dropped`](Cache::take_dropped).
    pub fn note_dropped(&mut self) {
        self.dropped.get_or_insert_default();
    }

    /// Topics of which messages were dropped since the last call, and how many of each are left.
    pub fn take_dropped(&mut self) -> impl Iterator<Item = (Box<str>, usize)> {
        self.dropped.as_mut().map(core::mem::take).into_iter().flatten()
    }

    /// Keeps a message.
    pub fn insert(&mut self, topic: &str, position: Position, about: About, envelope: &Arc<str>) {
        if cost(envelope) + topic.len() > self.limit {
            return;
        }
        let at = match self.topics.binary_search_by(|t| (*t.name).cmp(topic)) {
            Ok(at) => at,
            Err(at) => {
                self.bytes += topic.len();
                self.topics.insert(at, Topic { name: topic.into(), messages: VecDeque::new() });
                at
            }
        };
        let messages = &mut self.topics[at].messages;
        self.arrivals += 1;
        messages.push_back(Cached { arrival: self.arrivals, position, about, envelope: envelope.clone() });
        self.bytes += cost(envelope);
        if messages.len() > PER_TOPIC {
            self.bytes -= messages.pop_front().map_or(0, |old| cost(&old.envelope));
            note(&mut self.dropped, topic, PER_TOPIC);
        }
        if self.bytes > self.limit {
            self.shrink();
        }
    }

    /// The newest messages whose topic the filter means, at most `limit`, oldest first.
    pub fn read(&self, filter: &Filter, limit: usize) -> Vec<Cached> {
        // A heap with the oldest on top, because the sorts of the standard library weigh 5 KiB in a browser.
        let mut newest = BinaryHeap::new();
        for topic in self.topics.iter().filter(|t| filter.matches(&t.name)) {
            for message in &topic.messages {
                newest.push(Reverse(message));
                if newest.len() > limit {
                    newest.pop();
                }
            }
        }
        core::iter::from_fn(|| newest.pop().map(|Reverse(message)| message.clone())).collect()
    }

    /// Forgets the topics that `gone` means.
    pub fn purge(&mut self, mut gone: impl FnMut(&str) -> bool) {
        let dropped = &mut self.dropped;
        self.topics.retain(|t| {
            let gone = gone(&t.name);
            if gone {
                note(dropped, &t.name, 0);
            }
            !gone
        });
        self.recount();
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes room in large steps, so that the cost of a step is shared by many inserts: first shorter histories for
    /// all topics, then the topics that were silent longest.
    fn shrink(&mut self) {
        let target = self.limit - self.limit / 8;
        let mut keep = PER_TOPIC;
        while self.bytes > target && keep > 1 {
            keep /= 2;
            for topic in self.topics.iter_mut().filter(|topic| topic.messages.len() > keep) {
                while topic.messages.len() > keep {
                    self.bytes -= topic.messages.pop_front().map_or(0, |old| cost(&old.envelope));
                }
                note(&mut self.dropped, &topic.name, keep);
            }
        }
        while self.bytes > target {
            let newest = |t: &Topic| t.messages.back().map_or(0, |m| m.arrival);
            let oldest = self.topics.iter().map(newest).min().unwrap_or(0);
            let bar = oldest + (self.arrivals - oldest) / 8;
            let dropped = &mut self.dropped;
            self.topics.retain(|t| {
                let stays = newest(t) > bar;
                if !stays {
                    note(dropped, &t.name, 0);
                }
                stays
            });
            self.recount();
        }
    }

    fn recount(&mut self) {
        let topic = |t: &Topic| t.name.len() + t.messages.iter().map(|m| cost(&m.envelope)).sum::<usize>();
        self.bytes = self.topics.iter().map(topic).sum();
    }
}

fn note(dropped: &mut Option<Vec<(Box<str>, usize)>>, topic: &str, left: usize) {
    if let Some(dropped) = dropped {
        dropped.push((topic.into(), left));
    }
}

fn cost(envelope: &str) -> usize {
    envelope.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_protocol::cursor::Offset;

    fn insert(cache: &mut Cache, topic: &str, offset: u64) {
        let envelope: Arc<str> = format!("{topic} {offset}").into();
        let position = Position { partition: 0, offset: Offset(offset), fingerprint: None };
        cache.insert(topic, position, About::default(), &envelope);
    }

    fn read(cache: &Cache, filter: &str, limit: usize) -> Vec<String> {
        let filter = Filter::new(filter).expect("a filter");
        cache.read(&filter, limit).into_iter().map(|m| m.envelope.to_string()).collect()
    }

    #[test]
    fn reads_the_newest_in_the_order_of_arrival() {
        let mut cache = Cache::default();
        for (offset, topic) in ["a/x", "a/y", "b", "a/x"].into_iter().enumerate() {
            insert(&mut cache, topic, offset as u64);
        }
        assert_eq!(read(&cache, "a/#", 10), ["a/x 0", "a/y 1", "a/x 3"]);
        assert_eq!(read(&cache, "#", 2), ["b 2", "a/x 3"]);
    }

    #[test]
    fn stays_within_its_bytes_and_keeps_the_newest_of_quiet_topics() {
        let mut cache = Cache::new(10_000);
        insert(&mut cache, "quiet", 0);
        for offset in 1..5_000 {
            insert(&mut cache, "chatty", offset);
            assert!(cache.bytes() <= 10_000);
        }
        assert_eq!(read(&cache, "quiet", 1), ["quiet 0"]);
        assert_eq!(read(&cache, "chatty", 1), ["chatty 4999"]);
    }

    #[test]
    fn with_too_many_topics_the_longest_silent_go() {
        let mut cache = Cache::new(10_000);
        for offset in 0..5_000 {
            insert(&mut cache, &format!("t/{offset}"), offset);
            assert!(cache.bytes() <= 10_000);
        }
        assert!(read(&cache, "t/0", 1).is_empty());
        assert_eq!(read(&cache, "t/4999", 1), ["t/4999 4999"]);
    }

    #[test]
    fn purges_by_topic() {
        let mut cache = Cache::default();
        insert(&mut cache, "a", 0);
        insert(&mut cache, "b", 1);
        cache.purge(|topic| topic == "a");
        assert_eq!(read(&cache, "#", 10), ["b 1"]);
    }

    #[test]
    fn nothing_is_kept_with_a_limit_of_zero() {
        let mut cache = Cache::new(0);
        insert(&mut cache, "a", 0);
        assert!(read(&cache, "#", 10).is_empty());
    }
}
