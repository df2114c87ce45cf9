//! Which history each tail follows.
//!
//! The log has one name, but its tails find out one after the other that it has another: up to a pause between two
//! attempts apart. The first one tells everybody. What the others still say of the old history is void, and when they
//! follow it is no news: told again, it would take back what the first has delivered since.

use anabranch_protocol::cursor::{LogId, Partition};

/// The histories of all tails.
#[derive(Debug)]
pub(super) struct Histories {
    current: LogId,
    /// Those before. A tail that lags may name one of them; none comes back.
    ended: Vec<LogId>,
    of: Vec<LogId>,
}

/// What it means that a tail has entered a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// Another history begins.
    New,
    /// Everybody has been told.
    Known,
}

impl Histories {
    pub(super) fn new(current: LogId, partitions: usize) -> Histories {
        Histories { current, ended: Vec::new(), of: vec![current; partitions] }
    }

    /// A tail has entered a history.
    pub(super) fn enter(&mut self, partition: Partition, log: LogId) -> Entered {
        if let Some(of) = self.of.get_mut(usize::from(partition)) {
            *of = log;
        }
        if log == self.current || self.ended.contains(&log) {
            return Entered::Known;
        }
        self.ended.push(std::mem::replace(&mut self.current, log));
        Entered::New
    }

    /// Whether a tail follows the history that goes on.
    pub(super) fn is_current(&self, partition: Partition) -> bool {
        self.of.get(usize::from(partition)) == Some(&self.current)
    }
}
