//! The whole client: inputs go in, effects come out.

mod frames;
mod keeping;
mod progress;

pub(crate) use frames::topic_of;

use crate::Now;
use crate::backoff::{Backoff, Random};
use crate::cache::{Cache, Cached};
use crate::effect::{Effect, Phase, State};
use crate::link::{GREET_MS, Intent, Link, WAKE_MS, WAKES_APART_MS};
use crate::liveness::SleepWatch;
use crate::outbox::{Merged, Outbox, PublishRefused, Terms, Waiting};
use crate::resume::{Start, Subscriptions, Wish};
use crate::store::Write;
use crate::token::Tokens;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use anabranch_protocol::client_frame::{ClientFrame, Hello, SubscriptionId, Token};
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::limits;
use anabranch_protocol::topic::NameError;

/// The client's state and all its decisions.
///
/// Its methods fall into four families:
///
/// * **getters**: `state`, `cursor`, `cached`, `unconfirmed`;
/// * **`handle_*`**: what the network, the token provider and the clock report;
/// * **commands**: what the app wants: `connect`, `disconnect`, `close`, `pause`, `resume`, `wake`, `subscribe`,
///   `unsubscribe`, `conflate`, `hide`, `park`, `unpark`, `publish`, `withdraw`, `retry`;
/// * **polls**: [`poll_effect`](Machine::poll_effect), to be called until `None` after each input, and
///   [`next_timer`](Machine::next_timer), the moment by which `handle_timer` is wanted.
///
/// Every input takes the time. Calls may be late, early or superfluous; reports of an earlier attempt or request are
/// recognized by their number and ignored. No input makes it panic.
pub struct Machine {
    client_id: Box<str>,
    sdk: Box<str>,
    link: Link,
    intent: Intent,
    attempts: u32,
    backoff: Backoff,
    random: Random,
    sleep: SleepWatch,
    last_wake: Option<u64>,
    tokens: Tokens,
    subscriptions: Subscriptions,
    outbox: Outbox,
    /// Nobody looks at the app.
    hidden: bool,
    cache: Cache,
    /// Subscriptions whose messages are kept. `None` without a store.
    kept: Option<Vec<SubscriptionId>>,
    effects: VecDeque<Effect>,
    /// The state as last told, and when (wall) the app lost the connection or entered the phase.
    told: State,
    told_retry_at: Option<u64>,
    /// What the gateway said of this connection last; outweighs the close code.
    verdict: Option<Code>,
}

impl Machine {
    /// A client that does nothing yet. Client id and SDK name are cut to [`limits::CLIENT_ID_BYTES`].
    pub fn new(client_id: &str, sdk: &str, seed: u64) -> Machine {
        Machine {
            client_id: cut(client_id).into(),
            sdk: cut(sdk).into(),
            link: Link::Idle,
            intent: Intent::default(),
            attempts: 0,
            backoff: Backoff::default(),
            random: Random::new(seed),
            sleep: SleepWatch::default(),
            last_wake: None,
            tokens: Tokens::default(),
            subscriptions: Subscriptions::default(),
            outbox: Outbox::default(),
            hidden: false,
            cache: Cache::default(),
            kept: None,
            effects: VecDeque::new(),
            told: State::idle(),
            told_retry_at: None,
            verdict: None,
        }
    }

    /// Bounds the cache to so many bytes and empties it; 0 keeps nothing.
    pub fn limit_cache(&mut self, bytes: usize) {
        self.cache = Cache::new(bytes);
    }

    // Getters.

    /// Where the connection stands.
    pub fn state(&self) -> State {
        self.told.clone()
    }

    /// Where a subscription stands, once the gateway or its start has said so.
    pub fn cursor(&self, id: SubscriptionId) -> Option<&Cursor> {
        self.subscriptions.cursor(id)
    }

    /// The newest messages in memory whose topic the filter means, at most `limit`, oldest first.
    pub fn cached(&self, filter: &Filter, limit: usize) -> Vec<Cached> {
        self.cache.read(filter, limit)
    }

    /// Publishes that wait for their confirm.
    pub fn unconfirmed(&self) -> usize {
        self.outbox.len()
    }

    /// What waits for its confirm, or is wedged, oldest first.
    pub fn outbox(&self) -> impl Iterator<Item = Waiting<'_>> {
        self.outbox.iter()
    }

    // What the network, the token provider and the clock report.

    /// The socket of this attempt is open.
    pub fn handle_opened(&mut self, now: Now, attempt: u32) {
        self.begin(now);
        if matches!(self.link, Link::Dialing { attempt: current, .. } if current == attempt) {
            self.link = Link::Greeting { attempt, deadline: now.mono.saturating_add(GREET_MS) };
            self.greet(attempt);
        }
        self.finish(now);
    }

    /// A text frame arrived on the socket of this attempt.
    pub fn handle_frame(&mut self, now: Now, attempt: u32, text: &str) {
        self.begin(now);
        if self.link.attempt() == Some(attempt) && !matches!(self.link, Link::Dialing { .. }) {
            self.take_frame(now, attempt, text);
        }
        self.finish(now);
    }

    /// The socket of this attempt closed, or could not be opened. `code` is its close code; 1006 if there is none.
    pub fn handle_closed(&mut self, now: Now, attempt: u32, code: u16) {
        self.begin(now);
        if self.link.attempt() == Some(attempt) {
            self.lost(now, Code(code));
        }
        self.finish(now);
    }

    /// The gateway, or whatever stands before it, asked this client to stay away for so long (HTTP's `Retry-After`).
    pub fn handle_advice(&mut self, now: Now, after_ms: u64) {
        self.begin(now);
        self.backoff.advise(now.mono, after_ms, &mut self.random);
        self.finish(now);
    }

    /// The token provider answered this request.
    pub fn handle_token(&mut self, now: Now, request: u32, token: &str) {
        self.begin(now);
        if self.tokens.received(request, token)
            && let Link::Online(online) = &self.link
        {
            let attempt = online.attempt;
            self.tokens.sent();
            self.send(attempt, &ClientFrame::Authenticate(Token(Cow::Borrowed(token))));
        }
        self.finish(now);
    }

    /// The token provider failed at this request; it is asked again later.
    pub fn handle_token_failed(&mut self, now: Now, request: u32) {
        self.begin(now);
        self.tokens.failed(now.mono, request, &mut self.random);
        self.finish(now);
    }

    /// Time has passed.
    pub fn handle_timer(&mut self, now: Now) {
        self.begin(now);
        self.finish(now);
    }

    // What the app wants.

    /// Asks for a connection, and for another try after `needs_auth` or a stop. No effect on one that is under way.
    pub fn connect(&mut self, now: Now) {
        self.begin(now);
        if matches!(self.link, Link::NeedsAuth | Link::Stopped) {
            self.tokens.forgive();
            self.link = Link::Idle;
        }
        self.intent.connect = true;
        self.finish(now);
    }

    /// Gives the connection up until the next `connect`. Subscriptions, cursors and unconfirmed publishes stay.
    pub fn disconnect(&mut self, now: Now) {
        self.begin(now);
        self.intent.connect = false;
        self.finish(now);
    }

    /// Ends everything for good and forgets all that names a user: token, subscriptions, cache. Unconfirmed publishes
    /// fail; kept ones are the store's.
    pub fn close(&mut self, now: Now) {
        self.begin(now);
        if !matches!(self.link, Link::Closed) {
            self.hang_up(now, true);
            self.link = Link::Closed;
            self.tokens.wipe();
            self.subscriptions.clear();
            self.cache = Cache::new(0);
            while let Some((message_id, kept)) = self.outbox.give_up() {
                if kept {
                    continue;
                }
                self.effects.push_back(Effect::Failed {
                    message_id,
                    code: Code::UNCONFIRMED,
                    message: "the client was closed before the confirm".into(),
                    retryable: true,
                });
            }
        }
        self.finish(now);
    }

    /// Adds a reason to be silent. While there is any, there is no connection.
    pub fn pause(&mut self, now: Now, reason: &str) {
        self.begin(now);
        self.intent.pause(reason);
        self.finish(now);
    }

    /// Takes a reason away. The last one gone, the connection comes back, if it is wanted.
    pub fn resume(&mut self, now: Now, reason: &str) {
        self.begin(now);
        self.intent.resume(reason);
        self.finish(now);
    }

    /// The device woke up, or the network changed: nothing known about the connection can be trusted. Probes it, or
    /// tries again at once. Never undoes `disconnect`, `pause` or `close`, and never comes back before its slot.
    pub fn wake(&mut self, now: Now) {
        self.begin(now);
        self.woken(now);
        self.finish(now);
    }

    fn woken(&mut self, now: Now) {
        let recent = self.last_wake.is_some_and(|last| now.mono.saturating_sub(last) < WAKES_APART_MS);
        match &mut self.link {
            Link::Online(online) => {
                let attempt = online.attempt;
                if online.liveness.probe(now.mono) {
                    self.send(attempt, &ClientFrame::Probe);
                }
            }
            Link::Waiting { until } if !recent => {
                let soon = self.backoff.not_before(now.mono.saturating_add(self.random.up_to(WAKE_MS)));
                *until = soon.min(*until);
                self.last_wake = Some(now.mono);
            }
            Link::Fetching if !recent => {
                self.tokens.hurry();
                self.last_wake = Some(now.mono);
            }
            _ => {}
        }
    }

    /// Adds a subscription, with what is wished of its state topics. Use a fresh id for each, below [`OWN_IDS`](crate::resume::OWN_IDS).
    pub fn subscribe(
        &mut self,
        now: Now,
        id: SubscriptionId,
        filter: &str,
        start: Start,
        wish: impl Into<Wish>,
    ) -> Result<(), NameError> {
        let filter = Filter::new(filter)?;
        self.begin(now);
        if !matches!(self.link, Link::Closed) {
            let known = self.subscriptions.add(id, filter, start, wish.into());
            self.send_unsubscribe(known);
        }
        self.finish(now);
        Ok(())
    }

    /// Ends a subscription. Nothing is delivered for it from here on.
    pub fn unsubscribe(&mut self, now: Now, id: SubscriptionId) {
        self.begin(now);
        self.kept.iter_mut().for_each(|kept| kept.retain(|one| *one != id));
        let known = self.subscriptions.remove(id);
        self.send_unsubscribe(known);
        // It may have been the last that something was awaited for.
        self.note_caught_up();
        self.finish(now);
    }

    /// Has the state topics of a subscription told at most once in so many milliseconds; 0: each value as it comes.
    pub fn conflate(&mut self, now: Now, id: SubscriptionId, ms: u64) {
        self.begin(now);
        self.subscriptions.conflate(id, ms);
        self.finish(now);
    }

    /// Nobody looks at the app, or somebody does again: while hidden, everything may come a second later, and together.
    pub fn hide(&mut self, now: Now, hidden: bool) {
        self.begin(now);
        self.hidden = hidden;
        self.finish(now);
    }

    /// Stops the delivery of a subscription whose app does not keep up; its cursor stays where it is.
    pub fn park(&mut self, now: Now, id: SubscriptionId) {
        self.begin(now);
        let known = self.subscriptions.park(id);
        self.send_unsubscribe(known);
        self.note_caught_up();
        self.finish(now);
    }

    /// Takes up a parked subscription from its cursor.
    pub fn unpark(&mut self, now: Now, id: SubscriptionId) {
        self.begin(now);
        self.subscriptions.unpark(id);
        self.finish(now);
    }

    /// Queues an envelope (JSON text, with `messageId` and `topic` in its metadata) to be published. The end of it is an
    /// [`Effect::Published`] or an [`Effect::Failed`].
    pub fn publish(&mut self, now: Now, message_id: &str, envelope: &str) -> Result<(), PublishRefused> {
        self.publish_on(now, message_id, envelope, Terms::default())
    }

    /// The same on other terms. An [`Effect::Sent`] comes before the end, and a refusal of a kept one is an [`Effect::Wedged`].
    pub fn publish_on(
        &mut self,
        now: Now,
        message_id: &str,
        envelope: &str,
        terms: Terms,
    ) -> Result<(), PublishRefused> {
        self.publish_patch(now, message_id, envelope, terms, 0).map(drop)
    }

    /// The same, of a merge patch by this author, a number other than 0. One of theirs that waits and that nobody can have seen takes it up, if that
    /// may be: see [`Outbox::push_patch`]. Then nothing more is heard of this id; what is told of the earlier one is told of both.
    ///
    /// A body that tells a new machine again what an earlier one knew does so without an author: that may have been sent.
    pub fn publish_patch(
        &mut self,
        now: Now,
        message_id: &str,
        envelope: &str,
        terms: Terms,
        author: u32,
    ) -> Result<Option<Merged>, PublishRefused> {
        if matches!(self.link, Link::Closed) {
            return Err(PublishRefused::Closed);
        }
        let merged = self.outbox.push_patch(now, message_id, envelope, terms, author)?;
        match &merged {
            // One write, so that no store ever has half of it.
            Some(one) => self.keep_publish(now, &one.message_id, &one.envelope, terms),
            None => self.keep_publish(now, message_id, envelope, terms),
        }
        self.begin(now);
        self.finish(now);
        Ok(merged)
    }

    /// Takes a publish out that never left this client, or that is wedged; nothing more is told of it. `false` if there is none: it may have
    /// been sent.
    pub fn withdraw(&mut self, now: Now, message_id: &str) -> bool {
        self.begin(now);
        let gone = self.outbox.withdraw(message_id);
        self.keep_settled(message_id, gone);
        self.finish(now);
        gone.is_some()
    }

    /// Tries a wedged publish again. Says whether there was one.
    pub fn retry(&mut self, now: Now, message_id: &str) -> bool {
        self.begin(now);
        let there = self.outbox.unwedge(message_id);
        if there {
            self.keep(|| Write::Wedge { message_id: message_id.into(), why: None });
        }
        self.finish(now);
        there
    }

    // What is to be done.

    /// The next effect; `None` when all are taken. Cursors come last: they cover what was delivered before them.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front().or_else(|| {
            let (subscription, cursor) = self.subscriptions.take_moved()?;
            Some(Effect::Cursor { subscription, cursor })
        })
    }

    /// When [`handle_timer`](Machine::handle_timer) is wanted, on the monotonic clock.
    pub fn next_timer(&self) -> Option<u64> {
        let connected = self.link.online().is_some();
        let tokens = match self.link {
            Link::Closed => None,
            _ => self.tokens.deadline(matches!(self.link, Link::Fetching), connected),
        };
        let subscriptions = if connected { self.subscriptions.deadline() } else { None };
        earliest(earliest(self.link.deadline(), tokens), earliest(self.outbox.deadline(), subscriptions))
    }

    fn send(&mut self, attempt: u32, frame: &ClientFrame<'_>) {
        self.effects.push_back(Effect::Send { attempt, text: frame.to_json() });
    }

    /// Tells the gateway, if it was told of the subscription: in the hello already, perhaps.
    fn send_unsubscribe(&mut self, known: Option<SubscriptionId>) {
        if let Some(id) = known
            && let Some(attempt) = self.link.attempt()
        {
            self.send(attempt, &ClientFrame::Unsubscribe { id });
        }
    }

    fn greet(&mut self, attempt: u32) {
        self.subscriptions.forget_connection();
        let subscriptions = self.subscriptions.take_due(u64::MAX);
        let hello = ClientFrame::Hello(Hello {
            token: Cow::Borrowed(self.tokens.current()),
            client_id: Cow::Borrowed(&self.client_id),
            sdk: Cow::Borrowed(&self.sdk),
            cursor: None,
            subscriptions,
        });
        let text = hello.to_json();
        self.effects.push_back(Effect::Send { attempt, text });
    }
}

/// The earlier of two moments that may not exist.
fn earliest(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// At most [`limits::CLIENT_ID_BYTES`] of a text.
fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(limits::CLIENT_ID_BYTES)).unwrap_or_default()
}

impl Phase {
    fn of(link: &Link, now: u64, tokens: &Tokens) -> Phase {
        match link {
            Link::Idle => Phase::Idle,
            Link::Fetching if tokens.waits_until(now).is_some() => Phase::Offline,
            Link::Fetching | Link::Dialing { .. } | Link::Greeting { .. } => Phase::Connecting,
            Link::Online(online) if online.caught_up => Phase::Live,
            Link::Online(_) => Phase::Syncing,
            Link::Waiting { .. } => Phase::Offline,
            Link::Paused => Phase::Paused,
            Link::NeedsAuth => Phase::NeedsAuth,
            Link::Stopped | Link::Closed => Phase::Closed,
        }
    }
}
