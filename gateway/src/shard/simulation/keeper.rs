//! A client's store: it writes late, says so later and in any order, and its process may end between any two batches.

use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_sdk_core::store::{Kept, Write};
use std::collections::VecDeque;

/// Who waits for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The app may be told that this publish is kept.
    Publish(Box<str>),
    /// The app may have the next event of this subscription.
    Place(SubscriptionId),
}

#[derive(Default)]
pub struct Keeper {
    durable: Kept,
    /// What belongs together, in the order in which it was given.
    batches: VecDeque<(Vec<Write>, Vec<Done>)>,
    /// Written, and nobody has been told.
    untold: Vec<Done>,
}

impl Keeper {
    /// What a new process finds.
    pub fn on(durable: Kept) -> Keeper {
        Keeper { durable, ..Keeper::default() }
    }

    pub fn write(&mut self, batch: Vec<Write>, done: Vec<Done>) {
        if !batch.is_empty() {
            self.batches.push_back((batch, done));
        }
    }

    pub fn durable(&self) -> &Kept {
        &self.durable
    }

    /// Writes the next batch. `None` if there is none.
    pub fn commit(&mut self) -> Option<Vec<Write>> {
        let (batch, done) = self.batches.pop_front()?;
        batch.iter().for_each(|write| self.durable.apply(write));
        self.untold.extend(done);
        Some(batch)
    }

    /// Tells somebody.
    pub fn tell(&mut self, which: impl FnOnce(usize) -> usize) -> Option<Done> {
        (!self.untold.is_empty()).then(|| self.untold.swap_remove(which(self.untold.len())))
    }

    pub fn is_idle(&self) -> bool {
        self.batches.is_empty() && self.untold.is_empty()
    }
}
