//! Appends records for publishers, each message once.
//!
//! A publisher that has seen no confirm retries under the same `messageId`. The window remembers the keys of recent
//! records, whoever appended them, so that a retry is answered with the first copy's position. It is filled from the
//! log when the node starts, so it survives a crash.

use crate::log::{AppendError, DEADLINE, Log, MessageKey, NewRecord};
use anabranch_protocol::cursor::Position;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

/// How many recent messages are remembered. At 2,000 messages/s, about a minute; about 10 MB.
pub const WINDOW: usize = 131_072;

type Appending = Shared<BoxFuture<'static, Result<Position, AppendError>>>;

/// Appends for a whole node.
pub struct Publisher {
    log: Arc<dyn Log>,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    known: HashMap<MessageKey, Known>,
    /// Stored ones, oldest first.
    order: VecDeque<MessageKey>,
}

enum Known {
    Appending(Appending),
    Stored(Position),
}

impl Publisher {
    pub fn new(log: Arc<dyn Log>) -> Arc<Publisher> {
        Arc::new(Publisher { log, window: Mutex::default() })
    }

    /// Appends a record, or finds it stored: its position, and whether it was an earlier try that stored it.
    ///
    /// The record is queued by the call itself, in the order of calls. Cancel safe: the append goes on.
    pub fn publish(
        self: &Arc<Self>,
        record: NewRecord,
    ) -> BoxFuture<'static, Result<(Position, bool), AppendError>> {
        let key = record.key;
        let mut window = self.lock();
        let (appending, duplicate) = match window.known.get(&key) {
            Some(Known::Stored(position)) => {
                let position = *position;
                return async move { Ok((position, true)) }.boxed();
            }
            Some(Known::Appending(appending)) => (appending.clone(), true),
            None => {
                let append = self.log.append(record);
                let appending = async move {
                    match tokio::time::timeout(DEADLINE, append).await {
                        Ok(result) => result,
                        Err(_) => Err(AppendError::Unknown("no confirm within 5 s".into())),
                    }
                }
                .boxed()
                .shared();
                window.known.insert(key, Known::Appending(appending.clone()));
                (appending, false)
            }
        };
        drop(window);
        let this = Arc::clone(self);
        async move {
            let result = appending.await;
            match &result {
                Ok(position) => {
                    this.note(key, *position);
                }
                Err(_) => this.forget(key),
            };
            result.map(|position| (position, duplicate))
        }
        .boxed()
    }

    /// Notes a record that was read from the log. Says whether an earlier one has the same key: then it is a duplicate.
    ///
    /// Earlier in the log, not earlier in time: several nodes must drop the same one. A confirm may be known here before a
    /// copy that another node stored further ahead.
    pub fn note(&self, key: MessageKey, position: Position) -> bool {
        let mut window = self.lock();
        match window.known.get_mut(&key) {
            Some(Known::Stored(first)) => {
                let duplicate = is_before(*first, position);
                if is_before(position, *first) {
                    *first = position;
                }
                return duplicate;
            }
            Some(Known::Appending(_)) | None => {
                window.known.insert(key, Known::Stored(position));
            }
        }
        window.order.push_back(key);
        if window.order.len() > WINDOW
            && let Some(oldest) = window.order.pop_front()
        {
            window.known.remove(&oldest);
        }
        false
    }

    /// Whether an earlier record is known to have the same key. Notes nothing.
    pub fn is_duplicate(&self, key: MessageKey, position: Position) -> bool {
        matches!(self.lock().known.get(&key), Some(Known::Stored(first)) if is_before(*first, position))
    }

    /// An append has failed: a retry is a new append. If it was stored after all, the tail notes it.
    fn forget(&self, key: MessageKey) {
        let mut window = self.lock();
        if matches!(window.known.get(&key), Some(Known::Appending(_))) {
            window.known.remove(&key);
        }
    }

    /// Forgets everything: another history begins.
    pub fn reset(&self) {
        *self.lock() = Window::default();
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A topic is always in the same partition, and so are all copies of a message.
fn is_before(a: Position, b: Position) -> bool {
    a.partition == b.partition && a.offset < b.offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory::{self, MemoryLog};
    use anabranch_protocol::cursor::Offset;

    fn at(offset: u64) -> Position {
        Position { partition: 0, offset: Offset(offset), fingerprint: None }
    }

    #[test]
    fn the_first_copy_is_the_one_that_stands_first_in_the_log() {
        let publisher = Publisher::new(MemoryLog::new(memory::Options::default()));
        let key = MessageKey::new("t", "m");
        assert!(!publisher.note(key, at(10)), "confirmed to this node's publisher");
        assert!(!publisher.note(key, at(8)), "another node stored it before, and others deliver that one");
        assert!(publisher.note(key, at(10)));
        assert!(!publisher.note(key, at(8)), "read again, it is still the first");
        assert!(publisher.is_duplicate(key, at(10)) && !publisher.is_duplicate(key, at(8)));
    }
}
