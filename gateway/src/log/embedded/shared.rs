//! What the writer publishes and every reader sees.

use super::disk::Disk;
use super::options::Options;
use super::pool::Pool;
use super::queue::Queue;
use super::recent::{Recent, pick};
use super::segment::{Extent, Segment};
use crate::log::{Batch, Bounds, Budget, Health, ReadError, Record};
use anabranch_protocol::cursor::{LogId, Offset, Position};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Shared {
    pub id: LogId,
    pub options: Options,
    pub disk: Arc<dyn Disk>,
    pub queue: Queue,
    pub pool: Pool,
    pub changes: watch::Sender<u64>,
    /// Milliseconds since 1970.
    pub clock: fn() -> u64,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    /// From the oldest to the one being written.
    pub segments: VecDeque<(Arc<Segment>, Extent)>,
    pub recent: Recent,
    pub newest: Option<Position>,
    /// The last offset that was given to a record.
    pub last: u64,
    pub health: Health,
    pub closed: bool,
}

impl Shared {
    pub(super) fn new(
        id: LogId,
        options: Options,
        disk: Arc<dyn Disk>,
        clock: fn() -> u64,
        state: State,
    ) -> std::io::Result<Shared> {
        Ok(Shared {
            id,
            queue: Queue::new(options.queue_bytes),
            pool: Pool::start()?,
            options,
            disk,
            changes: watch::Sender::new(0),
            clock,
            state: Mutex::new(state),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics half-way through a change, so a poisoned lock guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes every tail.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    /// Answers a read from memory, if all of it is there.
    pub(super) fn read_recent(&self, after: u64, budget: Budget) -> Option<Result<Batch, ReadError>> {
        let state = self.lock();
        if state.closed {
            return Some(Err(closed()));
        }
        let oldest = state.oldest();
        if after.saturating_add(1) < oldest {
            return Some(Err(ReadError::Forgotten { oldest: Offset(oldest) }));
        }
        let last = state.last;
        if after >= last {
            return Some(Ok(Batch { records: Vec::new(), covered_to: Offset(last), at_end: true }));
        }
        let (batches, skip) = state.recent.from(after, budget)?;
        drop(state);
        let records = pick(&batches, skip, budget);
        let covered_to = records.last()?.position.offset;
        Some(Ok(Batch { records, covered_to, at_end: covered_to.0 == last }))
    }
}

impl State {
    /// The lowest offset that is not forgotten.
    pub(super) fn oldest(&self) -> u64 {
        self.segments.front().map_or(self.last, |(segment, _)| segment.before) + 1
    }

    pub(super) fn bounds(&self) -> Bounds {
        let oldest = Offset(self.oldest());
        Bounds { oldest, newest: self.newest.filter(|n| n.offset >= oldest), last: Offset(self.last) }
    }

    /// Makes records readable that stand in the newest segment.
    pub(super) fn publish(&mut self, records: Arc<[Record]>, extent: Extent) {
        if let Some((_, known)) = self.segments.back_mut() {
            *known = extent;
        }
        if let Some(newest) = records.last() {
            self.newest = Some(newest.position);
            self.last = newest.position.offset.0;
            self.recent.push(records);
        }
    }
}

/// The answer of a log that was closed.
pub(super) fn closed() -> ReadError {
    ReadError::Unavailable("the log is closed".into())
}
