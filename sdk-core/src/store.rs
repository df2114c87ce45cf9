//! What outlives the process: a store's contents, and how they change.
//!
//! The machine decides what is kept and what is dropped; a store only writes it down, a batch at a time, all of it or nothing. So every store
//! keeps the same, and the bounds of the [`cache`](crate::cache) and the [`outbox`](crate::outbox) are its bounds.
//!
//! A [`Write::Cursor`] comes from the body, when the app has taken what it covers, and behind the messages that it covers: a stored cursor is
//! never ahead of what is stored.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::About;
use core::fmt;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A publish, behind all others that wait; one of this id goes. `expires`, in milliseconds since 1970, ends its time to live.
    Enqueue { message_id: Box<str>, envelope: Box<str>, expires: Option<u64> },
    /// Why it is wedged, or that it no longer is. Nothing if it is not there.
    Wedge { message_id: Box<str>, why: Option<(Code, Box<str>)> },
    /// It waits no longer. Nothing if it is not there.
    Settle { message_id: Box<str> },
    /// A message, behind all others.
    Message { topic: Box<str>, position: Position, about: About, envelope: Arc<str> },
    /// Only the newest so many messages of this topic stay.
    Trim { topic: Box<str>, keep: usize },
    /// How far the app has come with the subscription of this name; `None`: there is no such subscription any more.
    Cursor { name: Box<str>, place: Option<Place> },
}

/// How far the app has come with a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub filter: Filter,
    pub cursor: Cursor,
}

/// All that a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// In the order in which they were enqueued.
    pub publishes: Vec<KeptPublish>,
    /// In the order in which they were written.
    pub messages: Vec<KeptMessage>,
    /// By name, in no order.
    pub places: Vec<(Box<str>, Place)>,
}

/// A publish that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPublish {
    pub message_id: Box<str>,
    pub envelope: Box<str>,
    pub expires: Option<u64>,
    pub wedged: Option<(Code, Box<str>)>,
}

/// A message in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMessage {
    pub topic: Box<str>,
    pub position: Position,
    pub about: About,
    pub envelope: Arc<str>,
}

/// Where a client keeps what must outlive its process. Calls may block; they come from one thread.
pub trait Store: Send {
    /// Everything that was committed.
    fn load(&mut self) -> Result<Kept, StoreError>;

    /// Writes all of these, in their order, or none. When it returns, they outlive the process; and, if there is an [`Write::Enqueue`]
    /// among them, a loss of power.
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError>;

    /// Forgets everything, for good.
    fn wipe(&mut self) -> Result<(), StoreError>;
}

/// What a store could not do, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError(pub String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for StoreError {}

impl StoreError {
    /// Always `false`: a store that fails is asked once more before this is said, and what helps (room, another file, the other process's
    /// end) is for people to do.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

impl Kept {
    /// Takes a change in. The definition of what each means; every store does the same.
    pub fn apply(&mut self, write: &Write) {
        match write.clone() {
            Write::Enqueue { message_id, envelope, expires } => {
                self.publishes.retain(|one| one.message_id != message_id);
                self.publishes.push(KeptPublish { message_id, envelope, expires, wedged: None });
            }
            Write::Wedge { message_id, why } => {
                for one in self.publishes.iter_mut().filter(|one| one.message_id == message_id) {
                    one.wedged.clone_from(&why);
                }
            }
            Write::Settle { message_id } => self.publishes.retain(|one| one.message_id != message_id),
            Write::Message { topic, position, about, envelope } => {
                self.messages.push(KeptMessage { topic, position, about, envelope });
            }
            Write::Trim { topic, keep } => {
                let mut beyond =
                    self.messages.iter().filter(|one| one.topic == topic).count().saturating_sub(keep);
                self.messages.retain(|one| {
                    let goes = one.topic == topic && beyond > 0;
                    beyond -= usize::from(goes);
                    !goes
                });
            }
            Write::Cursor { name, place } => {
                self.places.retain(|(other, _)| *other != name);
                self.places.extend(place.map(|place| (name, place)));
            }
        }
    }
}

/// A store that ends with the process: for tests, and where there is no disk.
#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: Kept,
}

impl Store for MemoryStore {
    fn load(&mut self) -> Result<Kept, StoreError> {
        Ok(self.kept.clone())
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        writes.iter().for_each(|write| self.kept.apply(write));
        Ok(())
    }

    fn wipe(&mut self) -> Result<(), StoreError> {
        self.kept = Kept::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_what_every_store_keeps() {
        conformance::check(&mut MemoryStore::default(), |_| {});
    }
}
