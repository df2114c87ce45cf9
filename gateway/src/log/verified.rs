//! An honest log made of a broker: connects, verifies, reconnects, and tells what is lost.
//!
//! ```text
//!   Source ──deliveries──▶ Continuity ──▶ events of the tail
//!      ▲                       │ Probe · Restart · Reset
//!      └───────────────────────┘
//! ```
//!
//! Each tail has its own consumer and its own [`Continuity`](super::continuity::Continuity). The log's id is shared:
//! the tail that first finds another history renames it, and every other tail then resets too. Other nodes find the new
//! name by asking for it (`name`).

mod name;
mod read;
mod tail;

use super::source::{Source, SourceError};
use super::{
    AppendError, Batch, Bounds, Budget, Capabilities, DEADLINE, Log, NewRecord, PassedOver, ReadError,
    ResetReason, Start, TailEvent, Transient,
};
use anabranch_protocol::cursor::{LogId, Offset, Partition, Position};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How patient a verified log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A tail to which nothing came for so long asks the broker for its newest record.
    pub quiet: Duration,
    /// Records that are known to be there and do not come for so long: the consumer is given up.
    pub stalled: Duration,
    /// The first pause before another attempt to connect. Doubles up to `backoff_max`, with jitter.
    pub backoff: Duration,
    pub backoff_max: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            quiet: Duration::from_secs(1),
            stalled: Duration::from_secs(1),
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
        }
    }
}

/// A [`Log`] on top of a [`Source`].
#[derive(Debug)]
pub struct Verified<S> {
    shared: Arc<Shared<S>>,
}

impl<S> Clone for Verified<S> {
    fn clone(&self) -> Verified<S> {
        Verified { shared: self.shared.clone() }
    }
}

#[derive(Debug)]
struct Shared<S> {
    source: Arc<S>,
    patience: Patience,
    history: watch::Sender<History>,
    name: name::Name,
    poisoned: AtomicU64,
}

/// Which history is current, and why the one before it ended.
#[derive(Clone, Copy, Debug)]
struct History {
    id: LogId,
    why: ResetReason,
    closed: bool,
}

impl<S: Source> Verified<S> {
    /// `id` is the history that the source shows now.
    pub fn new(source: Arc<S>, id: LogId, patience: Patience) -> Verified<S> {
        let history = History { id, why: ResetReason::Recreated, closed: false };
        let shared = Shared {
            source,
            patience,
            history: watch::Sender::new(history),
            name: name::Name::default(),
            poisoned: AtomicU64::new(0),
        };
        Verified { shared: Arc::new(shared) }
    }

    /// Ends every tail and refuses every further call.
    pub fn close(&self) {
        self.shared.history.send_modify(|history| history.closed = true);
    }

    /// What lies below.
    pub fn source(&self) -> &Arc<S> {
        &self.shared.source
    }
}

impl<S: Source> Shared<S> {
    fn history(&self) -> History {
        *self.history.borrow()
    }

    fn check(&self, partition: Partition) -> Result<(), ReadError> {
        if self.history().closed {
            return Err(ReadError::Unavailable("the log is closed".into()));
        }
        if partition >= self.source.capabilities().partitions {
            return Err(ReadError::NoPartition(partition));
        }
        Ok(())
    }

    /// Ends the history called `void`, unless another tail has done so already.
    async fn reset(&self, void: LogId, why: ResetReason) -> Result<(), SourceError> {
        if self.history().id != void {
            return Ok(());
        }
        let id = self.fresh(void, why).await?;
        self.follow(void, id, why);
        Ok(())
    }

    /// The history called `void` has ended, and is now called `id`. Every tail says so, once.
    fn follow(&self, void: LogId, id: LogId, why: ResetReason) {
        self.history.send_if_modified(|history| {
            let first = history.id == void && id != void;
            if first {
                self.name.end(void);
                *history = History { id, why, ..*history };
            }
            first
        });
    }
}

/// A source's answer, or its absence after [`DEADLINE`]: a frozen broker accepts everything and answers nothing.
async fn within<T>(answer: BoxFuture<'static, Result<T, SourceError>>) -> Result<T, SourceError> {
    match timeout(DEADLINE, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(SourceError::Unreachable(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}

impl<S: Source> Log for Verified<S> {
    fn id(&self) -> LogId {
        self.shared.history().id
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.source.capabilities()
    }

    fn passed_over(&self) -> PassedOver {
        PassedOver {
            poisoned: self.shared.poisoned.load(Ordering::Relaxed),
            quarantined: self.shared.source.quarantined(),
        }
    }

    fn append(&self, record: NewRecord) -> BoxFuture<'static, Result<Position, AppendError>> {
        if self.shared.history().closed {
            return async { Err(AppendError::Closed) }.boxed();
        }
        let max = self.shared.source.capabilities().max_record;
        if record.envelope.len() > max {
            let size = record.envelope.len();
            return async move { Err(AppendError::TooLarge { size, max }) }.boxed();
        }
        let confirm = self.shared.source.append(record);
        async move {
            timeout(DEADLINE, confirm).await.unwrap_or_else(|_| {
                Err(AppendError::Unknown(format!("no confirm within {} s", DEADLINE.as_secs())))
            })
        }
        .boxed()
    }

    fn transient(&self) -> Option<BoxStream<'static, Transient>> {
        self.shared.source.transient()
    }

    fn tail(&self, partition: Partition, from: Start) -> BoxStream<'static, TailEvent> {
        tail::start(self.shared.clone(), partition, from).boxed()
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        budget: Budget,
    ) -> BoxFuture<'static, Result<Batch, ReadError>> {
        read::read(self.shared.clone(), partition, after, budget).boxed()
    }

    fn bounds(&self, partition: Partition) -> BoxFuture<'static, Result<Bounds, ReadError>> {
        let shared = self.shared.clone();
        async move {
            shared.check(partition)?;
            let newest = within(shared.source.latest(partition)).await.map_err(read::error)?;
            let oldest = within(shared.source.earliest(partition)).await.map_err(read::error)?;
            // Forgotten since the first question.
            let newest = newest.filter(|newest| newest.offset >= oldest);
            let last = newest.map_or(Offset(oldest.0.saturating_sub(1)), |newest| newest.offset);
            Ok(Bounds { oldest, newest, last })
        }
        .boxed()
    }

    fn locate(&self, partition: Partition, since: u64) -> BoxFuture<'static, Result<Offset, ReadError>> {
        let shared = self.shared.clone();
        async move {
            shared.check(partition)?;
            within(shared.source.locate(partition, since)).await.map_err(read::error)
        }
        .boxed()
    }
}
