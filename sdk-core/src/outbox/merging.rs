//! A change of a shadow that nobody can have seen yet takes the next one up: whoever drags a slider while offline sends where it came to rest.
//!
//! The earlier message keeps its id and its place, and its envelope gets the one patch that does what both do. Whichever of its contents a store
//! has after a crash, the log knows the id, and takes one copy.

use super::{Entry, Outbox};
use alloc::boxed::Box;
use anabranch_protocol::merge_patch::{compose, field};

/// Messages larger than this together, in bytes, stay two: composing costs the product of their numbers of fields, half a millisecond
/// at this size (measured natively), while the client waits.
pub const MERGED_BYTES: usize = 2 * 1024;

/// The publish that has taken a patch up: what is told of it from now on is told of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    pub message_id: Box<str>,
    /// Its envelope as it is now. All else is as it was.
    pub envelope: Box<str>,
}

impl Outbox {
    /// Puts a patch into the one before it, where that may be.
    pub(super) fn merge(&mut self, new: &Entry) -> Option<Merged> {
        // What stands behind it may be a command: a later change must not overtake that.
        let device = new.topic.rmatch_indices('/').nth(1).and_then(|(at, _)| new.topic.get(..=at));
        let last = self.entries.iter_mut().rfind(|e| e.topic.starts_with(device.unwrap_or_default()))?;
        let same = last.author == new.author && last.topic == new.topic;
        if new.author == 0 || last.sent || !same || last.kept != new.kept || last.deadline != new.deadline {
            return None;
        }
        // What the envelopes say of themselves is the earlier one's: of the later, the payload alone is laid upon it.
        let added = ["{\"payload\":", field(&new.envelope, "payload")?, "}"].concat();
        if last.envelope.len() + added.len() > MERGED_BYTES {
            return None;
        }
        let envelope: Box<str> = compose(&last.envelope, &added)?.into();
        self.bytes = self.bytes - last.envelope.len() + envelope.len();
        last.envelope.clone_from(&envelope);
        Some(Merged { message_id: last.message_id.clone(), envelope })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Now;
    use crate::outbox::{PublishRefused, QUEUE_ENTRIES, Terms};
    use anabranch_protocol::code::Code;
    use anabranch_protocol::json::Scanner;
    use anabranch_protocol::merge_patch::merge_patch;
    use proptest::prelude::*;

    const NOW: Now = Now { mono: 0, wall: 0 };
    const KEPT: Terms = Terms { kept: true, ttl_ms: None };
    const DESIRED: &str = "r/devices/d1/shadow/desired";

    fn push(outbox: &mut Outbox, id: &str, envelope: &str) -> Result<(), PublishRefused> {
        outbox.push(NOW, id, envelope, Terms::default())
    }

    fn patch(topic: &str, patch: &str) -> String {
        format!(r#"{{"metadata":{{"topic":"{topic}"}},"payload":{patch},"more":1}}"#)
    }

    fn sent(outbox: &mut Outbox, now: u64) -> Vec<String> {
        std::iter::from_fn(|| outbox.next(now).map(|(envelope, _)| envelope.to_owned())).collect()
    }

    /// Pushes a patch by author 7; says which message has taken it up.
    fn set(outbox: &mut Outbox, id: &str, topic: &str, json: &str, terms: Terms) -> Option<String> {
        let merged = outbox.push_patch(NOW, id, &patch(topic, json), terms, 7).expect("room");
        merged.map(|merged| merged.message_id.into())
    }

    fn waiting(outbox: &Outbox) -> Vec<(String, String)> {
        outbox.iter().map(|one| (one.message_id.to_owned(), one.envelope.to_owned())).collect()
    }

    #[test]
    fn a_patch_becomes_part_of_the_one_before_it() {
        let mut outbox = Outbox::default();
        assert_eq!(set(&mut outbox, "1", DESIRED, r#"{"a":1,"b":1}"#, KEPT), None);
        push(&mut outbox, "x", &patch("r/devices/d10/commands/request", "1")).expect("room");
        let merged = outbox.push_patch(NOW, "2", &patch(DESIRED, r#"{"a":2,"c":null}"#), KEPT, 7);
        let envelope = patch(DESIRED, r#"{"a":2,"b":1,"c":null}"#);
        let expected = Merged { message_id: "1".into(), envelope: envelope.clone().into() };
        assert_eq!(merged, Ok(Some(expected)), "another device's command is in nobody's way");
        assert_eq!(outbox.bytes, outbox.iter().map(|one| one.envelope.len()).sum::<usize>());
        outbox.connected(9);
        assert_eq!(sent(&mut outbox, 0)[0], envelope);
        assert_eq!(set(&mut outbox, "3", DESIRED, r#"{"a":3}"#, KEPT), None, "the log may have the first");
        assert_eq!(sent(&mut outbox, 0).len(), 1);
        outbox.disconnected();
        assert_eq!(set(&mut outbox, "4", DESIRED, r#"{"a":4}"#, KEPT), None, "the third was sent too");
        assert_eq!(set(&mut outbox, "5", DESIRED, r#"{"a":5}"#, KEPT).as_deref(), Some("4"));
        assert_eq!(outbox.withdraw("5"), None, "it is part of another");
        assert_eq!(outbox.withdraw("4"), Some(true));
    }

    #[test]
    fn what_is_behind_a_refusal_merges_and_what_was_refused_does_not() {
        let mut outbox = Outbox::default();
        outbox.connected(9);
        set(&mut outbox, "1", DESIRED, r#"{"a":1}"#, KEPT);
        sent(&mut outbox, 0);
        outbox.retry("1", 500);
        assert_eq!(set(&mut outbox, "2", DESIRED, r#"{"a":2}"#, KEPT), None);
        assert_eq!(set(&mut outbox, "3", DESIRED, r#"{"a":3}"#, KEPT).as_deref(), Some("2"));
        assert_eq!(sent(&mut outbox, 500).len(), 2);
        outbox.refuse("2", Code::NOT_ALLOWED, "no");
        assert_eq!(set(&mut outbox, "4", DESIRED, r#"{"a":4}"#, KEPT), None);
    }

    #[test]
    fn what_is_not_the_same_thing_stays_apart() {
        const FOR_A_WHILE: Terms = Terms { kept: true, ttl_ms: Some(100) };
        let a = r#"{"a":1}"#;
        type Before = dyn Fn(&mut Outbox);
        let apart: [(&str, &Before); 9] = [
            ("not kept", &|outbox| _ = set(outbox, "1", DESIRED, a, Terms::default())),
            ("a time to live", &|outbox| _ = set(outbox, "1", DESIRED, a, FOR_A_WHILE)),
            ("another topic", &|outbox| _ = set(outbox, "1", "r/devices/d1/shadow/update", a, KEPT)),
            ("an object after its removal", &|outbox| _ = set(outbox, "1", DESIRED, r#"{"o":null}"#, KEPT)),
            ("no patch", &|outbox| outbox.push(NOW, "1", &patch(DESIRED, a), KEPT).expect("room")),
            ("another author", &|outbox| {
                outbox.push_patch(NOW, "1", &patch(DESIRED, a), KEPT, 8).expect("room");
            }),
            ("of an earlier process", &|outbox| outbox.restore(NOW, "1", &patch(DESIRED, a), None, None)),
            ("a command between them", &|outbox| {
                set(outbox, "1", DESIRED, a, KEPT);
                push(outbox, "x", &patch("r/devices/d1/commands/request", "1")).expect("room");
            }),
            ("too large together", &|outbox| {
                let large = format!(r#"{{"b":"{}"}}"#, "x".repeat(MERGED_BYTES));
                _ = set(outbox, "1", DESIRED, &large, KEPT);
            }),
        ];
        for (what, before) in apart {
            let mut outbox = Outbox::default();
            before(&mut outbox);
            let old = waiting(&outbox);
            assert_eq!(set(&mut outbox, "2", DESIRED, r#"{"a":2,"o":{"b":1}}"#, KEPT), None, "{what}");
            let new = ("2".to_owned(), patch(DESIRED, r#"{"a":2,"o":{"b":1}}"#));
            assert_eq!(waiting(&outbox), [old, vec![new]].concat(), "{what}");
        }
        let mut outbox = Outbox::default();
        let command = patch("r/devices/d1/commands/request", "1");
        for id in ["1", "2"] {
            outbox.push(NOW, id, &command, KEPT).expect("room");
        }
        assert_eq!(outbox.len(), 2, "commands are done as often as they were given");
        assert_eq!(set(&mut outbox, "3", DESIRED, a, FOR_A_WHILE), None);
        assert_eq!(set(&mut outbox, "4", DESIRED, a, FOR_A_WHILE).as_deref(), Some("3"), "they end together");
    }

    #[test]
    fn a_full_queue_still_takes_what_becomes_part_of_another() {
        let mut outbox = Outbox::default();
        set(&mut outbox, "1", DESIRED, r#"{"a":1}"#, KEPT);
        for id in 2..=QUEUE_ENTRIES {
            push(&mut outbox, &id.to_string(), "{}").expect("room");
        }
        assert_eq!(push(&mut outbox, "more", "{}"), Err(PublishRefused::QueueFull));
        let again = outbox.push_patch(NOW, "1", &patch(DESIRED, "{}"), KEPT, 7);
        assert_eq!(again, Err(PublishRefused::InUse));
        assert_eq!(set(&mut outbox, "more", DESIRED, r#"{"a":2}"#, KEPT).as_deref(), Some("1"));
    }

    /// The log, which takes each id once: what the shadow is, and how it was when each command came.
    struct Log {
        known: Vec<String>,
        state: String,
        commands: Vec<String>,
    }

    impl Log {
        fn new() -> Log {
            Log { known: Vec::new(), state: "{}".into(), commands: Vec::new() }
        }

        fn take(&mut self, envelope: &str) {
            let id = Scanner::new(envelope).find_string(&["metadata", "id"]).expect("JSON").expect("an id");
            if self.known.iter().any(|known| *known == id) {
                return;
            }
            match field(envelope, "payload").expect("a payload") {
                "\"command\"" => self.commands.push(self.state.clone()),
                patch => self.state = merge_patch(Some(&self.state), patch).expect("JSON"),
            }
            self.known.push(id.into());
        }
    }

    const PATCHES: [&str; 7] = [
        r#"{"a":1}"#,
        r#"{"a":{"b":1}}"#,
        r#"{"a":{"c":{}}}"#,
        r#"{"a":null}"#,
        r#"{"b":{"c":2,"d":null}}"#,
        r#"{"b":null,"a":{"c":null}}"#,
        r#"{"b":3}"#,
    ];

    proptest! {
        /// However often the connection is lost, with or without an answer: the log comes to what each change by itself would have made of it, and
        /// a command finds the shadow that it was given for.
        #[test]
        fn the_log_comes_to_the_same(script in prop::collection::vec((0..7u8, 0..PATCHES.len()), 1..40)) {
            let mut outbox = Outbox::default();
            let (mut log, mut plain) = (Log::new(), Log::new());
            let end = [(3, 0), (4, 0), (5, 0), (4, 0), (5, 0), (4, 0)].into_iter().cycle().take(200);
            for (step, (what, which)) in script.into_iter().chain(end).enumerate() {
                let say = |topic: &str, text: &str| {
                    format!(r#"{{"metadata":{{"topic":"r/devices/d1/{topic}","id":"{step}"}},"payload":{text}}}"#)
                };
                match what {
                    0 | 1 | 6 => {
                        let text = say("shadow/desired", PATCHES[which]);
                        outbox.push_patch(NOW, &step.to_string(), &text, KEPT, 7).expect("room");
                        plain.take(&text);
                    }
                    2 => {
                        let text = say("commands/request", r#""command""#);
                        outbox.push(NOW, &step.to_string(), &text, KEPT).expect("room");
                        plain.take(&text);
                    }
                    3 => {
                        outbox.disconnected();
                        outbox.connected(2);
                    }
                    4 => while let Some((envelope, _)) = outbox.next(0) {
                        log.take(envelope);
                    },
                    _ => _ = log.known.last().cloned().map(|id| outbox.settle(&id)),
                }
            }
            while let Some(id) = log.known.iter().find(|id| outbox.find(id).is_some()).cloned() {
                outbox.settle(&id);
                while let Some((envelope, _)) = outbox.next(0) {
                    log.take(envelope);
                }
            }
            prop_assert!(outbox.is_empty());
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
            prop_assert_eq!(value(&log.state), value(&plain.state));
            let all = |log: &Log| log.commands.iter().map(|text| value(text)).collect::<Vec<_>>();
            prop_assert_eq!(all(&log), all(&plain));
        }
    }
}
