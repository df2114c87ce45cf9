//! Where a stream begins and ends. AMQP has no question for that: a consumer is attached at either end for a moment.
//!
//! Askers who wait while a probe runs share the next one, so the broker's work does not grow with their number, and
//! each answer is newer than its question.

use super::blank;
use super::fault::Fault;
use super::reading::{Purpose, Reading, ours, theirs};
use super::shared::Shared;
use super::stream::{self, Place, attach};
use crate::log::source::{Delivery, SourceError};
use anabranch_protocol::cursor::{Offset, Partition, Position};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A stream that is not empty answers in a few milliseconds. After this it is given a blank record, so that silence
/// always means trouble and never emptiness.
const SILENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(3);
/// Askers that wait for one answer.
const ASKERS: usize = 4_096;

/// The newest entry of a stream.
#[derive(Clone, Debug)]
pub(super) struct Newest {
    /// Its offset, whatever it is.
    pub(super) offset: Offset,
    /// As [`Source::latest`](crate::log::source::Source::latest) says.
    pub(super) position: Option<Position>,
}

type Answer<T> = oneshot::Sender<Result<T, SourceError>>;

/// Asks about one partition, until it is dropped.
#[derive(Debug)]
pub(super) struct Probes {
    first: mpsc::Sender<Answer<Offset>>,
    newest: mpsc::Sender<(Answer<Newest>, Option<oneshot::Sender<()>>)>,
}

impl Probes {
    pub(super) fn start(shared: &Arc<Shared>, partition: Partition) -> Probes {
        let (first, mut firsts) = mpsc::channel::<Answer<Offset>>(ASKERS);
        let (newest, mut newests) = mpsc::channel::<(Answer<Newest>, Option<oneshot::Sender<()>>)>(ASKERS);
        let for_first = shared.clone();
        tokio::spawn(async move {
            while let Some(asker) = firsts.recv().await {
                let mut askers = vec![asker];
                while let Ok(asker) = firsts.try_recv() {
                    askers.push(asker);
                }
                let answer = earliest(&for_first, partition).await;
                askers.into_iter().for_each(|asker| drop(asker.send(answer.clone())));
            }
        });
        let for_newest = shared.clone();
        tokio::spawn(async move {
            while let Some(asker) = newests.recv().await {
                let mut askers = vec![asker];
                while let Ok(asker) = newests.try_recv() {
                    askers.push(asker);
                }
                let answer = latest(&for_newest, partition).await;
                askers.into_iter().for_each(|(asker, _held)| drop(asker.send(answer.clone())));
            }
        });
        Probes { first, newest }
    }

    /// As [`Source::earliest`](crate::log::source::Source::earliest).
    pub(super) fn earliest(&self) -> BoxFuture<'static, Result<Offset, SourceError>> {
        let (answer, waiting) = oneshot::channel();
        // Whatever is not taken is dropped, and so answered.
        drop(self.first.try_send(answer));
        Box::pin(async move { waiting.await.unwrap_or_else(|_| Err(unanswered())) })
    }

    /// The newest entry at the time of this call, or a newer one. `held` is dropped once that is known.
    pub(super) fn newest(
        &self,
        held: Option<oneshot::Sender<()>>,
    ) -> BoxFuture<'static, Result<Newest, SourceError>> {
        let (answer, waiting) = oneshot::channel();
        drop(self.newest.try_send((answer, held)));
        Box::pin(async move { waiting.await.unwrap_or_else(|_| Err(unanswered())) })
    }
}

fn unanswered() -> SourceError {
    SourceError::Unreachable("too many ask RabbitMQ at once, or the log is closed".to_owned())
}

/// The place of the first entry that can be read.
async fn earliest(shared: &Arc<Shared>, partition: Partition) -> Result<Offset, SourceError> {
    let sight = shared.sight(partition);
    // Looked at again, since retention may have passed it: then the broker begins behind it.
    if let Some(known) = sight.behind_poison()
        && let Ok(Some(first)) = first(shared, partition, Place::At(theirs(known)), SILENCE).await
    {
        return Ok(first);
    }
    for patience in [SILENCE, PATIENCE] {
        match first(shared, partition, Place::First, patience).await {
            Ok(Some(first)) => return Ok(sight.earliest(first)),
            Ok(None) => blank::append(shared, partition).await?,
            Err(Fault::Killed(_)) => return behind_poison(shared, partition).await,
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(silent(shared, partition))
}

/// The first entries cannot be read: the first that can, found by halving. Every record before it is as good as
/// forgotten, until retention really forgets it. That takes some thirty connections, so the place is kept for a while.
async fn behind_poison(shared: &Arc<Shared>, partition: Partition) -> Result<Offset, SourceError> {
    let mut readable = latest(shared, partition).await?.offset;
    let mut killed = Offset(0);
    while readable.0 - killed.0 > 1 {
        let middle = Offset(killed.0 + (readable.0 - killed.0) / 2);
        match first(shared, partition, Place::At(theirs(middle)), SILENCE).await {
            Ok(_) => readable = middle,
            Err(Fault::Killed(_)) => killed = middle,
            Err(fault) => return Err(fault.into()),
        }
    }
    shared.sight(partition).found_behind_poison(readable);
    Ok(readable)
}

async fn first(
    shared: &Shared,
    partition: Partition,
    place: Place,
    patience: Duration,
) -> Result<Option<Offset>, Fault> {
    let lane = shared.questions.take().await?;
    let mut attached = attach(lane.connection(), shared.stream(partition), place, 1).await?;
    let Some(first) = attached.next(patience).await? else { return Ok(None) };
    let first = ours(stream::offset(&first)?);
    drop(attached);
    lane.give_back();
    Ok(Some(first))
}

async fn latest(shared: &Arc<Shared>, partition: Partition) -> Result<Newest, SourceError> {
    for patience in [SILENCE, PATIENCE] {
        let lane = shared.questions.take().await?;
        match stream::newest(lane.connection(), shared.stream(partition), patience).await {
            // It cannot be read; but there is an end behind it as soon as something else is the end.
            Err(Fault::Killed(_)) => drop(lane),
            Err(fault) => return Err(fault.into()),
            Ok(None) => drop(lane),
            Ok(Some(newest)) => {
                lane.give_back();
                return Ok(judge(shared, partition, newest)?);
            }
        }
        blank::append(shared, partition).await?;
    }
    Err(silent(shared, partition))
}

/// What the newest entry is. A quarantined record has a place too, only without a fingerprint.
fn judge(
    shared: &Arc<Shared>,
    partition: Partition,
    newest: lapin::message::Delivery,
) -> Result<Newest, Fault> {
    let offset = ours(stream::offset(&newest)?);
    let position = match Reading::new(shared.clone(), partition, Purpose::Probe).take(newest)?.last() {
        None => None,
        Some(Delivery::Record(record)) => Some(record.position),
        Some(Delivery::Blank(offset)) => Some(Position { partition, offset, fingerprint: None }),
    };
    Ok(Newest { offset, position })
}

fn silent(shared: &Shared, partition: Partition) -> SourceError {
    SourceError::Unreachable(format!("the stream {} delivers nothing", shared.stream(partition)))
}
