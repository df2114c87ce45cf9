//! A client that follows `docs/PROTOCOL.md` to the letter, and knows what it should have got.

use super::state::Held;
use super::{Start, log::ListLog};
use crate::socket::pipe::{Pipe, client_frame, take_server_frame};
use anabranch_protocol::client_frame::{ClientFrame, Hello, SnapshotMode, StartAt, Subscribe};
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
    hidden: bool,
}

/// One subscription, with its whole history.
struct Subscription {
    id: u32,
    filter: Filter,
    /// How it is to be conflated.
    conflate_ms: u64,
    /// Whether this connection has said `subscribed`.
    open: bool,
    /// Where it stands; `None` until the first `subscribed`.
    cursor: Option<Cursor>,
    start: StartAt<'static>,
    began: Offset,
    delivered: Vec<Offset>,
    held: Held,
    /// Gaps told: after, before.
    gaps: Vec<(Offset, Offset)>,
    /// Whether it was ended by the client; then it need not be complete, only right.
    ended: bool,
}

impl Client {
    pub fn new(pipe: Pipe, log: Arc<ListLog>, token: String) -> Client {
        let mut client =
            Client { pipe, log, inbound: Vec::new(), subscriptions: Vec::new(), messages: 0, hidden: false };
        client.hello(token);
        client
    }

    /// Comes back from where each subscription stands.
    pub fn reconnect(&mut self, pipe: Pipe, token: String) {
        self.pipe = pipe;
        self.inbound.clear();
        self.messages = 0;
        self.hello(token);
        let asks = self.subscriptions.iter().filter(|s| !s.ended).map(Subscription::ask);
        for subscribe in asks.collect::<Vec<_>>() {
            self.send(&ClientFrame::Subscribe(subscribe));
        }
        if self.hidden {
            self.send(&ClientFrame::Hidden(true));
        }
        for s in &mut self.subscriptions {
            s.open = false;
        }
    }

    fn hello(&mut self, token: String) {
        let hello = Hello {
            token: token.into(),
            client_id: "".into(),
            sdk: "".into(),
            cursor: None,
            subscriptions: Vec::new(),
        };
        self.send(&ClientFrame::Hello(hello));
    }

    fn send(&mut self, frame: &ClientFrame<'_>) {
        self.pipe.send(&client_frame(&frame.to_json()));
    }

    pub fn subscribe(&mut self, filter: &str, start: &Start, snapshot: SnapshotMode, conflate_ms: u64) {
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
        let subscription = Subscription {
            id,
            filter: Filter::new(filter).expect("a good filter"),
            conflate_ms,
            open: false,
            cursor: None,
            start,
            began: Offset(0),
            delivered: Vec::new(),
            held: Held::new(snapshot),
            gaps: Vec::new(),
            ended: false,
        };
        self.send(&ClientFrame::Subscribe(subscription.ask()));
        self.subscriptions.push(subscription);
    }

    pub fn unsubscribe(&mut self, which: usize) {
        if let Some(subscription) = self.subscriptions.iter_mut().filter(|s| !s.ended).nth(which) {
            subscription.ended = true;
            let id = subscription.id;
            self.send(&ClientFrame::Unsubscribe { id });
        }
    }

    /// Has a subscription conflated from now on, or not any more.
    pub fn conflate(&mut self, which: usize, ms: u64) {
        if let Some(subscription) = self.subscriptions.iter_mut().filter(|s| !s.ended).nth(which) {
            subscription.conflate_ms = ms;
            let id = subscription.id;
            self.send(&ClientFrame::Conflate { id, ms });
        }
    }

    pub fn hide(&mut self, hidden: bool) {
        self.hidden = hidden;
        self.send(&ClientFrame::Hidden(hidden));
    }

    /// Messages of this connection.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    pub fn probe(&mut self) {
        self.send(&ClientFrame::Probe);
    }

    pub fn read(&mut self, max: usize) {
        self.inbound.extend(self.pipe.receive(max));
        while let Some((_, payload)) = take_server_frame(&mut self.inbound) {
            self.handle(std::str::from_utf8(&payload).expect("text frames only"));
        }
    }

    fn handle(&mut self, text: &str) {
        match ServerFrame::from_json(text).expect(text) {
            ServerFrame::Message { position, about, envelope } => {
                self.messages += 1;
                let envelope = Envelope::parse(envelope).expect("a whole envelope");
                let topic = envelope.topic.expect("with a topic");
                for s in self.subscriptions.iter_mut().filter(|s| s.open && !s.ended) {
                    let Some(cursor) = s.cursor.as_mut().filter(|_| s.filter.matches(&topic)) else {
                        continue;
                    };
                    if s.held.accounts_for(position, about, cursor) {
                        continue;
                    }
                    cursor.advance(position);
                    s.held.take(&topic, position, about, envelope.payload);
                    s.delivered.push(position.offset);
                }
            }
            ServerFrame::Subscribed { subscription, cursor, outcome, snapshot } => {
                let s = &mut self.subscriptions[subscription as usize];
                assert!(!std::mem::replace(&mut s.open, true), "subscribed twice");
                let fresh = s.cursor.is_none();
                if fresh {
                    s.began = cursor.position(0).map_or(Offset(0), |p| p.offset);
                }
                if let Outcome::Gap(gap) = outcome {
                    if fresh {
                        s.began = gap.after;
                    }
                    s.gaps.push((gap.after, gap.before));
                }
                s.held.begin(snapshot, &cursor, fresh);
                s.cursor = Some(cursor);
            }
            ServerFrame::Mark { cursor, delivered } => {
                assert_eq!(delivered, self.messages, "the mark's count");
                self.advance(&cursor);
            }
            ServerFrame::Incomplete => {
                for s in self.subscriptions.iter_mut().filter(|s| s.open) {
                    s.held.lacks();
                }
            }
            ServerFrame::CaughtUp { cursor } => {
                self.advance(&cursor);
                for s in self.subscriptions.iter_mut().filter(|s| s.open) {
                    s.held.caught_up(&cursor);
                }
            }
            ServerFrame::Gap { gap, values } => {
                let end = Position { partition: 0, offset: Offset(gap.before.0 - 1), fingerprint: None };
                for s in self.subscriptions.iter_mut().filter(|s| s.open) {
                    if let Some(cursor) = &mut s.cursor {
                        s.gaps.push((gap.after, gap.before));
                        s.held.pass(end, values, cursor);
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
        for s in self.subscriptions.iter_mut().filter(|s| s.open) {
            if let Some(cursor) = &mut s.cursor {
                cursor.advance_to(to);
            }
            s.held.follow(to);
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

    /// The promise. `unsure`: values were forgotten, for lack of room.
    pub fn check(&self, unsure: bool) {
        let all = self.log.all(0, usize::MAX);
        for s in &self.subscriptions {
            let matching = |record: &&crate::log::Record| s.filter.matches(&record.topic);
            let wanted = |record: &&crate::log::Record| record.position.offset > s.began && matching(record);
            for offset in &s.delivered {
                let known = all.iter().filter(matching).find(|r| r.position.offset == *offset);
                let known = known.is_some_and(|record| wanted(&record) || s.held.may_have(&record.topic));
                assert!(known, "{}: {offset} was not asked for", s.filter);
            }
            if s.ended {
                continue;
            }
            let told = |offset| s.gaps.iter().any(|(after, before)| *after < offset && offset < *before);
            let matched: Vec<&crate::log::Record> = all.iter().filter(matching).collect();
            s.held.check(&matched, s.began, &s.filter, unsure, &told);
            for record in all.iter().filter(wanted).filter(|record| !super::state::is_state(&record.topic)) {
                let offset = record.position.offset;
                let got = s.delivered.contains(&offset);
                assert!(got || told(offset), "{}: {offset} is lost, and nobody said so", s.filter);
            }
        }
    }
}

impl Subscription {
    /// What to ask for: from the start that was wished, or from where it stands.
    fn ask(&self) -> Subscribe<'static> {
        let start = match &self.cursor {
            Some(cursor) => StartAt::Cursor(cursor.to_string().into()),
            None => self.start.clone(),
        };
        let filter = self.filter.as_str().to_owned().into();
        let (snapshot, state) = self.held.ask(self.cursor.is_some());
        Subscribe { id: self.id, filter, start, snapshot, state, conflate_ms: self.conflate_ms }
    }
}
