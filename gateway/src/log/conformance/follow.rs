//! A reader of a tail that believes nothing: what comes must be in order, and everything must be accounted for.

use super::PATIENCE;
use crate::log::{Gap, Health, Log, Record, ResetReason, Start, TailEvent};
use anabranch_protocol::cursor::{LogId, Offset};
use futures_util::stream::{BoxStream, StreamExt};
use tokio::time::timeout;

/// Follows one tail of partition 0 and keeps what it saw.
pub struct Follower {
    tail: BoxStream<'static, TailEvent>,
    covered: Offset,
    pub records: Vec<Record>,
    pub gaps: Vec<Gap>,
    pub resets: Vec<(LogId, ResetReason)>,
    pub health: Vec<Health>,
}

impl Follower {
    /// Starts a tail. Nothing is polled yet.
    pub fn start(log: &dyn Log, from: Start) -> Follower {
        let covered = match from {
            Start::After(position) => position.offset,
            Start::Next | Start::Earliest => Offset(0),
        };
        Follower {
            tail: log.tail(0, from),
            covered,
            records: Vec::new(),
            gaps: Vec::new(),
            resets: Vec::new(),
            health: Vec::new(),
        }
    }

    /// Takes the next event; panics if there is none for long, or if it contradicts what was before.
    pub async fn step(&mut self) -> TailEvent {
        let event = timeout(PATIENCE, self.tail.next()).await;
        let event = event
            .unwrap_or_else(|_| panic!("nothing comes after {}; gaps {:?}", self.covered, self.gaps))
            .expect("the tail goes on");
        self.take(event.clone());
        event
    }

    /// Whether the tail has ended.
    pub async fn ended(&mut self) -> bool {
        timeout(PATIENCE, self.tail.next()).await.expect("an end").is_none()
    }

    /// Takes what comes until `condition` holds.
    pub async fn until(&mut self, condition: impl Fn(&Follower) -> bool) -> &mut Follower {
        while !condition(self) {
            self.step().await;
        }
        self
    }

    /// Takes what comes until everything up to `offset` is accounted for.
    pub async fn until_covered(&mut self, offset: Offset) -> &mut Follower {
        self.until(|follower| follower.covered >= offset).await
    }

    /// Takes what comes until there are so many records.
    pub async fn until_records(&mut self, count: usize) -> &mut Follower {
        self.until(|follower| follower.records.len() >= count).await
    }

    /// Everything up to here is accounted for.
    pub fn covered(&self) -> Offset {
        self.covered
    }

    fn take(&mut self, event: TailEvent) {
        match event {
            TailEvent::Records(batch) => {
                assert!(!batch.records.is_empty(), "an empty batch");
                for record in &batch.records {
                    let offset = record.position.offset;
                    assert!(offset > self.covered, "{offset} comes after {}", self.covered);
                    self.covered = offset;
                }
                assert!(batch.covered_to >= self.covered, "covered_to lies below the last record");
                self.covered = batch.covered_to;
                self.records.extend(batch.records);
            }
            TailEvent::Progress(offset) => {
                assert!(offset >= self.covered, "coverage goes back");
                self.covered = offset;
            }
            TailEvent::Gap(gap) => {
                assert!(gap.after >= self.covered, "{gap:?} begins before {}", self.covered);
                assert!(gap.before.0 > gap.after.0 + 1, "{gap:?} holds nothing");
                self.covered = Offset(gap.before.0 - 1);
                self.gaps.push(gap);
            }
            TailEvent::Reset { head, why } => {
                let log = head.log();
                self.covered = head.position(0).map_or(Offset(0), |position| position.offset);
                self.records.clear();
                self.gaps.clear();
                self.resets.push((log, why));
            }
            TailEvent::Health(health) => {
                assert_ne!(self.health.last(), Some(&health), "the same health twice");
                self.health.push(health);
            }
        }
    }

    /// The offsets of the records so far.
    pub fn offsets(&self) -> Vec<Offset> {
        self.records.iter().map(|record| record.position.offset).collect()
    }
}
