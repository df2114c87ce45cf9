//! Random operations on a log, against the memory log as the oracle.
//!
//! Offsets differ between the two, so records are compared by their place in the order of appends.

use super::{Dice, Harness, record_of};
use crate::log::memory::{MemoryLog, Options};
use crate::log::{Batch, Budget, Log, ReadError};
use anabranch_protocol::cursor::{Offset, Position};
use bytes::Bytes;
use std::sync::Arc;

const STEPS: usize = 400;

struct Pair {
    log: Arc<dyn Log>,
    oracle: Arc<MemoryLog>,
    /// Where each record stands, in the log and in the oracle.
    positions: Vec<(Position, Position)>,
}

pub(super) async fn random_operations_agree_with_the_memory_log(harness: &mut dyn Harness) {
    let mut dice = Dice::new("random_operations_agree_with_the_memory_log");
    let mut pair =
        Pair { log: harness.log(), oracle: MemoryLog::new(Options::default()), positions: Vec::new() };
    for step in 0..STEPS {
        match dice.below(100) {
            0..40 => pair.append(&mut dice).await,
            40..85 => pair.read(&mut dice, step).await,
            85..97 => pair.bounds(step).await,
            97..99 => {
                harness.forget().await;
            }
            _ => {
                let Pair { log, oracle, positions } = pair;
                drop(log);
                harness.reopen().await;
                pair = Pair { log: harness.log(), oracle, positions };
            }
        }
    }
}

impl Pair {
    async fn append(&mut self, dice: &mut Dice) {
        let mut confirms = Vec::new();
        for n in 0..=dice.below(20) {
            let n = self.positions.len() as u64 + n;
            let padding = if dice.below(30) == 0 { 20_000 } else { dice.below(300) as usize };
            let new = record_of(&format!("iotsphere/t{}", dice.below(5)), n, padding);
            confirms.push((self.log.append(new.clone()), self.oracle.append(new)));
        }
        for (here, there) in confirms {
            let (here, there) = (here.await.expect("confirmed"), there.await.expect("confirmed"));
            assert_eq!(here.fingerprint, there.fingerprint);
            self.positions.push((here, there));
        }
    }

    /// How many records, counted from the first, the log has forgotten.
    async fn forgotten(&self) -> usize {
        let oldest = self.log.bounds(0).await.expect("bounds").oldest;
        self.positions.partition_point(|(here, _)| here.offset < oldest)
    }

    async fn read(&self, dice: &mut Dice, step: usize) {
        let at = dice.below(self.positions.len() as u64 + 1) as usize;
        let (here, there) = match at.checked_sub(1) {
            Some(before) => (self.positions[before].0.offset, self.positions[before].1.offset),
            None => (Offset(0), Offset(0)),
        };
        let budget = Budget { records: dice.below(50) as usize, bytes: usize::MAX };
        match self.log.read(0, here, budget).await {
            Ok(found) => {
                assert!(at >= self.forgotten().await, "step {step}: forgotten records were read over");
                let expected = self.oracle.read(0, there, budget).await.expect("the oracle forgets nothing");
                let what = format!("step {step}: {} records after number {at}", budget.records);
                // A log may return less than asked, never nothing.
                let (found, expected) = (contents(&found), contents(&expected));
                assert!(expected.starts_with(&found), "{what}");
                assert!(!found.is_empty() || expected.is_empty(), "{what}: nothing was read");
            }
            Err(ReadError::Forgotten { oldest }) => {
                assert_eq!(oldest, self.log.bounds(0).await.expect("bounds").oldest);
                // Where a broker has places without a record, nobody knows what the forgotten ones before the oldest held.
                let forgotten = self.forgotten().await;
                let hole = at == forgotten && oldest.0 > here.0 + 1;
                assert!(at < forgotten || hole, "step {step}: number {at} is not forgotten");
            }
            Err(other) => panic!("step {step}: {other}"),
        }
    }

    async fn bounds(&self, step: usize) {
        let here = self.log.bounds(0).await.expect("bounds");
        assert_eq!(here.newest, self.positions.last().map(|(here, _)| *here), "step {step}");
        assert_eq!(
            here.last,
            self.positions.last().map_or(Offset(0), |(here, _)| here.offset),
            "step {step}"
        );
    }
}

fn contents(batch: &Batch) -> Vec<(Arc<str>, Bytes)> {
    batch.records.iter().map(|record| (record.topic.clone(), record.envelope.clone())).collect()
}
