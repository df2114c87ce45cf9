//! A broker as it is, lies included: what a backend implements, so that [`Verified`](super::verified::Verified) can
//! make an honest [`Log`](super::Log) of it.
//!
//! A source promises little: deliveries of one [consumption](Source::consume) come in the broker's order. It may skip
//! what it has forgotten, wait for ever at an offset that is not there, deliver twice, or show another history after
//! a reconnect. It need not detect any of that, and must not hide it.

use super::{Appending, Budget, Capabilities, Health, NewRecord, Record, ResetReason, Transient};
use anabranch_protocol::cursor::{LogId, Offset, Partition, Position};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, StreamExt};

/// A broker's consumers, probes and publisher.
///
/// Every method may be called again after any error: a source connects by itself when asked, and gives up with
/// [`SourceError::Unreachable`] rather than retry; the retrying is the caller's.
pub trait Source: Send + Sync + 'static {
    /// What it promises and takes.
    fn capabilities(&self) -> Capabilities;

    /// How many records could be delivered to nobody, since it was opened; see [`Quarantine`](super::ingest::Quarantine).
    fn quarantined(&self) -> u64;

    /// A new name for the history, after the one called `void` was found to have ended.
    ///
    /// Where the broker can keep it, all nodes get the same answer; a source that is asked twice about the same `void`
    /// gives the same name.
    fn rename(&self, void: LogId, why: ResetReason) -> BoxFuture<'static, Result<LogId, SourceError>>;

    /// The name that the broker now gives the history; `None` if it has none any more.
    ///
    /// Nodes agree on a name through the broker alone: one that finds the history ended renames it, and the others find
    /// the new name here, whether or not they can see the end themselves. Asked at each (re)connect and every few seconds,
    /// once for all partitions, never for a record. An answer that lags is mended: a name that a node has seen end is
    /// given to [`rename`](Source::rename) again.
    fn current(&self) -> BoxFuture<'static, Result<Option<LogId>, SourceError>>;

    /// Appends, exactly as [`Log::append`](super::Log::append) says.
    fn append(&self, record: NewRecord) -> Appending;

    /// As [`Log::transient`](super::Log::transient).
    fn transient(&self) -> Option<BoxStream<'static, Transient>> {
        None
    }

    /// As [`Log::duty`](super::Log::duty).
    fn duty(&self, name: &str) -> BoxStream<'static, bool> {
        let _ = name;
        futures_util::stream::iter([true]).boxed()
    }

    /// Starts to consume at an offset, inclusive. The broker may begin elsewhere.
    fn consume(
        &self,
        partition: Partition,
        from: Offset,
        pace: Pace,
    ) -> BoxFuture<'static, Result<Consumption, SourceError>>;

    /// Reads forward from an offset, inclusive, as far as `budget` allows, without waiting for new records.
    fn fetch(
        &self,
        partition: Partition,
        from: Offset,
        budget: Budget,
        pace: Pace,
    ) -> BoxFuture<'static, Result<Fetched, SourceError>>;

    /// The lowest offset that can still be read; if nothing is there, the lowest that the next record may get.
    fn earliest(&self, partition: Partition) -> BoxFuture<'static, Result<Offset, SourceError>>;

    /// The earliest offset, and whether the record that was `seen` last still stands: asked when a consumption jumps
    /// forward. A source whose consumers end with their history need not look.
    fn probe(
        &self,
        partition: Partition,
        seen: Option<Position>,
    ) -> BoxFuture<'static, Result<Probed, SourceError>> {
        let _ = seen;
        let earliest = self.earliest(partition);
        async move { Ok(Probed { earliest: earliest.await?, replaced: false }) }.boxed()
    }

    /// The newest record, if there is any.
    fn latest(&self, partition: Partition) -> BoxFuture<'static, Result<Option<Position>, SourceError>>;

    /// As [`Log::locate`](super::Log::locate).
    fn locate(&self, partition: Partition, since: u64) -> BoxFuture<'static, Result<Offset, SourceError>>;
}

/// The answer to [`Source::probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// As of [`Source::earliest`].
    pub earliest: Offset,
    /// The record is not forgotten, and is not there: the consumer goes on in another history.
    pub replaced: bool,
}

/// What a consumer says, until it ends: with an error, or as if nothing had happened.
pub type Consumption = BoxStream<'static, Result<SourceEvent, SourceError>>;

/// What a consumer says.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// What has arrived since the last event, in the order of arrival. Never empty.
    Deliveries(Vec<Delivery>),
    /// The publishing side is blocked, or is so no longer.
    Health(Health),
}

/// One thing that a broker delivered.
#[derive(Clone, Debug)]
pub enum Delivery {
    Record(Record),
    /// Something stands at this offset that is not for us: a quarantined routing key, for instance.
    Blank(Offset),
}

impl Delivery {
    pub fn offset(&self) -> Offset {
        match self {
            Delivery::Record(record) => record.position.offset,
            Delivery::Blank(offset) => *offset,
        }
    }
}

/// How much a consumer takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As much as is efficient.
    Full,
    /// One record at a time, so that everything before a poisoned record arrives before it strikes.
    Single,
}

/// What one fetch brought.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    pub deliveries: Vec<Delivery>,
    /// Whether the end was reached.
    pub at_end: bool,
    /// Whether the fetch was killed by what stands after the last of these, see [`SourceError::Killed`].
    pub killed: bool,
}

/// Why a source has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No connection, or none any more, or no answer.
    #[error("{0}")]
    Unreachable(String),
    /// The broker ended the consumer because of a record that it cannot deliver.
    #[error("the broker ended the consumer over a record: {0}")]
    Killed(String),
    /// The stream or queue does not exist any more.
    #[error("the broker's stream is gone")]
    Gone,
    /// No such partition.
    #[error("there is no partition {0}")]
    NoPartition(Partition),
}
