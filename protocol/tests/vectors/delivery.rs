//! The client's half of "Cursors and positions", played against the plainest client that obeys it.
//!
//! [`Client`] is a reference for people who write another one: PROTOCOL.md's rules, one method each, no network.

use crate::{by_number, each, text};
use anabranch_protocol::code::{Code, Remedy};
use anabranch_protocol::cursor::{Cursor, Offset, Position};
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Gap, GapReason, Outcome, ServerFrame};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) const KINDS: &[&str] = &["cases"];

struct Subscription {
    filter: Filter,
    /// As stored, which may be no cursor at all.
    stored: Option<String>,
    /// Which newest values are asked for; and where those stood that were interrupted.
    snapshot: String,
    state: Option<Cursor>,
    /// Every value was to come, and did not yet, when the connection was lost.
    whole: bool,
    /// Some that should have come did not.
    lacks: bool,
    /// Set by `subscribed` on this connection; nothing counts before it.
    started: Option<Started>,
}

struct Started {
    cursor: Cursor,
    /// Where it stood at the last mark whose count agreed.
    good: Cursor,
    live: bool,
    values: Option<Values>,
    /// Every value comes, until the next `caught_up`.
    whole: bool,
}

/// Newest values that are on their way.
struct Values {
    place: Cursor,
    /// Where the app stands meanwhile: the cursor alone would claim values that have not come.
    before: Option<String>,
}

#[derive(Default)]
struct Client {
    subscriptions: BTreeMap<u32, Subscription>,
    /// `message` frames on this connection.
    delivered: u64,
    events: Vec<Value>,
}

impl Client {
    fn open(&mut self, subscription: &Value) -> u32 {
        let id = subscription["id"].as_u64().expect("an id") as u32;
        let filter = Filter::new(text(subscription, "filter")).expect("a filter");
        let stored = subscription["cursor"].as_str().map(str::to_owned);
        let snapshot = subscription["snapshot"].as_str().unwrap_or("none").to_owned();
        let subscription =
            Subscription { filter, stored, snapshot, state: None, whole: false, lacks: false, started: None };
        let before = self.subscriptions.insert(id, subscription);
        assert!(before.is_none(), "the id {id} is in use");
        id
    }

    fn disconnect(&mut self) {
        self.delivered = 0;
        for subscription in self.subscriptions.values_mut() {
            subscription.stored = subscription.wire_cursor();
            subscription.whole = subscription.started.as_ref().is_some_and(|started| started.whole);
            subscription.state =
                subscription.started.take().and_then(|s| s.values).map(|values| values.place);
        }
    }

    /// What the next hello says about the subscriptions.
    fn hello(&self) -> Value {
        let said = self.subscriptions.iter().map(|(id, subscription)| {
            let mut said = json!({ "id": id, "filter": subscription.filter.as_str() });
            if let Some(cursor) = subscription.wire_cursor() {
                said["cursor"] = cursor.into();
            }
            if subscription.snapshot != "none" {
                said["snapshot"] = subscription.snapshot.as_str().into();
            }
            let state = match &subscription.started {
                Some(started) => started.values.as_ref().map(|values| &values.place),
                None => subscription.state.as_ref(),
            };
            if let Some(state) = state {
                said["state"] = state.to_string().into();
            }
            said
        });
        Value::Array(said.collect())
    }

    fn cursors(&self) -> BTreeMap<u32, Option<String>> {
        self.subscriptions.iter().map(|(id, subscription)| (*id, subscription.cursor())).collect()
    }

    fn receive(&mut self, frame: ServerFrame<'_>) {
        match frame {
            ServerFrame::Subscribed { subscription, cursor, outcome, snapshot } => {
                let Some(known) = self.subscriptions.get_mut(&subscription) else { return };
                if known.snapshot == "always" {
                    known.snapshot = "if_new".into();
                }
                let begins = snapshot.as_ref().is_some_and(|snapshot| snapshot.whole);
                known.lacks &= !begins;
                let whole = begins || (known.whole && !matches!(outcome, Outcome::Reset(_)));
                let before = known.cursor();
                let values = snapshot.map(|snapshot| Values { place: snapshot.state, before });
                let values = values.filter(|values| values.place != cursor);
                known.started = Some(Started { good: cursor.clone(), cursor, live: false, values, whole });
                if begins {
                    self.events.push(json!({ "subscription": subscription, "event": "snapshot_begins" }));
                }
                match outcome {
                    Outcome::Live | Outcome::Resumed => {}
                    Outcome::Gap(gap) => self.events.push(gap_event(subscription, &gap)),
                    Outcome::Reset(code) => {
                        self.events
                            .push(json!({ "subscription": subscription, "event": "reset", "code": code.0 }));
                    }
                }
            }
            ServerFrame::Message { position, about, envelope } => {
                self.message(position, about.snapshot, envelope);
            }
            ServerFrame::Incomplete => {
                for subscription in self.subscriptions.values_mut().filter(|s| s.started.is_some()) {
                    subscription.lacks = true;
                }
            }
            ServerFrame::CaughtUp { cursor } => {
                let mut told = Vec::new();
                for (id, subscription) in &mut self.subscriptions {
                    let Some(started) = &mut subscription.started else { continue };
                    started.follow(&cursor);
                    started.values = None;
                    if std::mem::take(&mut started.whole) {
                        told.push(
                            json!({ "subscription": id, "event": "snapshot_ends", "complete": !subscription.lacks }),
                        );
                    }
                    if !std::mem::replace(&mut started.live, true) {
                        told.push(json!({ "subscription": id, "event": "live" }));
                    }
                }
                self.events.extend(told);
            }
            ServerFrame::Gap { gap, .. } => self.gap(&gap),
            ServerFrame::Mark { cursor, delivered } => self.mark(&cursor, delivered),
            ServerFrame::Revoked { subscription, code, .. } => self.close(subscription, code),
            ServerFrame::Refused(refused) => match refused.subscription {
                Some(id) if refused.code.remedy() == Remedy::DropItem => self.close(id, refused.code),
                _ => panic!("the vectors have no other refusal: {refused:?}"),
            },
            ServerFrame::Welcome(_) | ServerFrame::Unknown => {}
            other => panic!("the vectors have no {other:?}"),
        }
    }

    fn message(&mut self, position: Position, newest: bool, envelope: &str) {
        self.delivered += 1;
        let envelope = Envelope::parse(envelope).expect("an envelope");
        let topic = envelope.topic.as_deref().expect("a topic");
        let payload: Value = serde_json::from_str(envelope.payload).expect("JSON");
        for (id, subscription) in &mut self.subscriptions {
            let Some(started) = &mut subscription.started else { continue };
            if subscription.filter.matches(topic) && started.take(position, newest) {
                let mut event = json!({
                    "subscription": id, "event": "message", "position": position.to_string(),
                    "topic": topic, "payload": payload,
                });
                if newest {
                    event["snapshot"] = true.into();
                }
                self.events.push(event);
            }
        }
    }

    fn gap(&mut self, gap: &Gap) {
        let Some(last) = gap.before.0.checked_sub(1) else { return };
        let over = Position { partition: gap.partition, offset: Offset(last), fingerprint: None };
        let mut told = Vec::new();
        for (id, started) in self.started() {
            if started.cursor.advance(over) {
                told.push(gap_event(id, gap));
            }
        }
        self.events.extend(told);
    }

    fn mark(&mut self, cursor: &Cursor, delivered: u64) {
        let agreed = std::mem::replace(&mut self.delivered, delivered) == delivered;
        let mut told = Vec::new();
        for (id, started) in self.started() {
            if cursor.log() != started.cursor.log() {
                continue;
            }
            for position in cursor.positions().iter().filter(|_| !agreed) {
                let after = started.good.position(position.partition).map_or(Offset(0), |p| p.offset);
                if position.offset > after {
                    let before = Offset(position.offset.0.saturating_add(1));
                    let gap =
                        Gap { partition: position.partition, after, before, reason: GapReason::Miscount };
                    told.push(gap_event(id, &gap));
                }
            }
            started.follow(cursor);
            started.good = started.cursor.clone();
        }
        self.events.extend(told);
    }

    fn close(&mut self, id: u32, code: Code) {
        self.subscriptions.remove(&id).expect("an open subscription");
        self.events.push(json!({ "subscription": id, "event": "closed", "code": code.0 }));
    }

    fn started(&mut self) -> impl Iterator<Item = (u32, &mut Started)> {
        self.subscriptions.iter_mut().filter_map(|(id, s)| s.started.as_mut().map(|started| (*id, started)))
    }
}

impl Subscription {
    /// What an app may store: while values are on their way, where it stood before.
    fn cursor(&self) -> Option<String> {
        match self.started.as_ref().and_then(|started| started.values.as_ref()) {
            Some(values) => values.before.clone(),
            None if self.state.is_some() && self.started.is_none() => None,
            None => self.wire_cursor(),
        }
    }

    /// What the gateway is told, together with the place of the values.
    fn wire_cursor(&self) -> Option<String> {
        self.started.as_ref().map(|started| started.cursor.to_string()).or_else(|| self.stored.clone())
    }
}

impl Started {
    /// Whether a message is not accounted for yet. Moves what it covers.
    fn take(&mut self, position: Position, newest: bool) -> bool {
        let place = self.values.as_ref().filter(|_| newest).map_or(&self.cursor, |values| &values.place);
        if place.includes(position) {
            return false;
        }
        self.cursor.advance(position);
        if let Some(values) = &mut self.values {
            values.place.advance(position);
        }
        let come = |values: &mut Values| values.place.includes_all(&self.cursor);
        self.values.take_if(come);
        true
    }

    /// Moves forward to another cursor of the same log.
    fn follow(&mut self, cursor: &Cursor) {
        if cursor.log() == self.cursor.log() {
            for position in cursor.positions() {
                self.cursor.advance(*position);
            }
        }
    }
}

fn gap_event(id: u32, gap: &Gap) -> Value {
    json!({
        "subscription": id, "event": "gap", "partition": gap.partition, "after": gap.after.to_string(),
        "before": gap.before.to_string(), "reason": gap.reason.name(),
    })
}

fn play(case: &Value) {
    let mut client = Client::default();
    for subscription in case["subscriptions"].as_array().expect("subscriptions") {
        client.open(subscription);
    }
    for (number, step) in case["steps"].as_array().expect("steps").iter().enumerate() {
        let place = format!("{}, step {number}", case["name"]);
        if let Some(hello) = step.get("connect") {
            assert_eq!(client.hello(), *hello, "{place}");
        } else if let Some(frame) = step.get("receive") {
            let frame = frame.as_str().map_or_else(|| frame.to_string(), str::to_owned);
            client.receive(ServerFrame::from_json(&frame).unwrap_or_else(|error| panic!("{place}: {error}")));
            assert_eq!(Value::Array(std::mem::take(&mut client.events)), step["events"], "{place}");
            assert_eq!(client.cursors(), by_number(&step["cursors"]), "{place}");
        } else if let Some(subscription) = step.get("subscribe") {
            client.open(subscription);
        } else if let Some(id) = step.get("unsubscribe") {
            client.subscriptions.remove(&(id.as_u64().expect("an id") as u32)).expect("an open subscription");
        } else if step.get("disconnect").is_some() {
            client.disconnect();
        } else {
            panic!("{place}: nobody knows this step");
        }
    }
    assert_eq!(client.hello(), case["resume"], "{}: the next hello", case["name"]);
}

#[test]
fn delivery() {
    each("delivery.json", "cases", play);
}
