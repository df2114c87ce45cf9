//! Redis Streams as the log: one stream for each partition.
//!
//! * [`Options`] say where and how; [`open`] makes an honest log of it.
//! * `id`: stream ids as offsets. `entry`: what stands in an entry, ours or anybody's. `script`: what the server does in one
//!   step, and the note that it keeps of what was forgotten.
//! * `beyond`: what becomes of a stream with an id beyond the last offset.
//! * `writer` appends, `reader` consumes and fetches (how much at a time: `portion`), `tend` forgets, each on connections of its own: a blocked one must not
//!   hold up the others.
//! * `transient` follows channels of Pub/Sub, beside the log.
//! * `link` connects, `route` finds the server in a cluster, `trouble` explains errors.
//!
//! What Redis does not tell, and how it is found: a flushed or replaced stream delivers nothing to whoever waits beyond
//! its end, or goes on with higher ids as if nothing had been ([`RedisSource::probe`]); a primary that comes back from a
//! failover may lack its newest entries (the record last seen is read again after each reconnect).

mod beyond;
mod duty;
mod entry;
mod id;
mod link;
mod open;
mod options;
mod portion;
mod reader;
mod route;
mod script;
mod tend;
mod transient;
mod trouble;
mod writer;

#[cfg(any(test, feature = "testing"))]
pub use open::die_before_naming;
pub use open::open;
pub use options::Options;
pub use trouble::ACL;

use super::ingest::Ward;
use super::source::{Consumption, Fetched, Pace, Probed, Source, SourceError};
use super::{AppendError, Appending, Budget, Capabilities, Health, NewRecord, ResetReason, Transient};
use anabranch_protocol::cursor::{LogId, Offset, Partition, Position};
use beyond::Beyond;
use futures_util::future::{BoxFuture, Either, FutureExt, ready};
use futures_util::stream::BoxStream;
use id::EntryId;
use link::Link;
use options::Keys;
use portion::Sizes;
use route::Router;
use script::Look;
use std::sync::Arc;
use tokio::sync::watch;
use writer::Writer;

/// A Redis server or cluster as a source, lies included.
pub struct RedisSource {
    shared: Arc<Shared>,
    /// One for each partition.
    writers: Vec<Writer>,
}

/// What readers, writers and questions share.
struct Shared {
    options: Arc<Options>,
    router: Arc<Router>,
    /// One for each partition, as are the links.
    keys: Vec<Keys>,
    links: Vec<Link>,
    ward: Ward,
    beyond: Beyond,
    sizes: Sizes,
    /// How writing is, in each partition.
    writing: watch::Sender<Vec<Health>>,
}

impl Shared {
    fn new(options: Options) -> Shared {
        let options = Arc::new(options);
        let router = Arc::new(Router::new(options.clone()));
        let partitions = 0..options.partitions.max(1);
        Shared {
            keys: partitions.clone().map(|partition| options.keys(partition)).collect(),
            links: partitions.clone().map(|partition| Link::new(router.clone(), partition)).collect(),
            router,
            ward: Ward::default(),
            beyond: Beyond::new(partitions.len()),
            sizes: Sizes::new(partitions.len()),
            writing: watch::Sender::new(vec![Health::Connected; partitions.len()]),
            options,
        }
    }

    /// Notes whether the server took the last append.
    fn writing(&self, partition: Partition, health: Health) {
        self.writing.send_if_modified(|all| match all.get_mut(usize::from(partition)) {
            Some(known) if *known != health => {
                *known = health;
                true
            }
            _ => false,
        });
    }

    fn writing_health(&self) -> watch::Receiver<Vec<Health>> {
        self.writing.subscribe()
    }

    fn check(&self, partition: Partition) -> Result<usize, SourceError> {
        let index = usize::from(partition);
        if index < self.keys.len() { Ok(index) } else { Err(SourceError::NoPartition(partition)) }
    }

    /// Looks at a stream.
    async fn look(&self, partition: Partition, find: Option<EntryId>) -> Result<Look, SourceError> {
        let index = self.check(partition)?;
        let answer = self.links[index].ask(script::look(&self.keys[index], false, find)).await;
        let answer = answer.map_err(|error| trouble::source_error(&error))?;
        Look::read(answer).ok_or_else(strange)
    }
}

/// An answer that no Redis from 7.0 on gives.
fn strange() -> SourceError {
    SourceError::Unreachable("the server's answer cannot be read; it must be Redis 7.0 or later".into())
}

#[cfg(any(test, feature = "testing"))]
impl RedisSource {
    /// Forgets about half of a partition's entries, as if fewer were to be kept. Says whether any were forgotten.
    pub async fn forget_half(&self, partition: Partition) -> Result<bool, SourceError> {
        let index = self.shared.check(partition)?;
        let length = self.shared.look(partition, None).await?.length();
        let most = length.div_ceil(2);
        let dropped = tend::until_at_most(&self.shared, index, Some(most), None).await;
        dropped.map(|dropped| dropped > 0).map_err(|error| trouble::source_error(&error))
    }
}

impl std::fmt::Debug for RedisSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisSource").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Source for RedisSource {
    fn capabilities(&self) -> Capabilities {
        let options = &self.shared.options;
        let kind = if options.cluster { "redis cluster" } else { "redis" };
        Capabilities {
            description: format!("{kind} (stream {})", options.stream),
            partitions: options.partitions.max(1),
            dense: false,
            max_record: options.max_record,
            survives_restart: true,
            // That depends on appendfsync, and a replica that takes over knows nothing of it.
            survives_power_loss: false,
        }
    }

    fn quarantined(&self) -> u64 {
        self.shared.ward.count()
    }

    fn rename(&self, void: LogId, _why: ResetReason) -> BoxFuture<'static, Result<LogId, SourceError>> {
        let shared = self.shared.clone();
        async move { open::rename(&shared, void).await.map_err(|error| trouble::source_error(&error)) }
            .boxed()
    }

    fn current(&self) -> BoxFuture<'static, Result<Option<LogId>, SourceError>> {
        let shared = self.shared.clone();
        async move { open::current(&shared).await.map_err(|error| trouble::source_error(&error)) }.boxed()
    }

    fn append(&self, record: NewRecord) -> Appending {
        let partition = place(record.topic.as_str(), self.writers.len());
        let confirmed = self.writers[partition].append(record);
        let lost = |_| Err(AppendError::Unknown("the gateway ends".into()));
        Either::Right(async move { confirmed.await.unwrap_or_else(lost) }.boxed())
    }

    fn transient(&self) -> Option<BoxStream<'static, Transient>> {
        transient::start(self.shared.options.clone())
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
        let shared = self.shared.clone();
        async move {
            shared.check(partition)?;
            reader::consume(shared, partition, from, pace).await
        }
        .boxed()
    }

    fn fetch(
        &self,
        partition: Partition,
        from: Offset,
        budget: Budget,
        _pace: Pace,
    ) -> BoxFuture<'static, Result<Fetched, SourceError>> {
        let shared = self.shared.clone();
        async move {
            shared.check(partition)?;
            reader::fetch(shared, partition, from, budget).await
        }
        .boxed()
    }

    fn earliest(&self, partition: Partition) -> BoxFuture<'static, Result<Offset, SourceError>> {
        let shared = self.shared.clone();
        async move { shared.earliest(&shared.look(partition, None).await?, partition) }.boxed()
    }

    fn probe(
        &self,
        partition: Partition,
        seen: Option<Position>,
    ) -> BoxFuture<'static, Result<Probed, SourceError>> {
        let shared = self.shared.clone();
        async move {
            let look = shared.look(partition, seen.map(|seen| EntryId::at(seen.offset))).await?;
            let earliest = shared.earliest(&look, partition)?;
            let there = |seen: Position| look.found.as_ref().is_some_and(|entry| entry.is(seen));
            let replaced = seen.is_some_and(|seen| earliest <= seen.offset && !there(seen));
            Ok(Probed { earliest, replaced })
        }
        .boxed()
    }

    fn latest(&self, partition: Partition) -> BoxFuture<'static, Result<Option<Position>, SourceError>> {
        let Some(writer) = self.writers.get(usize::from(partition)) else {
            return ready(Err(SourceError::NoPartition(partition))).boxed();
        };
        // Behind the appends that were called before, and before those that are not.
        let answer = writer.look();
        async move {
            let look = answer.await.map_err(|_| SourceError::Unreachable("the gateway ends".into()))??;
            Ok(look.newest.and_then(|newest| newest.position(partition)))
        }
        .boxed()
    }

    fn locate(&self, partition: Partition, since: u64) -> BoxFuture<'static, Result<Offset, SourceError>> {
        let shared = self.shared.clone();
        async move {
            let look = shared.look(partition, None).await?;
            let before = |offset: Offset| Offset(offset.0.saturating_sub(1));
            // Ids never lie before the time at which they were given: a clock that is set back does not set them back.
            let place = before(EntryId::first_of(since)).max(before(shared.earliest(&look, partition)?));
            Ok(place.min(look.last()))
        }
        .boxed()
    }
}

/// The partition of a topic: CRC-32C of its name. Other programs may put a topic elsewhere, as long as it is always the
/// same place: order holds within a partition.
fn place(topic: &str, partitions: usize) -> usize {
    crc32c::crc32c(topic.as_bytes()) as usize % partitions.max(1)
}
