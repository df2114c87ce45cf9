//! Following the log: from memory while keeping up, from files while behind, and woken by the writer.

use super::read::read;
use super::shared::Shared;
use crate::log::{Budget, Gap, GapReason, Health, ReadError, ResetReason, Start, TailEvent};
use anabranch_protocol::cursor::{Cursor, Offset, Position};
use futures_util::stream::{Stream, unfold};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How much one event carries.
const EVENT: Budget = Budget { records: 512, bytes: 1024 * 1024 };
/// Pause before a disk that failed is asked again.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) fn start(shared: Arc<Shared>, from: Start) -> impl Stream<Item = TailEvent> + Send {
    let state = shared.lock();
    let (at, verify) = match from {
        Start::Next => (state.last, None),
        Start::Earliest => (state.oldest() - 1, None),
        Start::After(position) => (position.offset.0, Some(position)),
    };
    drop(state);
    let changes = shared.changes.subscribe();
    let tail = Tail { shared, changes, at, verify, health: None, trouble: None };
    unfold(tail, |mut tail| async move { tail.next().await.map(|event| (event, tail)) })
}

struct Tail {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    /// Everything up to here was told.
    at: u64,
    /// A position that the caller has seen, and that has still to be found.
    verify: Option<Position>,
    /// What was told last.
    health: Option<Health>,
    /// Why files cannot be read at present.
    trouble: Option<String>,
}

impl Tail {
    async fn next(&mut self) -> Option<TailEvent> {
        loop {
            self.changes.borrow_and_update();
            let (closed, health, last) = {
                let state = self.shared.lock();
                (state.closed, state.health.clone(), state.last)
            };
            if closed {
                return None;
            }
            let health = self.trouble.clone().map_or(health, Health::Retrying);
            if self.health.as_ref() != Some(&health) {
                self.health = Some(health.clone());
                return Some(TailEvent::Health(health));
            }
            if let Some(position) = self.verify {
                if let Some(event) = self.verify(position).await {
                    return Some(event);
                }
                continue;
            }
            if self.at >= last {
                self.changes.changed().await.ok()?;
                continue;
            }
            if let Some(event) = self.advance().await {
                return Some(event);
            }
        }
    }

    async fn advance(&mut self) -> Option<TailEvent> {
        let result = read(self.shared.clone(), Offset(self.at), EVENT).await;
        if !matches!(result, Err(ReadError::Unavailable(_))) {
            self.trouble = None;
        }
        match result {
            Ok(batch) if batch.records.is_empty() => {
                if batch.covered_to.0 <= self.at {
                    return None;
                }
                self.at = batch.covered_to.0;
                Some(TailEvent::Progress(batch.covered_to))
            }
            Ok(batch) => {
                self.at = batch.covered_to.0;
                Some(TailEvent::Records(batch))
            }
            Err(ReadError::Forgotten { oldest }) => self.gap(Offset(self.at), oldest, GapReason::Forgotten),
            Err(ReadError::Corrupt { after, before }) => {
                self.gap(after.max(Offset(self.at)), before, GapReason::Corrupt)
            }
            Err(ReadError::Unavailable(why)) => {
                self.pause(why).await;
                None
            }
            Err(ReadError::NoPartition(_)) => None,
        }
    }

    fn gap(&mut self, after: Offset, before: Offset, why: GapReason) -> Option<TailEvent> {
        self.at = before.0 - 1;
        Some(TailEvent::Gap(Gap { after, before, why }))
    }

    async fn pause(&mut self, why: String) {
        if self.trouble.replace(why).is_some() {
            // Told already: wait a while, or until something changes.
            let changed = tokio::time::timeout(PAUSE, self.changes.changed()).await;
            if changed.is_err() {
                tracing::debug!("the log's files still cannot be read");
            }
        }
    }

    /// Looks for the record that the caller has seen last. This log does not change its history, so where another one
    /// stands, the caller comes from elsewhere: its positions mean nothing here.
    async fn verify(&mut self, position: Position) -> Option<TailEvent> {
        let bounds = self.shared.lock().bounds();
        let offset = position.offset;
        if offset > bounds.last {
            return Some(self.reset(ResetReason::Ahead));
        }
        let Some(fingerprint) = position.fingerprint.filter(|_| offset >= bounds.oldest && offset.0 > 0)
        else {
            self.verify = None; // Nothing to compare: the record is forgotten, or was never one.
            return None;
        };
        let one = Budget { records: 1, bytes: 1 };
        let found = read(self.shared.clone(), Offset(offset.0 - 1), one).await;
        if !matches!(found, Err(ReadError::Unavailable(_))) {
            self.trouble = None;
        }
        match found {
            Ok(batch) => match batch.records.first().map(|record| record.position) {
                Some(found) if found.offset == offset && found.fingerprint == Some(fingerprint) => {}
                Some(found) if found.offset == offset => return Some(self.reset(ResetReason::Diverged)),
                Some(found) => return self.lost(position, found.offset),
                None => {}
            },
            // Damaged or forgotten: it cannot be compared, and what is missing after it is told by the next read.
            Err(ReadError::Corrupt { .. } | ReadError::Forgotten { .. } | ReadError::NoPartition(_)) => {}
            Err(ReadError::Unavailable(why)) => {
                self.pause(why).await;
                return None;
            }
        }
        self.verify = None;
        None
    }

    /// No record stands where the caller has seen one: a crash took it before it was on the disk, and perhaps others
    /// after it. Their offsets are not given again, so `found` is the first that is left.
    fn lost(&mut self, position: Position, found: Offset) -> Option<TailEvent> {
        self.verify = None;
        if found.0 == position.offset.0 + 1 {
            return None; // There is no room for others.
        }
        self.gap(position.offset, found, GapReason::Corrupt)
    }

    fn reset(&mut self, why: ResetReason) -> TailEvent {
        self.verify = None;
        self.at = self.shared.lock().oldest() - 1;
        TailEvent::Reset { head: Cursor::beginning(self.shared.id), why }
    }
}
