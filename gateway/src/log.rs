//! Where messages come from: an ordered, replayable sequence that forgets its oldest part.
//!
//! Only this room knows a broker's name. Everything beyond it sees [`Log`].
//!
//! * [`memory`]: nothing survives the process; the model that the others must agree with.
//! * [`embedded`]: our own, in files; for gateways that need no broker.
//! * `rabbitmq`: a stream of RabbitMQ.
//! * `redis`: streams on a Redis server or cluster.
//! * [`ingest`] makes a record of what other programs put on a broker.
//! * [`open`] opens the one that the configuration names.
//! * [`verified`] makes an honest log of a broker that lies; [`source`] is what a broker's backend implements for it,
//!   and [`continuity`] its judgement.
//! * `duty` asks a broker, over and over, whether this node is the one to act.

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod continuity;
#[cfg(any(feature = "rabbitmq", feature = "redis"))]
mod duty;
pub mod embedded;
pub mod ingest;
pub mod memory;
pub mod open;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
#[cfg(feature = "redis")]
pub mod redis;
pub mod source;
pub mod verified;

#[cfg(feature = "redis")]
pub use redis::Options as RedisOptions;

use anabranch_protocol::cursor::{Cursor, Fingerprint, LogId, Offset, Partition, Position};
use anabranch_protocol::topic::Topic;
use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use futures_util::stream::BoxStream;
use std::future::Ready;
use std::sync::Arc;
use std::time::Duration;

/// The library that tells of every trouble with a broker in its own words, beside ours.
pub const LIBRARY: &str = "lapin";

/// A log as this gateway sees it: ordered partitions of records.
///
/// ```text
///        forgotten │  readable                     │ not yet written
///   offset  1  2  3│ 4   5   6   8   9   12  13    │ 14 …
///                  └ bounds.oldest = 4              └ bounds.newest = 13
///   read(after 6)  ──────────▶ 8 9 12 13, covered to 13
///   read(after 2)  ──────────▶ ReadError::Forgotten { oldest: 4 }: 3 is gone, the caller must tell its client
///   read(after 3)  ──────────▶ 4 5 6 8 … (nothing between 3 and 4 was lost)
/// ```
///
/// * **Order.** Offsets grow strictly within a partition. They need not be consecutive (7, 10 and 11 above never
///   existed): only equality and order mean anything.
/// * **Stability.** A record that was read once is found again at the same offset, with the same fingerprint, until it
///   is forgotten. If that ceases to hold, the log's [`id`](Log::id) changes and the tail says
///   [`TailEvent::Reset`]; offsets of an older id are never reinterpreted.
/// * **Honesty.** What is lost is said: a tail says [`TailEvent::Gap`] before the record after it, a read fails with
///   [`ReadError::Forgotten`] or [`ReadError::Corrupt`]. No implementor skips silently, and none returns a partial
///   answer that looks whole.
/// * **Order of appends.** Records appended from one task get offsets in the order of the calls to
///   [`append`](Log::append), whether or not the returned futures are polled.
///
/// Topic filters, grants and deduplication are not a log's business. Every implementation passes
/// `log::conformance`.
pub trait Log: Send + Sync + 'static {
    /// Which history this is. Changes only with [`TailEvent::Reset`].
    fn id(&self) -> LogId;

    /// What this log promises and takes.
    fn capabilities(&self) -> Capabilities;

    /// Appends a record, and resolves once it is as durable as this log makes records.
    ///
    /// The record is queued by the call itself. Cancel safe: dropping the future does not undo the append.
    fn append(&self, record: NewRecord) -> Appending;

    /// What was passed over since this log was opened.
    fn passed_over(&self) -> PassedOver {
        PassedOver::default()
    }

    /// What passes beside the log and is not kept, if this log has such a source. It may lose what nobody takes in time.
    fn transient(&self) -> Option<BoxStream<'static, Transient>> {
        None
    }

    /// Whether this node is the one of all nodes on this log that does what the name says: now, and each time that it changes.
    ///
    /// To be efficient, not to be right: for a while after a failure two may hold the same duty, or none.
    fn duty(&self, name: &str) -> BoxStream<'static, bool> {
        let _ = name;
        // Nobody else reads this log.
        futures_util::StreamExt::boxed(futures_util::stream::iter([true]))
    }

    /// Follows a partition: every record after `from`, then each new one, for ever.
    ///
    /// Begins with its [`TailEvent::Health`]. Reconnects by itself and reports what that meant. Ends only when the log
    /// is closed. [`Start::Next`] is what is appended after this call, whenever the stream is polled.
    fn tail(&self, partition: Partition, from: Start) -> BoxStream<'static, TailEvent>;

    /// Reads forward from an offset, at most as much as `budget` allows (and at least one record, if there is one).
    fn read(
        &self,
        partition: Partition,
        after: Offset,
        budget: Budget,
    ) -> BoxFuture<'static, Result<Batch, ReadError>>;

    /// What can be read at present.
    fn bounds(&self, partition: Partition) -> BoxFuture<'static, Result<Bounds, ReadError>>;

    /// The offset after which every record appended at `since` (milliseconds since 1970) or later lies.
    ///
    /// May err towards earlier records, never towards later ones.
    fn locate(&self, partition: Partition, since: u64) -> BoxFuture<'static, Result<Offset, ReadError>>;
}

/// An append: what became of it where the log knows within the call, as in memory, else what waits for its confirm. To be awaited
/// like any future.
///
/// Told apart because a message to the memory log went through three futures in boxes.
pub type Appending =
    Either<Ready<Result<Position, AppendError>>, BoxFuture<'static, Result<Position, AppendError>>>;

/// An append that has ended within the call.
pub(crate) fn ended(result: Result<Position, AppendError>) -> Appending {
    Either::Left(std::future::ready(result))
}

/// A message that no log keeps: it has no position, and only who is there gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transient {
    pub topic: Arc<str>,
    /// A complete envelope, as of a [`Record`].
    pub envelope: Bytes,
}

/// A record to be appended: a complete envelope, checked at ingest.
#[derive(Clone, Debug)]
pub struct NewRecord {
    pub topic: Topic,
    pub key: MessageKey,
    /// The envelope's JSON text: valid UTF-8, `metadata` and `payload` present.
    pub envelope: Bytes,
}

/// An envelope at its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub position: Position,
    /// When the log took it, in milliseconds since 1970. Not monotonic: clocks are set back.
    pub time: u64,
    pub topic: Arc<str>,
    pub key: MessageKey,
    pub envelope: Bytes,
}

/// Identifies a message across retries: 128 bits of SHA-1 over topic and `messageId`.
///
/// Long enough that nobody can craft a second message with another's key to have it taken for a duplicate, at the
/// price of about 100 ns for each message (not for each delivery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageKey(pub [u8; 16]);

impl std::hash::Hash for MessageKey {
    /// Half of it is enough to spread keys in a table, and costs half.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let [first, _] = self.0.as_chunks::<8>().0 else { return };
        state.write_u64(u64::from_ne_bytes(*first));
    }
}

impl MessageKey {
    pub fn new(topic: &str, message_id: &str) -> MessageKey {
        use sha1::Digest;
        let mut hash = sha1::Sha1::new();
        hash.update(topic.as_bytes());
        hash.update([0]); // No topic contains it: (a, bc) and (ab, c) stay apart.
        hash.update(message_id.as_bytes());
        let digest = hash.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        MessageKey(key)
    }
}

/// The fingerprint of an envelope's text: CRC-32C. It detects rewritten histories, not malice.
pub fn fingerprint(envelope: &[u8]) -> Fingerprint {
    Fingerprint(crc32c::crc32c(envelope))
}

/// What a log promises and takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// For people: `memory`, `file (fsync always)`, …
    pub description: String,
    /// How many partitions, numbered from 0.
    pub partitions: Partition,
    /// Whether the difference of two offsets is about the number of records between them. Not where offsets are times.
    pub dense: bool,
    /// Largest envelope it takes, in bytes.
    pub max_record: usize,
    /// Whether a confirmed record survives the end of this process.
    pub survives_restart: bool,
    /// Whether a confirmed record survives a power loss.
    pub survives_power_loss: bool,
}

/// How many records were passed over, for the operator. What is read again counts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// They make the broker fail. Clients were told of a gap.
    pub poisoned: u64,
    /// They are no messages, or have no topic. Nobody could have received them.
    pub quarantined: u64,
}

/// Where a tail begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The next record to be appended.
    Next,
    /// The oldest record there is.
    Earliest,
    /// The first record after this one, which is verified to be there still (offset and fingerprint).
    After(Position),
}

/// How much one read may return: whichever limit is met first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub records: usize,
    /// Bytes of envelopes.
    pub bytes: usize,
}

/// Part of a partition, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub records: Vec<Record>,
    /// Everything up to and including this offset is in this batch or before it. At least the last record's offset.
    ///
    /// Lower than the asked offset only if the log ends before it: the asker has seen another history.
    pub covered_to: Offset,
    /// Whether a read came to the end of what was there. On a tail, `false` says nothing.
    pub at_end: bool,
}

/// What a partition holds. `oldest` may be beyond `newest` when everything was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Every record below this offset is forgotten or never was; a cursor at `oldest - 1` or later has missed nothing.
    pub oldest: Offset,
    /// The newest readable record; `None` if there is none.
    pub newest: Option<Position>,
    /// The newest offset that was ever given to a record, forgotten ones included; zero if none was.
    pub last: Offset,
}

/// What happens on a tail, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailEvent {
    /// New records. Never empty.
    Records(Batch),
    /// Nothing readable up to this offset: a hole. Coverage advances.
    Progress(Offset),
    /// Records are gone for good; the next event lies at or after `gap.before`.
    Gap(Gap),
    /// Another history begins, of `head`'s log: every cursor made before this is void. What follows lies after `head`, which is the same
    /// for the tails of all partitions: where the log has got to, or before the first record if nobody knows better.
    Reset { head: Cursor, why: ResetReason },
    /// How the source is doing. Sent on every change.
    Health(Health),
}

/// Records strictly after `after` and strictly before `before` that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub after: Offset,
    pub before: Offset,
    pub why: GapReason,
}

/// Why records are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The log's retention dropped them.
    Forgotten,
    /// They can no longer be read from the disk.
    Corrupt,
    /// They make the broker fail, and were stepped over.
    Poisoned,
}

/// Why a history ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// Another record stands where the last one was.
    Diverged,
    /// The log was deleted and made anew.
    Recreated,
    /// The last position lies beyond the log's end.
    Ahead,
    /// The broker calls the history by another name: another node has found that it ended.
    Renamed,
}

/// How a source is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Connected,
    /// Reads work, appends are refused; the text says why.
    Blocked(String),
    /// Not reachable; the text says why, for the operator.
    Retrying(String),
}

/// Why an append was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Not stored. The log takes nothing at present.
    #[error("the log takes no records at present: {0}")]
    Blocked(String),
    /// Not stored. No room.
    #[error("the log is full: {0}")]
    Full(String),
    /// Not stored, and never will be.
    #[error("the record has {size} bytes, the log takes {max}")]
    TooLarge { size: usize, max: usize },
    /// Not stored. Nothing is bound to take this topic.
    #[error("the broker has no place for this topic")]
    Unroutable,
    /// Not stored, and never will be as things are: the broker forbids it. The operator has to allow it.
    #[error("the broker forbids it: {0}; only its operator can allow it")]
    Refused(String),
    /// Perhaps stored: the outcome is not known. Retry under the same key.
    #[error("the log did not confirm, the record may be stored: {0}")]
    Unknown(String),
    /// Not stored. The log is shut.
    #[error("the log is closed")]
    Closed,
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Records after the asked offset are forgotten. Go on at `oldest`, and tell the client.
    #[error("records before {oldest} are forgotten")]
    Forgotten { oldest: Offset },
    /// Records strictly between these cannot be read any more. Go on at `before`, and tell the client.
    #[error("records between {after} and {before} cannot be read from the disk")]
    Corrupt { after: Offset, before: Offset },
    /// The source cannot be reached. Nothing is known; try later.
    #[error("the log cannot be read at present: {0}")]
    Unavailable(String),
    /// No such partition.
    #[error("there is no partition {0}")]
    NoPartition(Partition),
}

/// The wall clock, in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    crate::outside::unix_ms()
}

/// A time as people write it: `2026-01-31T12:00:00Z`. Beyond the year 9999, that.
pub(crate) fn iso_8601(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// The longest that a log may take to answer a read, a probe or a confirm before the gateway reports it unavailable.
pub const DEADLINE: Duration = Duration::from_secs(5);
