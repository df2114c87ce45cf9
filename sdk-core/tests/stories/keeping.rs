//! What goes to the store and what the next process makes of it.

use crate::body::{Body, cursor, position};
use anabranch_protocol::client_frame::{ClientFrame, SnapshotMode};
use anabranch_protocol::code::Code;
use anabranch_protocol::delta::same;
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::json::Scanner;
use anabranch_protocol::merge_patch::merge_patch;
use anabranch_protocol::server_frame::{About, Outcome, Refused, ServerFrame};
use anabranch_sdk_core::outbox::Terms;
use anabranch_sdk_core::store::{Kept, Place, Write};
use anabranch_sdk_core::{Effect, Machine, Start};

const KEPT: Terms = Terms { kept: true, ttl_ms: Some(60_000) };

fn envelope(topic: &str, id: &str) -> String {
    format!(r#"{{"metadata":{{"messageId":"{id}","topic":"{topic}"}},"payload":1}}"#)
}

/// A machine with a store, and what it has written there.
struct Process {
    body: Body,
    kept: Kept,
}

impl Process {
    fn start(kept: Kept, now_ms: u64) -> Process {
        let mut body = Body::new();
        body.now.mono += now_ms;
        body.now.wall += now_ms;
        let loaded = kept.clone();
        body.command(|machine, now| machine.restore(now, loaded));
        let mut process = Process { body, kept };
        process.write();
        process
    }

    fn go_online(&mut self) {
        self.body.command(Machine::connect);
        self.body.answer_token("token");
        self.body.open();
        self.body.welcome(600_000);
    }

    /// Writes what is to be kept; what else was asked.
    fn write(&mut self) -> Vec<Effect> {
        let (writes, others) = std::mem::take(&mut self.body.effects)
            .into_iter()
            .partition::<Vec<_>, _>(|effect| matches!(effect, Effect::Keep(_)));
        for effect in writes {
            let Effect::Keep(write) = effect else { continue };
            self.kept.apply(&write);
        }
        others
    }

    fn publish(&mut self, topic: &str, id: &str) {
        let text = envelope(topic, id);
        self.body.command(|machine, now| machine.publish_on(now, id, &text, KEPT).expect("room"));
        self.write();
    }

    fn waiting(&self) -> Vec<String> {
        self.body.machine.outbox().map(|one| one.message_id.to_owned()).collect()
    }
}

fn sent(effects: &[Effect]) -> Vec<String> {
    let frame = |effect: &Effect| match effect {
        Effect::Send { text, .. } if text.contains("publish") => Some(text.clone()),
        _ => None,
    };
    effects.iter().filter_map(frame).collect()
}

#[test]
fn a_publish_outlives_the_process_until_it_is_confirmed() {
    let mut first = Process::start(Kept::default(), 0);
    for (topic, id) in [("a", "1"), ("a", "2"), ("b", "3")] {
        first.publish(topic, id);
    }
    let mut second = Process::start(first.kept, 1_000);
    assert_eq!(second.waiting(), ["1", "2", "3"]);
    second.go_online();
    assert_eq!(sent(&second.write()).len(), 3);
    let refused = Refused {
        code: Code::NOT_ALLOWED,
        message: "no".into(),
        retry_after_ms: None,
        subscription: None,
        message_id: Some("1".into()),
    };
    second.body.receive(&ServerFrame::Refused(refused));
    let confirmed =
        ServerFrame::Published { message_id: "3".into(), position: position(7), duplicate: false };
    second.body.receive(&confirmed);
    second.write();
    let mut third = Process::start(second.kept, 2_000);
    let wedged: Vec<_> =
        third.body.machine.outbox().map(|one| (one.message_id.to_owned(), one.wedged)).collect();
    assert_eq!(wedged, [("1".to_owned(), Some((Code::NOT_ALLOWED, "no"))), ("2".to_owned(), None)]);
    third.go_online();
    assert!(sent(&third.write()).is_empty(), "it stands behind the wedged one");
    third.body.command(|machine, now| assert!(machine.withdraw(now, "1")));
    assert_eq!(sent(&third.write()).len(), 1);
    let last = Process::start(third.kept, 60_000);
    assert!(last.waiting().is_empty() && last.kept == Kept::default(), "its time to live has ended");
}

const DESIRED: &str = "r/devices/d1/shadow/desired";

fn change(id: &str, patch: &str) -> String {
    format!(r#"{{"metadata":{{"messageId":"{id}","topic":"{DESIRED}"}},"payload":{patch}}}"#)
}

/// What a device's shadow is when the log has these, each id once, in their order.
fn folded(log: &[String]) -> String {
    let mut known: Vec<String> = Vec::new();
    let mut state = "{}".to_owned();
    for envelope in log {
        let id =
            Scanner::new(envelope).find_string(&["metadata", "messageId"]).expect("JSON").expect("an id");
        if !known.iter().any(|known| *known == id) {
            known.push(id.into());
            let payload = Envelope::parse(envelope).expect("an envelope").payload;
            state = merge_patch(Some(&state), payload).expect("JSON");
        }
    }
    state
}

/// The process ends between any two writes of three changes that merge, before or after the log has what it sent. The next one sends what it
/// finds, and the device gets the changes up to some point, in their order, none of them twice or half.
#[test]
fn a_crash_between_any_two_writes_keeps_merged_changes_whole() {
    let patches = [r#"{"a":1,"b":1}"#, r#"{"a":2}"#, r#"{"a":3,"c":{"d":null}}"#, r#"{"c":null}"#];
    let alone: Vec<String> = (0..).zip(patches).map(|(n, patch)| change(&format!("{n}"), patch)).collect();
    let mut first = Process::start(Kept::default(), 0);
    for (n, text) in alone.iter().enumerate() {
        let (id, terms) = (n.to_string(), Terms { kept: true, ttl_ms: None });
        first.body.command(|machine, now| {
            let merged = machine.publish_patch(now, &id, text, terms, 7).expect("room");
            assert_eq!(merged.is_some(), n > 0);
        });
    }
    let writes: Vec<Write> = std::mem::take(&mut first.body.effects)
        .into_iter()
        .filter_map(|effect| if let Effect::Keep(write) = effect { Some(write) } else { None })
        .collect();
    assert_eq!(writes.len(), patches.len(), "each change is one write");
    first.go_online();
    let frames = |effects: &[Effect]| -> Vec<String> {
        let frame = |text: &String| match ClientFrame::from_json(text).expect("a frame") {
            ClientFrame::Publish { envelope } => envelope.to_owned(),
            other => panic!("{other:?}"),
        };
        sent(effects).iter().map(frame).collect()
    };
    let said = frames(&first.write());
    assert_eq!(said.len(), 1);
    for stored in 0..=writes.len() {
        for log_has_it in [false, true] {
            let mut kept = Kept::default();
            writes[..stored].iter().for_each(|write| kept.apply(write));
            let mut second = Process::start(kept, 1_000);
            second.go_online();
            let mut log = if log_has_it { said.clone() } else { Vec::new() };
            log.extend(frames(&second.write()));
            let end = if log_has_it { patches.len() } else { stored };
            assert!(
                same(&folded(&log), &folded(&alone[..end])).expect("JSON"),
                "{stored}, {log_has_it}: {log:?}"
            );
        }
    }
}

#[test]
fn the_next_process_shows_what_the_app_has_seen_and_gets_the_rest() {
    let mut first = Process::start(Kept::default(), 0);
    first.body.command(|machine, now| {
        machine.subscribe(now, 1, "a/#", Start::Now, SnapshotMode::None).expect("a filter");
        machine.keep_messages(1);
        machine.subscribe(now, 2, "b", Start::Now, SnapshotMode::None).expect("a filter");
    });
    first.go_online();
    for id in [1, 2] {
        first.body.receive(&ServerFrame::Subscribed {
            subscription: id,
            cursor: cursor(10),
            outcome: Outcome::Live,
            snapshot: None,
        });
    }
    for (offset, topic) in [(11, "a/x"), (12, "b"), (13, "a/y"), (14, "a/x")] {
        let text = envelope(topic, &offset.to_string());
        let about = About::default();
        first.body.receive(&ServerFrame::Message { position: position(offset), about, envelope: &text });
    }
    first.write();
    let topics: Vec<&str> = first.kept.messages.iter().map(|one| &*one.topic).collect();
    assert_eq!(topics, ["a/x", "a/y", "a/x"], "only what a kept subscription got");
    let filter = Filter::new("a/#").expect("a filter");
    let place = Place { filter: filter.clone(), cursor: cursor(13) };
    first.kept.apply(&Write::Cursor { name: "mine".into(), place: Some(place) });
    let second = Process::start(first.kept, 1_000);
    let cached: Vec<_> = second.body.machine.cached(&filter, 9).into_iter().map(|one| one.position).collect();
    assert_eq!(cached, [position(11), position(13)], "14 comes again");
    assert_eq!(second.kept.messages.len(), 2);
}
