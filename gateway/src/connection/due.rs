//! What a connection is still to be sent of the ring: ranges of sequences, never messages.

use crate::hub::ring::Sequence;
use std::collections::VecDeque;

/// Most ranges. With more, the connection reads the ring from its cursor instead, which costs a look at each frame but
/// no memory.
const RANGES: usize = 64;

/// Rising, disjoint ranges of sequences. Consecutive matches are one range: the usual connection has one or none, inline.
#[derive(Default)]
pub struct Due {
    first: Sequence,
    end: Sequence,
    /// Boxed, because hardly any connection ever has any: 8 bytes instead of 32.
    #[expect(clippy::box_collection, reason = "for its size when there is none")]
    later: Option<Box<VecDeque<(Sequence, Sequence)>>>,
}

impl Due {
    pub fn is_empty(&self) -> bool {
        self.first == self.end
    }

    /// The next sequence to be sent.
    pub fn first(&self) -> Option<Sequence> {
        (!self.is_empty()).then_some(self.first)
    }

    /// Adds the sequences from `from` up to, not including, `to`. All lie above those added before.
    /// `false` if there is no room for another range: nothing was added.
    pub fn extend(&mut self, from: Sequence, to: Sequence) -> bool {
        if self.is_empty() {
            (self.first, self.end) = (from, to);
            return true;
        }
        let last = match self.later.as_mut().and_then(|later| later.back_mut()) {
            Some((_, end)) => end,
            None => &mut self.end,
        };
        if *last == from {
            *last = to;
            return true;
        }
        let later = self.later.get_or_insert_default();
        if later.len() + 1 >= RANGES {
            return false;
        }
        later.push_back((from, to));
        true
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (Sequence, Sequence)> {
        let first = (!self.is_empty()).then_some((self.first, self.end));
        first.into_iter().chain(self.later.iter().flat_map(|later| later.iter().copied()))
    }

    /// Takes away the first `count` sequences.
    pub fn advance(&mut self, mut count: u64) {
        loop {
            let here = (self.end - self.first).min(count);
            self.first += here;
            count -= here;
            if self.first < self.end {
                return;
            }
            match self.later.as_mut().and_then(|later| later.pop_front()) {
                Some((first, end)) => (self.first, self.end) = (first, end),
                None => {
                    // A burst is not remembered by its memory.
                    self.later = None;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_and_strangers_do_not() {
        let mut due = Due::default();
        assert!(due.extend(3, 5) && due.extend(5, 6) && due.extend(9, 10));
        assert_eq!(due.ranges().collect::<Vec<_>>(), [(3, 6), (9, 10)]);
        due.advance(2);
        assert_eq!(due.ranges().collect::<Vec<_>>(), [(5, 6), (9, 10)]);
        due.advance(2);
        assert!(due.is_empty() && due.later.is_none());
        assert!(due.extend(20, 21));
        assert_eq!(due.first(), Some(20));
    }

    #[test]
    fn the_sixty_fifth_range_is_refused() {
        let mut due = Due::default();
        assert!((0..64).all(|i| due.extend(2 * i, 2 * i + 1)));
        assert!(!due.extend(1000, 1001));
        assert!(due.extend(127, 128), "a neighbour of the last needs no range of its own");
    }
}
