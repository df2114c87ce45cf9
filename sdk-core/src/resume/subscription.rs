//! One subscription: what was asked of the gateway for it, and where it stands.

use super::{Start, Wish};
use alloc::borrow::Cow;
use alloc::vec::Vec;
use anabranch_protocol::client_frame::{SnapshotMode, StartAt, Subscribe, SubscriptionId};
use anabranch_protocol::cursor::{Cursor, Offset, Position};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::json::Plain;
use anabranch_protocol::server_frame::{Gap, GapReason, Outcome, Snapshot};

/// Ids from here on are made up by us; the app's lie below.
pub const OWN_IDS: SubscriptionId = 1 << 31;

/// One subscription of the app.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The app's number for it.
    pub id: SubscriptionId,
    /// The number that the gateway knows on this connection: the app's, or, where that one was used up by an
    /// `unsubscribe`, one of our own. So an answer always belongs to one question.
    pub wire: SubscriptionId,
    pub filter: Filter,
    /// Where to begin, until the gateway has given a cursor.
    pub start: Start,
    pub cursor: Option<Cursor>,
    /// Which newest values are asked for.
    pub wish: SnapshotMode,
    /// Newest values from before the cursor are on their way.
    pub snapshot: Option<UnderWay>,
    pub stage: Stage,
    /// Since `subscribed`, there was a `caught_up`.
    pub live: bool,
    /// The body does not want messages for it now.
    pub parked: bool,
    /// Where it stood when the count of this connection was right last. Stays while it is parked, until the next count:
    /// a wrong one still concerns it.
    pub good: Option<Cursor>,
    /// Refusals in a row.
    pub refusals: u32,
    /// The cursor moved in this input.
    pub moved: bool,
    /// Every value comes, until the next `caught_up`.
    pub whole: bool,
    /// Not all of those will. Stays while the connection is lost: whoever tells the rest knows of its own part alone.
    pub lacks: bool,
    /// Its state topics are to be told at most once in so many milliseconds; 0: each value as it comes.
    pub conflate_ms: u64,
    /// What the gateway was told of that.
    pub told_conflate_ms: u64,
}

/// Newest values that are on their way. While they are, the cursor alone would not bring the rest of them.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// How far they have come.
    pub place: Cursor,
    /// Where the app stands meanwhile: where it stood before.
    pub before: Option<Cursor>,
}

impl From<Cursor> for UnderWay {
    /// Those that follow the place at which the app stands.
    fn from(cursor: Cursor) -> UnderWay {
        UnderWay { place: cursor.clone(), before: Some(cursor) }
    }
}

/// What the gateway knows of it on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing.
    Unknown,
    /// It refused, for now: ask again at this moment.
    Refused { retry_at: u64 },
    /// It was asked.
    Asked,
    /// It delivers.
    Active,
}

/// How the delivery began, for the app.
pub(super) enum Began {
    /// With nothing missing, or with this gap.
    With(Option<Gap>),
    /// In another history.
    Anew,
}

impl Subscription {
    pub(super) fn new(
        id: SubscriptionId,
        wire: SubscriptionId,
        filter: Filter,
        start: Start,
        wish: Wish,
    ) -> Subscription {
        Subscription {
            id,
            wire,
            filter,
            start,
            cursor: None,
            wish: wish.snapshot,
            snapshot: None,
            stage: Stage::Unknown,
            live: false,
            parked: false,
            good: None,
            refusals: 0,
            moved: false,
            whole: false,
            lacks: false,
            conflate_ms: wish.conflate_ms,
            told_conflate_ms: 0,
        }
    }

    /// Where the app stands: from here, nothing is missed and nothing comes twice.
    pub(super) fn stands_at(&self) -> Option<&Cursor> {
        match (&self.snapshot, &self.cursor, &self.start) {
            (Some(snapshot), ..) => snapshot.before.as_ref(),
            (None, Some(cursor), _) | (None, None, Start::After(cursor)) => Some(cursor),
            _ => None,
        }
    }

    /// The cursor means nothing any more.
    pub(super) fn start_anew(&mut self) {
        self.cursor = None;
        self.snapshot = None;
        self.start = Start::Anew;
    }

    pub(super) fn is_active(&self) -> bool {
        self.stage == Stage::Active
    }

    /// Whether the gateway would answer an `unsubscribe`.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.stage, Stage::Asked | Stage::Active)
    }

    /// Whether a `subscribe` is to be sent now.
    pub(super) fn is_due(&self, now: u64) -> bool {
        match self.stage {
            Stage::Unknown => !self.parked,
            Stage::Refused { retry_at } => !self.parked && retry_at <= now,
            Stage::Asked | Stage::Active => false,
        }
    }

    /// A new connection: the gateway knows nothing.
    pub(super) fn forget_connection(&mut self) {
        self.wire = self.id;
        self.stage = Stage::Unknown;
        self.live = false;
        self.good = None;
    }

    /// The `subscribe` to send.
    pub(super) fn ask(&mut self) -> Subscribe<'static> {
        self.stage = Stage::Asked;
        self.told_conflate_ms = self.conflate_ms;
        let start = match (&self.cursor, &self.start) {
            (Some(cursor), _) | (None, Start::After(cursor)) => StartAt::Cursor(Cow::Owned(cursor.text())),
            (None, Start::Now | Start::Anew) => StartAt::Now,
            (None, Start::Earliest) => StartAt::Earliest,
            (None, Start::Since(ms)) => StartAt::Since(*ms),
        };
        Subscribe {
            id: self.wire,
            filter: Cow::Owned(self.filter.as_str().into()),
            start,
            snapshot: self.wish,
            conflate_ms: self.conflate_ms,
            state: self.snapshot.as_ref().map(|snapshot| Cow::Owned(snapshot.place.text())),
        }
    }

    /// The gateway begins the delivery after `cursor`, with newest values from before it.
    pub(super) fn begin(&mut self, cursor: &Cursor, outcome: &Outcome, snapshot: Option<Snapshot>) -> Began {
        self.stage = Stage::Active;
        self.live = false;
        self.refusals = 0;
        self.moved = true;
        let had = self.cursor.take().or(match &self.start {
            Start::After(cursor) => Some(cursor.clone()),
            _ => None,
        });
        let asked = had.clone();
        let anew = core::mem::replace(&mut self.start, Start::Now) == Start::Anew;
        let reset = match (outcome, &had) {
            (Outcome::Reset(_), _) => true,
            // `live` answers a start without a cursor. If there was one, it was not accepted.
            (Outcome::Live, had) => anew || had.is_some(),
            (_, Some(had)) => had.log() != cursor.log(),
            (_, None) => false,
        };
        // A cursor of our own stays: what lies between it and the gateway's is told by gaps and covered by marks, so
        // a second gap, told in a frame of its own, still finds it where it was, and nothing comes twice.
        self.cursor = had.filter(|_| !reset).or_else(|| Some(cursor.clone()));
        let before = match self.snapshot.take() {
            Some(interrupted) => interrupted.before,
            None => asked,
        };
        // Once asked for, it is not asked for again after each reconnect.
        if self.wish == SnapshotMode::Always {
            self.wish = SnapshotMode::IfNew;
        }
        let began = match outcome {
            _ if reset => Began::Anew,
            Outcome::Gap(gap) => {
                self.pass(gap);
                Began::With(Some(gap.clone()))
            }
            _ => Began::With(None),
        };
        let begins = snapshot.as_ref().is_some_and(|snapshot| snapshot.whole);
        self.whole = (self.whole && !reset) || begins;
        self.lacks &= !begins;
        self.snapshot = snapshot
            .map(|snapshot| UnderWay { place: snapshot.state, before: before.filter(|_| !reset) })
            .filter(|snapshot| {
                self.cursor.as_ref().is_some_and(|cursor| !snapshot.place.includes_all(cursor))
            });
        // Parked and taken up again between two counts: the next one still speaks of before.
        if reset || self.good.is_none() || self.snapshot.is_some() {
            self.good = self.place().cloned();
        }
        began
    }

    /// How far the gateway has come with it.
    pub(super) fn place(&self) -> Option<&Cursor> {
        self.snapshot.as_ref().map(|snapshot| &snapshot.place).or(self.cursor.as_ref())
    }

    /// One record; says whether it is new here.
    pub(super) fn take(&mut self, position: Position, is_newest_value: bool) -> bool {
        let Some(cursor) = &mut self.cursor else { return false };
        let is_new = cursor.advance(position);
        self.moved |= is_new;
        match &mut self.snapshot {
            // A partition's records come in order: what lies before this one has come.
            Some(snapshot) if is_new => {
                snapshot.place.advance(position);
                self.end_snapshot();
                true
            }
            Some(snapshot) if is_newest_value => snapshot.place.advance(position),
            _ => is_new,
        }
    }

    /// Newest values have come up to here.
    pub(super) fn have_come_to(&mut self, place: &Cursor) {
        if let Some(snapshot) = self.snapshot.as_mut().filter(|snapshot| snapshot.place.log() == place.log())
        {
            snapshot.place.advance_to(place);
            self.end_snapshot();
        }
    }

    /// Once all values from before the cursor have come, the cursor says all again.
    fn end_snapshot(&mut self) {
        let (Some(snapshot), Some(cursor)) = (&self.snapshot, &self.cursor) else { return };
        if snapshot.place.includes_all(cursor) {
            self.snapshot = None;
            self.moved = true;
        }
    }

    /// Moves the cursor forward to another; one of another log moves nothing.
    pub(super) fn follow(&mut self, to: &Cursor) {
        if let Some(cursor) = self.cursor.as_mut().filter(|cursor| cursor.log() == to.log()) {
            for position in to.positions() {
                self.moved |= cursor.advance(*position);
            }
        }
    }

    /// Moves the cursor over a gap; says whether it touched anything not yet accounted for.
    pub(super) fn pass(&mut self, gap: &Gap) -> bool {
        let Some(last) = gap.before.0.checked_sub(1) else { return false };
        let over = Position { partition: gap.partition, offset: Offset(last), fingerprint: None };
        let passed = self.cursor.as_mut().is_some_and(|cursor| cursor.advance(over));
        self.moved |= passed;
        passed
    }

    /// The count of this connection was wrong at `mark`. Messages were lost after the last good count, and not beyond the
    /// mark or where the subscription stands. (The mark can be the lower one: a new subscription takes a connection back.)
    pub(super) fn miscounts(&self, mark: &Cursor) -> Vec<Gap> {
        let (Some(good), Some(cursor)) = (&self.good, &self.cursor) else { return Vec::new() };
        if mark.log() != good.log() {
            return Vec::new();
        }
        let mut reached = mark.clone();
        for position in cursor.positions() {
            reached.advance(*position);
        }
        let gaps = reached.positions().iter().filter_map(|position| {
            let after = good.position(position.partition).map_or(Offset(0), |p| p.offset);
            let before = Offset(position.offset.0.saturating_add(1));
            let gap = Gap { partition: position.partition, after, before, reason: GapReason::Miscount };
            (position.offset > after).then_some(gap)
        });
        gaps.collect()
    }
}
