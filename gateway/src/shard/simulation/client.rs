//! The real core in a body of its own: it carries out effects as `sdk-rust` does, over a link, with a store and an app.

mod acts;

use super::Grants;
use super::account::{Event, Message};
use super::app::App;
use super::dice::Dice;
use super::keeper::{Done, Keeper};
use super::link::{Heard, Link};
use super::said::Said;
use super::trace::Trace;
use super::truth::Truth;
use crate::socket::pipe::Pipe;
use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::server_frame::{About, GapReason, ServerFrame};
use anabranch_sdk_core::store::Write;
use anabranch_sdk_core::{Effect, Machine, Now, Phase, TokenWhy};
use std::collections::{BTreeMap, BTreeSet};

pub use acts::{Start, envelope};

/// When worlds begin, in milliseconds since 1970.
pub const EPOCH: u64 = 1_800_000_000_000;

pub struct Client {
    pub name: String,
    trace: Trace,
    pub dice: Dice,
    pub machine: Machine,
    /// Its monotonic clock, which stands still while the machine sleeps.
    mono: u64,
    /// By how much its wall clock is ahead of that.
    ahead: i64,
    pub link: Option<Link>,
    pub dialing: Option<u32>,
    pub request: Option<(u32, TokenWhy)>,
    /// What the tokens that it was given grant.
    tokens: BTreeMap<String, Grants>,
    pub keeper: Keeper,
    pub app: App,
    pub said: Said,
    /// How many processes it has had.
    process: u32,
    next_id: SubscriptionId,
    next_said: u32,
    /// Not before this moment, by its own monotonic clock.
    slot: u64,
    wanted: bool,
    reasons: BTreeSet<&'static str>,
    /// Where the gateway said last that a delivery begins.
    begins: Option<Cursor>,
    pub gaps_told: usize,
}

impl Client {
    pub fn new(number: usize, mut dice: Dice, trace: Trace) -> Client {
        let name = format!("c{number}");
        let machine = Machine::new(&name, "simulated", dice.seed());
        let mut client = Client {
            name,
            trace,
            dice,
            machine,
            mono: 1_000,
            ahead: EPOCH as i64,
            link: None,
            dialing: None,
            request: None,
            tokens: BTreeMap::new(),
            keeper: Keeper::default(),
            app: App::default(),
            said: Said::default(),
            process: 0,
            next_id: 1,
            next_said: 0,
            slot: 0,
            wanted: false,
            reasons: BTreeSet::new(),
            begins: None,
            gaps_told: 0,
        };
        client.machine.restore(client.now(), Default::default());
        client
    }

    pub fn now(&self) -> Now {
        Now { mono: self.mono, wall: self.mono.saturating_add_signed(self.ahead) }
    }

    /// Time passes; in a machine that sleeps, on the wall clock alone.
    pub fn pass(&mut self, ms: u64, asleep: bool) {
        if asleep {
            self.ahead += ms as i64;
        } else {
            self.mono += ms;
        }
    }

    /// Somebody sets its wall clock.
    pub fn set_clock(&mut self, by: i64) {
        self.ahead += by;
    }

    /// So long until its machine wants to look at the clock.
    pub fn until_timer(&self) -> Option<u64> {
        self.machine.next_timer().map(|at| at.saturating_sub(self.mono))
    }

    pub fn fire_timer(&mut self, truth: &Truth) {
        // What follows from one deadline may have one that is over, too.
        for _ in 0..4 {
            if self.until_timer() != Some(0) {
                return;
            }
            self.machine.handle_timer(self.now());
            self.take_effects(truth);
        }
        panic!("a timer that fires for ever");
    }

    /// The socket that is being dialed opens, or does not.
    pub fn dialed(&mut self, pipe: Option<Pipe>, truth: &Truth) {
        let Some(attempt) = self.dialing.take() else { return };
        match pipe {
            Some(pipe) => {
                self.link = Some(Link::new(attempt, pipe));
                self.machine.handle_opened(self.now(), attempt);
            }
            None => self.machine.handle_closed(self.now(), attempt, 1006),
        }
        self.take_effects(truth);
    }

    /// At most so many bytes arrive. Says whether anything did.
    pub fn receive(&mut self, max: usize, truth: &Truth) -> bool {
        let Some(link) = &mut self.link else { return false };
        let attempt = link.attempt;
        let heard = link.receive(max);
        let any = !heard.is_empty();
        for one in heard {
            // What comes behind the end that the client itself has made is late; the machine ignores it.
            match one {
                Heard::Text(text) => self.hear(attempt, &text, truth),
                Heard::Closed(code) => {
                    self.trace.line(|| format!("{} is closed: {code}", self.name));
                    if self.link.as_ref().is_some_and(|link| link.attempt == attempt) {
                        self.link.take().into_iter().for_each(|link| link.end(0, false));
                    }
                    self.machine.handle_closed(self.now(), attempt, code);
                    self.take_effects(truth);
                }
            }
        }
        any
    }

    fn hear(&mut self, attempt: u32, text: &str, truth: &Truth) {
        self.trace.line(|| format!("{} hears {text}", self.name));
        let frame = ServerFrame::from_json(text).expect("the gateway speaks the protocol");
        if let Some(link) = self.link.as_mut().filter(|link| link.attempt == attempt) {
            link.check(&frame);
            match &frame {
                ServerFrame::GoAway { reconnect_after_ms, .. } => {
                    self.slot = self.slot.max(self.mono + reconnect_after_ms);
                }
                ServerFrame::Subscribed { cursor, .. } => self.begins = Some(cursor.clone()),
                _ => {}
            }
        }
        self.machine.handle_frame(self.now(), attempt, text);
        self.take_effects(truth);
    }

    /// Carries out what the machine asks for.
    pub fn take_effects(&mut self, truth: &Truth) {
        let (mut batch, mut done) = (Vec::new(), Vec::new());
        while let Some(effect) = self.machine.poll_effect() {
            self.trace.line(|| format!("{} does {}", self.name, shown(&effect)));
            match effect {
                Effect::Keep(write) => {
                    if let Write::Enqueue { message_id, .. } = &write {
                        done.push(Done::Publish(message_id.clone()));
                    }
                    batch.push(write);
                }
                Effect::Open { attempt } => {
                    assert!(
                        self.wanted && self.reasons.is_empty(),
                        "I9: dials although the app does not want it"
                    );
                    assert!(
                        self.mono >= self.slot,
                        "I8: dials at {}, before its slot {}",
                        self.mono,
                        self.slot
                    );
                    assert!(self.link.is_none() && self.dialing.is_none(), "I7: a second socket");
                    self.dialing = Some(attempt);
                }
                Effect::Send { attempt, text } => {
                    // A machine that hears at once that it slept and that its socket is gone asks that socket first.
                    if let Some(link) = &mut self.link {
                        assert_eq!(link.attempt, attempt, "sends on the open socket alone");
                        link.send(&text, &self.tokens);
                    }
                }
                Effect::Close { attempt, .. } => self.hang_up(attempt),
                Effect::NeedToken { request, why } => self.request = Some((request, why)),
                Effect::Deliver { subscriptions, position, about, envelope } => {
                    for id in subscriptions {
                        self.app.push(id, Event::Message(message(position, about, &envelope)));
                    }
                }
                Effect::Gap { subscriptions, gap } => {
                    self.gaps_told += usize::from(gap.reason != GapReason::Miscount);
                    let doubled = self.link.as_ref().is_some_and(|link| link.doubled);
                    assert!(doubled || gap.reason != GapReason::Miscount, "the marks count right: {gap:?}");
                    for id in subscriptions {
                        self.app.push(id, Event::Gap(gap.clone()));
                    }
                }
                Effect::Subscribed { subscription, .. } => {
                    let begins = self.begins.clone().expect("the gateway has said where");
                    self.app.push(subscription, Event::Begins(begins));
                }
                Effect::Cursor { subscription, cursor } => self.app.push_cursor(subscription, cursor),
                Effect::Refused { subscription: Some(id), .. } => self.app.end(id, &mut self.keeper),
                Effect::Revoked { subscription, .. } => {
                    let gone = self.app.subscriptions[&subscription].account.filter.clone();
                    self.app.end(subscription, &mut self.keeper);
                    self.app.purge(&gone);
                    let left: Vec<_> =
                        self.app.subscriptions.values().map(|one| &one.account.filter).collect();
                    for cached in self.machine.cached(&gone, usize::MAX) {
                        let topic = message(cached.position, cached.about, &cached.envelope).topic;
                        let may = left.iter().any(|filter| filter.matches(&topic));
                        assert!(may, "I10: the cache still holds {topic}");
                    }
                }
                Effect::Published { message_id, position, .. } => {
                    self.said.published(&message_id, position, self.process, truth);
                }
                Effect::Failed { message_id, code, .. } => {
                    self.said.failed(&message_id, code, self.process, truth);
                }
                Effect::Transient { .. } => panic!("this log has none"),
                Effect::Live { .. }
                | Effect::SnapshotBegins { .. }
                | Effect::SnapshotEnds { .. }
                | Effect::Refused { subscription: None, .. }
                | Effect::Wedged { .. }
                | Effect::Sent { .. }
                | Effect::State(_) => {}
            }
        }
        // Before the app can come to the messages: its cursor is written behind them.
        self.keeper.write(batch, done);
        self.app.show();
    }

    /// Of what the client had sent before, some still arrives.
    fn hang_up(&mut self, attempt: u32) {
        if self.dialing == Some(attempt) {
            self.dialing = None;
            return;
        }
        let link = self.link.take().expect("closes only what is open");
        assert_eq!(link.attempt, attempt, "closes only what is open");
        let after = if self.dice.one_in(3) { self.dice.index(400) } else { usize::MAX };
        link.end(after, self.dice.one_in(4));
    }

    /// Whether everything has come to its end: at the head, with nothing unconfirmed, unwritten or untaken.
    pub fn is_settled(&self, truth: &Truth) -> bool {
        let at_head =
            |(cursor, _): (Option<&Cursor>, _)| cursor.is_some_and(|cursor| truth.is_at_head(cursor));
        // A node that cannot reach the log says so, and knows nothing of what has become of it.
        (self.machine.state().phase == Phase::Live && self.machine.state().upstream)
            && self.machine.unconfirmed() == 0
            && self.keeper.is_idle()
            && self.app.is_idle()
            && self.app.cursors().all(at_head)
    }

    /// Where it stands, for people.
    pub fn describe(&self) -> String {
        let cursors = self.app.cursors().map(|(cursor, account)| {
            format!("{} at {}", account.filter, cursor.map_or("nowhere".to_owned(), Cursor::to_string))
        });
        let cursors: Vec<String> = cursors.collect();
        let (phase, unconfirmed) = (self.machine.state().phase.name(), self.machine.unconfirmed());
        format!("{} is {phase}, {unconfirmed} unconfirmed, {}", self.name, cursors.join(", "))
    }

    pub fn check_at_the_end(&self, truth: &Truth) {
        for (cursor, account) in self.app.cursors() {
            account.check_at_the_end(cursor.expect("it is settled"), truth, &self.name);
        }
        self.said.check_at_the_end(self.process, truth, &self.name);
    }
}

fn message(position: Position, about: About, envelope: &str) -> Message {
    let envelope = Envelope::parse(envelope).expect("an envelope");
    Message {
        position,
        newest: about.snapshot,
        topic: envelope.topic.as_deref().expect("a topic").into(),
        number: envelope.payload.parse().expect("a number"),
        message_id: envelope.message_id.as_deref().expect("a message id").into(),
    }
}

/// Tokens are left out.
fn shown(effect: &Effect) -> String {
    match effect {
        Effect::Send { attempt, text } if text.contains("\"token\"") => format!("Send {attempt} (a token)"),
        other => format!("{other:?}"),
    }
}
