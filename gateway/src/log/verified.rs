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

mod landmarks;
mod name;
mod read;
mod tail;

use super::source::{Delivery, Pace, Source, SourceError};
use super::{
    AppendError, Appending, Batch, Bounds, Budget, Capabilities, DEADLINE, Log, NewRecord, PassedOver,
    ReadError, ResetReason, Start, TailEvent, Transient, ended,
};
use anabranch_protocol::cursor::{Cursor, LogId, Offset, Partition, Position};
use futures_util::future::{BoxFuture, Either, FutureExt, join_all};
use futures_util::stream::{BoxStream, StreamExt};
use landmarks::Landmarks;
use std::iter::repeat_with;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// The largest envelope that the source takes.
    max_record: usize,
    patience: Patience,
    history: watch::Sender<History>,
    /// What the tails have delivered, partition by partition: of several in one partition, the one that is furthest.
    landmarks: Box<[Mutex<Landmarks>]>,
    name: name::Name,
    poisoned: AtomicU64,
}

/// Which history is current, and why the one before it ended.
#[derive(Clone, Debug)]
struct History {
    id: LogId,
    why: ResetReason,
    /// Where in it the tails go on that followed the one before.
    head: Cursor,
    closed: bool,
}

impl<S: Source> Verified<S> {
    /// `id` is the history that the source shows now.
    pub fn new(source: Arc<S>, id: LogId, patience: Patience) -> Verified<S> {
        let history = History { id, why: ResetReason::Recreated, head: Cursor::beginning(id), closed: false };
        let Capabilities { partitions, max_record, .. } = source.capabilities();
        let shared = Shared {
            source,
            max_record,
            patience,
            history: watch::Sender::new(history),
            landmarks: repeat_with(Mutex::default).take(usize::from(partitions)).collect(),
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
        self.history.borrow().clone()
    }

    fn check(&self, partition: Partition) -> Result<(), ReadError> {
        if self.history.borrow().closed {
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
        self.follow(void, id, why).await;
        Ok(())
    }

    /// The history called `void` has ended, and is now called `id`. Every tail says so, once.
    async fn follow(&self, void: LogId, id: LogId, why: ResetReason) {
        let head = self.head_of(id).await;
        self.history.send_if_modified(|history| {
            let first = history.id == void && id != void;
            if first {
                self.name.end(void);
                for partition in 0..self.source.capabilities().partitions {
                    let stands = head.position(partition).map_or(Offset(0), |position| position.offset);
                    self.landmarks(partition).into_iter().for_each(|mut landmarks| landmarks.end_at(stands));
                }
                *history = History { id, why, head, closed: history.closed };
            }
            first
        });
    }

    /// Where delivery goes on in another history. Most that begin are the old one without its end, or under another name: what stands
    /// there as it was delivered is no news.
    async fn head_of(&self, id: LogId) -> Cursor {
        let partitions = 0..self.source.capabilities().partitions;
        let mut head = Cursor::beginning(id);
        for place in join_all(partitions.map(|partition| self.parting(partition))).await.into_iter().flatten()
        {
            head.set(place);
        }
        head
    }

    /// The newest landmark that still stands. `None` if none does, or the broker does not say: then all is news.
    async fn parting(&self, partition: Partition) -> Option<Position> {
        let earliest = within(self.source.earliest(partition)).await.ok()?;
        let mut landmarks = self.landmarks(partition)?.since(earliest);
        let mut standing = None;
        // Two histories that part agree before, and not after. Asked by halves: a question costs RabbitMQ a consumer.
        while !landmarks.is_empty() {
            let half = landmarks.len() / 2;
            let (offset, fingerprint) = landmarks[half];
            let position = Position { partition, offset, fingerprint: Some(fingerprint) };
            if self.stands(position).await.ok()? {
                standing = Some(position);
                landmarks.drain(..=half);
            } else {
                landmarks.truncate(half);
            }
        }
        standing
    }

    async fn stands(&self, position: Position) -> Result<bool, SourceError> {
        let one = Budget { records: 1, bytes: 1 };
        let fetched =
            within(self.source.fetch(position.partition, position.offset, one, Pace::Single)).await?;
        let is_it =
            |delivery: &Delivery| matches!(delivery, Delivery::Record(record) if record.position == position);
        Ok(fetched.deliveries.iter().any(is_it))
    }

    fn landmarks(&self, partition: Partition) -> Option<MutexGuard<'_, Landmarks>> {
        let landmarks = self.landmarks.get(usize::from(partition))?;
        Some(landmarks.lock().unwrap_or_else(PoisonError::into_inner))
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

    fn append(&self, record: NewRecord) -> Appending {
        if self.shared.history.borrow().closed {
            return ended(Err(AppendError::Closed));
        }
        let max = self.shared.max_record;
        if record.envelope.len() > max {
            let size = record.envelope.len();
            return ended(Err(AppendError::TooLarge { size, max }));
        }
        let confirm = match self.shared.source.append(record) {
            ended @ Either::Left(_) => return ended,
            Either::Right(confirm) => confirm,
        };
        let confirm_or_unknown = async {
            timeout(DEADLINE, confirm).await.unwrap_or_else(|_| {
                Err(AppendError::Unknown(format!("no confirm within {} s", DEADLINE.as_secs())))
            })
        };
        Either::Right(confirm_or_unknown.boxed())
    }

    fn transient(&self) -> Option<BoxStream<'static, Transient>> {
        self.shared.source.transient()
    }

    fn duty(&self, name: &str) -> BoxStream<'static, bool> {
        self.shared.source.duty(name)
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
