//! The subscriptions, each with its own cursor: what is new, what is a duplicate, what is gone.
//!
//! The rules are those of `docs/PROTOCOL.md`, "Cursors and positions". A cursor only moves forward, except at a reset.

use crate::effect::Effect;
use anabranch_protocol::client_frame::{StartAt, Subscribe, SubscriptionId};
use anabranch_protocol::cursor::{Cursor, Offset, Position};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Gap, GapReason, Outcome};
use std::borrow::Cow;
use std::collections::VecDeque;

/// Where the delivery of a new subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next record.
    Now,
    /// With the oldest record that the log still has.
    Earliest,
    /// With the records of the last so many milliseconds.
    Since(u64),
    /// After this cursor: everything up to it was seen.
    After(Cursor),
    /// With the next record, and told as a reset: there was a cursor, and it means nothing.
    Anew,
}

/// One subscription of the app.
#[derive(Debug)]
struct Subscription {
    id: SubscriptionId,
    filter: Filter,
    /// Where to begin, until the gateway has given a cursor.
    start: Start,
    cursor: Option<Cursor>,
    /// A `subscribe` of this connection is not answered yet. There is never a second one before the answer.
    asked: bool,
    /// An `unsubscribe` went out since: that answer starts nothing.
    outdated: bool,
    /// The gateway delivers for it on this connection.
    active: bool,
    /// It was active since the last good count of this connection: a wrong one concerns it, even if it is parked now.
    counted: bool,
    /// It has caught up on this connection.
    live: bool,
    /// The body does not want messages for it now.
    parked: bool,
    /// Subscribe again at this moment, after a refusal that may pass.
    retry_at: Option<u64>,
    refusals: u32,
    /// The cursor moved in this input.
    moved: bool,
}

impl Subscription {
    fn start_at(&self) -> StartAt<'static> {
        match (&self.cursor, &self.start) {
            (Some(cursor), _) | (None, Start::After(cursor)) => {
                StartAt::Cursor(Cow::Owned(cursor.to_string()))
            }
            (None, Start::Now | Start::Anew) => StartAt::Now,
            (None, Start::Earliest) => StartAt::Earliest,
            (None, Start::Since(ms)) => StartAt::Since(*ms),
        }
    }

    fn frame(&mut self) -> Subscribe<'static> {
        self.asked = true;
        self.outdated = false;
        self.retry_at = None;
        Subscribe { id: self.id, filter: Cow::Owned(self.filter.as_str().into()), start: self.start_at() }
    }

    fn wanted(&self) -> bool {
        !self.active && !self.parked && !self.asked
    }

    /// Notes an answer; says whether it is one that counts.
    fn answered(&mut self) -> bool {
        self.asked = false;
        !std::mem::replace(&mut self.outdated, false) && !self.parked
    }

    /// Moves the cursor forward to another of the same log; says whether that log is the same.
    fn advance(&mut self, to: &Cursor) -> bool {
        match &mut self.cursor {
            Some(cursor) if cursor.log() == to.log() => {
                for position in to.positions() {
                    self.moved |= cursor.advance(*position);
                }
                true
            }
            _ => false,
        }
    }
}

/// All subscriptions of a client.
#[derive(Debug, Default)]
pub struct Subscriptions {
    list: Vec<Subscription>,
    /// `message` frames received on this connection.
    received: u64,
    /// Up to where the count of this connection was right.
    last_good: Option<Cursor>,
}

/// What the table does with a refused subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRefusal {
    /// Subscribe again at this moment.
    RetryAt(u64),
    /// The same, and from now instead of from its cursor.
    Anew(u64),
    /// It is gone.
    Drop,
}

impl Subscriptions {
    /// Adds a subscription. One with the same id is replaced; what the gateway still has to answer for it does not
    /// start the new one. Says whether the gateway knows of a replaced one.
    pub fn add(&mut self, id: SubscriptionId, filter: Filter, start: Start) -> bool {
        let asked = self.find(id).is_some_and(|s| s.asked);
        let known = self.remove(id);
        self.list.push(Subscription {
            id,
            filter,
            start,
            cursor: None,
            asked,
            outdated: asked,
            active: false,
            counted: false,
            live: false,
            parked: false,
            retry_at: None,
            refusals: 0,
            moved: false,
        });
        known
    }

    /// Takes a subscription out; says whether the gateway knows of it.
    pub fn remove(&mut self, id: SubscriptionId) -> bool {
        match self.list.iter().position(|s| s.id == id) {
            Some(at) => {
                let gone = self.list.remove(at);
                gone.active || gone.asked
            }
            None => false,
        }
    }

    /// Whether any filter, except perhaps of subscriptions without delivery, means this topic.
    pub fn matches(&self, topic: &str) -> bool {
        self.list.iter().any(|s| s.filter.matches(topic))
    }

    /// The filter of a subscription.
    pub fn filter(&self, id: SubscriptionId) -> Option<&Filter> {
        self.list.iter().find(|s| s.id == id).map(|s| &s.filter)
    }

    /// Where a subscription stands: everything up to here was delivered to the body, or is none of its business.
    pub fn cursor(&self, id: SubscriptionId) -> Option<&Cursor> {
        let found = self.find(id)?;
        match (&found.cursor, &found.start) {
            (Some(cursor), _) | (None, Start::After(cursor)) => Some(cursor),
            _ => None,
        }
    }

    fn find(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.list.iter().find(|s| s.id == id)
    }

    fn find_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        self.list.iter_mut().find(|s| s.id == id)
    }

    /// All wanted subscriptions, for a `hello` or when their retry is due.
    pub fn take_due(&mut self, now: u64) -> Vec<Subscribe<'static>> {
        self.list
            .iter_mut()
            .filter(|s| s.wanted() && s.retry_at.is_none_or(|at| at <= now))
            .map(Subscription::frame)
            .collect()
    }

    /// When the next refused subscription is due.
    pub fn deadline(&self) -> Option<u64> {
        self.list.iter().filter(|s| s.wanted()).filter_map(|s| s.retry_at).min()
    }

    /// A new connection: nothing is counted yet, retries are due at once.
    pub fn connected(&mut self) {
        self.received = 0;
        self.last_good = None;
        for s in &mut self.list {
            s.active = false;
            s.counted = false;
            s.live = false;
            s.asked = false;
            s.outdated = false;
            s.retry_at = None;
        }
    }

    /// The connection is gone: nothing more is delivered before the next `subscribed`.
    pub fn disconnected(&mut self) {
        self.connected();
    }

    /// Whether every subscription that the gateway was asked for has caught up.
    pub fn all_live(&self) -> bool {
        self.list.iter().all(|s| s.parked || s.retry_at.is_some() || (s.active && s.live))
    }

    /// The body wants no messages for it until [`unpark`](Subscriptions::unpark); says whether to unsubscribe.
    pub fn park(&mut self, id: SubscriptionId) -> bool {
        let Some(s) = self.find_mut(id).filter(|s| !s.parked) else { return false };
        s.parked = true;
        let known = s.active || s.asked;
        s.outdated = s.asked;
        s.active = false;
        s.live = false;
        known
    }

    /// The body wants messages again.
    pub fn unpark(&mut self, id: SubscriptionId) {
        if let Some(s) = self.find_mut(id) {
            s.parked = false;
        }
    }

    /// The gateway begins the delivery.
    pub fn subscribed(
        &mut self,
        id: SubscriptionId,
        cursor: Cursor,
        outcome: Outcome,
        effects: &mut VecDeque<Effect>,
    ) {
        let Some(s) = self.list.iter_mut().find(|s| s.id == id) else { return };
        if !s.answered() {
            return;
        }
        s.active = true;
        s.counted = true;
        // Not before `caught_up`, also where it was live in another history.
        s.live = false;
        s.refusals = 0;
        let had = s.cursor.take().or(match &s.start {
            Start::After(cursor) => Some(cursor.clone()),
            _ => None,
        });
        let anew = std::mem::replace(&mut s.start, Start::Now) == Start::Anew;
        // `live` answers a start without a cursor. If there was one, this is another history.
        let lost = anew || (had.is_some() && outcome == Outcome::Live);
        let reset = lost
            || matches!(outcome, Outcome::Reset(_))
            || had.as_ref().is_some_and(|h| h.log() != cursor.log());
        s.moved = true;
        // A cursor of our own stays: what lies between it and the gateway's is told by gaps and covered by marks, so
        // a second gap, told in a frame of its own, still finds it where it was.
        s.cursor = had.filter(|_| !reset).or_else(|| Some(cursor.clone()));
        effects.push_back(Effect::Subscribed { subscription: id, outcome: outcome.clone() });
        if reset {
            tell_reset(id, &cursor, effects);
        } else if let Outcome::Gap(gap) = &outcome {
            effects.push_back(Effect::Gap { subscriptions: vec![id], gap: gap.clone() });
            s.pass(gap);
        }
        // Messages that follow are counted from the lowest point at which any subscription begins.
        match &mut self.last_good {
            Some(good) if good.log() == cursor.log() => lower(good, &cursor),
            good => *good = Some(cursor),
        }
    }

    /// One `message` frame: who gets it. Whoever has it already does not.
    pub fn message(&mut self, topic: &str, position: Position) -> Vec<SubscriptionId> {
        let mut ids = Vec::new();
        for s in &mut self.list {
            let Some(cursor) = &mut s.cursor else { continue };
            if s.active && s.filter.matches(topic) && cursor.advance(position) {
                s.moved = true;
                ids.push(s.id);
            }
        }
        ids
    }

    /// Counts a `message` frame of this connection.
    pub fn count(&mut self) {
        self.received += 1;
    }

    /// Everything up to `cursor` was sent, as so many messages. A wrong count is told as a gap.
    pub fn mark(&mut self, cursor: &Cursor, delivered: u64, effects: &mut VecDeque<Effect>) {
        if delivered != self.received {
            self.miscount(cursor, effects);
            self.received = delivered;
        }
        self.last_good = Some(cursor.clone());
        for s in &mut self.list {
            s.counted = s.active;
        }
        self.advance_all(cursor);
    }

    /// Every subscription is at the newest record.
    pub fn caught_up(&mut self, cursor: &Cursor, effects: &mut VecDeque<Effect>) {
        self.advance_all(cursor);
        let fresh: Vec<SubscriptionId> =
            self.list.iter_mut().filter(|s| s.active && !s.live).map(|s| (s.live = true, s.id).1).collect();
        if !fresh.is_empty() {
            effects.push_back(Effect::Live { subscriptions: fresh });
        }
    }

    fn advance_all(&mut self, cursor: &Cursor) {
        for s in self.list.iter_mut().filter(|s| s.active) {
            s.advance(cursor);
        }
    }

    /// Somewhere after the last good count and up to where anyone stands now, messages were lost between the gateway
    /// and us. The mark itself may stand lower: a new subscription takes the connection back.
    fn miscount(&mut self, mark: &Cursor, effects: &mut VecDeque<Effect>) {
        let counted = || self.list.iter().filter(|s| s.counted);
        let subscriptions: Vec<SubscriptionId> = counted().map(|s| s.id).collect();
        if subscriptions.is_empty() {
            return;
        }
        let mut reached = mark.clone();
        for position in counted().filter_map(|s| s.cursor.as_ref()).flat_map(Cursor::positions) {
            reached.advance(*position);
        }
        for position in reached.positions() {
            let good = self.last_good.as_ref().and_then(|good| good.position(position.partition));
            let after = good.map_or(Offset(0), |p| p.offset);
            if good.is_none_or(|p| p.offset < position.offset) {
                let before = Offset(position.offset.0.saturating_add(1));
                let gap = Gap { partition: position.partition, after, before, reason: GapReason::Miscount };
                effects.push_back(Effect::Gap { subscriptions: subscriptions.clone(), gap });
            }
        }
    }

    /// Records are gone that this connection should have had.
    pub fn gap(&mut self, gap: Gap, effects: &mut VecDeque<Effect>) {
        let subscriptions: Vec<SubscriptionId> =
            self.list.iter_mut().filter(|s| s.active).filter_map(|s| s.pass(&gap).then_some(s.id)).collect();
        if !subscriptions.is_empty() {
            effects.push_back(Effect::Gap { subscriptions, gap });
        }
    }

    /// The gateway will not deliver this subscription, for now or ever. Says whether it was dropped.
    pub fn refused(&mut self, id: SubscriptionId, then: AfterRefusal) -> bool {
        let Some(s) = self.find_mut(id) else { return false };
        if !s.answered() {
            return false;
        }
        s.refusals = s.refusals.saturating_add(1);
        match then {
            AfterRefusal::RetryAt(at) => s.retry_at = Some(at),
            AfterRefusal::Anew(at) => {
                s.retry_at = Some(at);
                s.cursor = None;
                s.start = Start::Anew;
            }
            AfterRefusal::Drop => {
                self.list.retain(|s| s.id != id);
                return true;
            }
        }
        false
    }

    /// How often in a row this subscription was refused.
    pub fn refusals(&self, id: SubscriptionId) -> u32 {
        self.find(id).map_or(0, |s| s.refusals)
    }

    /// All cursors mean nothing any more.
    pub fn start_anew(&mut self) {
        for s in &mut self.list {
            s.cursor = None;
            s.start = Start::Anew;
        }
    }

    /// A subscription whose cursor moved since the last call: a batch of messages makes one commit.
    pub fn take_moved(&mut self) -> Option<(SubscriptionId, Cursor)> {
        let s = self.list.iter_mut().find(|s| s.moved)?;
        s.moved = false;
        s.cursor.clone().map(|cursor| (s.id, cursor))
    }

    /// The gateway took the subscription away at this cursor: nothing after it was delivered.
    pub fn revoked(&mut self, id: SubscriptionId, cursor: &Cursor) -> Option<(Filter, Option<Cursor>)> {
        let at = self.list.iter().position(|s| s.id == id)?;
        let mut s = self.list.remove(at);
        s.advance(cursor);
        Some((s.filter, s.cursor))
    }

    /// Removes all, with nothing told.
    pub fn clear(&mut self) {
        self.list.clear();
    }
}

impl Subscription {
    /// Moves the cursor past a gap; says whether it touched anything not yet accounted for.
    fn pass(&mut self, gap: &Gap) -> bool {
        let Some(last) = gap.before.0.checked_sub(1) else { return false };
        let Some(cursor) = &mut self.cursor else { return false };
        let passed =
            cursor.advance(Position { partition: gap.partition, offset: Offset(last), fingerprint: None });
        self.moved |= passed;
        passed
    }
}

/// A reset is a gap of unknown size at the start of each partition of the new history.
fn tell_reset(id: SubscriptionId, cursor: &Cursor, effects: &mut VecDeque<Effect>) {
    let mut tell = |partition, before| {
        let gap = Gap { partition, after: Offset(0), before: Offset(before), reason: GapReason::Reset };
        effects.push_back(Effect::Gap { subscriptions: vec![id], gap });
    };
    for position in cursor.positions() {
        tell(position.partition, position.offset.0.saturating_add(1));
    }
    if cursor.positions().is_empty() {
        tell(0, 0);
    }
}

/// Lowers each of `good`'s entries to that of `cursor`. An absent entry is the lowest.
fn lower(good: &mut Cursor, cursor: &Cursor) {
    let mut lowered = Cursor::beginning(good.log());
    for position in good.positions() {
        if let Some(other) = cursor.position(position.partition) {
            lowered.set(if other.offset < position.offset { other } else { *position });
        }
    }
    *good = lowered;
}
