//! Reading: a consumer that blocks on a connection of its own, and fetches that do not block.

use super::beyond::AGAIN;
use super::entry::Entry;
use super::id::EntryId;
use super::link::Connection;
use super::portion::{ANSWER_BYTES, Portion};
use super::script::{self, Look};
use super::trouble;
use super::{Shared, strange};
use crate::log::ingest::Ward;
use crate::log::source::{Consumption, Delivery, Fetched, Pace, SourceError, SourceEvent};
use crate::log::{Budget, Health};
use anabranch_protocol::cursor::{Offset, Partition};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{StreamExt, unfold};
use redis::{RedisResult, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long one `XREAD` waits for entries.
const BLOCK: Duration = Duration::from_secs(2);
/// How much longer its answer may take before the connection counts as dead.
const GRACE: Duration = Duration::from_secs(2);
/// So many entries of one millisecond that no offset tells, in a row, and the consumer leaves out the rest of them, uncounted:
/// good records behind them have waited long enough.
const FLOOD: usize = 10_000;

struct Consumer {
    shared: Arc<Shared>,
    partition: Partition,
    connection: Connection,
    /// The last entry delivered or passed over, or what stands before the first.
    after: EntryId,
    /// How many entries in a row, the last ones, brought nothing.
    barren: usize,
    portion: Portion,
    most: usize,
    /// Kept when something else is said meanwhile: an `XREAD` that was sent is answered.
    reading: Option<BoxFuture<'static, RedisResult<Value>>>,
    writing: watch::Receiver<Vec<Health>>,
    /// What was last said about writing.
    said: Health,
    /// What stands at `after`, or has stood there, is followed by an id beyond the last offset.
    stuck: bool,
    ended: bool,
}

/// Starts to consume at `from`, inclusive.
pub(super) async fn consume(
    shared: Arc<Shared>,
    partition: Partition,
    from: Offset,
    pace: Pace,
) -> Result<Consumption, SourceError> {
    let connection = shared.router.connect(partition, BLOCK + GRACE).await;
    let connection = connection.map_err(|error| trouble::source_error(&error))?;
    let most = if pace == Pace::Single { 1 } else { usize::MAX };
    let consumer = Consumer {
        partition,
        connection,
        after: EntryId::before(from),
        barren: 0,
        portion: Portion::first(shared.sizes.known(partition), ANSWER_BYTES),
        most,
        reading: None,
        writing: shared.writing_health(),
        said: Health::Connected,
        stuck: false,
        ended: false,
        shared,
    };
    let stream =
        unfold(consumer, |mut consumer| async move { consumer.next().await.map(|event| (event, consumer)) });
    Ok(stream.boxed())
}

impl Consumer {
    async fn next(&mut self) -> Option<Result<SourceEvent, SourceError>> {
        while !self.ended {
            let health = self.health();
            if health != self.said {
                self.said = health.clone();
                return Some(Ok(SourceEvent::Health(health)));
            }
            let read = self.read();
            let reading = self.reading.get_or_insert(read);
            let answer = tokio::select! {
                biased;
                answer = &mut *reading => answer,
                changed = self.writing.changed() => {
                    if changed.is_err() {
                        return None; // The log is closed.
                    }
                    continue;
                }
            };
            self.reading = None;
            match self.take(answer) {
                Ok(deliveries) if deliveries.is_empty() => {}
                Ok(deliveries) => return Some(Ok(SourceEvent::Deliveries(deliveries))),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// How reading is, or else writing.
    fn health(&mut self) -> Health {
        let writing = self.writing.borrow_and_update().get(usize::from(self.partition)).cloned();
        match self.shared.beyond.known(self.partition) {
            Some(id) if self.stuck => Health::Retrying(self.shared.beyond(self.partition, id)),
            _ => writing.unwrap_or(Health::Connected),
        }
    }

    fn read(&self) -> BoxFuture<'static, RedisResult<Value>> {
        let keys = &self.shared.keys[usize::from(self.partition)];
        let mut connection = self.connection.clone();
        if self.stuck {
            let look = script::look(keys, false, None);
            return async move {
                sleep(AGAIN).await;
                connection.ask(look).await
            }
            .boxed();
        }
        let mut command = redis::cmd("XREAD");
        command
            .arg("COUNT")
            .arg(self.portion.count().min(self.most))
            .arg("BLOCK")
            .arg(BLOCK.as_millis() as u64);
        command.arg("STREAMS").arg(&keys.stream).arg(self.after.to_string());
        async move { connection.ask(command).await }.boxed()
    }

    fn take(&mut self, answer: RedisResult<Value>) -> Result<Vec<Delivery>, SourceError> {
        let answer = answer.map_err(|error| {
            self.shared.router.note(self.partition, &error);
            trouble::source_error(&error)
        })?;
        if self.stuck {
            let look = Look::read(answer).ok_or_else(strange)?;
            if look.beyond().is_none() {
                self.shared.beyond.clear(self.partition);
                self.shared.writing(self.partition, Health::Connected);
                self.stuck = false;
            }
            return Ok(Vec::new());
        }
        let entries = match answer {
            Value::Nil => return Ok(Vec::new()),
            // `[[stream, entries]]`
            Value::Array(streams) => match streams.into_iter().next() {
                Some(Value::Array(mut stream)) => stream.pop().unwrap_or(Value::Nil),
                _ => return Err(strange()),
            },
            _ => return Err(strange()),
        };
        // Counted here alone: what is fetched beside the tail has come by it, or will.
        let page = Page::read(self.partition, self.after, entries, Some(&self.shared.ward))?;
        let barren = page.deliveries.is_empty() && page.last.offset().is_none();
        self.barren = if barren { self.barren + page.entries } else { 0 };
        self.after = if self.barren < FLOOD { page.last } else { page.last.last_of_its_ms() };
        if let Some(id) = page.beyond {
            let why = self.shared.beyond(self.partition, id);
            tracing::warn!("{why}");
            self.stuck = true;
        }
        self.portion.learn(page.entries, page.bytes, ANSWER_BYTES);
        self.shared.sizes.learn(self.partition, page.entries, page.bytes);
        Ok(page.deliveries.into_iter().map(|(delivery, _)| delivery).collect())
    }
}

/// What one answer brought.
struct Page {
    /// Each with the bytes that it takes of a budget.
    deliveries: Vec<(Delivery, usize)>,
    /// How many entries came, and roughly how much memory they took.
    entries: usize,
    bytes: usize,
    /// The last that is not beyond, or what the page came after.
    last: EntryId,
    /// What comes after it, if that is beyond the last offset.
    beyond: Option<EntryId>,
}

impl Page {
    /// Reads what came after an id. Entries that no offset tells make one blank for each millisecond, or none where a
    /// record has its last offset.
    fn read(
        partition: Partition,
        after: EntryId,
        entries: Value,
        ward: Option<&Ward>,
    ) -> Result<Page, SourceError> {
        let Value::Array(entries) = entries else { return Err(strange()) };
        let mut page =
            Page { deliveries: Vec::new(), entries: entries.len(), bytes: 0, last: after, beyond: None };
        for entry in entries {
            let entry = Entry::read(entry).ok_or_else(strange)?;
            let (id, size) = (entry.id, entry.size());
            page.bytes += size;
            if page.beyond.is_some() {
                continue;
            }
            let Some(delivery) = entry.delivery(partition, ward) else {
                page.beyond = Some(id);
                continue;
            };
            let size = match &delivery {
                Delivery::Record(record) => record.envelope.len(),
                Delivery::Blank(_) => size,
            };
            if page.last.reaches() != Some(delivery.offset()) {
                page.deliveries.push((delivery, size));
            }
            page.last = id;
        }
        Ok(page)
    }
}

/// Reads what is there from an offset on, page by page, as far as the budget allows. The end is where an id is that is beyond
/// the last offset, if one is.
pub(super) async fn fetch(
    shared: Arc<Shared>,
    partition: Partition,
    from: Offset,
    budget: Budget,
) -> Result<Fetched, SourceError> {
    let index = usize::from(partition);
    let mut fetched = Fetched::default();
    let mut after = EntryId::before(from);
    let most = budget.records.max(1);
    let mut portion = Portion::first(shared.sizes.known(partition), budget.bytes);
    let mut bytes = 0;
    loop {
        let asked = portion.count().min(most - fetched.deliveries.len());
        let mut command = redis::cmd("XRANGE");
        command.arg(&shared.keys[index].stream).arg(format!("({after}")).arg("+").arg("COUNT").arg(asked);
        let answer = shared.links[index].ask(command).await;
        let answer = answer.map_err(|error| trouble::source_error(&error))?;
        let page = Page::read(partition, after, answer, None)?;
        shared.sizes.learn(partition, page.entries, page.bytes);
        for (delivery, size) in page.deliveries {
            bytes += size;
            if bytes > budget.bytes && !fetched.deliveries.is_empty() {
                return Ok(fetched);
            }
            fetched.deliveries.push(delivery);
        }
        if page.entries < asked || page.beyond.is_some() {
            fetched.at_end = true;
            return Ok(fetched);
        }
        if fetched.deliveries.len() >= most || bytes >= budget.bytes {
            return Ok(fetched);
        }
        // What follows an entry that no offset tells, in its millisecond, is told by none either.
        let told = page.last.offset().is_some();
        after = if told { page.last } else { page.last.last_of_its_ms() };
        portion.learn(page.entries, page.bytes, budget.bytes - bytes);
    }
}
