//! Records that the broker gave back although a binding takes their key: the stream was deleted, or is being made anew.

use crate::log::AppendError;
use crate::log::rabbitmq::fault::Fault;
use crate::log::rabbitmq::shared::Shared;
use crate::log::rabbitmq::topology;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;

/// Finds out why, once for all that were given back before it asked.
#[derive(Default)]
pub(super) struct Doubts {
    waiting: Vec<u64>,
    asked: Vec<u64>,
    answer: Option<BoxFuture<'static, AppendError>>,
}

impl Doubts {
    /// An append was given back.
    pub(super) fn add(&mut self, sequence: u64) {
        self.waiting.push(sequence);
    }

    /// What some appends are to be told; waits for ever while there are none. Cancel safe.
    pub(super) async fn settle(&mut self, shared: &Arc<Shared>) -> (Vec<u64>, AppendError) {
        if self.answer.is_none() && !self.waiting.is_empty() {
            self.asked = std::mem::take(&mut self.waiting);
            self.answer = Some(find_out(shared.clone()).boxed());
        }
        match &mut self.answer {
            None => std::future::pending().await,
            Some(answer) => {
                let answer = answer.await;
                self.answer = None;
                (std::mem::take(&mut self.asked), answer)
            }
        }
    }
}

/// Makes anew what is missing, if it may.
async fn find_out(shared: Arc<Shared>) -> AppendError {
    match topology::establish(&shared).await {
        Ok(_) if shared.options.declare => {
            AppendError::Blocked("RabbitMQ's stream was gone, or not bound; it is there again".to_owned())
        }
        // Who declares nothing does not know the bindings either.
        Ok(_) => AppendError::Unroutable,
        Err(Fault::Unreachable(why) | Fault::Refused(why) | Fault::Killed(why)) => AppendError::Blocked(why),
        Err(Fault::Gone) => AppendError::Blocked("RabbitMQ's stream was deleted".to_owned()),
    }
}
