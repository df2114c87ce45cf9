//! One connection of a gateway that follows `docs/PROTOCOL.md`, with one cursor for the whole connection.

use crate::log::{Log, offset};
use anabranch_protocol::client_frame::{ClientFrame, StartAt, Subscribe, SubscriptionId};
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, Offset, Position};
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Gap, GapReason, Limits, Outcome, Refused, ServerFrame, Welcome};
use std::collections::VecDeque;

/// What the next of its kind meets.
#[derive(Default)]
pub struct Mood {
    pub reject_token: bool,
    pub refuse_publish: bool,
    pub refuse_subscription: bool,
    pub lose: bool,
}

pub struct Connection {
    pub attempt: u32,
    pub to_gateway: VecDeque<String>,
    pub to_client: VecDeque<String>,
    /// Accepted, but where they begin takes the gateway a while to find out.
    starting: VecDeque<(SubscriptionId, Filter, StartAt<'static>)>,
    subscriptions: Vec<(SubscriptionId, Filter)>,
    cursor: Option<Cursor>,
    delivered: u64,
    caught_up: bool,
    /// A message was sent twice, or lost. Never both on one connection: a count cannot tell that from neither.
    faulty: bool,
    /// Counted but not sent, since the last mark.
    pub lost: Vec<Position>,
    /// The same, before a mark that may still be under way.
    pub marked: Vec<Position>,
}

impl Connection {
    pub fn new(attempt: u32) -> Connection {
        Connection {
            attempt,
            to_gateway: VecDeque::new(),
            to_client: VecDeque::new(),
            starting: VecDeque::new(),
            subscriptions: Vec::new(),
            cursor: None,
            delivered: 0,
            caught_up: false,
            faulty: false,
            lost: Vec::new(),
            marked: Vec::new(),
        }
    }

    pub fn send(&mut self, frame: &ServerFrame<'_>) {
        self.to_client.push_back(frame.to_json());
    }

    /// Takes one frame from the client; a code closes the connection.
    pub fn take(&mut self, log: &mut Log, mood: &mut Mood) -> Option<Code> {
        let text = self.to_gateway.pop_front()?;
        let frame = ClientFrame::from_json(&text).expect("the client speaks the protocol");
        assert_eq!(
            matches!(frame, ClientFrame::Hello(_)),
            self.cursor.is_none(),
            "hello is the first frame, and only the first"
        );
        match frame {
            ClientFrame::Hello(hello) => {
                if std::mem::take(&mut mood.reject_token) {
                    self.refuse(Code::TOKEN_INVALID, None, None);
                    return Some(Code::TOKEN_INVALID);
                }
                let head = log.head();
                self.send(&ServerFrame::Welcome(Welcome {
                    session: "s".into(),
                    cursor: head.clone(),
                    ping_interval_ms: 20_000,
                    ping_grace_ms: 10_000,
                    token_ttl_ms: 100_000,
                    server_time_ms: 0,
                    limits: Limits {
                        frame_bytes: 1 << 20,
                        subscriptions: 256,
                        publishes_in_flight: 4,
                        conflate_ms: 0,
                    },
                }));
                self.cursor = Some(head);
                for subscribe in hello.subscriptions {
                    self.subscribe(mood, subscribe);
                }
            }
            ClientFrame::Subscribe(subscribe) => self.subscribe(mood, subscribe),
            ClientFrame::Unsubscribe { id } => {
                let before = self.subscriptions.len() + self.starting.len();
                self.subscriptions.retain(|(other, _)| *other != id);
                // Nobody answers for one that has not begun.
                self.starting.retain(|(other, ..)| *other != id);
                if self.subscriptions.len() + self.starting.len() == before {
                    self.refuse(Code::UNKNOWN_SUBSCRIPTION, Some(id), None);
                }
            }
            ClientFrame::Publish { envelope } => {
                let envelope = Envelope::parse(envelope).expect("an envelope");
                let message_id = envelope.message_id.expect("a message id");
                if std::mem::take(&mut mood.refuse_publish) {
                    self.refuse(Code::UPSTREAM_DOWN, None, Some(&message_id));
                } else {
                    let (position, duplicate) = log.publish(&message_id);
                    self.send(&ServerFrame::Published { message_id, position, duplicate });
                }
            }
            ClientFrame::Authenticate(_) => self.send(&ServerFrame::Authenticated { token_ttl_ms: 100_000 }),
            ClientFrame::Probe => self.mark(),
            ClientFrame::Conflate { .. } | ClientFrame::Hidden(_) => {
                panic!("this gateway has not said that it understands that")
            }
            ClientFrame::Pong | ClientFrame::Goodbye => {}
        }
        None
    }

    fn refuse(&mut self, code: Code, subscription: Option<SubscriptionId>, message_id: Option<&str>) {
        self.send(&ServerFrame::Refused(Refused {
            code,
            message: "no".into(),
            retry_after_ms: None,
            subscription,
            message_id: message_id.map(Into::into),
        }));
    }

    fn subscribe(&mut self, mood: &mut Mood, subscribe: Subscribe<'_>) {
        let Subscribe { id, filter, start, .. } = subscribe;
        let used = self.subscriptions.iter().map(|(id, _)| id).chain(self.starting.iter().map(|(id, ..)| id));
        if used.into_iter().any(|other| *other == id) {
            return self.refuse(Code::SUBSCRIPTION_IN_USE, Some(id), None);
        }
        if std::mem::take(&mut mood.refuse_subscription) {
            return self.refuse(Code::OVERLOADED, Some(id), None);
        }
        let start = match start {
            StartAt::Cursor(text) => StartAt::Cursor(text.into_owned().into()),
            StartAt::Default | StartAt::Now => StartAt::Now,
            StartAt::Earliest => StartAt::Earliest,
            StartAt::Since(ms) => StartAt::Since(ms),
        };
        self.starting.push_back((id, Filter::new(&filter).expect("a filter"), start));
    }

    /// Begins the delivery of the next accepted subscription; `false` if there is none.
    fn start(&mut self, log: &Log) -> bool {
        let Some((id, filter, start)) = self.starting.pop_front() else { return false };
        let mut gaps = VecDeque::new();
        let (cursor, outcome) = match start {
            StartAt::Default | StartAt::Now => (log.head(), Outcome::Live),
            StartAt::Earliest | StartAt::Since(_) => (log.earliest(), Outcome::Resumed),
            StartAt::Cursor(text) => match text.parse::<Cursor>() {
                Err(_) => (log.head(), Outcome::Reset(Code::CURSOR_MALFORMED)),
                Ok(cursor) if cursor.log() != log.id => (log.head(), Outcome::Reset(Code::CURSOR_OTHER_LOG)),
                Ok(mut cursor) => {
                    for partition in [0, 1] {
                        gaps.extend(step_over_gap(log, &mut cursor, partition));
                    }
                    let outcome = gaps.pop_front().map_or(Outcome::Resumed, Outcome::Gap);
                    (cursor, outcome)
                }
            },
        };
        self.send(&ServerFrame::Subscribed {
            subscription: id,
            cursor: cursor.clone(),
            outcome,
            snapshot: None,
        });
        for gap in gaps {
            self.send(&ServerFrame::Gap { gap, values: false });
        }
        self.subscriptions.push((id, filter));
        self.caught_up = false;
        // The connection goes back to where its newest subscription begins.
        let own = self.cursor.get_or_insert_with(|| log.head());
        let mut lowest = Cursor::beginning(log.id);
        for position in own.positions() {
            if let Some(other) = cursor.position(position.partition) {
                lowest.set(if other.offset < position.offset { other } else { *position });
            }
        }
        *own = lowest;
        true
    }

    /// Sends what comes next; `false` if there is nothing.
    pub fn pump(&mut self, log: &Log, mood: &mut Mood) -> bool {
        if self.start(log) {
            return true;
        }
        let Some(mut cursor) = self.cursor.clone() else { return false };
        for partition in [0, 1] {
            if let Some(gap) = step_over_gap(log, &mut cursor, partition) {
                self.cursor = Some(cursor);
                self.send(&ServerFrame::Gap { gap, values: false });
                return true;
            }
            let Some(record) = log.after(partition, offset(&cursor, partition)) else { continue };
            cursor.set(record.position);
            self.cursor = Some(cursor);
            if !self.subscriptions.iter().any(|(_, filter)| filter.matches(record.topic)) {
                return true;
            }
            self.delivered += 1;
            if !self.faulty && std::mem::take(&mut mood.lose) {
                self.faulty = true;
                self.lost.push(record.position);
                return true;
            }
            let (topic, id) = (record.topic, &record.message_id);
            let envelope =
                format!("{{\"metadata\":{{\"messageId\":\"{id}\",\"topic\":\"{topic}\"}},\"payload\":null}}");
            self.send(&ServerFrame::Message {
                position: record.position,
                about: Default::default(),
                envelope: &envelope,
            });
            return true;
        }
        if !self.caught_up {
            self.caught_up = true;
            self.send(&ServerFrame::CaughtUp { cursor });
            return true;
        }
        false
    }

    /// The message under way arrives twice in a row. (Later would be another order, which no connection makes.)
    pub fn duplicate(&mut self) {
        let message =
            self.to_client.front().filter(|text| text.starts_with("{\"type\":\"message\"")).cloned();
        if let Some(message) = message.filter(|_| !self.faulty) {
            self.faulty = true;
            self.to_client.insert(1, message);
        }
    }

    pub fn mark(&mut self) {
        if let Some(cursor) = self.cursor.clone() {
            self.send(&ServerFrame::Mark { cursor, delivered: self.delivered });
            self.marked.append(&mut self.lost);
        }
    }
}

/// Moves a cursor past what the log has forgotten.
fn step_over_gap(log: &Log, cursor: &mut Cursor, partition: u16) -> Option<Gap> {
    let (at, trimmed) = (offset(cursor, partition), log.trimmed[usize::from(partition)]);
    if trimmed <= at {
        return None;
    }
    cursor.set(Position { partition, offset: Offset(trimmed), fingerprint: None });
    Some(Gap { partition, after: Offset(at), before: Offset(trimmed + 1), reason: GapReason::Retention })
}
