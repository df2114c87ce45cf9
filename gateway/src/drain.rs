//! The orderly end of a node: every client is told a time of its own to come back, so that they do not come at once.

use crate::connection::session::Millis;
use crate::node::Clock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reconnect times, spread evenly: each client gets one that no other has.
pub struct Slots {
    /// How many clients there are, about.
    clients: u64,
    /// Over how long they are spread, in milliseconds.
    spread: Millis,
    taken: AtomicU64,
    /// When the node ends, whoever is still there.
    over: Millis,
}

impl Slots {
    /// For so many clients, from now on. The node waits for them at most `patience` milliseconds.
    pub fn new(clock: Clock, clients: usize, spread: Millis, patience: Millis) -> Slots {
        Slots {
            clients: clients.max(1) as u64,
            spread,
            taken: AtomicU64::new(0),
            over: clock.now() + patience,
        }
    }

    /// The next client's time to come back, in milliseconds from when it is told.
    pub fn next(&self) -> Millis {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        // Later ones than counted go on behind the end, at the same distance.
        self.spread * (number + 1) / self.clients
    }

    /// When patience ends.
    pub fn over(&self) -> Millis {
        self.over
    }

    pub fn is_over(&self, now: Millis) -> bool {
        now >= self.over
    }
}
