//! Who is connected: counts by address and by subject, for limits and for the drain.

use crate::auth::Principal;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The connections of a node.
pub struct Registry {
    limits: Limits,
    counts: Mutex<Counts>,
    open: AtomicUsize,
}

/// How many connections a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub total: usize,
    pub per_address: usize,
    pub per_subject: usize,
}

#[derive(Default)]
struct Counts {
    addresses: HashMap<IpAddr, usize>,
    subjects: HashMap<Box<str>, usize>,
}

/// A connection's place in the count of its address. Given back when dropped.
pub struct Seat {
    registry: Arc<Registry>,
    address: IpAddr,
}

/// A connection's place in the count of its subject. Given back when dropped.
pub struct Admission {
    registry: Arc<Registry>,
    principal: Arc<Principal>,
}

impl Registry {
    pub fn new(limits: Limits) -> Arc<Registry> {
        Arc::new(Registry { limits, counts: Mutex::default(), open: AtomicUsize::new(0) })
    }

    /// How many sockets are open, handshakes included.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a socket in, if there is room.
    pub fn seat(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let mut counts = self.lock();
        let count = counts.addresses.entry(address).or_default();
        if *count >= self.limits.per_address || self.open.load(Ordering::Relaxed) >= self.limits.total {
            if *count == 0 {
                counts.addresses.remove(&address);
            }
            return None;
        }
        *count += 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Seat { registry: Arc::clone(self), address })
    }

    /// Whether a further connection of this subject would be taken in.
    pub fn has_room_for(&self, subject: &str) -> bool {
        self.lock().subjects.get(subject).is_none_or(|count| *count < self.limits.per_subject)
    }

    /// Counts a connection of this principal.
    pub fn admit(self: &Arc<Self>, principal: Arc<Principal>) -> Admission {
        *self.lock().subjects.entry(principal.subject.clone()).or_default() += 1;
        Admission { registry: Arc::clone(self), principal }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.open.fetch_sub(1, Ordering::Relaxed);
        let mut counts = self.registry.lock();
        if let Some(count) = counts.addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.addresses.remove(&self.address);
            }
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut counts = self.registry.lock();
        if let Some(count) = counts.subjects.get_mut(&self.principal.subject) {
            *count -= 1;
            if *count == 0 {
                counts.subjects.remove(&self.principal.subject);
            }
        }
    }
}
