//! When the shard is to look at a connection again, and the one timer that wakes it for that.

use crate::connection::Connection;
use crate::connection::session::Millis;
use crate::hub::interest::ConnectionId;
use crate::node::Clock;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Sleep;

/// Deadlines in a heap, earliest first. An entry may be stale: the connection has gone, or its deadline has moved; it is
/// looked at and put back or dropped. So a moved deadline, which every received byte makes, costs nothing.
pub struct Timers {
    clock: Clock,
    heap: BinaryHeap<Reverse<(Millis, ConnectionId, u64)>>,
    /// Made when it is first needed: on the shard's own thread, whose runtime it belongs to.
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Millis,
    also: Millis,
}

impl Timers {
    pub fn new(clock: Clock) -> Timers {
        Timers { clock, heap: BinaryHeap::new(), sleep: None, armed: 0, also: Millis::MAX }
    }

    /// Looks at a connection at `at`, unless that happens earlier anyway.
    pub fn schedule(&mut self, id: ConnectionId, connection: &mut Connection, at: Millis) {
        if at < connection.scheduled {
            connection.scheduled = at;
            self.heap.push(Reverse((at, id, connection.serial)));
        }
    }

    /// Wakes the shard at `at`, whatever its connections want.
    pub fn wake_at(&mut self, at: Millis) {
        self.also = self.also.min(at);
    }

    /// The next connection whose time has come, with its serial.
    pub fn due(&mut self, now: Millis) -> Option<(ConnectionId, u64)> {
        let Reverse((at, id, serial)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((id, serial))
    }

    /// Arms the timer for what comes next.
    pub fn arm(&mut self, cx: &mut Context<'_>, now: Millis) {
        if self.also <= now {
            self.also = Millis::MAX;
        }
        let next = self.heap.peek().map_or(Millis::MAX, |Reverse((at, ..))| *at).min(self.also);
        if next == Millis::MAX {
            return;
        }
        // One more, because the clock rounds down: never awake a moment too early.
        let at = self.clock.instant(next + 1);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if next != self.armed {
            self.armed = next;
            sleep.as_mut().reset(at);
        }
        if let Poll::Ready(()) = sleep.as_mut().poll(cx) {
            self.armed = 0;
            cx.waker().wake_by_ref();
        }
    }
}
