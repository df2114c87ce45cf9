//! All newest values as of one place of the log, to be found by topic and by offset.
//!
//! Each topic stands at the offset of its newest value and nowhere else. So whoever reads by rising offset, from any place up
//! to the head, has read the newest value of every topic that has changed since that place, whatever changes meanwhile: what
//! changes moves ahead of the reader, never behind it.

use super::Newest;
use anabranch_protocol::cursor::{Cursor, Offset, Partition, Position};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The newest values. A shard has its own; the values themselves are shared.
#[derive(Clone, Debug, Default)]
pub struct Values {
    topics: HashMap<Arc<str>, Arc<Newest>>,
    /// The same topics in the order of their names, to find those below a prefix.
    names: BTreeSet<Arc<str>>,
    lines: Vec<Line>,
    bytes: usize,
    max_bytes: usize,
}

/// The values of one partition.
#[derive(Clone, Debug, Default)]
struct Line {
    values: BTreeMap<Offset, Arc<Newest>>,
    /// Where the deleted ones stand.
    tombstones: BTreeSet<Offset>,
    unsure_to: Offset,
    tombstones_to: Offset,
}

impl Values {
    /// Keeps at most about so many bytes: when there are more, the oldest tombstones go first, then the oldest values.
    pub fn new(max_bytes: usize) -> Values {
        Values { max_bytes, ..Values::default() }
    }

    /// How many topics there are, the deleted ones included.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Memory held, in bytes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn get(&self, topic: &str) -> Option<&Arc<Newest>> {
        self.topics.get(topic)
    }

    /// Every value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Newest>> {
        self.topics.values()
    }

    /// Up to this offset, values may be missing or older than what was lost: the log had forgotten its beginning when this
    /// node read it, or records were gone, or there was no room. 0 if nothing is.
    pub fn unsure_to(&self, partition: Partition) -> Offset {
        self.line(partition).map_or(Offset(0), |line| line.unsure_to)
    }

    /// The partitions that have been heard of.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> {
        (0..self.lines.len()).map(|at| at as Partition)
    }

    /// Whether nothing is known, and nothing was lost: there is no value.
    pub fn are_none(&self) -> bool {
        self.is_empty() && self.lines.iter().all(|line| line.unsure_to == Offset(0))
    }

    /// Up to this offset, it may be unknown that a value was deleted. 0 if it is all known. Who has no older values needs not
    /// know.
    pub fn deletions_unsure_to(&self, partition: Partition) -> Offset {
        self.line(partition).map_or(Offset(0), |line| line.tombstones_to)
    }

    /// Up to this offset, something may be unknown: a value or a deletion. 0 if nothing is.
    pub fn unknown_to(&self, partition: Partition) -> Offset {
        self.unsure_to(partition).max(self.deletions_unsure_to(partition))
    }

    /// The values at offsets above `from`, up to and including `to`, by rising offset.
    pub fn between(
        &self,
        partition: Partition,
        from: Offset,
        to: Offset,
    ) -> impl Iterator<Item = &Arc<Newest>> {
        let range = (from < to).then_some((std::ops::Bound::Excluded(from), std::ops::Bound::Included(to)));
        let line = self.line(partition);
        line.into_iter().zip(range).flat_map(|(line, range)| line.values.range(range)).map(|(_, value)| value)
    }

    /// The values of the topics that begin with `prefix`, in the order of their names.
    pub fn below(&self, prefix: &str) -> impl Iterator<Item = &Arc<Newest>> {
        let from = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        self.names
            .range::<str, _>(from)
            .take_while(move |name| name.starts_with(prefix))
            .filter_map(|name| self.topics.get(name))
    }

    /// Puts a topic's newest value in the place of the one before. Values come in the order of the log.
    pub fn put(&mut self, new: Arc<Newest>) {
        let Position { partition, offset, .. } = new.position();
        self.bytes += new.size();
        match self.topics.insert(Arc::clone(new.topic()), Arc::clone(&new)) {
            Some(old) => self.take_out(&old),
            None => _ = self.names.insert(Arc::clone(new.topic())),
        }
        let line = self.line_mut(partition);
        if new.is_deleted() {
            line.tombstones.insert(offset);
        }
        line.values.insert(offset, new);
        while self.bytes > self.max_bytes && self.forget_one() {}
    }

    /// Records of a partition up to an offset are gone. Gives the values that may be older than those; they stay.
    pub fn lose(&mut self, partition: Partition, to: Offset) -> Vec<Arc<Newest>> {
        let line = self.line_mut(partition);
        line.unsure_to = line.unsure_to.max(to);
        line.tombstones_to = line.tombstones_to.max(to);
        line.values.range(..=to).map(|(_, value)| Arc::clone(value)).collect()
    }

    /// What a checkpoint says of what was unsure when it was made.
    pub(super) fn doubt(&mut self, partition: Partition, unsure: Offset, deletions: Offset) {
        let line = self.line_mut(partition);
        line.unsure_to = line.unsure_to.max(unsure);
        line.tombstones_to = line.tombstones_to.max(deletions);
    }

    /// Another history begins, which agrees with this one up to `head`. What stood behind that is gone, and what its topics had
    /// before is not known any more.
    pub fn part(&mut self, head: &Cursor) {
        for partition in 0..self.lines.len() as Partition {
            let last = head.position(partition).map_or(Offset(0), |position| position.offset);
            let line = self.line_mut(partition);
            let gone = line.values.split_off(&Offset(last.0.saturating_add(1)));
            if last == Offset(0) {
                *line = Line::default(); // Read from its beginning.
            } else if !gone.is_empty() || line.unsure_to > last || line.tombstones_to > last {
                // What has gone, or was forgotten before, hid older values that stand again. What follows is all heard of.
                line.tombstones.split_off(&Offset(last.0.saturating_add(1)));
                line.unsure_to = last;
                line.tombstones_to = last;
            }
            for value in gone.into_values() {
                self.bytes -= value.size();
                self.topics.remove(value.topic());
                self.names.remove(value.topic());
            }
        }
    }

    /// Forgets what may go first. Says whether there was anything.
    fn forget_one(&mut self) -> bool {
        // Offsets of different partitions cannot be compared: the fullest gives.
        let most = |count: fn(&Line) -> usize| {
            let fullest = self.lines.iter().enumerate().max_by_key(|(_, line)| count(line))?;
            (count(fullest.1) > 0).then_some(fullest.0)
        };
        let gone = if let Some(at) = most(|line| line.tombstones.len()) {
            let line = &mut self.lines[at];
            let Some(offset) = line.tombstones.first().copied() else { return false };
            line.tombstones_to = line.tombstones_to.max(offset);
            line.values.get(&offset).cloned()
        } else if let Some(at) = most(|line| line.values.len()) {
            let line = &mut self.lines[at];
            let oldest = line.values.first_key_value().map(|(offset, value)| (*offset, Arc::clone(value)));
            let Some((offset, value)) = oldest else { return false };
            line.unsure_to = line.unsure_to.max(offset);
            Some(value)
        } else {
            None
        };
        let Some(gone) = gone else { return false };
        self.topics.remove(gone.topic());
        self.names.remove(gone.topic());
        self.take_out(&gone);
        true
    }

    fn take_out(&mut self, old: &Newest) {
        let Position { partition, offset, .. } = old.position();
        self.bytes -= old.size();
        let line = self.line_mut(partition);
        line.values.remove(&offset);
        line.tombstones.remove(&offset);
    }

    fn line(&self, partition: Partition) -> Option<&Line> {
        self.lines.get(usize::from(partition))
    }

    fn line_mut(&mut self, partition: Partition) -> &mut Line {
        let at = usize::from(partition);
        if self.lines.len() <= at {
            self.lines.resize_with(at + 1, Line::default);
        }
        &mut self.lines[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_protocol::cursor::LogId;
    use proptest::prelude::*;

    fn value(topic: &str, offset: u64, deleted: bool) -> Arc<Newest> {
        let position = Position { partition: 0, offset: Offset(offset), fingerprint: None };
        Arc::new(Newest::new(topic.into(), position, b"{}", deleted, false))
    }

    fn offsets(values: &Values, from: u64, to: u64) -> Vec<u64> {
        values.between(0, Offset(from), Offset(to)).map(|value| value.position().offset.0).collect()
    }

    #[test]
    fn a_topic_stands_at_its_newest_offset_only() {
        let mut values = Values::new(1 << 20);
        for (offset, topic) in ["a", "b", "a/x", "a"].into_iter().enumerate() {
            values.put(value(topic, offset as u64 + 1, false));
        }
        assert_eq!(offsets(&values, 0, 9), [2, 3, 4]);
        assert_eq!(offsets(&values, 2, 3), [3]);
        assert_eq!(offsets(&values, 3, 2), [0; 0]);
        let below: Vec<&str> = values.below("a").map(|value| &**value.topic()).collect();
        assert_eq!(below, ["a", "a/x"]);
    }

    #[test]
    fn in_another_history_what_stands_is_kept_and_the_rest_is_unsure() {
        let mut values = Values::new(1 << 20);
        values.put(value("a", 1, false));
        values.put(value("b", 2, true));
        values.put(value("c", 3, false));
        values.put(value("d", 4, true));
        let mut head = Cursor::beginning(LogId(2));
        head.set(Position { partition: 0, offset: Offset(3), fingerprint: None });
        values.part(&head);
        assert_eq!(offsets(&values, 0, 9), [1, 2, 3]);
        assert_eq!((values.unsure_to(0), values.deletions_unsure_to(0)), (Offset(3), Offset(3)));
        assert_eq!((values.len(), values.get("d").is_none()), (3, true));
        assert_eq!(values.bytes(), values.iter().map(|value| value.size()).sum::<usize>());
        values.part(&Cursor::beginning(LogId(3)));
        assert!(values.are_none() && values.bytes() == 0 && values.below("").next().is_none());
    }

    #[test]
    fn what_was_forgotten_of_the_part_that_is_gone_hid_what_stands_again() {
        let parted = |newest, deleted| {
            let mut values = Values::new(0);
            values.put(value("a", 1, false));
            values.put(value("a", newest, deleted));
            let mut head = Cursor::beginning(LogId(2));
            head.set(Position { partition: 0, offset: Offset(3), fingerprint: None });
            values.part(&head);
            (values.unsure_to(0), values.deletions_unsure_to(0))
        };
        assert_eq!(parted(4, true), (Offset(3), Offset(3)), "a's deletion: a stands at 1");
        assert_eq!(
            parted(4, false),
            (Offset(3), Offset(3)),
            "a's value, and nothing is unsure of what comes"
        );
    }

    #[test]
    fn the_oldest_tombstones_go_first_then_the_oldest_values() {
        let room = 3 * value("a", 1, false).size();
        let mut values = Values::new(room);
        values.put(value("a", 1, false));
        values.put(value("b", 2, true));
        values.put(value("c", 3, false));
        values.put(value("d", 4, false));
        assert_eq!(offsets(&values, 0, 9), [1, 3, 4]);
        assert_eq!((values.unsure_to(0), values.deletions_unsure_to(0)), (Offset(0), Offset(2)));
        values.put(value("e", 5, false));
        assert_eq!(offsets(&values, 0, 9), [3, 4, 5]);
        assert_eq!(values.unsure_to(0), Offset(1));
        assert!(values.bytes() <= room && values.get("a").is_none());
    }

    proptest! {
        /// The two maps, the names and the count of bytes agree after anything that may happen.
        #[test]
        fn the_maps_agree(
            steps in proptest::collection::vec(("[abc](/[ab])?", any::<bool>(), 0u16..2, 1u64..3), 0..60),
            room in 1usize..8,
        ) {
            let mut values = Values::new(room * value("a", 1, false).size());
            let mut offset = 0;
            for (topic, deleted, partition, step) in steps {
                offset += step;
                let position = Position { partition, offset: Offset(offset), fingerprint: None };
                values.put(Arc::new(Newest::new(topic.as_str().into(), position, b"{}", deleted, false)));
                let by_offset: usize = values.lines.iter().map(|line| line.values.len()).sum();
                prop_assert_eq!((by_offset, values.names.len()), (values.len(), values.len()));
                prop_assert_eq!(values.bytes, values.iter().map(|value| value.size()).sum::<usize>());
                for line in &values.lines {
                    let dead: Vec<_> = line.values.iter().filter(|(_, v)| v.is_deleted()).map(|(o, _)| *o).collect();
                    prop_assert_eq!(dead, line.tombstones.iter().copied().collect::<Vec<_>>());
                }
                let found = values.get(&topic).map(|v| v.position());
                prop_assert!(found.is_none_or(|found| found == position), "it was put just now, or had no room");
            }
        }
    }
}
