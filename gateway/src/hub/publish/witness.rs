//! Whether the log still has what it confirmed.
//!
//! A log only ever forgets from its front, so one record that stands vouches for those before it, if both were read in one
//! history: the newest that was read in the partition is looked for, once for all who ask at the same time. If it is missing,
//! or either is known from a confirm alone, each one is looked for by itself: a replica that takes over confirms at
//! higher offsets than those of the records that it lacks.

use super::{Publisher, Stored};
use crate::log::{Budget, Log, MessageKey, ReadError};
use anabranch_protocol::cursor::{Offset, Partition, Position};
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
    /// It may have been there: retention has dropped what was.
    Forgotten,
    /// The log does not answer; the text says why.
    Unknown(String),
}

/// The last question about each partition.
#[derive(Default)]
pub(super) struct Witness {
    last: Mutex<HashMap<Partition, Question>>,
}

#[derive(Clone)]
pub(super) struct Question {
    /// Whether it was put: whoever comes later needs another.
    put: Arc<AtomicBool>,
    answer: Shared<BoxFuture<'static, Vouched>>,
}

/// Up to which offset the newest record vouches, and for what was read after how many losses; `None` if it is not there.
type Vouched = Result<Option<(Offset, u64)>, String>;

impl Publisher {
    /// Whether the message stands there, by the answer to this question, or by itself without one.
    pub(super) async fn stands(&self, key: MessageKey, stored: Stored, question: Option<Question>) -> Stands {
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
            Ok(_) => look(&*self.log, key, Position { fingerprint: None, ..stored.position }).await,
        }
    }

    /// Whether the newest record that was read in a partition stands where it stood: then all that the log has said of the partition until
    /// this call is of the history that was read. An error says why that cannot be known.
    pub async fn is_of_this_history(self: &Arc<Self>, partition: Partition) -> Result<bool, String> {
        if !self.lock().newest.contains_key(&partition) {
            return Ok(true);
        }
        self.question(partition).answer.await.map(|vouched| vouched.is_some())
    }

    /// A question that is not put yet, so that its answer is younger than this call.
    pub(super) fn question(self: &Arc<Self>, partition: Partition) -> Question {
        let mut last = self.witness.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.get(&partition).cloned();
        if let Some(question) = &before
            && !question.put.load(Ordering::Acquire)
        {
            return question.clone();
        }
        let (this, put) = (Arc::clone(self), Arc::new(AtomicBool::new(false)));
        let putting = Arc::clone(&put);
        let answer = async move {
            if let Some(before) = before {
                // One at a time, so that those who come meanwhile gather behind this one.
                let _ = before.answer.await;
            }
            putting.store(true, Ordering::Release);
            let (newest, losses) = {
                let window = this.lock();
                (window.newest.get(&partition).copied(), window.losses)
            };
            let Some((key, position)) = newest else { return Ok(None) };
            match look(&*this.log, key, position).await {
                Stands::There => Ok(Some((position.offset, losses))),
                Stands::Gone | Stands::Forgotten => Ok(None),
                Stands::Unknown(why) => Err(why),
            }
        };
        let question = Question { put, answer: answer.boxed().shared() };
        last.insert(partition, question.clone());
        question
    }
}

/// Looks whether the message stands there: these very bytes, if the position has their fingerprint.
async fn look(log: &dyn Log, key: MessageKey, position: Position) -> Stands {
    let before = Offset(position.offset.0.saturating_sub(1));
    match log.read(position.partition, before, Budget { records: 1, bytes: 1 }).await {
        Ok(batch) => match batch.records.first() {
            Some(found)
                if found.position.offset == position.offset
                    && found.key == key
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
        Err(ReadError::Corrupt { .. }) => Stands::Gone,
        Err(error @ (ReadError::Unavailable(_) | ReadError::NoPartition(_))) => {
            Stands::Unknown(error.to_string())
        }
    }
}
