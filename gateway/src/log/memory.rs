//! The memory log: nothing survives the process, everything else holds. The model that the others must agree with.
//!
//! It is a broker in miniature, which forgets silently as real ones do, under the same verification as the real ones
//! ([`Verified`]). Tests can make the broker lie (`MemoryLog::lies`).

mod broker;
mod consumer;
#[cfg(any(test, feature = "testing"))]
mod lies;
#[cfg(any(test, feature = "testing"))]
pub use broker::Publishing;
#[cfg(any(test, feature = "testing"))]
pub use lies::Lies;

use super::verified::{Patience, Verified};
use super::{
    Appending, Batch, Bounds, Budget, Capabilities, Log, NewRecord, PassedOver, ReadError, Start, TailEvent,
};
use anabranch_protocol::cursor::{LogId, Offset, Partition};
use anabranch_protocol::limits;
use broker::Broker;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use std::sync::Arc;

/// How large a memory log may grow, for each partition. Whichever limit is met first, the oldest records go.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Most records kept, at least 1.
    pub records: usize,
    /// Most bytes of envelopes kept. The newest record is kept whatever its size.
    pub bytes: usize,
    /// How many partitions; a topic always goes to the same one.
    pub partitions: Partition,
    /// Largest envelope taken, in bytes.
    pub max_record: usize,
    /// How patiently a tail waits before it doubts the broker below.
    #[serde(skip)]
    pub patience: Patience,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            records: 100_000,
            bytes: 64 * 1024 * 1024,
            partitions: 1,
            max_record: limits::ENVELOPE_BYTES,
            patience: Patience::default(),
        }
    }
}

/// A log that lives and dies with the process.
#[derive(Debug)]
pub struct MemoryLog {
    verified: Verified<Broker>,
}

impl MemoryLog {
    /// An empty log with a random id.
    pub fn new(options: Options) -> Arc<MemoryLog> {
        let patience = options.patience;
        MemoryLog::on(Arc::new(Broker::new(options)), patience)
    }

    fn on(broker: Arc<Broker>, patience: Patience) -> Arc<MemoryLog> {
        let id = broker.name();
        Arc::new(MemoryLog { verified: Verified::new(broker, id, patience) })
    }

    /// Another node on the same broker: it shares records and the name of the history, and nothing else.
    #[cfg(any(test, feature = "testing"))]
    pub fn beside(&self) -> Arc<MemoryLog> {
        MemoryLog::on(self.verified.source().clone(), Patience::default())
    }

    /// Ends every tail and refuses every further call.
    pub fn close(&self) {
        self.verified.close();
    }

    /// What makes the broker below lie.
    #[cfg(any(test, feature = "testing"))]
    pub fn lies(&self) -> Lies {
        Lies::new(self.verified.source().clone())
    }
}

impl Log for MemoryLog {
    fn id(&self) -> LogId {
        self.verified.id()
    }

    fn capabilities(&self) -> Capabilities {
        self.verified.capabilities()
    }

    fn passed_over(&self) -> PassedOver {
        self.verified.passed_over()
    }

    fn append(&self, record: NewRecord) -> Appending {
        self.verified.append(record)
    }

    fn tail(&self, partition: Partition, from: Start) -> BoxStream<'static, TailEvent> {
        self.verified.tail(partition, from)
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        budget: Budget,
    ) -> BoxFuture<'static, Result<Batch, ReadError>> {
        self.verified.read(partition, after, budget)
    }

    fn bounds(&self, partition: Partition) -> BoxFuture<'static, Result<Bounds, ReadError>> {
        self.verified.bounds(partition)
    }

    fn locate(&self, partition: Partition, since: u64) -> BoxFuture<'static, Result<Offset, ReadError>> {
        self.verified.locate(partition, since)
    }
}

#[cfg(test)]
mod tests;
