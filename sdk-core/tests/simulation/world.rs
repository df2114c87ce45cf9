//! The body of the machine and the world around it.

use crate::gateway::{Connection, Mood};
use crate::log::{Log, TOPICS};
use crate::oracle::Oracle;
use anabranch_protocol::client_frame::{SnapshotMode, SubscriptionId};
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::server_frame::ServerFrame;
use anabranch_sdk_core::{Effect, Machine, Now, Phase, Start};
use std::collections::HashMap;

const FILTERS: [&str; 4] = ["#", "a/#", "b", "published"];
const REASONS: [&str; 2] = ["background", "battery"];

#[derive(Clone, Debug)]
pub enum Action {
    Append {
        topic: usize,
        partition: u16,
        step: u64,
    },
    /// Everything goes its way for so many rounds.
    Flow(usize),
    Pump(usize),
    ToClient(usize),
    ToGateway(usize),
    /// The token provider answers.
    Token,
    TokenFails,
    /// The socket that is being dialed opens.
    Open,
    Mark,
    Ping,
    /// The socket breaks. What was under way is lost, or comes late if `true`.
    Cut(bool),
    /// A frame and a close of an old attempt.
    Late,
    Duplicate,
    Lose,
    Trim {
        partition: u16,
        count: usize,
    },
    NewLog,
    Subscribe {
        filter: usize,
        start: u8,
    },
    Unsubscribe(usize),
    Park(usize),
    Unpark(usize),
    Publish,
    RefusePublish,
    RefuseSubscription,
    RejectToken,
    Pass(u64),
    Sleep(u64),
    Wake,
    GoAway(u64),
    Nonsense,
    Disconnect,
    Connect,
    Pause(usize),
    Resume(usize),
}

pub struct World {
    machine: Machine,
    now: Now,
    log: Log,
    mood: Mood,
    connection: Option<Connection>,
    dialing: Option<u32>,
    request: Option<u32>,
    /// Frames of attempts that are over.
    late: Vec<(u32, String)>,
    oracle: Oracle,
    next_id: SubscriptionId,
    parked: Vec<SubscriptionId>,
    published: HashMap<String, usize>,
    appended: u64,
    slot: u64,
    wanted: bool,
    paused: Vec<&'static str>,
    cursors: Vec<Cursor>,
    tokens: u32,
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            machine: Machine::new("client", "sdk", seed),
            now: Now { mono: 1_000, wall: 1_700_000_000_000 },
            log: Log::new(),
            mood: Mood::default(),
            connection: None,
            dialing: None,
            request: None,
            late: Vec::new(),
            oracle: Oracle::default(),
            next_id: 1,
            parked: Vec::new(),
            published: HashMap::new(),
            appended: 0,
            slot: 0,
            wanted: false,
            paused: Vec::new(),
            cursors: Vec::new(),
            tokens: 0,
        }
    }

    pub fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Append { topic, partition, step } => {
                self.appended += 1;
                self.log.append(partition, step, TOPICS[topic], format!("r{}", self.appended));
            }
            Action::Flow(rounds) => {
                for _ in 0..rounds {
                    self.act(Action::Token);
                    self.act(Action::Open);
                    while self.hand_in_one() {}
                    self.pump();
                    self.deliver_one();
                }
            }
            Action::Pump(count) => {
                for _ in 0..count {
                    self.pump();
                }
            }
            Action::ToClient(count) => {
                for _ in 0..count {
                    self.deliver_one();
                }
            }
            Action::ToGateway(count) => {
                for _ in 0..count {
                    self.hand_in_one();
                }
            }
            Action::Token => {
                if let Some(request) = self.request.take() {
                    self.tokens += 1;
                    self.machine.handle_token(now, request, &format!("token-{}", self.tokens));
                }
            }
            Action::TokenFails => {
                if let Some(request) = self.request.take() {
                    self.machine.handle_token_failed(now, request);
                }
            }
            Action::Open => {
                if let Some(attempt) = self.dialing.take() {
                    self.connection = Some(Connection::new(attempt));
                    self.machine.handle_opened(now, attempt);
                }
            }
            Action::Mark => self.with_connection(Connection::mark),
            Action::Ping => self.with_connection(|c| c.send(&ServerFrame::Ping)),
            Action::Cut(keep) => self.cut(keep, 1006),
            Action::Late => {
                if let Some((attempt, text)) = self.late.pop() {
                    self.machine.handle_frame(now, attempt, &text);
                    self.take_effects();
                    self.machine.handle_closed(now, attempt, 4500);
                }
            }
            Action::Duplicate => self.with_connection(Connection::duplicate),
            Action::Lose => self.mood.lose = true,
            Action::Trim { partition, count } => self.log.trim(partition, count),
            Action::NewLog => {
                self.cut(true, Code::GOING_AWAY.0);
                self.oracle.excused.clear();
                self.log.replace();
            }
            Action::Subscribe { filter, start } => self.subscribe(filter, start),
            Action::Unsubscribe(which) => {
                if let Some(id) = self.id(which) {
                    self.machine.unsubscribe(now, id);
                    self.take_effects();
                    self.cursors.extend(self.machine.cursor(id).cloned());
                    self.oracle.forget(id);
                    self.parked.retain(|other| *other != id);
                }
            }
            Action::Park(which) => {
                if let Some(id) = self.id(which) {
                    self.machine.park(now, id);
                    self.parked.push(id);
                }
            }
            Action::Unpark(which) => {
                if let Some(id) = self.id(which) {
                    self.machine.unpark(now, id);
                    self.parked.retain(|other| *other != id);
                }
            }
            Action::Publish => self.publish(),
            Action::RefusePublish => self.mood.refuse_publish = true,
            Action::RefuseSubscription => self.mood.refuse_subscription = true,
            Action::RejectToken => self.mood.reject_token = true,
            Action::Pass(ms) => self.pass(ms),
            Action::Sleep(ms) => {
                self.now.wall += ms;
                self.machine.handle_timer(self.now);
            }
            Action::Wake => self.machine.wake(now),
            Action::GoAway(ms) => self.with_connection(|c| {
                c.send(&ServerFrame::GoAway { code: Code::GOING_AWAY, reconnect_after_ms: ms });
            }),
            Action::Nonsense => self.say("{\"type\":\"message\",\"position\":\"x\"}"),
            Action::Disconnect => {
                self.wanted = false;
                self.machine.disconnect(now);
            }
            Action::Connect => {
                self.wanted = true;
                self.machine.connect(now);
            }
            Action::Pause(which) => {
                self.paused.push(REASONS[which]);
                self.machine.pause(now, REASONS[which]);
            }
            Action::Resume(which) => {
                self.paused.retain(|reason| *reason != REASONS[which]);
                self.machine.resume(now, REASONS[which]);
            }
        }
        self.take_effects();
        assert!(self.machine.next_timer().is_none_or(|at| at > self.now.mono), "a timer in the past");
    }

    fn with_connection(&mut self, act: impl FnOnce(&mut Connection)) {
        if let Some(connection) = &mut self.connection {
            act(connection);
        }
    }

    fn id(&self, which: usize) -> Option<SubscriptionId> {
        self.oracle.watched.get(which).map(|w| w.id)
    }

    /// The gateway says any text.
    pub fn say(&mut self, text: &str) {
        if let Some(attempt) = self.connection.as_ref().map(|c| c.attempt) {
            self.machine.handle_frame(self.now, attempt, text);
            self.take_effects();
        }
    }

    fn subscribe(&mut self, filter: usize, start: u8) {
        if self.oracle.watched.len() == 6 {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        let (start, base) = match start {
            0 => (Start::Now, None),
            1 => (Start::Earliest, None),
            2 => (Start::Since(1_000), None),
            _ => match self.cursors.pop() {
                Some(cursor) => (Start::After(cursor.clone()), Some(cursor)),
                None => (Start::After(self.log.earliest()), Some(self.log.earliest())),
            },
        };
        self.oracle.watch(id, FILTERS[filter], base);
        self.machine.subscribe(self.now, id, FILTERS[filter], start, SnapshotMode::None).expect("a filter");
    }

    fn publish(&mut self) {
        let id = format!("p{}", self.published.len());
        let envelope =
            format!("{{\"metadata\":{{\"messageId\":\"{id}\",\"topic\":\"published\"}},\"payload\":1}}");
        self.machine.publish(self.now, &id, &envelope).expect("room in the queue");
        self.published.insert(id, 0);
    }

    fn pump(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        connection.pump(&self.log, &mut self.mood)
    }

    fn deliver_one(&mut self) -> bool {
        let Some((attempt, text)) =
            self.connection.as_mut().and_then(|c| Some((c.attempt, c.to_client.pop_front()?)))
        else {
            return false;
        };
        if let Ok(ServerFrame::GoAway { reconnect_after_ms, .. }) = ServerFrame::from_json(&text) {
            self.slot = self.slot.max(self.now.mono + reconnect_after_ms);
        }
        let is_mark = text.contains("\"mark\"");
        self.machine.handle_frame(self.now, attempt, &text);
        self.take_effects();
        if is_mark && self.connection.as_ref().is_some_and(|c| c.attempt == attempt) {
            self.check_losses();
        }
        true
    }

    /// The last mark under way has arrived: what was lost before it is excused no more.
    fn check_losses(&mut self) {
        if let Some(connection) = &mut self.connection
            && !connection.to_client.iter().any(|text| text.contains("\"mark\""))
        {
            connection.marked.clear();
            self.note_losses();
            self.oracle.check_all(&self.machine, &self.log);
        }
    }

    fn note_losses(&mut self) {
        self.oracle.pending.clear();
        if let Some(connection) = &self.connection {
            self.oracle.pending.extend(connection.lost.iter().chain(&connection.marked));
        }
    }

    fn hand_in_one(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        if connection.to_gateway.is_empty() {
            return false;
        }
        if let Some(code) = connection.take(&mut self.log, &mut self.mood) {
            while self.deliver_one() {}
            self.cut(false, code.0);
        }
        true
    }

    /// Breaks the socket; the client hears of it.
    fn cut(&mut self, keep: bool, code: u16) {
        if let Some(attempt) = self.dialing.take() {
            self.machine.handle_closed(self.now, attempt, code);
        }
        if let Some(connection) = self.connection.take() {
            let attempt = connection.attempt;
            self.bury(connection, keep);
            self.machine.handle_closed(self.now, attempt, code);
        }
        self.take_effects();
    }

    fn bury(&mut self, mut connection: Connection, keep: bool) {
        self.oracle.excused.append(&mut connection.lost);
        self.oracle.excused.append(&mut connection.marked);
        if keep {
            // What the client had sent still arrives; what comes back is late.
            while !connection.to_gateway.is_empty() {
                if connection.take(&mut self.log, &mut self.mood).is_some() {
                    break;
                }
            }
            let attempt = connection.attempt;
            self.late.extend(connection.to_client.into_iter().map(|text| (attempt, text)));
        }
    }

    /// Lets time pass, with every timer on the way.
    fn pass(&mut self, ms: u64) {
        let until = self.now.mono + ms;
        while let Some(at) = self.machine.next_timer().filter(|at| *at <= until) {
            self.step_to(at);
            self.machine.handle_timer(self.now);
            self.take_effects();
            assert!(self.machine.next_timer().is_none_or(|next| next > at), "a timer that fires for ever");
        }
        self.step_to(until);
    }

    fn step_to(&mut self, mono: u64) {
        let step = mono.saturating_sub(self.now.mono);
        self.now = Now { mono: self.now.mono + step, wall: self.now.wall + step };
    }

    fn take_effects(&mut self) {
        self.note_losses();
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Open { attempt } => {
                    assert!(self.wanted && self.paused.is_empty(), "dials although the app does not want it");
                    assert!(
                        self.now.mono >= self.slot,
                        "dials at {} before its slot {}",
                        self.now.mono,
                        self.slot
                    );
                    assert!(self.connection.is_none() && self.dialing.is_none(), "a second socket");
                    self.dialing = Some(attempt);
                }
                Effect::Send { attempt, text } => {
                    let connection = self.connection.as_mut().expect("sends only on an open socket");
                    assert_eq!(connection.attempt, attempt);
                    connection.to_gateway.push_back(text);
                }
                Effect::Close { attempt, .. } => {
                    if self.dialing == Some(attempt) {
                        self.dialing = None;
                    } else {
                        let connection = self.connection.take().expect("closes only what is open");
                        assert_eq!(connection.attempt, attempt);
                        self.bury(connection, true);
                    }
                }
                Effect::NeedToken { request, .. } => self.request = Some(request),
                Effect::Deliver { subscriptions, position, envelope, .. } => {
                    let envelope = Envelope::parse(&envelope).expect("an envelope");
                    for id in subscriptions {
                        self.oracle.delivered(id, envelope.topic.as_deref().expect("a topic"), position);
                    }
                }
                Effect::Transient { .. } => panic!("this gateway sends none"),
                Effect::Gap { subscriptions, gap } => {
                    for id in subscriptions {
                        self.oracle.gap(id, gap.clone());
                    }
                }
                Effect::Cursor { subscription, cursor } => {
                    self.oracle.check(subscription, &cursor, &self.log)
                }
                Effect::Published { message_id, .. } => {
                    *self.published.get_mut(&message_id).expect("was published") += 1;
                }
                Effect::Failed { message_id, .. } | Effect::Wedged { message_id, .. } => {
                    panic!("{message_id} failed")
                }
                Effect::Refused { subscription: Some(id), code, .. } => panic!("{id} refused: {code}"),
                Effect::Subscribed { .. }
                | Effect::Live { .. }
                | Effect::SnapshotBegins { .. }
                | Effect::SnapshotEnds { .. }
                | Effect::Refused { .. }
                | Effect::Revoked { .. }
                | Effect::Sent { .. }
                | Effect::Keep(_)
                | Effect::State(_) => {}
            }
        }
    }

    /// Peace: everything works, and everything must arrive.
    pub fn settle(&mut self) {
        self.mood = Mood::default();
        for which in 0..REASONS.len() {
            self.act(Action::Resume(which));
        }
        for id in std::mem::take(&mut self.parked) {
            self.machine.unpark(self.now, id);
        }
        self.act(Action::Connect);
        for _ in 0..10_000 {
            self.act(Action::Token);
            self.act(Action::Open);
            let mut busy = self.hand_in_one();
            busy |= self.pump();
            busy |= self.deliver_one();
            if busy {
                continue;
            }
            if self.is_settled() {
                return;
            }
            let at = self.machine.next_timer().expect("something is still to happen");
            self.pass(at - self.now.mono);
        }
        panic!("never settles: {:?}", self.machine.state());
    }

    fn is_settled(&self) -> bool {
        let head = self.log.head();
        let at_head = |id| {
            self.machine
                .cursor(id)
                .is_some_and(|c| c.log() == head.log() && head.positions().iter().all(|p| c.includes(*p)))
        };
        self.machine.state().phase == Phase::Live
            && self.published.values().all(|times| *times == 1)
            && self.machine.unconfirmed() == 0
            && self.oracle.watched.iter().all(|w| at_head(w.id))
    }

    pub fn expect_no_gaps_and_ordered_publishes(&self) {
        assert_eq!(self.oracle.gaps_told, 0, "a gap was told although nothing was lost");
        let expected: Vec<String> = (0..self.published.len()).map(|n| format!("p{n}")).collect();
        assert_eq!(self.log.publish_order, expected);
    }
}
