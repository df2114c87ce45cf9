//! The one writer of a partition: takes appends in the order of the calls, sends them in bunches, hands out the answers.
//!
//! ```text
//!   append ─┐
//!   append ─┼─▶ queue ─▶ bunch of XADDs, one round trip ─▶ ids ─▶ each caller's position
//!   look   ─┘            while it is on its way, the next bunch gathers
//! ```
//!
//! A bunch is not sent before the one ahead is answered: after a lost connection no append can overtake another. A look
//! at the stream goes through the same queue when it must see exactly the appends that were called before it.
//!
//! An id that no offset tells ([`id`](super::id)) makes the server give more of them as long as its clock stays in that
//! millisecond, which somebody may have chosen far ahead. What was appended so is delivered to nobody: it is appended once
//! more, by a script that steps into the next millisecond, and from then on the server's own ids are good again, for everybody.
//! The first entry is left where it is; to delete it would spoil the note of what was forgotten.

use super::Shared;
use super::entry;
use super::id::EntryId;
use super::link::{ANSWER, Connection};
use super::script::{self, Look};
use super::trouble;
use crate::log::source::SourceError;
use crate::log::{AppendError, Health, NewRecord, fingerprint};
use anabranch_protocol::cursor::{Partition, Position};
use redis::{Cmd, RedisError, RedisResult, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Most records in one bunch.
const BUNCH: usize = 1000;
/// Bytes after which a bunch is full.
const BUNCH_BYTES: usize = 4 << 20;
/// Records that may wait, and their bytes; beyond that they are refused.
const QUEUE: usize = 1 << 16;
const QUEUE_BYTES: usize = 64 << 20;
/// After a failed attempt to connect, appends are refused for so long before the next.
const BREATH: Duration = Duration::from_millis(100);
/// How long replicas may take with option `wait`.
const REPLICAS: Duration = Duration::from_secs(1);

type Confirm = oneshot::Sender<Result<Position, AppendError>>;

enum Item {
    Append(NewRecord, Confirm),
    Look(oneshot::Sender<Result<Look, SourceError>>),
}

/// The way to a partition's writer.
pub(super) struct Writer {
    queue: mpsc::Sender<Item>,
    waiting: Arc<AtomicUsize>,
}

impl Writer {
    /// Starts the writer's task. It ends when this is dropped and what was queued is done.
    pub(super) fn start(shared: Arc<Shared>, partition: Partition) -> Writer {
        let (queue, items) = mpsc::channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let waits = waiting.clone();
        let task =
            Task { shared, partition, connection: None, failed: None, waiting: waits, stepping: false };
        tokio::spawn(task.run(items));
        Writer { queue, waiting }
    }

    /// Queues a record.
    pub(super) fn append(&self, record: NewRecord) -> oneshot::Receiver<Result<Position, AppendError>> {
        let (confirm, confirmed) = oneshot::channel();
        let size = record.envelope.len();
        let waiting = self.waiting.fetch_add(size, Ordering::Relaxed);
        let item = Item::Append(record, confirm);
        let refused = if waiting.saturating_add(size) > QUEUE_BYTES {
            Some(item)
        } else {
            // The task ends only with this queue, so what it does not take is too much.
            self.queue.try_send(item).err().map(TrySendError::into_inner)
        };
        if let Some(Item::Append(_, confirm)) = refused {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            let text = format!("{QUEUE} records or {} MiB wait for Redis already", QUEUE_BYTES >> 20);
            drop(confirm.send(Err(AppendError::Full(text))));
        }
        confirmed
    }

    /// Queues a look at the stream, with its newest entry.
    pub(super) fn look(&self) -> oneshot::Receiver<Result<Look, SourceError>> {
        let (answer, answered) = oneshot::channel();
        if let Err(TrySendError::Full(Item::Look(answer)) | TrySendError::Closed(Item::Look(answer))) =
            self.queue.try_send(Item::Look(answer))
        {
            let text = format!("{QUEUE} records wait for Redis already");
            drop(answer.send(Err(SourceError::Unreachable(text))));
        }
        answered
    }
}

struct Task {
    shared: Arc<Shared>,
    partition: Partition,
    connection: Option<Connection>,
    /// The last attempt to connect, if it failed.
    failed: Option<(Instant, Arc<RedisError>)>,
    waiting: Arc<AtomicUsize>,
    /// The server gave an id that no offset tells: what is sent next steps out of its millisecond.
    stepping: bool,
}

impl Task {
    async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        let mut bunch = Vec::new();
        let mut ahead = None;
        while let Some(first) = match ahead.take() {
            Some(item) => Some(item),
            None => items.recv().await,
        } {
            let mut bytes = first.size();
            bunch.push(first);
            while bunch.len() < BUNCH && bytes < BUNCH_BYTES {
                let Ok(item) = items.try_recv() else { break };
                bytes += item.size();
                if bytes > BUNCH_BYTES {
                    ahead = Some(item);
                    break;
                }
                bunch.push(item);
            }
            let bytes: usize = bunch.iter().map(Item::size).sum();
            let again = self.send(std::mem::take(&mut bunch)).await;
            if !again.is_empty() {
                for item in self.send(again).await {
                    item.refuse(&dropped());
                }
            }
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Sends a bunch. Gives back what is to be sent again: looks that met a broken connection, or appends whose entries no
    /// offset tells, and the looks behind them.
    async fn send(&mut self, bunch: Vec<Item>) -> Vec<Item> {
        match self.connect().await {
            Err(error) => {
                for item in bunch {
                    item.refuse(&error);
                }
                Vec::new()
            }
            Ok(mut connection) => {
                let bunch = self.refuse_while_beyond(&mut connection, bunch).await;
                if bunch.is_empty() {
                    return Vec::new();
                }
                let step = std::mem::take(&mut self.stepping);
                let answers = exchange(&self.shared, self.partition, connection, &bunch, step).await;
                self.hand_out(bunch, answers)
            }
        }
    }

    /// While the stream gives ids that no offset tells, nothing is appended: it would be stored where nobody can read it.
    /// Gives back what else is in the bunch.
    async fn refuse_while_beyond(&self, connection: &mut Connection, bunch: Vec<Item>) -> Vec<Item> {
        if self.shared.beyond.known(self.partition).is_none() {
            return bunch;
        }
        let look = script::look(&self.shared.keys[usize::from(self.partition)], false, None);
        let beyond = match connection.ask(look).await {
            Ok(answer) => Look::read(answer).and_then(|look| look.beyond()),
            Err(_) => return bunch, // The exchange meets the same error, and tells it.
        };
        let Some(id) = beyond else {
            self.shared.beyond.clear(self.partition);
            return bunch;
        };
        let why = self.shared.beyond(self.partition, id);
        self.shared.writing(self.partition, Health::Blocked(why.clone()));
        let mut others = Vec::new();
        for item in bunch {
            match item {
                Item::Append(_, confirm) => drop(confirm.send(Err(AppendError::Blocked(why.clone())))),
                look => others.push(look),
            }
        }
        others
    }

    async fn connect(&mut self) -> Result<Connection, Arc<RedisError>> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        if let Some((at, error)) = &self.failed
            && at.elapsed() < BREATH
        {
            return Err(error.clone());
        }
        match self.shared.router.connect(self.partition, ANSWER).await {
            Ok(connection) => {
                self.failed = None;
                Ok(self.connection.insert(connection).clone())
            }
            Err(error) => {
                let error = Arc::new(error);
                self.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn hand_out(&mut self, bunch: Vec<Item>, answers: RedisResult<Vec<RedisResult<Value>>>) -> Vec<Item> {
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                self.give_up(&error);
                let dropped = error.is_connection_dropped();
                return bunch.into_iter().filter_map(|item| item.fail(&error, dropped)).collect();
            }
        };
        let replicas = self.replicas_behind(&answers, bunch.len());
        let told = bunch.iter().zip(&answers).rposition(|(item, answer)| item.is_append() && is_told(answer));
        let (mut health, mut again) = (None, Vec::new());
        let mut answers = answers.into_iter();
        for (index, item) in bunch.into_iter().enumerate() {
            let answer = answers.next().unwrap_or(Ok(Value::Nil));
            let last = told.is_none_or(|told| told < index);
            match item {
                item @ Item::Append(..) if last && is_untold(&answer) => {
                    self.stepping = true;
                    again.push(item);
                }
                item @ Item::Look(_) if !again.is_empty() => again.push(item),
                Item::Append(record, confirm) => {
                    let result = match answer {
                        Ok(id) => appended(&self.shared, self.partition, &record, id).and_then(|position| {
                            match &replicas {
                                Some(text) => Err(AppendError::Unknown(text.clone())),
                                None => Ok(position),
                            }
                        }),
                        Err(error) => {
                            self.give_up(&error);
                            Err(trouble::append_error(&error))
                        }
                    };
                    match &result {
                        Ok(_) => health = Some(Health::Connected),
                        Err(AppendError::Blocked(why) | AppendError::Full(why)) => {
                            health = Some(Health::Blocked(why.clone()));
                        }
                        Err(_) => {}
                    }
                    drop(confirm.send(result));
                }
                Item::Look(answered) => drop(answered.send(match answer {
                    Ok(answer) => Look::read(answer).ok_or_else(super::strange),
                    Err(error) => {
                        self.give_up(&error);
                        Err(trouble::source_error(&error))
                    }
                })),
            }
        }
        if let Some(health) = health {
            self.shared.writing(self.partition, health);
        }
        again
    }

    /// With option `wait`: what to say if too few replicas have the bunch.
    fn replicas_behind(&self, answers: &[RedisResult<Value>], items: usize) -> Option<String> {
        let wanted = self.shared.options.wait;
        if wanted == 0 {
            return None;
        }
        match answers.get(items) {
            Some(Ok(Value::Int(have))) if *have >= i64::from(wanted) => None,
            Some(Ok(Value::Int(have))) => Some(format!("{have} of {wanted} replicas have it")),
            Some(Err(error)) => Some(trouble::explain(error)),
            _ => Some("Redis did not say how many replicas have it".into()),
        }
    }

    fn give_up(&mut self, error: &RedisError) {
        if trouble::breaks_connection(error) {
            self.connection = None;
            self.shared.router.note(self.partition, error);
        }
    }
}

async fn exchange(
    shared: &Shared,
    partition: Partition,
    mut connection: Connection,
    bunch: &[Item],
    step: bool,
) -> RedisResult<Vec<RedisResult<Value>>> {
    let keys = &shared.keys[usize::from(partition)];
    let mut commands: Vec<Cmd> = Vec::with_capacity(bunch.len() + 1);
    for item in bunch {
        commands.push(match item {
            Item::Append(record, _) if step => script::step(keys, record),
            Item::Append(record, _) => entry::append(&keys.stream, record),
            Item::Look(_) => script::look(keys, true, None),
        });
    }
    if shared.options.wait > 0 && bunch.iter().any(|item| matches!(item, Item::Append(..))) {
        let mut wait = redis::cmd("WAIT");
        wait.arg(shared.options.wait).arg(REPLICAS.as_millis() as u64);
        commands.push(wait);
    }
    connection.send(commands).await
}

fn appended(
    shared: &Shared,
    partition: Partition,
    record: &NewRecord,
    id: Value,
) -> Result<Position, AppendError> {
    let id = read(id).ok_or_else(|| AppendError::Unknown("Redis gave no id".into()))?;
    // Where no offset tells it, it stands where nobody can read it: not stored.
    let offset = id.offset().ok_or_else(|| {
        AppendError::Blocked(match id.is_beyond() {
            // Among what the operator has to delete.
            true => shared.beyond(partition, id),
            // Sent again it would come behind what was appended after it.
            false => format!("no offset can tell the id that the server gave it ({id}); publish it again"),
        })
    })?;
    Ok(Position { partition, offset, fingerprint: Some(fingerprint(&record.envelope)) })
}

fn read(id: Value) -> Option<EntryId> {
    entry::text(id)?.parse().ok()
}

/// Whether an append stands where an offset tells it.
fn is_told(answer: &RedisResult<Value>) -> bool {
    answer.as_ref().is_ok_and(|id| read(id.clone()).is_some_and(|id| id.offset().is_some()))
}

/// Whether an append stands where no offset tells it, though offsets go on behind it.
fn is_untold(answer: &RedisResult<Value>) -> bool {
    let untold = |id: EntryId| id.offset().is_none() && !id.is_beyond();
    answer.as_ref().is_ok_and(|id| read(id.clone()).is_some_and(untold))
}

fn dropped() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Item::Append(record, _) => record.envelope.len(),
            Item::Look(_) => 0,
        }
    }

    fn is_append(&self) -> bool {
        matches!(self, Item::Append(..))
    }

    /// Nothing was sent, or nothing that anybody can read.
    fn refuse(self, error: &RedisError) {
        match self {
            Item::Append(_, confirm) => {
                drop(confirm.send(Err(AppendError::Blocked(trouble::explain(error)))));
            }
            Item::Look(answered) => drop(answered.send(Err(trouble::source_error(error)))),
        }
    }

    /// It was sent, and no answer came. What can be asked again is given back if the connection broke.
    fn fail(self, error: &RedisError, dropped: bool) -> Option<Item> {
        match self {
            Item::Append(_, confirm) => {
                drop(confirm.send(Err(AppendError::Unknown(trouble::explain(error)))));
                None
            }
            look if dropped => Some(look),
            look => {
                look.refuse(error);
                None
            }
        }
    }
}
