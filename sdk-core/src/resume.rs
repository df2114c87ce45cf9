//! The subscriptions, each with its own cursor: what is new, what is a duplicate, what is gone.
//!
//! The rules are those of `docs/PROTOCOL.md`, "Cursors and positions". A cursor only moves forward, except at a reset.

mod subscription;

use crate::effect::Effect;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use anabranch_protocol::client_frame::{SnapshotMode, Subscribe, SubscriptionId};
use anabranch_protocol::cursor::{Cursor, Offset, Position};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Gap, GapReason, Outcome, Snapshot};
use subscription::{Began, Stage, Subscription, UnderWay};

pub use subscription::OWN_IDS;

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

/// What is done about a refused subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRefusal {
    /// Subscribe again at this moment.
    RetryAt(u64),
    /// The same, and from now instead of from its cursor.
    Anew(u64),
    /// It is gone.
    Drop,
}

/// What else is asked for a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Wish {
    /// Which newest values of state topics it begins with.
    pub snapshot: SnapshotMode,
    /// State topics are to be told at most once in so many milliseconds; 0: each value as it comes.
    pub conflate_ms: u64,
}

impl From<SnapshotMode> for Wish {
    fn from(snapshot: SnapshotMode) -> Wish {
        Wish { snapshot, ..Wish::default() }
    }
}

/// All subscriptions of a client.
#[derive(Debug, Default)]
pub struct Subscriptions {
    list: Vec<Subscription>,
    /// `message` frames received on this connection.
    received: u64,
    /// Ids of our own used so far.
    made_up: u32,
}

impl Subscriptions {
    /// Adds a subscription. One with the same id is replaced; what the gateway knows that one by is returned, to be
    /// unsubscribed.
    pub fn add(
        &mut self,
        id: SubscriptionId,
        filter: Filter,
        start: Start,
        wish: Wish,
    ) -> Option<SubscriptionId> {
        let known = self.remove(id);
        let wire = if known.is_some() { self.make_up_id() } else { id };
        self.list.push(Subscription::new(id, wire, filter, start, wish));
        known
    }

    /// Takes a subscription out. If the gateway knows of it, the id to unsubscribe.
    pub fn remove(&mut self, id: SubscriptionId) -> Option<SubscriptionId> {
        let at = self.list.iter().position(|s| s.id == id)?;
        let gone = self.list.remove(at);
        gone.is_known().then_some(gone.wire)
    }

    fn make_up_id(&mut self) -> SubscriptionId {
        self.made_up = self.made_up.wrapping_add(1);
        OWN_IDS | self.made_up
    }

    /// Whether any filter means this topic.
    pub fn matches(&self, topic: &str) -> bool {
        self.list.iter().any(|s| s.filter.matches(topic))
    }

    /// Where a subscription stands: everything up to here was delivered to the body, or is none of its business. While a snapshot is
    /// on its way, it stands where it stood before.
    pub fn cursor(&self, id: SubscriptionId) -> Option<&Cursor> {
        self.list.iter().find(|s| s.id == id)?.stands_at()
    }

    fn find_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        self.list.iter_mut().find(|s| s.id == id)
    }

    fn find_wire(&mut self, wire: SubscriptionId) -> Option<&mut Subscription> {
        self.list.iter_mut().find(|s| s.wire == wire && s.is_known())
    }

    /// The subscriptions to ask the gateway for now.
    pub fn take_due(&mut self, now: u64) -> Vec<Subscribe<'static>> {
        self.list.iter_mut().filter(|s| s.is_due(now)).map(Subscription::ask).collect()
    }

    /// How a subscription is to be conflated from now on.
    pub fn conflate(&mut self, id: SubscriptionId, ms: u64) {
        if let Some(s) = self.find_mut(id) {
            s.conflate_ms = ms;
        }
    }

    /// Those of which the gateway knows another time than is wanted now, and the time. They count as told.
    pub fn take_conflations(&mut self) -> Vec<(SubscriptionId, u64)> {
        let due = |s: &mut Subscription| {
            let told = core::mem::replace(&mut s.told_conflate_ms, s.conflate_ms);
            (told != s.conflate_ms).then_some((s.wire, s.conflate_ms))
        };
        self.list.iter_mut().filter(|s| s.is_known()).filter_map(due).collect()
    }

    /// When the next refused subscription is due.
    pub fn deadline(&self) -> Option<u64> {
        let retry = |s: &Subscription| match s.stage {
            Stage::Refused { retry_at } if !s.parked => Some(retry_at),
            _ => None,
        };
        self.list.iter().filter_map(retry).min()
    }

    /// A connection begins or has ended: the gateway knows nothing, nothing is counted.
    pub fn forget_connection(&mut self) {
        self.received = 0;
        for s in &mut self.list {
            s.forget_connection();
        }
    }

    /// Whether everything that the gateway was asked for has caught up.
    pub fn all_live(&self) -> bool {
        self.list.iter().all(|s| s.parked || s.live || matches!(s.stage, Stage::Refused { .. }))
    }

    /// The body wants no messages for it until [`unpark`](Subscriptions::unpark). If the gateway knows of it, the id to
    /// unsubscribe.
    pub fn park(&mut self, id: SubscriptionId) -> Option<SubscriptionId> {
        let made_up = self.make_up_id();
        let s = self.find_mut(id).filter(|s| !s.parked)?;
        s.parked = true;
        s.live = false;
        let known = s.is_known().then_some(s.wire);
        if known.is_some() {
            s.stage = Stage::Unknown;
            s.wire = made_up;
        }
        known
    }

    /// The body wants messages again.
    pub fn unpark(&mut self, id: SubscriptionId) {
        if let Some(s) = self.find_mut(id) {
            s.parked = false;
        }
    }

    /// The gateway begins the delivery; again, if the log's history changed under the connection.
    pub fn subscribed(
        &mut self,
        wire: SubscriptionId,
        cursor: &Cursor,
        outcome: Outcome,
        snapshot: Option<Snapshot>,
        effects: &mut VecDeque<Effect>,
    ) {
        let Some(s) = self.find_wire(wire) else { return };
        let whole = snapshot.as_ref().is_some_and(|snapshot| snapshot.whole);
        let began = s.begin(cursor, &outcome, snapshot);
        effects.push_back(Effect::Subscribed { subscription: s.id, outcome });
        let subscription = s.id;
        let subscriptions = vec![s.id];
        match began {
            Began::Anew => tell_reset(s.id, cursor, effects),
            Began::With(Some(gap)) => effects.push_back(Effect::Gap { subscriptions, gap }),
            Began::With(None) => {}
        }
        if whole {
            effects.push_back(Effect::SnapshotBegins { subscription });
        }
    }

    /// One `message` frame: who gets it. Whoever has it already does not.
    pub fn message(&mut self, topic: &str, position: Position, is_newest_value: bool) -> Vec<SubscriptionId> {
        let mut ids = Vec::new();
        for s in self.list.iter_mut().filter(|s| s.is_active()) {
            if s.filter.matches(topic) && s.take(position, is_newest_value) {
                ids.push(s.id);
            }
        }
        ids
    }

    /// Who takes a message of this topic that has no position.
    pub fn watching(&self, topic: &str) -> Vec<SubscriptionId> {
        let active = self.list.iter().filter(|s| s.is_active() && !s.parked);
        active.filter(|s| s.filter.matches(topic)).map(|s| s.id).collect()
    }

    /// Counts a `message` frame of this connection.
    pub fn count(&mut self) {
        self.received = self.received.saturating_add(1);
    }

    /// Everything up to `cursor` was sent, as so many messages. A wrong count is told as a gap.
    pub fn mark(&mut self, cursor: &Cursor, delivered: u64, effects: &mut VecDeque<Effect>) {
        let agreed = core::mem::replace(&mut self.received, delivered) == delivered;
        for s in &mut self.list {
            if !agreed {
                for gap in s.miscounts(cursor) {
                    effects.push_back(Effect::Gap { subscriptions: vec![s.id], gap });
                }
            }
            s.good = None;
            if s.is_active() {
                s.follow(cursor);
                s.have_come_to(cursor);
                s.good = s.place().cloned();
            }
        }
    }

    /// The gateway does not know every value that the snapshots on their way should have.
    pub fn lack(&mut self) {
        self.list.iter_mut().filter(|s| s.is_active()).for_each(|s| s.lacks = true);
    }

    /// Every subscription is at the newest record, and snapshots that were on their way end.
    pub fn caught_up(&mut self, cursor: &Cursor, effects: &mut VecDeque<Effect>) {
        let mut subscriptions = Vec::new();
        for s in self.list.iter_mut().filter(|s| s.is_active()) {
            s.follow(cursor);
            s.have_come_to(cursor);
            if core::mem::take(&mut s.whole) {
                effects.push_back(Effect::SnapshotEnds { subscription: s.id, complete: !s.lacks });
            }
            if !s.live {
                s.live = true;
                subscriptions.push(s.id);
            }
        }
        if !subscriptions.is_empty() {
            effects.push_back(Effect::Live { subscriptions });
        }
    }

    /// Records are gone that this connection should have had. `values`: the newest values among them follow.
    pub fn gap(&mut self, gap: Gap, values: bool, effects: &mut VecDeque<Effect>) {
        let mut subscriptions = Vec::new();
        for s in self.list.iter_mut().filter(|s| s.is_active()) {
            let before = s.cursor.clone().filter(|_| values && s.snapshot.is_none());
            if s.pass(&gap) {
                s.snapshot = s.snapshot.take().or(before.map(UnderWay::from));
                subscriptions.push(s.id);
            }
        }
        if !subscriptions.is_empty() {
            effects.push_back(Effect::Gap { subscriptions, gap });
        }
    }

    /// How often in a row this subscription was refused.
    pub fn refusals(&mut self, wire: SubscriptionId) -> u32 {
        self.find_wire(wire).map_or(0, |s| s.refusals)
    }

    /// The gateway will not deliver this subscription, for now or ever. The app's id, if that ends it.
    pub fn refused(&mut self, wire: SubscriptionId, then: AfterRefusal) -> Option<SubscriptionId> {
        let s = self.find_wire(wire)?;
        s.refusals = s.refusals.saturating_add(1);
        match then {
            AfterRefusal::RetryAt(retry_at) => s.stage = Stage::Refused { retry_at },
            AfterRefusal::Anew(retry_at) => {
                s.stage = Stage::Refused { retry_at };
                s.start_anew();
            }
            AfterRefusal::Drop => {
                let id = s.id;
                self.list.retain(|s| s.id != id);
                return Some(id);
            }
        }
        None
    }

    /// The gateway took the subscription away: nothing after the cursor was delivered.
    pub fn revoked(
        &mut self,
        wire: SubscriptionId,
        cursor: &Cursor,
    ) -> Option<(SubscriptionId, Filter, Option<Cursor>)> {
        let id = self.find_wire(wire)?.id;
        let at = self.list.iter().position(|s| s.id == id)?;
        let mut gone = self.list.remove(at);
        gone.follow(cursor);
        gone.have_come_to(cursor);
        let stands_at = gone.stands_at().cloned();
        Some((id, gone.filter, stands_at))
    }

    /// All cursors mean nothing any more.
    pub fn start_anew(&mut self) {
        self.list.iter_mut().for_each(Subscription::start_anew);
    }

    /// A subscription whose cursor moved since the last call: a batch of messages makes one commit.
    pub fn take_moved(&mut self) -> Option<(SubscriptionId, Cursor)> {
        let s = self.list.iter_mut().find(|s| s.moved && s.snapshot.is_none())?;
        s.moved = false;
        s.cursor.clone().map(|cursor| (s.id, cursor))
    }

    /// Removes all, with nothing told.
    pub fn clear(&mut self) {
        self.list.clear();
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
