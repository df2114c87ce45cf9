//! Appends on their way to the writer, in the order of the calls.

use crate::log::{AppendError, NewRecord};
use anabranch_protocol::cursor::Position;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;

/// What a record costs in the queue beside its envelope.
const OVERHEAD: usize = 256;

/// A record, and who waits for its position.
#[derive(Debug)]
pub(super) struct Append {
    pub record: NewRecord,
    pub confirm: Confirm,
}

pub(super) type Outcome = Result<Position, AppendError>;

/// Tells one caller what became of its record. The caller may have stopped listening.
#[derive(Debug)]
pub(super) struct Confirm(pub oneshot::Sender<Outcome>);

impl Confirm {
    pub(super) fn tell(self, outcome: Outcome) {
        drop(self.0.send(outcome));
    }
}

/// What the writer has to do.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub appends: Vec<Append>,
    pub closing: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    arrived: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct Inner {
    appends: Vec<Append>,
    bytes: usize,
    closing: bool,
    /// Whether the writer sleeps and must be woken.
    asleep: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Queue {
        Queue { inner: Mutex::default(), arrived: Condvar::new(), limit }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a record, unless the log is closing or too much waits already.
    pub(super) fn push(&self, append: Append) -> Result<(), AppendError> {
        let mut inner = self.lock();
        if inner.closing {
            return Err(AppendError::Closed);
        }
        let size = append.record.envelope.len() + OVERHEAD;
        if inner.bytes + size > self.limit && !inner.appends.is_empty() {
            return Err(AppendError::Blocked(format!(
                "{} records wait for the disk already; publish more slowly, or raise queue_bytes",
                inner.appends.len()
            )));
        }
        inner.bytes += size;
        inner.appends.push(append);
        let wake = std::mem::take(&mut inner.asleep);
        drop(inner);
        if wake {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Takes no more, and lets the writer finish.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_one();
    }

    /// Everything that waits; sleeps until there is something, or until `deadline`.
    pub(super) fn take(&self, deadline: Option<Instant>) -> Work {
        let mut inner = self.lock();
        while inner.appends.is_empty() && !inner.closing {
            inner.asleep = true;
            match deadline {
                None => inner = self.arrived.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let waited = self.arrived.wait_timeout(inner, left);
                    inner = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
        inner.asleep = false;
        inner.bytes = 0;
        Work { appends: std::mem::take(&mut inner.appends), closing: inner.closing }
    }
}
