//! Who is to be written to, in two lines that are served by turns.
//!
//! A message for 10,000 subscribers takes some 45 ms to write. Whoever waits meanwhile for a pong, a confirm or a message
//! that few watch must not stand behind all of those: it stands in the short line, and a few of the short line are served
//! between every few of the long one.

use crate::hub::interest::ConnectionId;
use std::collections::VecDeque;

/// A message for more than so many makes them all stand in the long line: writing to so many takes about a millisecond.
pub const FEW: usize = 256;

/// Where a connection stands. It may stand in both, once in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// For what few wait for: replies, and messages that few watch.
    Short,
    /// For what would hold up the others: messages that many watch, and backlogs.
    Long,
}

impl Line {
    /// Of connections that a message goes to.
    pub fn of(watchers: usize) -> Line {
        if watchers > FEW { Line::Long } else { Line::Short }
    }
}

/// In which lines a connection stands.
#[derive(Default)]
pub struct Places([bool; 2]);

/// Both lines.
#[derive(Default)]
pub struct Lines([VecDeque<ConnectionId>; 2]);

impl Lines {
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(VecDeque::is_empty)
    }

    /// Puts a connection at the end of a line, if it does not stand there.
    pub fn join(&mut self, line: Line, connection: ConnectionId, places: &mut Places) {
        if !std::mem::replace(&mut places.0[line as usize], true) {
            self.0[line as usize].push_back(connection);
        }
    }

    /// Whose turn it is in a line.
    pub fn next(&mut self, line: Line) -> Option<ConnectionId> {
        self.0[line as usize].pop_front()
    }
}

impl Places {
    /// It was its turn in that line.
    pub fn leave(&mut self, line: Line) {
        self.0[line as usize] = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stands_once_in_each_line_until_its_turn() {
        let mut lines = Lines::default();
        let mut many: Vec<Places> = (0..1000).map(|_| Places::default()).collect();
        for (id, places) in many.iter_mut().enumerate() {
            lines.join(Line::of(1000), id as ConnectionId, places);
        }
        for _ in 0..2 {
            lines.join(Line::of(1), 7, &mut many[7]);
            lines.join(Line::Long, 7, &mut many[7]);
        }
        assert_eq!(
            (lines.next(Line::Short), lines.next(Line::Short)),
            (Some(7), None),
            "before the thousand"
        );
        many[7].leave(Line::Short);
        lines.join(Line::Short, 7, &mut many[7]);
        assert_eq!(lines.next(Line::Short), Some(7), "again, although it stands in the other line");
        let long: Vec<ConnectionId> = std::iter::from_fn(|| lines.next(Line::Long)).collect();
        assert_eq!(long, (0..1000).collect::<Vec<_>>());
        assert!(lines.is_empty());
    }
}
