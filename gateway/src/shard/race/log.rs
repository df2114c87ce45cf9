//! The simplest log there can be: a list that forgets its beginning and answers at once.

use crate::log::{
    AppendError, Appending, Batch, Bounds, Budget, Capabilities, Log, MessageKey, NewRecord, ReadError,
    Record, Start, TailEvent, ended, fingerprint,
};
use anabranch_protocol::cursor::{LogId, Offset, Partition, Position};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

pub struct ListLog {
    list: Mutex<List>,
    /// Records to a read, at most.
    page: usize,
    /// Whether a tail always has something to say.
    restless: AtomicBool,
}

#[derive(Default)]
struct List {
    /// Everything that ever was: the model remembers what the log forgets.
    records: Vec<Record>,
    forgotten: usize,
}

impl ListLog {
    pub fn new(page: usize) -> Arc<ListLog> {
        Arc::new(ListLog { list: Mutex::default(), page, restless: AtomicBool::new(false) })
    }

    /// From now on a tail never has nothing to say.
    pub fn never_rest(&self) {
        self.restless.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn log_id(&self) -> LogId {
        LogId(7)
    }

    pub fn push(&self, topic: &str, payload: &str, hole: u64) {
        let mut list = self.lock();
        let offset = list.records.last().map_or(1, |r| r.position.offset.0 + 1) + hole;
        let envelope = format!(r#"{{"metadata":{{"topic":"{topic}"}},"payload":{payload}}}"#);
        let position = Position {
            partition: 0,
            offset: Offset(offset),
            fingerprint: Some(fingerprint(envelope.as_bytes())),
        };
        let key = MessageKey::new(topic, &offset.to_string());
        list.records.push(Record { position, time: 0, topic: topic.into(), key, envelope: envelope.into() });
    }

    /// Forgets so many more records, but none at or after `keep`.
    pub fn trim(&self, count: usize, keep: usize) {
        let mut list = self.lock();
        list.forgotten = (list.forgotten + count).min(keep).max(list.forgotten);
    }

    /// Records that ever were, forgotten or not.
    pub fn all(&self, from: usize, count: usize) -> Vec<Record> {
        self.lock().records.iter().skip(from).take(count).cloned().collect()
    }

    /// The so-manieth record from the end.
    pub fn back(&self, count: usize) -> Option<Position> {
        let list = self.lock();
        list.records.len().checked_sub(count + 1).map(|at| list.records[at].position)
    }
}

impl List {
    fn oldest(&self) -> Offset {
        let last = self.forgotten.checked_sub(1).map_or(0, |at| self.records[at].position.offset.0);
        Offset(last + 1)
    }

    fn last(&self) -> Offset {
        self.records.last().map_or(Offset(0), |r| r.position.offset)
    }
}

impl Log for ListLog {
    fn id(&self) -> LogId {
        self.log_id()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            description: "list".into(),
            partitions: 1,
            dense: true,
            max_record: usize::MAX,
            survives_restart: false,
            survives_power_loss: false,
        }
    }

    fn append(&self, _: NewRecord) -> Appending {
        ended(Err(AppendError::Closed))
    }

    fn tail(&self, _: Partition, _: Start) -> BoxStream<'static, TailEvent> {
        if self.restless.load(Ordering::Relaxed) {
            return stream::iter((1..).map(|offset| TailEvent::Progress(Offset(offset)))).boxed();
        }
        stream::pending().boxed()
    }

    fn read(
        &self,
        _: Partition,
        after: Offset,
        budget: Budget,
    ) -> BoxFuture<'static, Result<Batch, ReadError>> {
        let list = self.lock();
        let oldest = list.oldest();
        if after.0 + 1 < oldest.0 {
            return ready(Err(ReadError::Forgotten { oldest })).boxed();
        }
        let begin = list.records.partition_point(|r| r.position.offset <= after);
        let records: Vec<Record> =
            list.records[begin..].iter().take(budget.records.min(self.page)).cloned().collect();
        let at_end = begin + records.len() == list.records.len();
        let covered_to =
            if at_end { list.last() } else { records.last().map_or(after, |r| r.position.offset) };
        ready(Ok(Batch { records, covered_to, at_end })).boxed()
    }

    fn bounds(&self, _: Partition) -> BoxFuture<'static, Result<Bounds, ReadError>> {
        let list = self.lock();
        let newest = list.records[list.forgotten..].last().map(|r| r.position);
        ready(Ok(Bounds { oldest: list.oldest(), newest, last: list.last() })).boxed()
    }

    fn locate(&self, _: Partition, _: u64) -> BoxFuture<'static, Result<Offset, ReadError>> {
        ready(Ok(Offset(self.lock().oldest().0 - 1))).boxed()
    }
}
