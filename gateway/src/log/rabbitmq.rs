//! RabbitMQ as the log: a stream queue bound to a topic exchange, spoken to over AMQP 0.9.1, RabbitMQ 3.10 and later.
//!
//! ```text
//!   devices, services ──▶ exchange ──▶ stream ──tail──▶ this node, every node
//!                             ▲                  ──reads, probes──▶
//!                             └──────────── appends (a connection of their own)
//! ```
//!
//! Our offset is the broker's plus 1. What the broker does not say, and how it is found out all the same:
//!
//! * where a stream begins and ends: `probe`; at which offset an append was stored: `echo`;
//! * that its history is another: [`Verified`] finds that out, `history` gives it a name that all nodes share;
//! * which offsets never were records: `sight`.

mod blank;
mod connect;
mod consume;
mod duty;
mod echo;
mod echo_reader;
mod fault;
mod fetch;
mod history;
mod key;
mod lanes;
mod locate;
mod mark;
mod options;
mod probe;
mod publish;
mod reading;
mod shared;
mod sight;
mod stream;
mod topology;

pub use options::{Feed, Options, Server};

use super::open::OpenError;
use super::source::{Consumption, Fetched, Pace, Source, SourceError};
use super::verified::{Patience, Verified};
use super::{AppendError, Appending, Budget, Capabilities, Health, NewRecord, ResetReason, ended};
use anabranch_protocol::cursor::{LogId, Offset, Partition, Position};
use anabranch_protocol::limits;
use fault::Fault;
use futures_util::future::{BoxFuture, Either, FutureExt, ready};
use futures_util::stream::BoxStream;
use probe::Probes;
use publish::{Order, Parcel};
use shared::Shared;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Orders to the publisher that wait: all appends that may be open, and questions about the newest record.
const ORDERS: usize = echo::APPENDS + 1_024;

/// Opens it: declares what is missing, if it may, and finds out which history there is.
pub async fn open(options: Options, patience: Patience) -> Result<Verified<RabbitMq>, OpenError> {
    let writer = getrandom::u64().map_err(|error| OpenError::Unreachable(error.to_string()))?;
    let shared = Arc::new(Shared::new(options, writer));
    let id = topology::establish(&shared).await.map_err(|fault| match fault {
        Fault::Refused(why) => OpenError::Wrong(why),
        Fault::Unreachable(why) | Fault::Killed(why) => OpenError::Unreachable(why),
        Fault::Gone => OpenError::Unreachable("the stream was deleted just now".to_owned()),
    })?;
    let probes = (0..shared.options.partitions).map(|partition| Arc::new(Probes::start(&shared, partition)));
    let probes: Vec<_> = probes.collect();
    let (orders, ordered) = mpsc::channel(ORDERS);
    tokio::spawn(publish::run(shared.clone(), probes.clone(), ordered));
    Ok(Verified::new(Arc::new(RabbitMq { shared, probes, orders }), id, patience))
}

/// A RabbitMQ, lies included.
pub struct RabbitMq {
    shared: Arc<Shared>,
    probes: Vec<Arc<Probes>>,
    /// Ends the publisher when it is dropped.
    orders: mpsc::Sender<Order>,
}

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMq").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl RabbitMq {
    fn probes(&self, partition: Partition) -> Result<&Arc<Probes>, SourceError> {
        self.probes.get(usize::from(partition)).ok_or(SourceError::NoPartition(partition))
    }
}

impl Source for RabbitMq {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            description: "RabbitMQ stream".to_owned(),
            partitions: self.shared.options.partitions,
            max_record: limits::ENVELOPE_BYTES,
            dense: true,
            survives_restart: true,
            // A confirm says that the replicas' operating systems have it.
            survives_power_loss: false,
        }
    }

    fn quarantined(&self) -> u64 {
        self.shared.ward.count()
    }

    fn rename(&self, void: LogId, _why: ResetReason) -> BoxFuture<'static, Result<LogId, SourceError>> {
        let shared = self.shared.clone();
        async move {
            let id = history::rename(&shared, void).await?;
            shared.sights().iter().for_each(sight::Sight::forget);
            Ok(id)
        }
        .boxed()
    }

    fn current(&self) -> BoxFuture<'static, Result<Option<LogId>, SourceError>> {
        let shared = self.shared.clone();
        async move { Ok(history::current(&shared).await?) }.boxed()
    }

    fn append(&self, record: NewRecord) -> Appending {
        let Some(key) = key::key(&record.topic) else { return ended(Err(AppendError::Unroutable)) };
        if let Health::Blocked(why) = &*self.shared.health.borrow() {
            return ended(Err(AppendError::Blocked(why.clone())));
        }
        let Some((mark, verdict)) = self.shared.echoes.open(&key, &record.envelope) else {
            let why = "too many records wait for RabbitMQ's confirm".to_owned();
            return ended(Err(AppendError::Blocked(why)));
        };
        if self.orders.try_send(Order::Publish(Parcel { mark, key, body: record.envelope })).is_err() {
            let why = "too many records wait to be sent to RabbitMQ".to_owned();
            self.shared.echoes.failed(mark.sequence, AppendError::Blocked(why));
        }
        let lost = |_| Err(AppendError::Unknown("the log was closed".to_owned()));
        Either::Right(async move { verdict.await.unwrap_or_else(lost) }.boxed())
    }

    fn duty(&self, name: &str) -> BoxStream<'static, bool> {
        duty::hold(self.shared.clone(), name)
    }

    fn consume(
        &self,
        partition: Partition,
        from: Offset,
        pace: Pace,
    ) -> BoxFuture<'static, Result<Consumption, SourceError>> {
        if !self.shared.has(partition) {
            return ready(Err(SourceError::NoPartition(partition))).boxed();
        }
        consume::start(self.shared.clone(), partition, from, pace).boxed()
    }

    fn fetch(
        &self,
        partition: Partition,
        from: Offset,
        budget: Budget,
        pace: Pace,
    ) -> BoxFuture<'static, Result<Fetched, SourceError>> {
        match self.probes(partition) {
            Ok(probes) => {
                fetch::fetch(self.shared.clone(), probes.clone(), partition, from, budget, pace).boxed()
            }
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn earliest(&self, partition: Partition) -> BoxFuture<'static, Result<Offset, SourceError>> {
        match self.probes(partition) {
            Ok(probes) => probes.earliest(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }

    fn latest(&self, partition: Partition) -> BoxFuture<'static, Result<Option<Position>, SourceError>> {
        let probes = match self.probes(partition) {
            Ok(probes) => probes,
            Err(error) => return ready(Err(error)).boxed(),
        };
        // Appends that are called after this call must lie behind the answer.
        let (held, hold) = oneshot::channel();
        if self.orders.try_send(Order::Hold(hold)).is_err() {
            return ready(Err(SourceError::Unreachable("RabbitMQ's publisher has too much to do".into())))
                .boxed();
        }
        let newest = probes.newest(Some(held));
        async move { Ok(newest.await?.position) }.boxed()
    }

    fn locate(&self, partition: Partition, since: u64) -> BoxFuture<'static, Result<Offset, SourceError>> {
        match self.probes(partition) {
            Ok(probes) => locate::locate(self.shared.clone(), probes.clone(), partition, since).boxed(),
            Err(error) => ready(Err(error)).boxed(),
        }
    }
}
