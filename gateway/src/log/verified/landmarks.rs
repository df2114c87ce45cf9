//! Records that were delivered, dense near the newest and ever sparser before: where another history still agrees with the one
//! before, at least one of them stands close to the place at which they part.

use anabranch_protocol::cursor::{Fingerprint, Offset, Position};
use std::collections::VecDeque;

/// Each level keeps the newest so many of its records.
const KEPT: usize = 64;
/// Each level's records are one in so many of the level below.
const SPARSER: u64 = 16;
/// Enough for 64 × 16^5 records, and 6 KiB.
const LEVELS: usize = 6;

/// Landmarks of one partition. Where the last `n` records are lost, one stands within `n / 4` of the last that is left.
#[derive(Debug, Default)]
pub(super) struct Landmarks {
    count: u64,
    newest: Option<Offset>,
    levels: [VecDeque<(Offset, Fingerprint)>; LEVELS],
}

impl Landmarks {
    /// A record was delivered. What is older than one before, as a second tail's, is left out.
    pub(super) fn add(&mut self, position: Position) {
        let Some(fingerprint) = position.fingerprint else { return };
        if self.newest.is_some_and(|newest| newest >= position.offset) {
            return;
        }
        self.newest = Some(position.offset);
        let mut every = 1;
        for level in &mut self.levels {
            if !self.count.is_multiple_of(every) {
                break;
            }
            if level.len() == KEPT {
                level.pop_front();
            }
            level.push_back((position.offset, fingerprint));
            every *= SPARSER;
        }
        self.count += 1;
    }

    /// What was delivered after an offset does not stand any more.
    pub(super) fn end_at(&mut self, last: Offset) {
        self.newest = self.newest.map(|newest| newest.min(last));
        for level in &mut self.levels {
            level.retain(|(offset, _)| *offset <= last);
        }
    }

    /// All of them at or after an offset, by rising offset.
    pub(super) fn since(&self, earliest: Offset) -> Vec<(Offset, Fingerprint)> {
        let all = self.levels.iter().flatten().copied();
        let mut found: Vec<_> = all.filter(|(offset, _)| *offset >= earliest).collect();
        found.sort_unstable_by_key(|(offset, _)| *offset);
        found.dedup_by_key(|(offset, _)| *offset);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(count: u64) -> Vec<u64> {
        let mut landmarks = Landmarks::default();
        for offset in 1..=count {
            let fingerprint = Some(Fingerprint(offset as u32));
            landmarks.add(Position { partition: 0, offset: Offset(offset), fingerprint });
            landmarks.add(Position { partition: 0, offset: Offset(offset / 2), fingerprint });
        }
        landmarks.since(Offset(0)).into_iter().map(|(offset, _)| offset.0).collect()
    }

    #[test]
    fn any_place_has_one_that_is_near() {
        for count in [1, 16, 17, 1_000, 123_456] {
            let landmarks = after(count);
            assert!(landmarks.len() <= KEPT * LEVELS && landmarks.last() == Some(&count));
            for lost in 1..count {
                let place = count - lost;
                let near =
                    landmarks.iter().rev().find(|offset| **offset <= place).expect("the first is kept");
                assert!(place - near <= lost / 4, "of {count}, {lost} lost: {near}");
            }
        }
    }

    #[test]
    fn what_is_forgotten_is_no_landmark() {
        let mut landmarks = Landmarks::default();
        for offset in [3, 5, 9] {
            let fingerprint = Some(Fingerprint(1));
            landmarks.add(Position { partition: 0, offset: Offset(offset), fingerprint });
        }
        assert_eq!(landmarks.since(Offset(4)), [(Offset(5), Fingerprint(1)), (Offset(9), Fingerprint(1))]);
        landmarks.end_at(Offset(5));
        landmarks.add(Position { partition: 0, offset: Offset(6), fingerprint: Some(Fingerprint(2)) });
        assert_eq!(landmarks.since(Offset(4)), [(Offset(5), Fingerprint(1)), (Offset(6), Fingerprint(2))]);
    }
}
