//! How many entries to ask for at a time. Redis counts entries, memory counts bytes: what entries took so far tells how many
//! make an answer that is neither tiny nor huge.
//!
//! An answer may still be larger than meant, where large entries follow small ones: by as much as the count, which grows by
//! doubling only and shrinks at once.

use anabranch_protocol::cursor::Partition;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that one answer should hold.
pub(super) const ANSWER_BYTES: usize = 2 << 20;
/// Most entries of one answer: more cost more for each (measured).
const ANSWER_ENTRIES: usize = 1000;
/// How many to begin with while nothing is known, and at most if something is.
const UNKNOWN: usize = 8;
const KNOWN: usize = 128;

/// How many entries to ask for.
#[derive(Clone, Copy)]
pub(super) struct Portion {
    count: usize,
}

impl Portion {
    /// `each` is what an entry took of late, if anything is known; `bytes` what the answer should hold.
    pub(super) fn first(each: Option<usize>, bytes: usize) -> Portion {
        let count = each.map_or(UNKNOWN, |each| fits(each, bytes).min(KNOWN));
        Portion { count }
    }

    pub(super) fn count(self) -> usize {
        self.count
    }

    /// So many entries came, and took so many bytes; the next answer should hold `next`.
    pub(super) fn learn(&mut self, entries: usize, bytes: usize, next: usize) {
        if let Some(each) = bytes.checked_div(entries) {
            self.count = fits(each, next).min(self.count.saturating_mul(2));
        }
    }
}

/// At least one, however large it is.
fn fits(each: usize, bytes: usize) -> usize {
    (bytes.min(ANSWER_BYTES) / each.max(1)).clamp(1, ANSWER_ENTRIES)
}

/// What entries took of late, in each partition, whoever read them; zero if nothing is known.
pub(super) struct Sizes(Vec<AtomicUsize>);

impl Sizes {
    pub(super) fn new(partitions: usize) -> Sizes {
        Sizes((0..partitions).map(|_| AtomicUsize::new(0)).collect())
    }

    pub(super) fn known(&self, partition: Partition) -> Option<usize> {
        let each = self.0.get(usize::from(partition))?.load(Ordering::Relaxed);
        (each > 0).then_some(each)
    }

    /// Larger ones are believed at once, smaller ones by and by.
    pub(super) fn learn(&self, partition: Partition, entries: usize, bytes: usize) {
        let (Some(known), Some(each)) = (self.0.get(usize::from(partition)), bytes.checked_div(entries))
        else {
            return;
        };
        let before = known.load(Ordering::Relaxed);
        known.store(each.max(before - before / 8), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Reads these entries; answers with the largest answer and the number of answers.
    fn read(sizes: &[usize]) -> (usize, usize) {
        let mut portion = Portion::first(None, ANSWER_BYTES);
        let (mut at, mut largest, mut answers) = (0, 0, 0);
        while at < sizes.len() {
            let answer = &sizes[at..sizes.len().min(at + portion.count())];
            let bytes = answer.iter().sum();
            largest = largest.max(bytes);
            answers += 1;
            portion.learn(answer.len(), bytes, ANSWER_BYTES);
            at += answer.len();
        }
        (largest, answers)
    }

    #[test]
    fn a_thousand_large_entries_do_not_come_at_once() {
        let (largest, _) = read(&[MIB; 1000]);
        assert!(largest <= 8 * MIB, "{largest} bytes");
    }

    #[test]
    fn small_entries_come_in_large_answers_soon() {
        let (_, answers) = read(&[400; 100_000]);
        assert!(answers < 110, "{answers} answers");
    }

    #[test]
    fn one_small_answer_does_not_open_the_gates() {
        let few_small: Vec<usize> = [400; 8].into_iter().chain([MIB; 1000]).collect();
        let (largest, _) = read(&few_small);
        assert!(largest <= 16 * MIB, "{largest} bytes");
    }

    #[test]
    fn what_one_reader_learns_another_begins_with() {
        let sizes = Sizes::new(1);
        assert_eq!((sizes.known(0), sizes.known(7)), (None, None));
        sizes.learn(0, 10, 4_000);
        assert_eq!(Portion::first(sizes.known(0), 20_000).count(), 50);
        assert_eq!(Portion::first(sizes.known(0), usize::MAX).count(), KNOWN);
        sizes.learn(0, 1, MIB);
        assert_eq!(Portion::first(sizes.known(0), usize::MAX).count(), 2);
        sizes.learn(0, 10, 0);
        assert!(sizes.known(0).is_some_and(|each| each > MIB / 2), "forgotten by and by");
    }
}
