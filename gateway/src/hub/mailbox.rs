//! How a batch, or a wake-up, reaches a shard from another thread without being lost.
//!
//! The rule that makes it safe: the waiter's registration and the check for items happen under one lock, and so do the
//! push and the taking of the waker. `tests/loom.rs` includes this file and explores every interleaving.

use super::sync::Mutex;
use std::task::{Context, Poll, Waker};

/// Many senders, one receiver. Bounded by its senders: each sends only what its own limits allow. (Messages that no log keeps have no
/// limit but the broker's.)
pub struct Mailbox<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    items: Vec<T>,
    waker: Option<Waker>,
    closed: bool,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox { state: Mutex::new(State { items: Vec::new(), waker: None, closed: false }) }
    }
}

impl<T> Mailbox<T> {
    /// Puts an item in and wakes the receiver if it waits.
    pub fn push(&self, item: T) {
        let waker = {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            state.items.push(item);
            state.waker.take()
        };
        // Outside the lock: a waker may run the receiver at once.
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nobody will take anything any more: what there is, and what comes, is dropped.
    pub fn close(&self) {
        let items = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.items)
        };
        // Outside the lock, as the waker.
        drop(items);
    }

    /// Moves everything there is into `out`, or registers to be woken. Cancel safe.
    pub fn poll_take(&self, cx: &mut Context<'_>, out: &mut impl Extend<T>) -> Poll<()> {
        let mut state = self.lock();
        if state.items.is_empty() {
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        out.extend(state.items.drain(..));
        Poll::Ready(())
    }

    fn lock(&self) -> super::sync::MutexGuard<'_, State<T>> {
        // A panic while holding it cannot leave it half changed: nothing in between can panic.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
