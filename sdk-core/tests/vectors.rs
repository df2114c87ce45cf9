//! The client's half of the protocol, as `protocol/vectors/delivery.json` plays it.

use anabranch_protocol::client_frame::SnapshotMode;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::server_frame::{GapReason, Outcome};
use anabranch_sdk_core::{Effect, Machine, Now, Start};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const NOW: Now = Now { mono: 1_000, wall: 1_795_233_600_000 };

struct Player {
    machine: Machine,
    open: BTreeSet<u32>,
    attempt: u32,
    sent: Vec<Value>,
    events: Vec<Value>,
    reset: Option<u16>,
}

impl Player {
    fn open(&mut self, subscription: &Value) {
        let id = subscription["id"].as_u64().expect("an id") as u32;
        let start = match subscription["cursor"].as_str() {
            Some(cursor) => cursor.parse().map_or(Start::Anew, Start::After),
            None => Start::Now,
        };
        let name = subscription["snapshot"].as_str().unwrap_or("none");
        let snapshot = SnapshotMode::ALL.into_iter().find(|mode| mode.name() == name).expect("a mode");
        self.open.insert(id);
        self.machine
            .subscribe(NOW, id, subscription["filter"].as_str().expect("a filter"), start, snapshot)
            .expect("a filter");
        self.take_effects();
    }

    /// Carries out effects, and goes through the opening of a socket as it comes.
    fn take_effects(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::NeedToken { request, .. } => self.machine.handle_token(NOW, request, "token"),
                Effect::Open { attempt } => {
                    self.attempt = attempt;
                    self.machine.handle_opened(NOW, attempt);
                }
                Effect::Send { text, .. } => self.sent.push(serde_json::from_str(&text).expect("JSON")),
                Effect::Deliver { subscriptions, position, about, envelope } => {
                    let envelope = Envelope::parse(&envelope).expect("an envelope");
                    let payload: Value = serde_json::from_str(envelope.payload).expect("JSON");
                    for id in subscriptions {
                        let mut event = json!({
                            "subscription": id, "event": "message", "position": position.to_string(),
                            "topic": envelope.topic, "payload": payload,
                        });
                        if about.snapshot {
                            event["snapshot"] = true.into();
                        }
                        self.events.push(event);
                    }
                }
                Effect::Subscribed { outcome, .. } => {
                    self.reset = match outcome {
                        Outcome::Reset(code) => Some(code.0),
                        // A start that was no cursor is said as `from: now`; the reset is ours to tell.
                        _ => Some(4303),
                    }
                }
                Effect::Gap { subscriptions, gap } => {
                    for id in subscriptions {
                        self.events.push(match gap.reason {
                            GapReason::Reset => {
                                json!({ "subscription": id, "event": "reset", "code": self.reset })
                            }
                            reason => json!({
                                "subscription": id, "event": "gap", "partition": gap.partition,
                                "after": gap.after.to_string(), "before": gap.before.to_string(),
                                "reason": reason.name(),
                            }),
                        });
                    }
                }
                Effect::SnapshotBegins { subscription: id } => {
                    self.events.push(json!({ "subscription": id, "event": "snapshot_begins" }));
                }
                Effect::SnapshotEnds { subscription: id, complete } => {
                    let event = json!({ "subscription": id, "event": "snapshot_ends", "complete": complete });
                    self.events.push(event);
                }
                Effect::Live { subscriptions } => {
                    for id in subscriptions {
                        self.events.push(json!({ "subscription": id, "event": "live" }));
                    }
                }
                Effect::Refused { subscription: Some(id), code, .. }
                | Effect::Revoked { subscription: id, code } => {
                    self.open.remove(&id);
                    self.events.push(json!({ "subscription": id, "event": "closed", "code": code.0 }));
                }
                Effect::Close { .. } | Effect::Cursor { .. } | Effect::State(_) => {}
                other => panic!("the vectors have no {other:?}"),
            }
        }
    }

    fn cursors(&self) -> BTreeMap<String, Option<String>> {
        let cursor = |id: &u32| self.machine.cursor(*id).map(ToString::to_string);
        self.open.iter().map(|id| (id.to_string(), cursor(id))).collect()
    }

    /// Connects, and gives back what the hello says about the subscriptions.
    fn connect(&mut self) -> Value {
        self.sent.clear();
        self.machine.connect(NOW);
        self.take_effects();
        let hello = self.sent.first().expect("a hello");
        assert_eq!(hello["type"], "hello");
        sorted(&hello["subscriptions"])
    }
}

/// By id; and an explicit `from: now` is what the vectors leave out.
fn sorted(subscriptions: &Value) -> Value {
    let mut list = subscriptions.as_array().expect("subscriptions").clone();
    for said in &mut list {
        if said["from"] == "now" {
            said.as_object_mut().expect("an object").remove("from");
        }
    }
    list.sort_by_key(|said| said["id"].as_u64());
    Value::Array(list)
}

/// Events in order for each subscription; the order between subscriptions is nobody's concern.
fn by_subscription(events: &[Value]) -> BTreeMap<u64, Vec<Value>> {
    let mut sorted: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for event in events {
        sorted.entry(event["subscription"].as_u64().expect("an id")).or_default().push(event.clone());
    }
    sorted
}

fn is_cursor(text: &str) -> bool {
    text.parse::<Cursor>().is_ok()
}

fn play(case: &Value) {
    let mut player = Player {
        machine: Machine::new("vectors", "vectors", 1),
        open: BTreeSet::new(),
        attempt: 0,
        sent: Vec::new(),
        events: Vec::new(),
        reset: None,
    };
    for subscription in case["subscriptions"].as_array().expect("subscriptions") {
        player.open(subscription);
    }
    for (number, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
        let place = format!("{}, step {number}", case["name"]);
        if let Some(said) = step.get("connect") {
            let mut expected = sorted(said);
            // A text that is no cursor is not sent: the client knows that it is none.
            for said in expected.as_array_mut().expect("a list") {
                if said["cursor"].as_str().is_some_and(|text| !is_cursor(text)) {
                    said.as_object_mut().expect("an object").remove("cursor");
                }
            }
            assert_eq!(player.connect(), expected, "{place}");
        } else if let Some(frame) = step.get("receive") {
            let text = frame.as_str().map_or_else(|| frame.to_string(), str::to_owned);
            player.machine.handle_frame(NOW, player.attempt, &text);
            player.take_effects();
            let events = std::mem::take(&mut player.events);
            let expected = step["events"].as_array().expect("events");
            assert_eq!(by_subscription(&events), by_subscription(expected), "{place}");
            let mut expected: BTreeMap<String, Option<String>> =
                serde_json::from_value(step["cursors"].clone()).expect("cursors");
            for cursor in expected.values_mut() {
                *cursor = cursor.take().filter(|text| is_cursor(text));
            }
            assert_eq!(player.cursors(), expected, "{place}");
        } else if let Some(subscription) = step.get("subscribe") {
            player.open(subscription);
        } else if let Some(id) = step.get("unsubscribe") {
            let id = id.as_u64().expect("an id") as u32;
            player.open.remove(&id);
            player.machine.unsubscribe(NOW, id);
            player.take_effects();
        } else if step.get("disconnect").is_some() {
            player.machine.disconnect(NOW);
            player.take_effects();
        } else {
            panic!("{place}: nobody knows this step");
        }
    }
    player.machine.disconnect(NOW);
    player.take_effects();
    assert_eq!(player.connect(), sorted(&case["resume"]), "{}: the next hello", case["name"]);
}

#[test]
fn delivery() {
    let text = include_str!("../../protocol/vectors/delivery.json");
    let vectors: Value = serde_json::from_str(text).expect("JSON");
    let mut failed = Vec::new();
    for case in vectors["cases"].as_array().expect("cases") {
        let name = case["name"].to_string();
        if std::panic::catch_unwind(|| play(case)).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}
