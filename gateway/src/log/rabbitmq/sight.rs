//! What this node has seen of a partition.

use anabranch_protocol::cursor::Offset;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most holes that are remembered. RabbitMQ leaves one for each segment.
const HOLES: usize = 4096;

/// How long a place is kept that took much effort to find.
const EFFORT: Duration = Duration::from_secs(30);

/// How far readers have come, and which offsets never were records.
///
/// RabbitMQ begins each segment with an entry of its own that takes an offset. When retention has removed what stood
/// before such an entry, the first readable record is the one *after* it, as if one record more were gone. Only who saw
/// the hole while both its sides were there knows better.
#[derive(Debug, Default)]
pub(super) struct Sight {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    highest: Option<Offset>,
    tailed: Option<Instant>,
    /// The first offset that can be read, where unreadable ones stand before it, and when that was found out.
    behind_poison: Option<(Offset, Instant)>,
    /// Jumps, as the offsets that did not come, not yet known to be holes.
    suspects: VecDeque<(Offset, Offset)>,
    /// By its last offset, the first one of each hole.
    holes: BTreeMap<Offset, Offset>,
}

impl Sight {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something stands at `offset`; `previous` is what the same reader saw before it.
    pub(super) fn note(&self, previous: Option<Offset>, offset: Offset) {
        let mut state = self.lock();
        state.highest = state.highest.max(Some(offset));
        let Some(expected) = previous.map(|previous| Offset(previous.0 + 1)) else { return };
        if offset > expected {
            let jump = (expected, Offset(offset.0 - 1));
            if state.holes.get(&jump.1) != Some(&jump.0) && !state.suspects.contains(&jump) {
                if state.suspects.len() == HOLES {
                    state.suspects.pop_front();
                }
                state.suspects.push_back(jump);
            }
        }
    }

    /// Whether exactly these offsets are known to be no records.
    pub(super) fn is_hole(&self, first: Offset, last: Offset) -> bool {
        self.lock().holes.get(&last) == Some(&first)
    }

    /// The highest offset that was seen; `None` when nothing is known of this stream.
    pub(super) fn highest(&self) -> Option<Offset> {
        self.lock().highest
    }

    /// A tail was given a record just now.
    pub(super) fn tailed(&self) {
        self.lock().tailed = Some(Instant::now());
    }

    /// When a tail was given a record.
    pub(super) fn last_tailed(&self) -> Option<Instant> {
        self.lock().tailed
    }

    /// What can be read first, if that was found out with much effort a short while ago.
    pub(super) fn behind_poison(&self) -> Option<Offset> {
        let (offset, found) = self.lock().behind_poison?;
        (found.elapsed() < EFFORT).then_some(offset)
    }

    pub(super) fn found_behind_poison(&self, offset: Offset) {
        self.lock().behind_poison = Some((offset, Instant::now()));
    }

    /// The stream was deleted: what was seen was another.
    pub(super) fn forget(&self) {
        *self.lock() = State::default();
    }

    /// The lowest offset at which nothing is missing, given the first that can be read, which was asked for now.
    pub(super) fn earliest(&self, first: Offset) -> Offset {
        let mut state = self.lock();
        let State { suspects, holes, .. } = &mut *state;
        // What could be read before the jump when the jump was behind us was no victim of retention.
        for (from, to) in suspects.drain(..).filter(|(from, _)| *from >= first) {
            holes.insert(to, from);
        }
        while holes.len() > HOLES {
            holes.pop_first();
        }
        holes.get(&Offset(first.0.saturating_sub(1))).copied().unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_that_was_seen_whole_is_not_a_loss() {
        let sight = Sight::default();
        for (previous, offset) in [(None, 1), (Some(1), 2), (Some(2), 4), (Some(4), 5)] {
            sight.note(previous.map(Offset), Offset(offset));
        }
        assert_eq!(sight.earliest(Offset(1)), Offset(1), "everything is there: 3 is a hole");
        assert!(sight.is_hole(Offset(3), Offset(3)) && !sight.is_hole(Offset(2), Offset(3)));
        assert_eq!(sight.earliest(Offset(4)), Offset(3), "a reader that had 2 has missed nothing");
        assert_eq!(sight.earliest(Offset(5)), Offset(5));
        assert_eq!(sight.highest(), Some(Offset(5)));
    }

    #[test]
    fn a_jump_over_what_was_forgotten_is_no_hole() {
        let sight = Sight::default();
        sight.note(Some(Offset(2)), Offset(9));
        assert_eq!(sight.earliest(Offset(9)), Offset(9), "3 to 8 may have been records");
        sight.note(Some(Offset(2)), Offset(9));
        assert_eq!(sight.earliest(Offset(2)), Offset(2));
        assert_eq!(sight.earliest(Offset(9)), Offset(3), "they were asked for while 2 could be read");
    }
}
