//! Reading: a consumer that blocks on a connection of its own, and fetches that do not block.

use super::entry::Entry;
use super::id::EntryId;
use super::link::Connection;
use super::trouble;
use super::{Shared, beyond, strange};
use crate::log::source::{Consumption, Delivery, Fetched, Pace, SourceError, SourceEvent};
use crate::log::{Budget, Health};
use anabranch_protocol::cursor::{Offset, Partition};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{StreamExt, unfold};
use redis::{RedisResult, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long one `XREAD` waits for entries.
const BLOCK: Duration = Duration::from_secs(2);
/// How much longer its answer may take before the connection counts as dead.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes that one answer should hold.
const ANSWER_BYTES: usize = 2 << 20;
/// Most entries of one answer: more cost more for each (measured).
const ANSWER_ENTRIES: usize = 1000;

/// How many entries to ask for, so that an answer is neither tiny nor huge. Nothing is known of the first.
#[derive(Clone, Copy)]
struct Portion {
    count: usize,
}

impl Portion {
    fn first(most: usize) -> Portion {
        Portion { count: most.clamp(1, 32) }
    }

    fn learn(&mut self, entries: usize, bytes: usize, most: usize) {
        if let Some(each) = bytes.checked_div(entries) {
            self.count = (ANSWER_BYTES / each.max(1)).clamp(1, ANSWER_ENTRIES).min(most.max(1));
        }
    }
}

struct Consumer {
    shared: Arc<Shared>,
    partition: Partition,
    connection: Connection,
    /// The last entry delivered, or what stands before the first.
    after: EntryId,
    portion: Portion,
    most: usize,
    /// Kept when something else is said meanwhile: an `XREAD` that was sent is answered.
    reading: Option<BoxFuture<'static, RedisResult<Value>>>,
    writing: watch::Receiver<Vec<Health>>,
    /// What was last said about writing.
    said: Health,
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
    let most = if pace == Pace::Single { 1 } else { ANSWER_ENTRIES };
    let consumer = Consumer {
        partition,
        connection,
        after: EntryId::before(from),
        portion: Portion::first(most),
        most,
        reading: None,
        writing: shared.writing_health(),
        said: Health::Connected,
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
            let writing = self.writing.borrow_and_update().get(usize::from(self.partition)).cloned();
            if let Some(writing) = writing
                && writing != self.said
            {
                self.said = writing.clone();
                return Some(Ok(SourceEvent::Health(writing)));
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

    fn read(&self) -> BoxFuture<'static, RedisResult<Value>> {
        let keys = &self.shared.keys[usize::from(self.partition)];
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(self.portion.count).arg("BLOCK").arg(BLOCK.as_millis() as u64);
        command.arg("STREAMS").arg(&keys.stream).arg(self.after.to_string());
        let mut connection = self.connection.clone();
        async move { connection.ask(command).await }.boxed()
    }

    fn take(&mut self, answer: RedisResult<Value>) -> Result<Vec<Delivery>, SourceError> {
        let answer = answer.map_err(|error| {
            self.shared.router.note(self.partition, &error);
            trouble::source_error(&error)
        })?;
        let entries = match answer {
            Value::Nil => return Ok(Vec::new()),
            // `[[stream, entries]]`
            Value::Array(streams) => match streams.into_iter().next() {
                Some(Value::Array(mut stream)) => stream.pop().unwrap_or(Value::Nil),
                _ => return Err(strange()),
            },
            _ => return Err(strange()),
        };
        let (deliveries, bytes, last) = deliveries(&self.shared, self.partition, entries)?;
        if let Some(last) = last {
            self.after = last;
        }
        self.portion.learn(deliveries.len(), bytes, self.most);
        Ok(deliveries)
    }
}

/// Entries as deliveries, their size, and the id of the last.
fn deliveries(
    shared: &Shared,
    partition: Partition,
    entries: Value,
) -> Result<(Vec<Delivery>, usize, Option<EntryId>), SourceError> {
    let Value::Array(entries) = entries else { return Err(strange()) };
    let mut found = Vec::with_capacity(entries.len());
    let mut bytes = 0;
    let mut last = None;
    for entry in entries {
        let entry = Entry::read(entry).ok_or_else(strange)?;
        let id = entry.id;
        bytes += entry.size();
        last = Some(id);
        let delivery = entry.delivery(partition, &shared.ward);
        found.push(delivery.ok_or_else(|| SourceError::Unreachable(beyond(id)))?);
    }
    Ok((found, bytes, last))
}

/// Reads what is there from an offset on, page by page, as far as the budget allows.
pub(super) async fn fetch(
    shared: Arc<Shared>,
    partition: Partition,
    from: Offset,
    budget: Budget,
) -> Result<Fetched, SourceError> {
    let index = usize::from(partition);
    let mut fetched = Fetched::default();
    let mut start = EntryId::at(from).to_string();
    let most = budget.records.max(1);
    let mut portion = Portion::first(most);
    let mut bytes = 0;
    loop {
        let asked = portion.count.min(most - fetched.deliveries.len());
        let mut command = redis::cmd("XRANGE");
        command.arg(&shared.keys[index].stream).arg(&start).arg("+").arg("COUNT").arg(asked);
        let answer = shared.links[index].ask(command).await;
        let answer = answer.map_err(|error| trouble::source_error(&error))?;
        let (page, size, last) = deliveries(&shared, partition, answer)?;
        let count = page.len();
        for delivery in page {
            bytes += match &delivery {
                Delivery::Record(record) => record.envelope.len(),
                Delivery::Blank(_) => 0,
            };
            if bytes > budget.bytes && !fetched.deliveries.is_empty() {
                return Ok(fetched);
            }
            fetched.deliveries.push(delivery);
        }
        if count < asked {
            fetched.at_end = true;
            return Ok(fetched);
        }
        if fetched.deliveries.len() >= most || bytes >= budget.bytes {
            return Ok(fetched);
        }
        if let Some(last) = last {
            start = format!("({last}");
        }
        portion.learn(count, size, most);
        let left = budget.bytes.saturating_sub(bytes);
        let each = (bytes / fetched.deliveries.len().max(1)).max(1);
        portion.count = portion.count.min((left / each).saturating_add(1)).max(1);
    }
}
