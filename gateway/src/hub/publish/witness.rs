//! Whether the log still has what it confirmed.
//!
//! A log only ever forgets from its front, so one record that stands vouches for those before it, if both were read in one
//! history: the newest that was read in the partition is looked for, once for all who ask at the same time. If it is missing,
//! or either is known from a confirm alone, each one is looked for by itself: a replica that takes over confirms at
//! higher offsets than those of the records that it lacks.
//!
//! And whether what the log says is of the history that was read: by what was seen last in the partition, whatever it is.

use super::{Publisher, Stored};
use crate::log::{Budget, Log, MessageKey, ReadError};
use anabranch_protocol::cursor::{LogId, Offset, Partition, Position};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Whether a record stands where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    There,
    /// Something else stands there, or nothing.
    Gone,
    /// It kills whoever reads it, or is damaged.
    Unreadable,
    /// It may have been there: retention has dropped what was.
    Forgotten,
    /// The log does not answer; the text says why.
    Unknown(String),
}

/// The last questions about each partition.
#[derive(Default)]
pub(super) struct Witness {
    vouching: Last<Vouched>,
    history: Last<Result<bool, String>>,
}

type Last<T> = Mutex<HashMap<Partition, Question<T>>>;

#[derive(Clone)]
pub(super) struct Question<T> {
    /// Whether it was put: whoever comes later needs another.
    put: Arc<AtomicBool>,
    answer: Shared<BoxFuture<'static, T>>,
}

/// A question that is not put yet, so that its answer is younger than this call.
fn ask<T, F>(last: &Last<T>, partition: Partition, put: impl FnOnce() -> F + Send + 'static) -> Question<T>
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = T> + Send,
{
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let before = last.get(&partition).cloned();
    if let Some(question) = &before
        && !question.put.load(Ordering::Acquire)
    {
        return question.clone();
    }
    let is_put = Arc::new(AtomicBool::new(false));
    let putting = Arc::clone(&is_put);
    let answer = async move {
        if let Some(before) = before {
            // One at a time, so that those who come meanwhile gather behind this one.
            before.answer.await;
        }
        putting.store(true, Ordering::Release);
        put().await
    };
    let question = Question { put: is_put, answer: answer.boxed().shared() };
    last.insert(partition, question.clone());
    question
}

/// Up to which offset the newest record vouches, and for what was read after how many losses; `None` if it is not there.
pub(super) type Vouched = Result<Option<(Offset, u64)>, String>;

impl Publisher {
    /// Whether the message stands there, by the answer to this question, or by itself without one.
    pub(super) async fn stands(
        &self,
        key: MessageKey,
        stored: Stored,
        question: Option<Question<Vouched>>,
    ) -> Stands {
        let vouched = match question {
            Some(question) => question.answer.await,
            None => Ok(None),
        };
        match vouched {
            Err(why) => Stands::Unknown(why),
            // Behind what retention dropped, perhaps: but it was there, and nobody has taken it back.
            Ok(Some((up_to, losses))) if stored.position.offset <= up_to && stored.read == Some(losses) => {
                Stands::There
            }
            Ok(_) => look(&*self.log, Some(key), Position { fingerprint: None, ..stored.position }).await,
        }
    }

    /// Whether all that the log has said of a partition until this call is of the history with this name, as far as it was read: whether
    /// what was seen last stands where it stood. An error says why that cannot be known.
    pub async fn is_of(self: &Arc<Self>, log: LogId, partition: Partition) -> Result<bool, String> {
        let this = Arc::clone(self);
        let question = ask(&self.witness.history, partition, move || async move {
            let Some(seen) = this.lock().seen.get(&partition).copied() else { return Ok(true) };
            match look(&*this.log, None, seen).await {
                // A tail goes on behind such a record, too.
                Stands::There | Stands::Unreadable => Ok(true),
                Stands::Gone | Stands::Forgotten => Ok(false),
                Stands::Unknown(why) => Err(why),
            }
        });
        Ok(question.answer.await? && self.reads(log))
    }

    /// Whether what is known is of the history with this name.
    pub fn reads(&self, log: LogId) -> bool {
        self.lock().log == log
    }

    /// Which of a partition's messages are vouched for.
    pub(super) fn question(self: &Arc<Self>, partition: Partition) -> Question<Vouched> {
        let this = Arc::clone(self);
        ask(&self.witness.vouching, partition, move || async move {
            let (newest, losses) = {
                let window = this.lock();
                (window.newest.get(&partition).copied(), window.losses)
            };
            let Some((key, position)) = newest else { return Ok(None) };
            match look(&*this.log, Some(key), position).await {
                Stands::There => Ok(Some((position.offset, losses))),
                Stands::Gone | Stands::Forgotten | Stands::Unreadable => Ok(None),
                Stands::Unknown(why) => Err(why),
            }
        })
    }
}

/// Looks whether the message stands there, or any without a key: these very bytes, if the position has their fingerprint.
async fn look(log: &dyn Log, key: Option<MessageKey>, position: Position) -> Stands {
    let before = Offset(position.offset.0.saturating_sub(1));
    match log.read(position.partition, before, Budget { records: 1, bytes: 1 }).await {
        Ok(batch) => match batch.records.first() {
            Some(found)
                if found.position.offset == position.offset
                    && key.is_none_or(|key| found.key == key)
                    && (position.fingerprint.is_none()
                        || found.position.fingerprint == position.fingerprint) =>
            {
                Stands::There
            }
            // Something follows that is not delivered yet.
            None if !batch.at_end && batch.covered_to < position.offset => {
                Stands::Unknown("the log does not show yet whether it has the record".into())
            }
            _ => Stands::Gone,
        },
        Err(ReadError::Forgotten { .. }) => Stands::Forgotten,
        Err(ReadError::Corrupt { .. }) => Stands::Unreadable,
        Err(error @ (ReadError::Unavailable(_) | ReadError::NoPartition(_))) => {
            Stands::Unknown(error.to_string())
        }
    }
}
