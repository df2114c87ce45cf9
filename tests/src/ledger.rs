//! What was confirmed, against what each client saw.
//!
//! Publishers enter every message before they send it, and its position once it is confirmed. Each client has a
//! [`Witness`] that writes down what the client's app is shown. At the end, [`Ledger::judge`] compares: a confirmed message
//! that matches the filter was seen, lies in a gap that was announced, or is lost. Any other answer is a bug.

mod witness;

pub use witness::Witness;

use anabranch_protocol::cursor::Position;
use std::fmt;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard};

/// The number of a message in its ledger; its payload carries it as `n`.
pub type Number = u32;

/// The book of one test. Shared by publishers and judges.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    topic: Arc<str>,
    confirmed: Option<Position>,
}

impl Ledger {
    pub fn new() -> Arc<Ledger> {
        Arc::default()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Enters a message that is about to be published.
    pub fn enter(&self, topic: &str) -> Number {
        let mut entries = self.entries();
        entries.push(Entry { topic: topic.into(), confirmed: None });
        Number::try_from(entries.len() - 1).expect("fewer messages")
    }

    /// The message is stored at this position.
    pub fn confirm(&self, number: Number, position: Position) {
        self.entries()[number as usize].confirmed = Some(position);
    }

    /// How many messages are confirmed.
    pub fn confirmed(&self) -> usize {
        self.entries().iter().filter(|entry| entry.confirmed.is_some()).count()
    }

    /// The position with the highest offset of those that were confirmed.
    pub fn newest(&self) -> Option<Position> {
        self.entries().iter().filter_map(|entry| entry.confirmed).max_by_key(|position| position.offset)
    }

    /// Compares what was confirmed with what one client saw.
    pub fn judge(&self, witness: &Witness) -> Verdict {
        let mut verdict = Verdict {
            seen: witness.seen,
            doubled: witness.doubled,
            out_of_order: witness.out_of_order,
            gaps: witness.gaps.len() as u64,
            resets: witness.resets,
            ..Verdict::default()
        };
        for (number, entry) in self.entries().iter().enumerate() {
            let Some(position) = entry.confirmed else { continue };
            if !witness.filter.matches(&entry.topic) || witness.is_before_start(position) {
                continue;
            }
            if witness.has(number as Number) {
                verdict.expected_and_seen += 1;
            } else if witness.was_told(position) {
                verdict.lost_announced += 1;
            } else {
                verdict.lost_unannounced += 1;
            }
        }
        verdict
    }
}

/// What a comparison found. Sums up over clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that the app was shown.
    pub seen: u64,
    /// Of the confirmed messages that it should see.
    pub expected_and_seen: u64,
    /// Confirmed, not seen, and in no announced gap: the promise is broken.
    pub lost_unannounced: u64,
    /// Confirmed, not seen, and announced as gone.
    pub lost_announced: u64,
    /// Shown more than once.
    pub doubled: u64,
    /// Shown at an offset that is not above the one before, in its partition.
    pub out_of_order: u64,
    pub gaps: u64,
    pub resets: u64,
}

impl Verdict {
    /// Whether everything arrived once and in order, with nothing lost, announced or not.
    pub fn is_perfect(&self) -> bool {
        self.lost_unannounced + self.lost_announced + self.doubled + self.out_of_order + self.resets == 0
    }

    /// Whether the promise was kept: nothing lost unannounced, nothing doubled, nothing out of order.
    pub fn keeps_the_promise(&self) -> bool {
        self.lost_unannounced + self.doubled + self.out_of_order == 0
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Verdict) {
        self.seen += other.seen;
        self.expected_and_seen += other.expected_and_seen;
        self.lost_unannounced += other.lost_unannounced;
        self.lost_announced += other.lost_announced;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.gaps += other.gaps;
        self.resets += other.resets;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} deliveries, lost unannounced {}, lost announced {}, doubled {}, out of order {}, gaps {}, resets {}",
            self.seen,
            self.lost_unannounced,
            self.lost_announced,
            self.doubled,
            self.out_of_order,
            self.gaps,
            self.resets
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_protocol::cursor::Offset;
    use anabranch_protocol::server_frame::{Gap, GapReason};

    fn at(offset: u64) -> Position {
        Position { partition: 0, offset: Offset(offset), fingerprint: None }
    }

    /// Ten messages at offsets 10, 20, … 100, of which the even ones are of the topic `a/even`.
    fn ledger() -> Arc<Ledger> {
        let ledger = Ledger::new();
        for n in 0..10 {
            let number = ledger.enter(if n % 2 == 0 { "a/even" } else { "a/odd" });
            ledger.confirm(number, at(10 * (u64::from(number) + 1)));
        }
        ledger.enter("a/never"); // Not confirmed: nobody needs to see it.
        ledger
    }

    fn witness(filter: &str, numbers: &[Number]) -> Witness {
        let mut witness = Witness::new(filter);
        for number in numbers {
            witness.message(*number, at(10 * (u64::from(*number) + 1)));
        }
        witness
    }

    #[test]
    fn a_liar_is_found_out() {
        let ledger = ledger();
        let judge = |witness: &Witness| ledger.judge(witness);
        let all: Vec<Number> = (0..10).collect();
        assert!(judge(&witness("#", &all)).is_perfect());
        assert!(judge(&witness("a/even", &[0, 2, 4, 6, 8])).is_perfect());
        assert_eq!(judge(&witness("a/even", &[0, 2, 6, 8])).lost_unannounced, 1);
        assert_eq!(judge(&witness("#", &[])).lost_unannounced, 10);
        assert_eq!(judge(&witness("a/even", &[0, 2, 2, 4, 6, 8])).doubled, 1);
        let swapped = judge(&witness("a/even", &[0, 4, 2, 6, 8]));
        assert_eq!((swapped.out_of_order, swapped.lost_unannounced), (1, 0));
    }

    #[test]
    fn gaps_and_starts_excuse_only_what_they_name() {
        let ledger = ledger();
        let mut told = witness("a/even", &[0, 2, 8]);
        let (after, before) = (Offset(30), Offset(70));
        told.gap(&Gap { partition: 0, after, before, reason: GapReason::Retention });
        let verdict = ledger.judge(&told);
        assert_eq!((verdict.lost_announced, verdict.lost_unannounced), (1, 1), "50 was named, 70 was not");
        assert!(!verdict.keeps_the_promise());

        let mut late = witness("a/even", &[6, 8]);
        late.starts_after("0000000000000000/0:50".parse().expect("a cursor"));
        assert!(ledger.judge(&late).is_perfect());
        late.starts_after("0000000000000000/0:49".parse().expect("a cursor"));
        assert_eq!(ledger.judge(&late).lost_unannounced, 1);
    }
}
