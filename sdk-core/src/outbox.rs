//! What was published and is not confirmed yet.
//!
//! ```text
//!   push ──▶ waiting ──▶ in flight ──▶ confirmed
//!               │ ▲          │ the connection is lost, or "later"
//!       expired ▼ └──────────┤
//!        failed              └ refused for good: failed, or wedged if it is kept
//! ```
//!
//! An entry leaves only when the gateway has confirmed or refused it for good. After a reconnect all are sent again, in
//! order and under the same message ids; the log sees to it that subscribers get one copy.
//!
//! Order is kept for each topic. A refusal that may pass, and one for good of a kept entry, hold up what stands behind them on
//! their own topic, and no other.
//!
//! A merge patch becomes part of the one that its author has pushed before it, if nobody can have seen that one yet. Nothing else is ever merged.

mod merging;

pub use merging::{MERGED_BYTES, Merged};

use crate::Now;
use crate::machine::topic_of;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use anabranch_protocol::code::Code;
use anabranch_protocol::json::Scanner;
use anabranch_protocol::limits;
use core::fmt;

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

    /// Whether the same thing may work later: when some of what waits has its confirm.
    pub const fn is_retryable(self) -> bool {
        matches!(self, PublishRefused::QueueFull)
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

impl core::error::Error for PublishRefused {}

/// How a publish is treated while it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// It outlives the process, where there is a store, and a refusal for good: then it stays, wedged, until the app takes it out or tries it
    /// again. Otherwise a refusal ends it.
    pub kept: bool,
    /// For so many milliseconds it may be sent. Later it fails, with [`Code::EXPIRED`] if it never was sent, and with
    /// [`Code::UNCONFIRMED`] if the log may have it.
    pub ttl_ms: Option<u64>,
}

/// A publish that waits, as the app may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<'o> {
    pub message_id: &'o str,
    pub topic: &'o str,
    pub envelope: &'o str,
    pub kept: bool,
    /// Whether it has left this client at least once.
    pub sent: bool,
    /// Why the gateway refused it for good.
    pub wedged: Option<(Code, &'o str)>,
}

/// A publish that ended without the gateway's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    pub message_id: Box<str>,
    /// The log may have it.
    pub sent: bool,
    pub kept: bool,
}

struct Entry {
    message_id: Box<str>,
    topic: Box<str>,
    envelope: Box<str>,
    /// Whose patch it is; 0 for all that is none.
    author: u32,
    kept: bool,
    /// The end of its time to live, on the monotonic clock.
    deadline: Option<u64>,
    in_flight: bool,
    sent: bool,
    wedged: Option<(Code, Box<str>)>,
}

impl Entry {
    fn new(message_id: &str, envelope: &str) -> Entry {
        Entry {
            message_id: message_id.into(),
            topic: topic_of(envelope).as_deref().unwrap_or_default().into(),
            envelope: envelope.into(),
            author: 0,
            kept: false,
            deadline: None,
            in_flight: false,
            sent: false,
            wedged: None,
        }
    }
}

/// The unconfirmed publishes, oldest first.
#[derive(Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    bytes: usize,
    in_flight: usize,
    /// What the gateway allows in flight; 0 while there is no connection.
    window: usize,
    /// Nothing of these topics is sent before that moment, after a refusal that may pass: order matters more than speed.
    holds: Vec<(Box<str>, u64)>,
    refusals: u32,
}

impl Outbox {
    /// Queues an envelope.
    pub fn push(
        &mut self,
        now: Now,
        message_id: &str,
        envelope: &str,
        terms: Terms,
    ) -> Result<(), PublishRefused> {
        self.push_patch(now, message_id, envelope, terms, 0).map(drop)
    }

    /// Queues an envelope whose payload is a merge patch by this author, or puts it into an earlier one, see [`Merged`]. That must be by the same
    /// author, of the same topic and on the same terms; it must never have been sent; nothing may stand behind it that concerns the same device;
    /// and one patch must be able to do what the two do.
    pub fn push_patch(
        &mut self,
        now: Now,
        message_id: &str,
        envelope: &str,
        terms: Terms,
        author: u32,
    ) -> Result<Option<Merged>, PublishRefused> {
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
        let deadline = terms.ttl_ms.map(|ttl| now.mono.saturating_add(ttl));
        let entry = Entry { author, deadline, kept: terms.kept, ..Entry::new(message_id, envelope) };
        if let Some(merged) = self.merge(&entry) {
            return Ok(Some(merged));
        }
        if self.entries.len() >= QUEUE_ENTRIES || self.bytes + envelope.len() > QUEUE_BYTES {
            return Err(PublishRefused::QueueFull);
        }
        self.add(entry);
        Ok(None)
    }

    /// Takes up one that an earlier process has kept, with so much left of its time to live. It may have been sent. The bounds held there.
    pub fn restore(
        &mut self,
        now: Now,
        message_id: &str,
        envelope: &str,
        ttl_ms: Option<u64>,
        wedged: Option<(Code, Box<str>)>,
    ) {
        let deadline = ttl_ms.map(|ttl| now.mono.saturating_add(ttl));
        let entry = Entry { deadline, wedged, kept: true, sent: true, ..Entry::new(message_id, envelope) };
        self.add(entry);
    }

    fn add(&mut self, entry: Entry) {
        self.bytes += entry.envelope.len();
        self.entries.push_back(entry);
    }

    /// A connection is ready for so many publishes at a time.
    pub fn connected(&mut self, window: u64) {
        self.window = usize::try_from(window).unwrap_or(usize::MAX).max(1);
        self.holds.clear();
    }

    /// The connection is gone: whatever was in flight will be sent again.
    pub fn disconnected(&mut self) {
        self.window = 0;
        self.in_flight = 0;
        for entry in &mut self.entries {
            entry.in_flight = false;
        }
    }

    /// The next envelope to send now, oldest first, and its message id if it is kept or has a time to live, and is sent for the first time.
    pub fn next(&mut self, now: u64) -> Option<(&str, Option<&str>)> {
        self.holds.retain(|(_, until)| *until > now);
        if self.in_flight >= self.window {
            return None;
        }
        let holds = &self.holds;
        // A wedged entry holds up those behind it; a linear look at each, because there are few.
        let wedged: Vec<&str> =
            self.entries.iter().filter(|e| e.wedged.is_some()).map(|e| &*e.topic).collect();
        let free =
            |e: &Entry| !wedged.contains(&&*e.topic) && !holds.iter().any(|(topic, _)| *topic == e.topic);
        let at = self.entries.iter().position(|e| !e.in_flight && free(e))?;
        self.in_flight += 1;
        let entry = &mut self.entries[at];
        let first = !core::mem::replace(&mut entry.sent, true);
        entry.in_flight = true;
        let told = first && (entry.kept || entry.deadline.is_some());
        Some((&entry.envelope, told.then_some(&*entry.message_id)))
    }

    fn find(&self, message_id: &str) -> Option<usize> {
        self.entries.iter().position(|e| *e.message_id == *message_id)
    }

    fn take(&mut self, at: usize) -> Option<Entry> {
        let entry = self.entries.remove(at)?;
        self.bytes -= entry.envelope.len();
        self.in_flight -= usize::from(entry.in_flight);
        Some(entry)
    }

    /// The gateway has confirmed it. `None` if nothing waits under this id, otherwise whether it was kept.
    pub fn settle(&mut self, message_id: &str) -> Option<bool> {
        let entry = self.take(self.find(message_id)?)?;
        self.refusals = 0;
        Some(entry.kept)
    }

    /// The gateway has refused it for good. `None` if nothing waits under this id, otherwise whether it was kept: then it stays here, wedged.
    pub fn refuse(&mut self, message_id: &str, code: Code, message: &str) -> Option<bool> {
        let at = self.find(message_id)?;
        if !self.entries[at].kept {
            return self.settle(message_id);
        }
        let entry = &mut self.entries[at];
        entry.wedged = Some((code, message.into()));
        self.in_flight -= usize::from(core::mem::take(&mut entry.in_flight));
        Some(true)
    }

    /// The gateway refused it for now: it, and what stands behind it on its topic, waits until then.
    pub fn retry(&mut self, message_id: &str, at: u64) {
        let Some(entry) = self.entries.iter_mut().find(|e| *e.message_id == *message_id && e.in_flight)
        else {
            return;
        };
        entry.in_flight = false;
        self.in_flight -= 1;
        match self.holds.iter_mut().find(|(topic, _)| *topic == entry.topic) {
            Some((_, until)) => *until = at.max(*until),
            None => self.holds.push((entry.topic.clone(), at)),
        }
        self.refusals = self.refusals.saturating_add(1);
    }

    /// Tries a wedged one again. Says whether there was one.
    pub fn unwedge(&mut self, message_id: &str) -> bool {
        self.find(message_id).is_some_and(|at| self.entries[at].wedged.take().is_some())
    }

    /// Takes out one that never was sent, or is wedged. `None` if there is none, otherwise whether it was kept.
    pub fn withdraw(&mut self, message_id: &str) -> Option<bool> {
        let at = self.find(message_id)?;
        let entry = &self.entries[at];
        if entry.sent && entry.wedged.is_none() {
            return None;
        }
        self.take(at).map(|entry| entry.kept)
    }

    /// Takes out one whose time is over. What is in flight still waits for its answer, and what is wedged for the app.
    pub fn expire(&mut self, now: u64) -> Option<Expired> {
        let over = |e: &Entry| e.deadline.is_some_and(|at| at <= now) && !e.in_flight && e.wedged.is_none();
        let Entry { message_id, sent, kept, .. } = self.take(self.entries.iter().position(over)?)?;
        Some(Expired { message_id, sent, kept })
    }

    /// Refusals since the last confirm.
    pub fn refusals(&self) -> u32 {
        self.refusals
    }

    /// When a hold or a time to live ends.
    pub fn deadline(&self) -> Option<u64> {
        let holds = self.holds.iter().map(|(_, until)| *until).filter(|_| self.window > 0);
        let waiting = self.entries.iter().filter(|e| !e.in_flight && e.wedged.is_none());
        holds.chain(waiting.filter_map(|e| e.deadline)).min()
    }

    /// All that wait, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Waiting<'_>> {
        self.entries.iter().map(|e| Waiting {
            message_id: &e.message_id,
            topic: &e.topic,
            envelope: &e.envelope,
            kept: e.kept,
            sent: e.sent,
            wedged: e.wedged.as_ref().map(|(code, message)| (*code, &**message)),
        })
    }

    /// Publishes that are not confirmed.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is confirmed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives up on the oldest; its id, and whether it was kept.
    pub fn give_up(&mut self) -> Option<(String, bool)> {
        self.take(0).map(|entry| (entry.message_id.into(), entry.kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono: 0, wall: 0 };
    const KEPT: Terms = Terms { kept: true, ttl_ms: None };

    fn push(outbox: &mut Outbox, id: &str, envelope: &str) -> Result<(), PublishRefused> {
        outbox.push(NOW, id, envelope, Terms::default())
    }

    /// An envelope of a topic.
    fn of(topic: &str, id: &str) -> String {
        format!(r#"{{"metadata":{{"topic":"{topic}"}},"payload":"{id}"}}"#)
    }

    fn sent(outbox: &mut Outbox, now: u64) -> Vec<String> {
        std::iter::from_fn(|| outbox.next(now).map(|(envelope, _)| envelope.to_owned())).collect()
    }

    fn connected(window: u64) -> Outbox {
        let mut outbox = Outbox::default();
        outbox.connected(window);
        outbox
    }

    #[test]
    fn a_reconnect_sends_all_unconfirmed_again_in_order() {
        let mut outbox = Outbox::default();
        for id in ["1", "2", "3"] {
            push(&mut outbox, id, &format!("{{\"id\":{id}}}")).expect("room");
        }
        assert!(sent(&mut outbox, 0).is_empty(), "no connection yet");
        outbox.connected(2);
        assert_eq!(sent(&mut outbox, 0), ["{\"id\":1}", "{\"id\":2}"]);
        assert_eq!(outbox.settle("1"), Some(false));
        outbox.disconnected();
        outbox.connected(10);
        assert_eq!(sent(&mut outbox, 0), ["{\"id\":2}", "{\"id\":3}"]);
    }

    #[test]
    fn a_refusal_that_may_pass_holds_what_stands_behind_it_on_its_topic() {
        let mut outbox = connected(1);
        for (topic, id) in [("a", "1"), ("a", "2"), ("b", "3")] {
            push(&mut outbox, id, &of(topic, id)).expect("room");
        }
        assert_eq!(sent(&mut outbox, 0), [of("a", "1")]);
        outbox.retry("1", 500);
        assert_eq!(sent(&mut outbox, 499), [of("b", "3")]);
        assert!(outbox.settle("3").is_some() && sent(&mut outbox, 499).is_empty());
        assert_eq!(outbox.deadline(), Some(500));
        assert_eq!(sent(&mut outbox, 500), [of("a", "1")]);
        assert!(outbox.settle("1").is_some());
        assert_eq!(sent(&mut outbox, 500), [of("a", "2")]);
    }

    #[test]
    fn a_kept_one_that_is_refused_wedges_its_topic_and_no_other() {
        let mut outbox = connected(1);
        for (topic, id) in [("a", "1"), ("a", "2"), ("b", "3")] {
            outbox.push(NOW, id, &of(topic, id), KEPT).expect("room");
        }
        assert_eq!(outbox.next(0), Some((&*of("a", "1"), Some("1"))));
        assert_eq!(outbox.refuse("1", Code::NOT_ALLOWED, "no"), Some(true));
        assert_eq!(sent(&mut outbox, 0), [of("b", "3")]);
        outbox.disconnected();
        outbox.connected(9);
        assert_eq!(sent(&mut outbox, 0), [of("b", "3")], "it stays wedged");
        let wedged: Vec<_> = outbox.iter().filter_map(|one| one.wedged).collect();
        assert_eq!(wedged, [(Code::NOT_ALLOWED, "no")]);
        assert!(outbox.unwedge("1") && !outbox.unwedge("1"));
        assert_eq!(sent(&mut outbox, 0), [of("a", "1"), of("a", "2")]);
        outbox.refuse("1", Code::NOT_ALLOWED, "no");
        assert_eq!(outbox.withdraw("1"), Some(true));
        assert_eq!(outbox.withdraw("2"), None, "it may have been sent");
        assert_eq!(outbox.refuse("x", Code::NOT_ALLOWED, "no"), None);
        assert_eq!(outbox.len(), 2);
    }

    #[test]
    fn a_time_to_live_ends_what_is_not_in_flight() {
        let mut outbox = connected(2);
        let terms = Terms { ttl_ms: Some(100), ..Terms::default() };
        for id in ["1", "2", "3"] {
            outbox.push(NOW, id, &of(id, id), terms).expect("room");
        }
        assert_eq!(sent(&mut outbox, 0).len(), 2);
        assert_eq!(outbox.deadline(), Some(100));
        assert_eq!(outbox.expire(99), None);
        let expired = |id: &str, sent| Some(Expired { message_id: id.into(), sent, kept: false });
        assert_eq!(outbox.expire(100), expired("3", false));
        assert_eq!((outbox.expire(100), outbox.deadline()), (None, None), "an answer is on its way");
        assert_eq!(outbox.settle("2"), Some(false));
        outbox.disconnected();
        assert_eq!(outbox.expire(100), expired("1", true));
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_queue_is_bounded_and_says_so() {
        let mut outbox = Outbox::default();
        for id in 0..QUEUE_ENTRIES {
            push(&mut outbox, &id.to_string(), "{}").expect("room");
        }
        assert_eq!(push(&mut outbox, "more", "{}"), Err(PublishRefused::QueueFull));
        outbox.give_up();
        assert_eq!(push(&mut outbox, "1", "{}"), Err(PublishRefused::InUse));
        assert_eq!(push(&mut outbox, "more", "{}"), Ok(()));
        assert_eq!(push(&mut outbox, "x", "{} {}"), Err(PublishRefused::NotJson));
        assert_eq!(push(&mut outbox, "x", "[1]"), Err(PublishRefused::NotJson));
        let deep = |levels| format!(r#"{{"payload":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        let refused = push(&mut outbox, "x", &deep(63));
        assert_eq!(refused, Err(PublishRefused::NotJson), "its frame would be too deep");
        assert_eq!(push(&mut outbox, "x", &deep(62)), Err(PublishRefused::QueueFull), "that is all");
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut outbox = Outbox::default();
        let large = format!("{{\"x\":\"{}\"}}", "y".repeat(limits::ENVELOPE_BYTES - 10));
        let fit = QUEUE_BYTES / large.len();
        for id in 0..fit {
            push(&mut outbox, &id.to_string(), &large).expect("room");
        }
        assert_eq!(push(&mut outbox, "more", &large), Err(PublishRefused::QueueFull));
        assert!(outbox.settle("0").is_some());
        assert_eq!(push(&mut outbox, "more", &large), Ok(()));
    }
}
