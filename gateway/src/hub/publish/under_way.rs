//! An append under way, seen from the publisher that began it.

use super::{Appended, Begun, Publisher};
use crate::log::{AppendError, DEADLINE};
use anabranch_protocol::cursor::Position;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep};

/// One that hangs up leaves the append to the runtime, because the window must hear of its end all the same. Handing every
/// append over cost 0.3 µs of each message.
pub(super) struct UnderWay(Option<Running>);

/// The append itself, until the window has heard of its end.
struct Running {
    publisher: Arc<Publisher>,
    begun: Begun,
    append: BoxFuture<'static, Result<Position, AppendError>>,
    /// Set once the first look finds no confirm: after a batch many have one, and a timer for each would cost as much as they do.
    deadline: Option<Pin<Box<Sleep>>>,
    has_ended: bool,
}

impl UnderWay {
    pub fn new(
        publisher: Arc<Publisher>,
        begun: Begun,
        append: BoxFuture<'static, Result<Position, AppendError>>,
    ) -> UnderWay {
        UnderWay(Some(Running { publisher, begun, append, deadline: None, has_ended: false }))
    }
}

impl Future for UnderWay {
    type Output = Appended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Appended> {
        let Some(running) = &mut self.0 else { return Poll::Pending };
        let result = ready!(running.poll_unpin(cx));
        self.0 = None;
        Poll::Ready(result)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(running) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            drop(runtime.spawn(running));
        }
    }
}

impl Future for Running {
    type Output = Appended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Appended> {
        let result = match self.append.poll_unpin(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                ready!(self.deadline.get_or_insert_with(|| Box::pin(sleep(DEADLINE))).poll_unpin(cx));
                Err(AppendError::Unknown("no confirm within 5 s".into()))
            }
        };
        self.has_ended = true;
        Poll::Ready(self.publisher.ended(self.begun, result))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.publisher.given_up(self.begun);
        }
    }
}
