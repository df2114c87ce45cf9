//! The plainest body: remembers what it was asked to do.

use anabranch_protocol::client_frame::ClientFrame;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::server_frame::{Limits, Outcome, Refused, ServerFrame, Welcome};
use anabranch_sdk_core::{Effect, Machine, Now, Phase, TokenWhy};

pub struct Body {
    pub machine: Machine,
    pub now: Now,
    /// Effects that were not asked about yet, without states and cursors.
    pub effects: Vec<Effect>,
    pub attempt: Option<u32>,
    pub request: Option<(u32, TokenWhy)>,
}

pub fn cursor(offset: u64) -> Cursor {
    format!("7f3a9c21d0e1b2c4/0:{offset}").parse().expect("a cursor")
}

pub fn position(offset: u64) -> Position {
    format!("0:{offset}").parse().expect("a position")
}

impl Body {
    pub fn new() -> Body {
        Body {
            machine: Machine::new("client", "sdk", 11),
            now: Now { mono: 1_000, wall: 1_700_000_000_000 },
            effects: Vec::new(),
            attempt: None,
            request: None,
        }
    }

    /// Connected and welcomed: pings every 20 s with 10 s grace, a token for this long.
    pub fn online(token_ttl_ms: u64) -> Body {
        let mut body = Body::new();
        body.command(Machine::connect);
        body.answer_token("token");
        body.open();
        body.welcome(token_ttl_ms);
        body.effects.clear();
        body
    }

    pub fn command(&mut self, command: impl FnOnce(&mut Machine, Now)) {
        command(&mut self.machine, self.now);
        self.take_effects();
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::State(_) | Effect::Cursor { .. } => {}
                Effect::Open { attempt } => self.attempt = Some(attempt),
                Effect::Close { .. } => {
                    self.attempt = None;
                    self.effects.push(effect);
                }
                Effect::NeedToken { request, why } => self.request = Some((request, why)),
                other => self.effects.push(other),
            }
        }
    }

    pub fn answer_token(&mut self, token: &str) -> TokenWhy {
        let (request, why) = self.request.take().expect("a token is wanted");
        self.command(|machine, now| machine.handle_token(now, request, token));
        why
    }

    pub fn open(&mut self) {
        let attempt = self.attempt.expect("a socket is wanted");
        self.command(|machine, now| machine.handle_opened(now, attempt));
    }

    pub fn receive(&mut self, frame: &ServerFrame<'_>) {
        let attempt = self.attempt.expect("a socket");
        self.command(|machine, now| machine.handle_frame(now, attempt, &frame.to_json()));
    }

    pub fn welcome(&mut self, token_ttl_ms: u64) {
        self.welcome_of(token_ttl_ms, 60_000);
    }

    /// By a gateway that conflates for as long as that.
    pub fn welcome_of(&mut self, token_ttl_ms: u64, conflate_ms: u64) {
        self.receive(&ServerFrame::Welcome(Welcome {
            session: "s".into(),
            cursor: cursor(0),
            ping_interval_ms: 20_000,
            ping_grace_ms: 10_000,
            token_ttl_ms,
            server_time_ms: 0,
            limits: Limits { frame_bytes: 300_000, subscriptions: 256, publishes_in_flight: 16, conflate_ms },
        }));
    }

    pub fn mark(&mut self) {
        self.receive(&ServerFrame::Mark { cursor: cursor(0), delivered: 0 });
    }

    pub fn refuse(&mut self, code: Code, retry_after_ms: Option<u64>) {
        let refused =
            Refused { code, message: "no".into(), retry_after_ms, subscription: None, message_id: None };
        self.receive(&ServerFrame::Refused(refused));
    }

    pub fn subscribed(&mut self, subscription: u32, after: u64) {
        self.receive(&ServerFrame::Subscribed {
            subscription,
            cursor: cursor(after),
            outcome: Outcome::Live,
            snapshot: None,
        });
    }

    pub fn message(&mut self, offset: u64, topic: &str) {
        let envelope = format!("{{\"metadata\":{{\"topic\":\"{topic}\"}},\"payload\":{offset}}}");
        self.receive(&ServerFrame::Message {
            position: position(offset),
            about: Default::default(),
            envelope: &envelope,
        });
    }

    pub fn lose(&mut self, code: u16) {
        let attempt = self.attempt.take().expect("a socket");
        self.command(|machine, now| machine.handle_closed(now, attempt, code));
    }

    /// Lets time pass with its timers, until the end or until this holds.
    pub fn pass_until(&mut self, ms: u64, mut done: impl FnMut(&Body) -> bool) -> bool {
        let end = self.now.mono + ms;
        while !done(self) {
            let at = self.machine.next_timer().unwrap_or(end).clamp(self.now.mono, end);
            self.step(at - self.now.mono);
            self.command(Machine::handle_timer);
            if at == end {
                return done(self);
            }
        }
        true
    }

    pub fn pass(&mut self, ms: u64) {
        self.pass_until(ms, |_| false);
    }

    /// Moves both clocks without a word to the machine.
    pub fn step(&mut self, ms: u64) {
        self.now = Now { mono: self.now.mono + ms, wall: self.now.wall + ms };
    }

    pub fn phase(&self) -> Phase {
        self.machine.state().phase
    }

    /// The types of the frames sent since the last look.
    pub fn sent(&mut self) -> Vec<&'static str> {
        let kind = |effect: Effect| match effect {
            Effect::Send { text, .. } => Some(match ClientFrame::from_json(&text).expect("a frame") {
                ClientFrame::Hello(_) => "hello",
                ClientFrame::Subscribe(_) => "subscribe",
                ClientFrame::Unsubscribe { .. } => "unsubscribe",
                ClientFrame::Publish { .. } => "publish",
                ClientFrame::Authenticate(_) => "authenticate",
                ClientFrame::Conflate { .. } => "conflate",
                ClientFrame::Hidden(_) => "hidden",
                ClientFrame::Probe => "probe",
                ClientFrame::Pong => "pong",
                ClientFrame::Goodbye => "goodbye",
            }),
            _ => None,
        };
        std::mem::take(&mut self.effects).into_iter().filter_map(kind).collect()
    }
}
