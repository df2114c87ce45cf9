//! A client that follows `docs/PROTOCOL.md` to the letter, and knows what it should have got.

use super::{Start, log::ListLog};
use crate::socket::pipe::Pipe;
use anabranch_protocol::client_frame::{ClientFrame, Hello, StartAt, Subscribe};
use anabranch_protocol::cursor::{Cursor, Offset, Position};
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Outcome, ServerFrame};
use std::sync::Arc;

pub struct Client {
    pipe: Pipe,
    log: Arc<ListLog>,
    inbound: Vec<u8>,
    subscriptions: Vec<Subscription>,
    messages: u64,
}

/// One subscription, with its whole history.
struct Subscription {
    id: u32,
    filter: Filter,
    /// Where it stands; `None` until `subscribed`.
    cursor: Option<Cursor>,
    began: Offset,
    delivered: Vec<Offset>,
    /// Gaps told: after, before.
    gaps: Vec<(Offset, Offset)>,
    /// Whether it was ended by the client; then it need not be complete, only right.
    ended: bool,
}

impl Client {
    pub fn new(pipe: Pipe, log: Arc<ListLog>, token: String) -> Client {
        let mut client = Client { pipe, log, inbound: Vec::new(), subscriptions: Vec::new(), messages: 0 };
        let hello = Hello {
            token: token.into(),
            client_id: "".into(),
            sdk: "".into(),
            cursor: None,
            subscriptions: Vec::new(),
        };
        client.send(&ClientFrame::Hello(hello));
        client
    }

    fn send(&mut self, frame: &ClientFrame<'_>) {
        let text = frame.to_json();
        let mut bytes = vec![0x81, 0x80 | 126];
        bytes.extend((text.len() as u16).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(text.as_bytes());
        self.pipe.send(&bytes);
    }

    pub fn subscribe(&mut self, filter: &str, start: &Start) {
        let id = self.subscriptions.len() as u32;
        let cursor = |position: Option<Position>| {
            let mut cursor = Cursor::beginning(self.log.log_id());
            position.inspect(|position| cursor.set(*position));
            StartAt::Cursor(cursor.to_string().into())
        };
        let start = match start {
            Start::Now => StartAt::Now,
            Start::Earliest => StartAt::Earliest,
            Start::Back(count) => cursor(self.log.back(*count)),
        };
        self.send(&ClientFrame::Subscribe(Subscribe {
            id,
            filter: filter.into(),
            start,
            ..Subscribe::default()
        }));
        self.subscriptions.push(Subscription {
            id,
            filter: Filter::new(filter).expect("a good filter"),
            cursor: None,
            began: Offset(0),
            delivered: Vec::new(),
            gaps: Vec::new(),
            ended: false,
        });
    }

    pub fn unsubscribe(&mut self, which: usize) {
        if let Some(subscription) = self.subscriptions.iter_mut().filter(|s| !s.ended).nth(which) {
            subscription.ended = true;
            let id = subscription.id;
            self.send(&ClientFrame::Unsubscribe { id });
        }
    }

    pub fn probe(&mut self) {
        self.send(&ClientFrame::Probe);
    }

    pub fn read(&mut self, max: usize) {
        self.inbound.extend(self.pipe.receive(max));
        while let Some((start, len)) = frame_at(&self.inbound) {
            let rest = self.inbound.split_off(start + len);
            let frame = std::mem::replace(&mut self.inbound, rest);
            let text = std::str::from_utf8(&frame[start..]).expect("text frames only");
            self.handle(text);
        }
    }

    fn handle(&mut self, text: &str) {
        match ServerFrame::from_json(text).expect(text) {
            ServerFrame::Message { position, envelope, .. } => {
                self.messages += 1;
                let envelope = Envelope::parse(envelope).expect("a whole envelope");
                let topic = envelope.topic.expect("with a topic");
                for s in self.subscriptions.iter_mut().filter(|s| !s.ended && s.filter.matches(&topic)) {
                    if let Some(cursor) = s.cursor.as_mut().filter(|cursor| !cursor.includes(position)) {
                        cursor.set(position);
                        s.delivered.push(position.offset);
                    }
                }
            }
            ServerFrame::Subscribed { subscription, cursor, outcome, .. } => {
                let s = &mut self.subscriptions[subscription as usize];
                assert!(s.cursor.is_none(), "subscribed twice");
                s.began = cursor.position(0).map_or(Offset(0), |p| p.offset);
                if let Outcome::Gap(gap) = outcome {
                    s.began = gap.after;
                    s.gaps.push((gap.after, gap.before));
                }
                s.cursor = Some(cursor);
            }
            ServerFrame::Mark { cursor, delivered } => {
                assert_eq!(delivered, self.messages, "the mark's count");
                self.advance(&cursor);
            }
            ServerFrame::CaughtUp { cursor, .. } => self.advance(&cursor),
            ServerFrame::Gap(gap) => {
                let end = Position { partition: 0, offset: Offset(gap.before.0 - 1), fingerprint: None };
                for s in &mut self.subscriptions {
                    if let Some(cursor) = &mut s.cursor {
                        s.gaps.push((gap.after, gap.before));
                        cursor.advance(end);
                    }
                }
            }
            ServerFrame::Refused(refused) => {
                // An unsubscribe may cross nothing here; any refusal is a fault.
                panic!("refused: {:?} {}", refused.code, refused.message);
            }
            _ => {}
        }
    }

    fn advance(&mut self, to: &Cursor) {
        for cursor in self.subscriptions.iter_mut().filter_map(|s| s.cursor.as_mut()) {
            cursor.advance_to(to);
        }
    }

    /// Whether every subscription has begun and stands at the head.
    pub fn has_settled(&self, head: &Cursor) -> bool {
        let mut alive = self.subscriptions.iter().filter(|s| !s.ended);
        alive.all(|s| s.cursor.as_ref().is_some_and(|cursor| cursor.includes_all(head)))
    }

    pub fn describe(&self) -> String {
        let cursors = self.subscriptions.iter().map(|s| match &s.cursor {
            Some(cursor) => format!("{} at {cursor}", s.filter),
            None => format!("{} not begun", s.filter),
        });
        cursors.collect::<Vec<_>>().join(", ")
    }

    /// The promise.
    pub fn check(&self) {
        let all = self.log.all(0, usize::MAX);
        for s in &self.subscriptions {
            assert!(
                s.delivered.is_sorted_by(|a, b| a < b),
                "{}: out of order or double: {:?}",
                s.filter,
                s.delivered
            );
            let wanted = |record: &&crate::log::Record| {
                record.position.offset > s.began && s.filter.matches(&record.topic)
            };
            for offset in &s.delivered {
                let known = all.iter().filter(wanted).any(|r| r.position.offset == *offset);
                assert!(known, "{}: {offset} was not asked for", s.filter);
            }
            if s.ended {
                continue;
            }
            for record in all.iter().filter(wanted) {
                let offset = record.position.offset;
                let told = s.gaps.iter().any(|(after, before)| *after < offset && offset < *before);
                let got = s.delivered.binary_search(&offset).is_ok();
                assert!(got || told, "{}: {offset} is lost, and nobody said so", s.filter);
            }
        }
    }
}

/// Where the first frame's payload begins, and its length, if it is all there.
fn frame_at(bytes: &[u8]) -> Option<(usize, usize)> {
    let (start, len) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= start + len).then_some((start, len))
}
