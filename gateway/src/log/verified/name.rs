//! By which name the broker calls the history: asked once for all tails.
//!
//! A tail finds most ends by itself, but not each: a partition that was empty, or is trimmed beyond what was seen, looks the
//! same in the next history. The node that does find the end gives the history another name, and that is what the others
//! find here.

use super::{Shared, within};
use crate::log::ResetReason;
use crate::log::source::{Source, SourceError};
use anabranch_protocol::cursor::LogId;
use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How often the name is asked for while tails are connected, by one question for all of them.
///
/// It bounds how long a node can vouch for a history that another node knows to have ended. Shorter buys little, since the
/// other node took up to two seconds to find out; and a broker does not feel one short question in ten seconds.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// So many questions in a row without an answer, and a tail takes its connection for lost. One alone may be a broker that
/// is busy, while deliveries go on.
pub(super) const UNANSWERED: u32 = 3;

/// How many names that have ended are remembered, the newest. A failover brings back one that a replica still had: it lags by
/// seconds, in which nothing ends so often.
const ENDED: usize = 64;

/// So often a name is asked for in place of one that has ended. Whoever answers with ended ones alone gives none.
const ATTEMPTS: usize = 3;

/// Whoever waits for the answer brings it on, so a tail that is not polled holds up no other.
type Answer = future::Shared<BoxFuture<'static, Result<Option<LogId>, SourceError>>>;

/// The last question, and the names that this node has seen end.
#[derive(Default)]
pub(super) struct Name {
    last: Mutex<Option<Question>>,
    ended: Mutex<VecDeque<LogId>>,
}

#[derive(Clone)]
struct Question {
    began: Instant,
    /// The name under which this node went when it was asked.
    under: LogId,
    answer: Answer,
}

impl Name {
    fn lock(&self) -> MutexGuard<'_, Option<Question>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the history of this name has ended.
    pub(super) fn end(&self, void: LogId) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() == ENDED {
            ended.pop_front();
        }
        ended.push_back(void);
    }

    fn has_ended(&self, name: LogId) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains(&name)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Name").finish_non_exhaustive()
    }
}

/// Why it is not known that the name is still this one.
pub(super) enum Doubt {
    /// The broker did not say.
    Untold(SourceError),
    /// It said another, which cannot be followed.
    Void(SourceError),
}

impl From<Doubt> for SourceError {
    fn from(doubt: Doubt) -> SourceError {
        match doubt {
            Doubt::Untold(error) => {
                SourceError::Unreachable(format!("the name of the history cannot be found out: {error}"))
            }
            Doubt::Void(error) => error,
        }
    }
}

impl<S: Source> Shared<S> {
    /// Finds out whether the broker still calls the history as this node does, by a question that began at `since` or later;
    /// another name resets the log.
    pub(super) async fn agree(&self, since: Instant) -> Result<(), Doubt> {
        let Question { under, answer, .. } = self.question(since);
        let named = answer.await.map_err(Doubt::Untold)?;
        let history = self.history();
        if history.id != under {
            return Ok(()); // Reset meanwhile; what was asked before says nothing of the new history.
        }
        match named {
            Some(name) if name == under => Ok(()),
            // A failover has lost the new name, or a replica has not got it yet. What has ended does not come back: under its
            // old name, cursors of two histories would look alike.
            Some(name) if self.name.has_ended(name) => {
                let id = self.fresh(name, ResetReason::Renamed).await.map_err(Doubt::Void)?;
                self.follow(under, id, ResetReason::Renamed).await;
                Ok(())
            }
            Some(_) => self.reset(under, ResetReason::Renamed).await.map_err(Doubt::Void),
            None => self.reset(under, ResetReason::Recreated).await.map_err(Doubt::Void),
        }
    }

    /// The broker's name for the history after `void`, one that this node has not seen end.
    pub(super) async fn fresh(&self, mut void: LogId, why: ResetReason) -> Result<LogId, SourceError> {
        for _ in 0..ATTEMPTS {
            let id = within(self.source.rename(void, why)).await?;
            if !self.name.has_ended(id) {
                return Ok(id);
            }
            void = id;
        }
        Err(SourceError::Unreachable("the broker calls the history by names that have ended".into()))
    }

    /// Waits until the name is to be asked for again, and does so; of many tails that wait, one asks.
    pub(super) async fn agree_in_time(self: Arc<Self>) -> Result<(), Doubt> {
        let last = self.name.lock().as_ref().map_or_else(Instant::now, |question| question.began);
        sleep_until(last + EVERY).await;
        self.agree(last + Duration::from_nanos(1)).await
    }

    fn question(&self, since: Instant) -> Question {
        let mut last = self.name.lock();
        match &*last {
            Some(question) if question.began >= since => question.clone(),
            _ => {
                let answer = within(self.source.current()).boxed().shared();
                let question = Question { began: Instant::now(), under: self.history().id, answer };
                last.insert(question).clone()
            }
        }
    }
}
