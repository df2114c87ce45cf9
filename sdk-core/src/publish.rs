//! What was published and is not confirmed yet.
//!
//! An entry leaves only when the gateway has confirmed or refused it for good. After a reconnect all are sent again, in
//! order and under the same message ids; the log sees to it that subscribers get one copy.

use anabranch_protocol::code::Code;
use anabranch_protocol::json::Scanner;
use anabranch_protocol::limits;
use std::collections::VecDeque;
use std::fmt;

/// Unconfirmed publishes that a client holds.
pub const QUEUE_ENTRIES: usize = 1_024;
/// Their envelopes together, in bytes.
pub const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// Why a publish was not even queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefused {
    /// [`QUEUE_ENTRIES`] or [`QUEUE_BYTES`] wait for their confirm: wait for some.
    QueueFull,
    /// The envelope is over [`limits::ENVELOPE_BYTES`].
    TooLarge,
    /// The envelope is not a JSON object, or nests deeper than [`limits::JSON_DEPTH`] together with its frame.
    NotJson,
    /// A publish with this message id is waiting for its confirm already.
    InUse,
    /// The client was closed.
    Closed,
}

impl PublishRefused {
    /// The gateway's code that says the same.
    pub const fn code(self) -> Code {
        match self {
            PublishRefused::QueueFull => Code::TOO_MANY_IN_FLIGHT,
            PublishRefused::TooLarge => Code::TOO_LARGE,
            PublishRefused::NotJson | PublishRefused::InUse => Code::BAD_ENVELOPE,
            PublishRefused::Closed => Code::GOING_AWAY,
        }
    }

    /// What happened, for people.
    pub const fn message(self) -> &'static str {
        match self {
            PublishRefused::QueueFull => "too many publishes wait for their confirm; wait for some",
            PublishRefused::TooLarge => "the envelope is over 256 KiB",
            PublishRefused::NotJson => {
                "the envelope is not a JSON object, or its payload nests more than 62 levels deep"
            }
            PublishRefused::InUse => "a publish with this messageId waits for its confirm already",
            PublishRefused::Closed => "the client is closed",
        }
    }
}

impl fmt::Display for PublishRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for PublishRefused {}

struct Entry {
    message_id: Box<str>,
    envelope: Box<str>,
    sent: bool,
}

/// The unconfirmed publishes, oldest first.
#[derive(Default)]
pub struct Publishes {
    entries: VecDeque<Entry>,
    bytes: usize,
    in_flight: usize,
    /// What the gateway allows in flight; 0 while there is no connection.
    window: usize,
    /// Nothing is sent before this moment, after a refusal that may pass: order matters more than speed.
    hold: Option<u64>,
    refusals: u32,
}

impl Publishes {
    /// Queues an envelope.
    pub fn push(&mut self, message_id: &str, envelope: &str) -> Result<(), PublishRefused> {
        if envelope.len() > limits::ENVELOPE_BYTES {
            return Err(PublishRefused::TooLarge);
        }
        // The envelope is spliced into a frame as it is: it must be one whole JSON value, and no deeper than there.
        let mut scanner = Scanner::inside(1, envelope);
        let whole = scanner.raw().is_ok_and(|raw| raw.starts_with('{')) && scanner.end().is_ok();
        if !whole {
            return Err(PublishRefused::NotJson);
        }
        if self.entries.iter().any(|e| *e.message_id == *message_id) {
            return Err(PublishRefused::InUse);
        }
        if self.entries.len() >= QUEUE_ENTRIES || self.bytes + envelope.len() > QUEUE_BYTES {
            return Err(PublishRefused::QueueFull);
        }
        self.bytes += envelope.len();
        self.entries.push_back(Entry {
            message_id: message_id.into(),
            envelope: envelope.into(),
            sent: false,
        });
        Ok(())
    }

    /// A connection is ready for so many publishes at a time.
    pub fn connected(&mut self, window: u64) {
        self.window = usize::try_from(window).unwrap_or(usize::MAX).max(1);
        self.hold = None;
    }

    /// The connection is gone: whatever was in flight will be sent again.
    pub fn disconnected(&mut self) {
        self.window = 0;
        self.in_flight = 0;
        for entry in &mut self.entries {
            entry.sent = false;
        }
    }

    /// The next envelope to send now, oldest first.
    pub fn next(&mut self, now: u64) -> Option<&str> {
        if self.hold.is_some_and(|until| until > now) {
            return None;
        }
        self.hold = None;
        if self.in_flight >= self.window {
            return None;
        }
        let entry = self.entries.iter_mut().find(|e| !e.sent)?;
        self.in_flight += 1;
        entry.sent = true;
        Some(&entry.envelope)
    }

    /// The gateway answered for good. `false` if nothing waits under this id.
    pub fn settle(&mut self, message_id: &str) -> bool {
        let Some(at) = self.entries.iter().position(|e| *e.message_id == *message_id) else { return false };
        if let Some(entry) = self.entries.remove(at) {
            self.bytes -= entry.envelope.len();
            self.in_flight -= usize::from(entry.sent);
        }
        self.refusals = 0;
        true
    }

    /// The gateway refused it for now: it, and what stands behind it, waits until then.
    pub fn retry(&mut self, message_id: &str, at: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|e| *e.message_id == *message_id && e.sent) {
            entry.sent = false;
            self.in_flight -= 1;
            self.hold = Some(self.hold.map_or(at, |hold| hold.max(at)));
            self.refusals = self.refusals.saturating_add(1);
        }
    }

    /// Refusals since the last confirm.
    pub fn refusals(&self) -> u32 {
        self.refusals
    }

    /// When the hold ends.
    pub fn deadline(&self) -> Option<u64> {
        self.hold.filter(|_| self.window > 0)
    }

    /// Publishes that are not confirmed.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is confirmed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives up on the oldest; its id.
    pub fn give_up(&mut self) -> Option<String> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.envelope.len();
        self.in_flight -= usize::from(entry.sent);
        Some(entry.message_id.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(publishes: &mut Publishes, now: u64) -> Vec<String> {
        std::iter::from_fn(|| publishes.next(now).map(str::to_owned)).collect()
    }

    #[test]
    fn a_reconnect_sends_all_unconfirmed_again_in_order() {
        let mut publishes = Publishes::default();
        for id in ["1", "2", "3"] {
            publishes.push(id, &format!("{{\"id\":{id}}}")).expect("room");
        }
        assert!(sent(&mut publishes, 0).is_empty(), "no connection yet");
        publishes.connected(2);
        assert_eq!(sent(&mut publishes, 0), ["{\"id\":1}", "{\"id\":2}"]);
        assert!(publishes.settle("1"));
        publishes.disconnected();
        publishes.connected(10);
        assert_eq!(sent(&mut publishes, 0), ["{\"id\":2}", "{\"id\":3}"]);
    }

    #[test]
    fn a_refusal_that_may_pass_holds_what_stands_behind_it() {
        let mut publishes = Publishes::default();
        publishes.connected(1);
        publishes.push("1", "{}").expect("room");
        publishes.push("2", "{}").expect("room");
        assert_eq!(sent(&mut publishes, 0).len(), 1);
        publishes.retry("1", 500);
        assert!(sent(&mut publishes, 499).is_empty());
        assert_eq!(publishes.deadline(), Some(500));
        assert_eq!(sent(&mut publishes, 500).len(), 1);
        assert!(publishes.settle("1"));
        assert_eq!(sent(&mut publishes, 500).len(), 1);
    }

    #[test]
    fn the_queue_is_bounded_and_says_so() {
        let mut publishes = Publishes::default();
        for id in 0..QUEUE_ENTRIES {
            publishes.push(&id.to_string(), "{}").expect("room");
        }
        assert_eq!(publishes.push("more", "{}"), Err(PublishRefused::QueueFull));
        publishes.give_up();
        assert_eq!(publishes.push("1", "{}"), Err(PublishRefused::InUse));
        assert_eq!(publishes.push("more", "{}"), Ok(()));
        assert_eq!(publishes.push("x", "{} {}"), Err(PublishRefused::NotJson));
        assert_eq!(publishes.push("x", "[1]"), Err(PublishRefused::NotJson));
        let deep = |levels| format!(r#"{{"payload":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert_eq!(
            publishes.push("x", &deep(63)),
            Err(PublishRefused::NotJson),
            "its frame would be too deep"
        );
        assert_eq!(publishes.push("x", &deep(62)), Err(PublishRefused::QueueFull), "that is all");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut publishes = Publishes::default();
        let large = format!("{{\"x\":\"{}\"}}", "y".repeat(limits::ENVELOPE_BYTES - 10));
        let fit = QUEUE_BYTES / large.len();
        for id in 0..fit {
            publishes.push(&id.to_string(), &large).expect("room");
        }
        assert_eq!(publishes.push("more", &large), Err(PublishRefused::QueueFull));
        assert!(publishes.settle("0"));
        assert_eq!(publishes.push("more", &large), Ok(()));
    }
}
