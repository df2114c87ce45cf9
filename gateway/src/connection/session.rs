//! The server's half of the protocol, as a pure state machine: no socket, no clock, no log.
//!
//! Methods come in three families:
//!
//! * **events**: [`frame`](Session::frame), [`started`](Session::started), [`appended`](Session::appended),
//!   [`tick`](Session::tick), [`go_away`](Session::go_away): what happened, with the time at which it did;
//! * **getters**: [`subscriptions`](Session::subscriptions), [`next_tick`](Session::next_tick), …;
//! * what to do about it is appended to a list of [`Action`]s, to be carried out in order.

mod refusal;

pub use refusal::{Refusal, append_refusal};

use super::pace::{self, Pace};
use super::start::Start;
use super::subscriptions::{Asked, Subscriptions, Wish};
use crate::auth::Principal;
use crate::hub::classes::Classes;
use crate::hub::sizes::Sizes;
use crate::log::{AppendError, MessageKey, NewRecord, iso_8601};
use anabranch_protocol::client_frame::{
    ClientFrame, Hello, StartAt, Subscribe, SubscriptionId, Token, published,
};
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::envelope::{Envelope, Stamp};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::json::has_lone_surrogate;
use anabranch_protocol::server_frame::{Limits, ServerFrame, Welcome};
use refusal::{refuse_message, refuse_subscription};
use std::borrow::Cow;
use std::sync::Arc;

/// Milliseconds on the monotonic clock, since the process began.
pub type Millis = u64;

/// What the world is like at this moment.
pub struct Moment<'m> {
    pub now: Millis,
    /// Milliseconds since 1970, for tokens and for display.
    pub unix_ms: u64,
    /// The newest record of this shard.
    pub head: &'m Cursor,
}

/// Who decides about tokens and counts connections.
pub trait Doorkeeper {
    /// Checks a token.
    fn verify(&self, token: &str, unix_ms: u64) -> Result<Arc<Principal>, Refusal>;
    /// Counts a connection of this principal in, if there is room.
    fn admit(&self, principal: &Principal) -> Result<(), Refusal>;
    /// Whether the gateway alone writes this topic.
    fn is_reserved(&self, topic: &str) -> bool {
        let _ = topic;
        false
    }
    /// A fresh id: for a session, or for an envelope that came without.
    fn fresh_id(&self) -> String;
}

/// What the shard is to do.
#[derive(Debug)]
pub enum Action {
    /// Send this frame.
    Say(ServerFrame<'static>),
    /// Send a mark: the shard knows what was delivered.
    SayMark,
    /// Find out where the delivery of these subscriptions begins, then call [`Session::started`].
    Start { subscriptions: Vec<Asked>, at: StartAt<'static> },
    /// This subscription has ended.
    Stop { subscription: SubscriptionId, filter: Filter },
    /// This subscription was taken away: nothing after what has been written is delivered for it, and the client is told.
    Revoke { subscription: SubscriptionId, filter: Filter, code: Code },
    /// Other grants are in force: what is due is matched anew.
    Rematch,
    /// What is conflated on purpose has changed: [`Session::pace`].
    Pace,
    /// Append a record, then call [`Session::appended`].
    Append { message_id: Box<str>, record: NewRecord },
    /// The principal is admitted, and counts until the connection ends.
    Admitted(Arc<Principal>),
    /// Send a close with this code once everything said is written, and end the connection.
    Close(Code),
}

/// A deadline that is looked at so much later, in milliseconds, says nothing of the client: the process was frozen or starved,
/// or its machine moved.
const HELD_UP: Millis = 1_000;

/// Settings of every session of a node.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How long a connection may take to say hello.
    pub hello_timeout: Millis,
    /// How often the gateway pings.
    pub ping_interval: Millis,
    /// How long after a missed ping a connection counts as dead.
    pub ping_grace: Millis,
    pub limits: Limits,
    /// What an envelope may measure.
    pub sizes: Sizes,
    /// What each topic means.
    pub classes: Arc<Classes>,
}

/// One connection's conversation.
pub struct Session {
    stage: Stage,
    subscriptions: Subscriptions,
    publishing: u32,
    /// When something was last heard from the client.
    heard: Millis,
    /// When the last ping was said, or hello; and whether something is still to be heard since. Only then is there another.
    pinged: Millis,
    unanswered: bool,
    /// When the token ends: on the monotonic clock, so that a clock set back prolongs nobody's stay.
    token_ends: Millis,
    leaving: bool,
    /// Nobody looks at the client.
    hidden: bool,
}

enum Stage {
    /// Waiting for `hello` until then.
    Greeting(Millis),
    Open(Arc<Principal>),
    Closed,
}

impl Session {
    pub fn new(now: Millis, rules: &Rules) -> Session {
        Session {
            stage: Stage::Greeting(now + rules.hello_timeout),
            subscriptions: Subscriptions::default(),
            publishing: 0,
            heard: now,
            pinged: now,
            unanswered: false,
            token_ends: Millis::MAX,
            leaving: false,
            hidden: false,
        }
    }

    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    pub fn subscriptions_mut(&mut self) -> &mut Subscriptions {
        &mut self.subscriptions
    }

    /// Whether hello was accepted and no close is under way.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// How it is to be conflated on purpose, if at all.
    pub fn pace(&self) -> Option<Pace> {
        Pace::of(&self.subscriptions, self.hidden)
    }

    /// How many appends wait for their confirm.
    pub fn publishing(&self) -> u32 {
        self.publishing
    }

    /// When [`tick`](Session::tick) is due.
    pub fn next_tick(&self, rules: &Rules) -> Millis {
        match &self.stage {
            Stage::Greeting(deadline) => *deadline,
            Stage::Open(_) if self.unanswered => self.dead_at(rules).min(self.token_ends),
            Stage::Open(_) => self.next_ping(rules).min(self.token_ends),
            Stage::Closed => Millis::MAX,
        }
    }

    fn next_ping(&self, rules: &Rules) -> Millis {
        self.pinged + rules.ping_interval
    }

    /// When a ping has been unanswered for too long. Not without one: a process that was frozen owes its clients a ping.
    fn dead_at(&self, rules: &Rules) -> Millis {
        self.pinged.max(self.heard + rules.ping_interval) + rules.ping_grace
    }

    /// Notes that the client lives: bytes came from it, or it took bytes that had been waiting.
    pub fn heard(&mut self, now: Millis) {
        self.heard = now;
        self.unanswered = false;
    }

    /// A text message came.
    pub fn frame(
        &mut self,
        text: &str,
        moment: &Moment<'_>,
        rules: &Rules,
        door: &dyn Doorkeeper,
        do_: &mut Vec<Action>,
    ) {
        self.heard(moment.now);
        if matches!(self.stage, Stage::Closed) {
            return;
        }
        if let Stage::Open(principal) = &self.stage
            && let Some(envelope) = published(text)
        {
            let principal = Arc::clone(principal);
            return self.publish(envelope, &principal, moment, rules, door, do_);
        }
        let frame = match ClientFrame::from_json(text) {
            Ok(frame) => frame,
            Err(error) => return self.end(Refusal { code: error.code, message: error.message }, do_),
        };
        match (&self.stage, frame) {
            (Stage::Greeting(_), ClientFrame::Hello(hello)) => self.hello(hello, moment, rules, door, do_),
            (Stage::Greeting(_), _) => self.end(Refusal::plain(Code::UNEXPECTED_FRAME), do_),
            (_, ClientFrame::Hello(_)) => self.end(Refusal::plain(Code::UNEXPECTED_FRAME), do_),
            (_, ClientFrame::Subscribe(subscribe)) => {
                if let Some(asked) = self.accept(&subscribe, rules, do_) {
                    do_.push(Action::Start { subscriptions: vec![asked], at: owned(subscribe.start) });
                }
            }
            (_, ClientFrame::Unsubscribe { id }) => match self.subscriptions.remove(id) {
                Some(gone) => do_.push(Action::Stop { subscription: id, filter: gone.filter }),
                None => do_.push(refuse_subscription(id, Refusal::plain(Code::UNKNOWN_SUBSCRIPTION))),
            },
            (Stage::Open(principal), ClientFrame::Publish { envelope }) => {
                let principal = Arc::clone(principal);
                match Envelope::parse(envelope) {
                    Ok(parsed) => self.publish(parsed, &principal, moment, rules, door, do_),
                    Err(error) => {
                        let refusal = Refusal { code: error.code, message: error.message };
                        do_.push(refuse_message(Envelope::claimed_id(envelope).as_deref(), refusal));
                    }
                }
            }
            (_, ClientFrame::Authenticate(Token(token))) => self.authenticate(&token, moment, door, do_),
            // One that has ended meanwhile has no pace.
            (_, ClientFrame::Conflate { id, ms }) => {
                if self.subscriptions.conflate(id, pace::bounded(ms)) {
                    do_.push(Action::Pace);
                }
            }
            (_, ClientFrame::Hidden(hidden)) => {
                self.hidden = hidden;
                do_.push(Action::Pace);
            }
            (_, ClientFrame::Probe) => do_.push(Action::SayMark),
            (_, ClientFrame::Pong) => {}
            (_, ClientFrame::Goodbye) => {
                self.stage = Stage::Closed;
                do_.push(Action::Close(Code(1000)));
            }
            (Stage::Closed, _) => {}
        }
    }

    fn hello(
        &mut self,
        hello: Hello<'_>,
        moment: &Moment<'_>,
        rules: &Rules,
        door: &dyn Doorkeeper,
        do_: &mut Vec<Action>,
    ) {
        let admitted = door.verify(&hello.token, moment.unix_ms).and_then(|principal| {
            door.admit(&principal)?;
            Ok(principal)
        });
        let principal = match admitted {
            Ok(principal) => principal,
            Err(refusal) => return self.end(refusal, do_),
        };
        do_.push(Action::Say(ServerFrame::Welcome(Welcome {
            session: door.fresh_id().into(),
            cursor: moment.head.clone(),
            ping_interval_ms: rules.ping_interval,
            ping_grace_ms: rules.ping_grace,
            token_ttl_ms: principal.expires_unix_ms.saturating_sub(moment.unix_ms),
            server_time_ms: moment.unix_ms,
            limits: rules.limits.clone(),
        })));
        // Behind the welcome, which is the first word: the shard may have something to add, such as that the log is out of reach.
        do_.push(Action::Admitted(Arc::clone(&principal)));
        self.token_ends = end_of(&principal, moment);
        self.stage = Stage::Open(principal);
        self.pinged = moment.now;
        let default = hello.cursor.map_or(StartAt::Now, |cursor| StartAt::Cursor(cursor.into_owned().into()));
        // Subscriptions that begin at the same place are found out about together: usually all of them.
        let mut starts: Vec<(StartAt<'static>, Vec<Asked>)> = Vec::new();
        for subscribe in hello.subscriptions {
            let Some(id) = self.accept(&subscribe, rules, do_) else { continue };
            let at = match owned(subscribe.start) {
                StartAt::Default => default.clone(),
                other => other,
            };
            match starts.iter_mut().find(|(known, _)| *known == at) {
                Some((_, ids)) => ids.push(id),
                None => starts.push((at, vec![id])),
            }
        }
        for (at, subscriptions) in starts {
            do_.push(Action::Start { subscriptions, at });
        }
    }

    /// Takes a subscription in, or refuses it, and it alone.
    fn accept(&mut self, subscribe: &Subscribe<'_>, rules: &Rules, do_: &mut Vec<Action>) -> Option<Asked> {
        let Stage::Open(principal) = &self.stage else { return None };
        let checked = Filter::new(&subscribe.filter)
            .map_err(|error| Refusal::new(Code::BAD_FILTER, error.message()))
            .and_then(|filter| {
                if self.subscriptions.contains(subscribe.id) {
                    Err(Refusal::plain(Code::SUBSCRIPTION_IN_USE))
                } else if self.subscriptions.len() as u64 >= rules.limits.subscriptions {
                    let message =
                        format!("a connection may have {} subscriptions", rules.limits.subscriptions);
                    Err(Refusal::new(Code::TOO_MANY_SUBSCRIPTIONS, message))
                } else if !principal.grants.may_subscribe(&filter) {
                    Err(Refusal::new(Code::NOT_ALLOWED, format!("the token does not grant all of {filter}")))
                } else {
                    Ok(filter)
                }
            });
        match checked {
            Ok(filter) => {
                let holds = rules.classes.within(&filter);
                // A place that is none is the beginning: more than was asked for, never less.
                let state = subscribe.state.as_ref().and_then(|state| state.parse().ok());
                let wish = Wish { snapshot: subscribe.snapshot, state };
                let asked = self.subscriptions.add(subscribe.id, filter, holds, wish);
                self.subscriptions.conflate(subscribe.id, pace::bounded(subscribe.conflate_ms));
                if self.pace().is_some() {
                    do_.push(Action::Pace);
                }
                Some(asked)
            }
            Err(refusal) => {
                do_.push(refuse_subscription(subscribe.id, refusal));
                None
            }
        }
    }

    fn publish(
        &mut self,
        envelope: Envelope<'_>,
        principal: &Principal,
        moment: &Moment<'_>,
        rules: &Rules,
        door: &dyn Doorkeeper,
        do_: &mut Vec<Action>,
    ) {
        let id = envelope.message_id.clone();
        let id = id.as_deref();
        if u64::from(self.publishing) >= rules.limits.publishes_in_flight {
            return do_.push(refuse_message(id, Refusal::plain(Code::TOO_MANY_IN_FLIGHT)));
        }
        match ingest(envelope, principal, moment.unix_ms, &rules.sizes, door) {
            Ok((message_id, record)) => {
                self.publishing += 1;
                do_.push(Action::Append { message_id, record });
            }
            Err(refusal) => do_.push(refuse_message(id, refusal)),
        }
    }

    fn authenticate(
        &mut self,
        token: &str,
        moment: &Moment<'_>,
        door: &dyn Doorkeeper,
        do_: &mut Vec<Action>,
    ) {
        let Stage::Open(current) = &self.stage else { return };
        let fresh = match door.verify(token, moment.unix_ms) {
            Ok(fresh) if fresh.subject == current.subject => fresh,
            // Another person's data would follow on the same screen. The old token stays in force until it ends.
            Ok(_) => {
                let refusal = Refusal::new(
                    Code::TOKEN_INVALID,
                    "the fresh token speaks for another subject; reconnect",
                );
                return do_.push(refuse_message(None, refusal));
            }
            Err(refusal) => return do_.push(refuse_message(None, refusal)),
        };
        let ttl = fresh.expires_unix_ms.saturating_sub(moment.unix_ms);
        do_.push(Action::Say(ServerFrame::Authenticated { token_ttl_ms: ttl }));
        let lost: Vec<SubscriptionId> = self
            .subscriptions
            .iter()
            .filter(|s| !fresh.grants.may_subscribe(&s.filter))
            .map(|s| s.id)
            .collect();
        // Something may still be due of a subscription that the client has ended: there is nothing of it left to revoke.
        if lost.is_empty() && fresh.grants != current.grants {
            do_.push(Action::Rematch);
        }
        for id in lost {
            if let Some(gone) = self.subscriptions.remove(id) {
                do_.push(Action::Revoke { subscription: id, filter: gone.filter, code: Code::NOT_ALLOWED });
            }
        }
        self.token_ends = end_of(&fresh, moment);
        self.stage = Stage::Open(fresh);
    }

    /// It is known where a subscription begins. Says whether the subscription still wants to know.
    pub fn started(&mut self, asked: Asked, start: Start, do_: &mut Vec<Action>) -> bool {
        if !self.is_open() || !self.subscriptions.awaits(asked) {
            return false;
        }
        let Start { after, state, outcome, snapshot, .. } = start;
        self.subscriptions.start(asked.id, &after, state);
        let subscription = asked.id;
        do_.push(Action::Say(ServerFrame::Subscribed { subscription, cursor: after, outcome, snapshot }));
        true
    }

    /// It cannot be known where these begin: the log is not to be read at present.
    pub fn start_failed(&mut self, asked: Asked, refusal: Refusal, do_: &mut Vec<Action>) {
        if self.subscriptions.awaits(asked) {
            self.subscriptions.remove(asked.id);
            do_.push(refuse_subscription(asked.id, refusal));
        }
    }

    /// An append has ended.
    pub fn appended(
        &mut self,
        message_id: Box<str>,
        result: Result<(Position, bool), AppendError>,
        do_: &mut Vec<Action>,
    ) {
        self.publishing -= 1;
        let message_id = message_id.into_string();
        do_.push(match result {
            Ok((position, duplicate)) => {
                Action::Say(ServerFrame::Published { message_id: message_id.into(), position, duplicate })
            }
            Err(error) => refuse_message(Some(&message_id), append_refusal(&error)),
        });
        self.leave(do_);
    }

    /// Time has come to [`next_tick`](Session::next_tick), or may have.
    pub fn tick(&mut self, moment: &Moment<'_>, rules: &Rules, do_: &mut Vec<Action>) {
        match &self.stage {
            Stage::Greeting(deadline) if moment.now >= *deadline => {
                self.end(Refusal::plain(Code::HELLO_TIMEOUT), do_)
            }
            Stage::Open(_) if moment.now >= self.token_ends => {
                self.end(Refusal::plain(Code::TOKEN_EXPIRED), do_)
            }
            // Who looks so late was held up itself: what the client has said meanwhile may be unread. It is asked anew.
            Stage::Open(_) if self.unanswered && moment.now >= self.dead_at(rules) + HELD_UP => {
                self.heard = moment.now;
                self.ping(moment.now, do_);
            }
            Stage::Open(_) if self.unanswered && moment.now >= self.dead_at(rules) => {
                self.end(Refusal::plain(Code::UNRESPONSIVE), do_)
            }
            Stage::Open(_) if !self.unanswered && moment.now >= self.next_ping(rules) => {
                self.ping(moment.now, do_)
            }
            _ => {}
        }
    }

    fn ping(&mut self, now: Millis, do_: &mut Vec<Action>) {
        (self.pinged, self.unanswered) = (now, true);
        do_.push(Action::SayMark);
        do_.push(Action::Say(ServerFrame::Ping));
    }

    /// The node ends: the client is told when to come back, and the connection closes once its publishes are confirmed.
    pub fn go_away(&mut self, reconnect_after: Millis, do_: &mut Vec<Action>) {
        if std::mem::replace(&mut self.leaving, true) {
            return;
        }
        match self.stage {
            Stage::Closed => {}
            Stage::Greeting(_) => self.end(Refusal::plain(Code::GOING_AWAY), do_),
            Stage::Open(_) => {
                do_.push(Action::SayMark);
                let code = Code::GOING_AWAY;
                do_.push(Action::Say(ServerFrame::GoAway { code, reconnect_after_ms: reconnect_after }));
                self.leave(do_);
            }
        }
    }

    fn leave(&mut self, do_: &mut Vec<Action>) {
        if self.leaving && self.publishing == 0 && self.is_open() {
            self.stage = Stage::Closed;
            do_.push(Action::Close(Code::GOING_AWAY));
        }
    }

    /// The connection ends for this reason.
    pub fn end(&mut self, refusal: Refusal, do_: &mut Vec<Action>) {
        self.stage = Stage::Closed;
        let code = refusal.code;
        do_.push(refuse_message(None, refusal));
        do_.push(Action::Close(code));
    }
}

/// When a principal's token ends, on the monotonic clock.
fn end_of(principal: &Principal, moment: &Moment<'_>) -> Millis {
    let ends = principal.expires_unix_ms.saturating_add(crate::auth::LEEWAY_MS);
    moment.now.saturating_add(ends.saturating_sub(moment.unix_ms))
}

/// Makes a publisher's envelope into a record: who may publish what, and who says so.
///
/// The source is always the principal's subject, whatever the envelope says: nobody speaks in another's name.
pub fn ingest(
    mut envelope: Envelope<'_>,
    principal: &Principal,
    unix_ms: u64,
    sizes: &Sizes,
    door: &dyn Doorkeeper,
) -> Result<(Box<str>, NewRecord), Refusal> {
    envelope.source = None;
    let topic = envelope.valid_topic().map_err(|e| Refusal { code: e.code, message: e.message })?;
    if !principal.grants.may_write(topic.as_str()) {
        return Err(Refusal::new(
            Code::NOT_ALLOWED,
            format!("the token does not grant publishing to {topic}"),
        ));
    }
    if door.is_reserved(topic.as_str()) {
        return Err(Refusal::plain(Code::RESERVED_TOPIC));
    }
    if has_lone_surrogate(envelope.payload)
        || envelope.unknown.iter().any(|(_, value)| has_lone_surrogate(value))
    {
        let message =
            "a string has half a surrogate pair (\\ud800 to \\udfff alone), which most clients cannot read";
        return Err(Refusal::new(Code::BAD_ENVELOPE, message));
    }
    if envelope.timestamp.as_ref().is_some_and(|time| time.parse::<jiff::Timestamp>().is_err()) {
        let message = "metadata.timestamp must be ISO 8601 with an offset: 2026-01-31T12:00:00Z";
        return Err(Refusal::new(Code::BAD_ENVELOPE, message));
    }
    let fresh_id = if envelope.message_id.is_none() { door.fresh_id() } else { String::new() };
    let timestamp = if envelope.timestamp.is_none() { iso_8601(unix_ms) } else { String::new() };
    let stamp = Stamp { message_id: &fresh_id, timestamp: &timestamp, source: &principal.subject };
    let message_id = envelope.message_id.as_deref().unwrap_or(&fresh_id);
    let text = envelope.complete(topic.as_str(), stamp);
    let most = sizes.of(topic.as_str());
    if text.len() > most {
        let message = format!("the envelope has {} bytes, on {topic} {most} are allowed", text.len());
        return Err(Refusal::new(Code::TOO_LARGE, message));
    }
    let key = MessageKey::new(topic.as_str(), message_id);
    Ok((message_id.into(), NewRecord { topic, key, envelope: text.into() }))
}

fn owned(start: StartAt<'_>) -> StartAt<'static> {
    match start {
        StartAt::Default => StartAt::Default,
        StartAt::Now => StartAt::Now,
        StartAt::Earliest => StartAt::Earliest,
        StartAt::Since(ms) => StartAt::Since(ms),
        StartAt::Cursor(cursor) => StartAt::Cursor(Cow::Owned(cursor.into_owned())),
    }
}

#[cfg(test)]
mod tests;
