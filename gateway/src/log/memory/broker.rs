//! The broker in miniature: it stores, forgets silently, and lies when told to.

use super::{Options, consumer};
use crate::log::source::{Consumption, Delivery, Fetched, Pace, Source, SourceError};
use crate::log::{
    AppendError, Appending, Budget, Capabilities, Health, NewRecord, Record, ResetReason, ended, fingerprint,
    now,
};
use anabranch_protocol::cursor::{LogId, Offset, Partition, Position};
use futures_util::future::{BoxFuture, Either, FutureExt, ready};
use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, oneshot};

/// A broker that keeps everything in memory.
#[derive(Clone, Debug)]
pub(super) struct Broker {
    options: Options,
    state: Arc<Mutex<State>>,
    /// Tells whoever waits of each change. Not a `watch`: that keeps eight lists of waiters, and looking through them was 2 % of a
    /// busy gateway's CPU.
    changes: Arc<Notify>,
}

/// What the broker knows, and how it misbehaves.
#[derive(Debug)]
pub(super) struct State {
    pub partitions: Vec<Shelf>,
    pub publishing: Publishing,
    /// So many of the next appends are stored, and reported as unknown.
    pub lose_confirms: usize,
    /// Appends that hang, to be done when publishing works again.
    pub hanging: Vec<(NewRecord, oneshot::Sender<Result<Position, AppendError>>)>,
    /// Consumers get nothing, whatever is there.
    pub stalled: bool,
    /// Nothing answers.
    pub unreachable: bool,
    /// Raised to end every consumer, as a lost connection or (`gone`) a deleted stream does.
    pub connection: u64,
    pub gone: bool,
    pub health: Health,
    /// By which the broker calls the history; `None` only in a lie.
    pub name: Option<LogId>,
    pub name_withheld: bool,
    /// How often anybody has read.
    pub fetches: u64,
    /// How often it was asked for the name.
    pub asked: u64,
}

/// What happens to appends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(test, feature = "testing")),
    expect(dead_code, reason = "only tests make a memory log refuse")
)]
pub enum Publishing {
    Works,
    /// Refused at once, with this reason, as RabbitMQ's memory alarm looks to a careful client. Tails are told
    /// [`Health::Blocked`].
    Refuses(String),
    /// Not answered until it works again, as the alarm looks to a careless client.
    Hangs,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Shelf {
    pub records: VecDeque<Stored>,
    pub next: Offset,
    pub bytes: usize,
    /// To be delivered once more, by every consumer that has passed them.
    pub again: Vec<Record>,
}

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub record: Record,
    pub poisoned: bool,
}

impl Broker {
    pub(super) fn new(options: Options) -> Broker {
        let shelf = || Shelf { records: VecDeque::new(), next: Offset(1), bytes: 0, again: Vec::new() };
        let state = State {
            partitions: (0..options.partitions.max(1)).map(|_| shelf()).collect(),
            publishing: Publishing::Works,
            lose_confirms: 0,
            hanging: Vec::new(),
            stalled: false,
            unreachable: false,
            connection: 0,
            gone: false,
            health: Health::Connected,
            name: Some(random_id()),
            name_withheld: false,
            fetches: 0,
            asked: 0,
        };
        Broker { options, state: Arc::new(Mutex::new(state)), changes: Arc::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics half-way through a change, so a poisoned lock guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the history.
    pub(super) fn name(&self) -> LogId {
        *self.lock().name.get_or_insert_with(random_id)
    }

    /// Changes the state and wakes whoever waits.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changes.notify_waiters();
        result
    }

    /// To be asked for before looking at the state: a change after this call ends the wait, whenever that begins.
    pub(super) fn changed(&self) -> OwnedNotified {
        Arc::clone(&self.changes).notified_owned()
    }

    /// Stores a record; in a lie, as if it had been published.
    pub(super) fn store(&self, state: &mut State, record: NewRecord) -> Position {
        let partition = self.place(record.topic.as_str());
        let shelf = &mut state.partitions[usize::from(partition)];
        let position =
            Position { partition, offset: shelf.next, fingerprint: Some(fingerprint(&record.envelope)) };
        shelf.push(Record {
            position,
            time: now(),
            topic: record.topic.into(),
            key: record.key,
            envelope: record.envelope,
        });
        shelf.trim(&self.options);
        position
    }

    fn place(&self, topic: &str) -> Partition {
        if self.options.partitions <= 1 {
            return 0;
        }
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(topic);
        (hash % u64::from(self.options.partitions)) as Partition
    }

    fn ask<T: Send + 'static>(
        &self,
        partition: Partition,
        answer: impl FnOnce(&Shelf) -> T,
    ) -> BoxFuture<'static, Result<T, SourceError>> {
        let state = self.lock();
        let result = if state.unreachable {
            Err(SourceError::Unreachable("connection refused".into()))
        } else {
            let shelf = state.partitions.get(usize::from(partition));
            shelf.map(answer).ok_or(SourceError::NoPartition(partition))
        };
        ready(result).boxed()
    }
}

impl Shelf {
    fn push(&mut self, record: Record) {
        self.next = Offset(record.position.offset.0 + 1);
        self.bytes += record.envelope.len();
        self.records.push_back(Stored { record, poisoned: false });
    }

    fn trim(&mut self, options: &Options) {
        while self.records.len() > options.records.max(1)
            || (self.bytes > options.bytes && self.records.len() > 1)
        {
            self.forget_oldest();
        }
    }

    pub(super) fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.records.pop_front() else { return false };
        self.bytes -= oldest.record.envelope.len();
        true
    }

    fn earliest(&self) -> Offset {
        self.records.front().map_or(self.next, |oldest| oldest.record.position.offset)
    }

    fn latest(&self) -> Option<Position> {
        self.records.back().map(|newest| newest.record.position)
    }

    pub(super) fn index_of(&self, offset: Offset) -> usize {
        let is_before = |stored: &Stored| stored.record.position.offset < offset;
        // Where it stands if there are no holes: whoever follows asks for the end, and a search by halves would look at a dozen
        // records that no cache holds.
        let guess = self.records.len().saturating_sub(self.next.0.saturating_sub(offset.0) as usize);
        let is_right = self.records.get(guess).is_none_or(|stored| !is_before(stored))
            && guess.checked_sub(1).is_none_or(|before| is_before(&self.records[before]));
        if is_right { guess } else { self.records.partition_point(is_before) }
    }

    /// What a consumer at `from` gets next.
    pub(super) fn take(&self, from: Offset, budget: Budget) -> Fetched {
        let mut fetched = Fetched::default();
        let mut bytes = 0;
        for stored in self.records.range(self.index_of(from)..) {
            bytes += stored.record.envelope.len();
            let first = fetched.deliveries.is_empty();
            if !first && (bytes > budget.bytes || fetched.deliveries.len() >= budget.records) {
                return fetched;
            }
            if stored.poisoned {
                fetched.killed = true;
                return fetched;
            }
            fetched.deliveries.push(Delivery::Record(stored.record.clone()));
        }
        fetched.at_end = true;
        fetched
    }
}

/// A name that no other history has.
fn random_id() -> LogId {
    LogId(crate::outside::random().expect("the operating system gives random numbers"))
}

impl Source for Broker {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            description: "memory".into(),
            partitions: self.options.partitions.max(1),
            dense: true,
            max_record: self.options.max_record,
            survives_restart: false,
            survives_power_loss: false,
        }
    }

    /// It takes complete envelopes only.
    fn quarantined(&self) -> u64 {
        0
    }

    fn rename(&self, void: LogId, _why: ResetReason) -> BoxFuture<'static, Result<LogId, SourceError>> {
        let mut state = self.lock();
        let name = state.name.filter(|name| *name != void).unwrap_or_else(random_id);
        state.name = Some(name);
        ready(Ok(name)).boxed()
    }

    fn current(&self) -> BoxFuture<'static, Result<Option<LogId>, SourceError>> {
        let mut state = self.lock();
        state.asked += 1;
        let answer = if state.unreachable || state.name_withheld {
            Err(SourceError::Unreachable("connection refused".into()))
        } else {
            Ok(state.name)
        };
        ready(answer).boxed()
    }

    fn append(&self, record: NewRecord) -> Appending {
        enum Outcome {
            Now(Result<Position, AppendError>),
            Later(oneshot::Receiver<Result<Position, AppendError>>),
        }
        let outcome = self.change(|state| {
            if state.unreachable {
                return Outcome::Now(Err(AppendError::Blocked("connection refused".into())));
            }
            match state.publishing.clone() {
                Publishing::Refuses(why) => Outcome::Now(Err(AppendError::Blocked(why))),
                Publishing::Hangs => {
                    let (confirm, confirmed) = oneshot::channel();
                    state.hanging.push((record, confirm));
                    Outcome::Later(confirmed)
                }
                Publishing::Works => {
                    let position = self.store(state, record);
                    if state.lose_confirms > 0 {
                        state.lose_confirms -= 1;
                        let why = "the connection was lost before the confirm".into();
                        return Outcome::Now(Err(AppendError::Unknown(why)));
                    }
                    Outcome::Now(Ok(position))
                }
            }
        });
        match outcome {
            Outcome::Now(result) => ended(result),
            Outcome::Later(confirmed) => {
                let lost = |_| Err(AppendError::Unknown("the connection was lost".into()));
                Either::Right(async move { confirmed.await.unwrap_or_else(lost) }.boxed())
            }
        }
    }

    fn consume(
        &self,
        partition: Partition,
        from: Offset,
        pace: Pace,
    ) -> BoxFuture<'static, Result<Consumption, SourceError>> {
        let state = self.lock();
        let result = if state.unreachable {
            Err(SourceError::Unreachable("connection refused".into()))
        } else if usize::from(partition) >= state.partitions.len() {
            Err(SourceError::NoPartition(partition))
        } else {
            Ok(consumer::start(self.clone(), &state, partition, from, pace))
        };
        ready(result).boxed()
    }

    fn fetch(
        &self,
        partition: Partition,
        from: Offset,
        budget: Budget,
        pace: Pace,
    ) -> BoxFuture<'static, Result<Fetched, SourceError>> {
        self.lock().fetches += 1;
        self.ask(partition, move |shelf| shelf.take(from, budget).at_pace(pace))
    }

    fn earliest(&self, partition: Partition) -> BoxFuture<'static, Result<Offset, SourceError>> {
        self.ask(partition, Shelf::earliest)
    }

    fn latest(&self, partition: Partition) -> BoxFuture<'static, Result<Option<Position>, SourceError>> {
        self.ask(partition, Shelf::latest)
    }

    fn locate(&self, partition: Partition, since: u64) -> BoxFuture<'static, Result<Offset, SourceError>> {
        self.ask(partition, move |shelf| {
            let first = shelf.records.iter().find(|stored| stored.record.time >= since);
            let first = first.map_or(shelf.next, |stored| stored.record.position.offset);
            Offset(first.0 - 1)
        })
    }
}
