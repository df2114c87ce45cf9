//! What one connection asked to be delivered.

use crate::hub::classes::Holds;
use crate::hub::newest::Values;
use anabranch_protocol::client_frame::{SnapshotMode, SubscriptionId};
use anabranch_protocol::cursor::{Cursor, Offset, Partition, Position};
use anabranch_protocol::filter::Filter;

/// The subscriptions of a connection, in the order in which they were made.
#[derive(Default)]
pub struct Subscriptions {
    list: Vec<Subscription>,
    asked: u32,
}

/// One wish to subscribe. Ids are the client's and come again: this tells the answer to one wish from that to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub id: SubscriptionId,
    number: u32,
}

/// One subscription.
pub struct Subscription {
    pub id: SubscriptionId,
    pub filter: Filter,
    pub holds: Holds,
    /// Its state topics are told at most once in so many milliseconds; 0: each value as it comes.
    pub conflate_ms: u16,
    /// Whether its client wants newest values to begin with.
    snapshots: bool,
    stage: Stage,
}

/// What a client asked for beside a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub snapshot: SnapshotMode,
    /// Where a snapshot stood that was interrupted.
    pub state: Option<Cursor>,
}

enum Stage {
    /// Its start is being found out; nothing is delivered for it yet.
    Starting { number: u32, wish: Option<Box<Wish>> },
    /// Delivered. `after` is where it began, as long as the connection reads at or before that place. `state` is where its
    /// state begins, if that is before.
    Started { after: Option<Box<Cursor>>, state: Option<Box<Earlier>> },
}

/// State that begins before the events of its subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Newest values after this place.
    pub from: Cursor,
    /// Of a whole snapshot, the head when it began: nobody misses word of what was deleted up to there, since it is not named.
    pub whole_as_of: Option<Cursor>,
}

impl From<Cursor> for Earlier {
    /// Those that follow a place.
    fn from(from: Cursor) -> Earlier {
        Earlier { from, whole_as_of: None }
    }
}

impl Subscriptions {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.list.iter()
    }

    pub fn contains(&self, id: SubscriptionId) -> bool {
        self.list.iter().any(|s| s.id == id)
    }

    /// The filter of a subscription.
    pub fn filter(&self, id: SubscriptionId) -> Option<&Filter> {
        self.list.iter().find(|s| s.id == id).map(|s| &s.filter)
    }

    pub fn add(&mut self, id: SubscriptionId, filter: Filter, holds: Holds, wish: Wish) -> Asked {
        if self.list.is_empty() {
            // Of hundreds of thousands of connections, most have one: `push` would make room for four.
            self.list.reserve_exact(1);
        }
        self.asked = self.asked.wrapping_add(1);
        let number = self.asked;
        let snapshots = holds.state && wish.snapshot != SnapshotMode::None;
        let wish = (wish != Wish::default()).then(|| Box::new(wish));
        self.list.push(Subscription {
            id,
            filter,
            holds,
            conflate_ms: 0,
            snapshots,
            stage: Stage::Starting { number, wish },
        });
        Asked { id, number }
    }

    /// Whether this very wish still waits for its answer.
    pub fn awaits(&self, asked: Asked) -> bool {
        let waits =
            |s: &&Subscription| matches!(s.stage, Stage::Starting { number, .. } if number == asked.number);
        self.list.iter().any(|s| s.id == asked.id && waits(&s))
    }

    /// Has the state topics of a subscription told at most once in so many milliseconds. Says whether it is there.
    pub fn conflate(&mut self, id: SubscriptionId, ms: u16) -> bool {
        let known = self.list.iter_mut().find(|s| s.id == id);
        known.map(|subscription| subscription.conflate_ms = ms).is_some()
    }

    /// Whether somebody is to be told each value of a state topic as it comes.
    pub fn are_eager(&self, topic: &str) -> bool {
        let eager = |s: &Subscription| matches!(s.stage, Stage::Started { .. }) && s.conflate_ms == 0;
        self.list.iter().any(|s| eager(s) && s.filter.matches(topic))
    }

    pub fn remove(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let at = self.list.iter().position(|s| s.id == id)?;
        Some(self.list.remove(at))
    }

    /// What was asked for with a subscription that has not started.
    pub fn wish(&self, id: SubscriptionId) -> Option<&Wish> {
        match &self.list.iter().find(|s| s.id == id)?.stage {
            Stage::Starting { wish, .. } => wish.as_deref(),
            Stage::Started { .. } => None,
        }
    }

    /// What the topics of a subscription may be.
    pub fn holds(&self, id: SubscriptionId) -> Option<Holds> {
        self.list.iter().find(|s| s.id == id).map(|s| s.holds)
    }

    /// Begins the delivery of one subscription after a cursor; that of its state earlier, perhaps.
    pub fn start(&mut self, id: SubscriptionId, after: &Cursor, state: Option<Earlier>) {
        if let Some(subscription) = self.list.iter_mut().find(|s| s.id == id) {
            subscription.stage =
                Stage::Started { after: Some(Box::new(after.clone())), state: state.map(Box::new) };
        }
    }

    /// Notes that everything up to `cursor` was delivered to those that have started, before the connection goes back
    /// to read older records for another one.
    pub fn note_delivered(&mut self, cursor: &Cursor) {
        for subscription in &mut self.list {
            if let Stage::Started { after, state } = &mut subscription.stage {
                match after {
                    Some(after) => after.advance_to(cursor),
                    None => *after = Some(Box::new(cursor.clone())),
                }
                if let Some(state) = state {
                    state.from.advance_to(cursor);
                }
            }
        }
    }

    /// Everybody was told that events up to `end` are gone: they begin behind it, and state where the connection reads.
    pub fn pass(&mut self, place: &Cursor, end: Position) {
        for subscription in &mut self.list {
            if let Stage::Started { after, state } = &mut subscription.stage {
                let begun = after.get_or_insert_with(|| Box::new(place.clone()));
                match state {
                    Some(state) => state.from.advance_to(place),
                    None if subscription.holds.state => {
                        // Not where it began long ago: it has what was read since, and must hear of what was deleted of that.
                        let mut from = begun.clone();
                        from.advance_to(place);
                        *state = Some(Box::new(Earlier::from(*from)));
                    }
                    None => {}
                }
                begun.advance(end);
            }
        }
    }

    /// Forgets where those began that began no later than `head`, at which the connection stands.
    pub fn joined_at(&mut self, head: &Cursor) {
        for subscription in &mut self.list {
            if let Stage::Started { after, state } = &mut subscription.stage {
                after.take_if(|after| head.includes_all(after));
                *state = None;
            }
        }
    }

    /// Forgets where each began: the connection has read past all of that.
    pub fn all_joined(&mut self) {
        for subscription in &mut self.list {
            if let Stage::Started { after, state } = &mut subscription.stage {
                (*after, *state) = (None, None);
            }
        }
    }

    /// Another history begins, which agrees with the one before up to `head`. Each that has started goes on from where it stood, or
    /// from where the two part, and its state begins anew: what it shows may be of the part that is gone. `place` is where
    /// the connection stood, and then where it is to read from. Says where each begins.
    pub fn enter(
        &mut self,
        head: &Cursor,
        place: &mut Cursor,
    ) -> Vec<(SubscriptionId, Cursor, Option<Cursor>)> {
        let agreed = |cursor: &Cursor| {
            let mut both = head.clone();
            both.retreat_to(cursor);
            both
        };
        let stood = std::mem::replace(place, head.clone());
        let mut begun = Vec::new();
        for subscription in &mut self.list {
            let Stage::Started { after, state } = &mut subscription.stage else { continue };
            let mut own = stood.clone();
            if let Some(after) = after {
                own.advance_to(after);
            }
            let own = agreed(&own);
            let values = subscription.snapshots.then(|| Cursor::beginning(head.log()));
            place.retreat_to(values.as_ref().unwrap_or(&own));
            begun.push((subscription.id, own.clone(), values.clone()));
            let whole = |from| Box::new(Earlier { from, whole_as_of: Some(head.clone()) });
            (*after, *state) = (Some(Box::new(own)), values.map(whole));
        }
        begun
    }

    /// Whether some subscription is to get this record. Costs one match for each.
    pub fn want(&self, topic: &str, position: Position) -> bool {
        self.list.iter().any(|s| match &s.stage {
            Stage::Starting { .. } => false,
            Stage::Started { after, .. } => {
                s.filter.matches(topic) && !after.as_ref().is_some_and(|after| after.includes(position))
            }
        })
    }

    /// Whether some subscription is to get this newest value. Who begins with nothing has no use for what was deleted before.
    pub fn want_value(&self, topic: &str, position: Position, deleted: bool) -> bool {
        self.list.iter().any(|s| {
            let Stage::Started { after, state } = &s.stage else { return false };
            let from = state.as_ref().map(|state| &state.from);
            let known = |cursor: Option<&Cursor>| cursor.is_some_and(|c| c.includes(position));
            let from_nothing = from.is_some_and(|c| c.position(position.partition).is_none());
            let begun = known(from.or(after.as_deref()));
            s.holds.state
                && !begun
                && !(deleted && from_nothing && known(after.as_deref()))
                && s.filter.matches(topic)
        })
    }

    /// The filters of those who want state.
    pub fn state_filters(&self) -> impl Iterator<Item = &Filter> {
        let started = |s: &&Subscription| s.holds.state && matches!(s.stage, Stage::Started { .. });
        self.list.iter().filter(started).map(|s| &s.filter)
    }

    /// Up to where in a partition nobody wants anything but state; `None` if nobody wants anything else at all. `place` is
    /// where the connection reads.
    pub fn events_begin(&self, partition: Partition, place: Offset) -> Option<Position> {
        let at = |offset| Position { partition, offset, fingerprint: None };
        let begin = |s: &Subscription| match &s.stage {
            Stage::Started { after: Some(after), .. } if s.holds.events => {
                Some(after.position(partition).unwrap_or(at(Offset(0))))
            }
            Stage::Started { after: None, .. } if s.holds.events => Some(at(place)),
            _ => None,
        };
        self.list.iter().filter_map(begin).min_by_key(|position| position.offset)
    }

    /// Whether a snapshot under way lacks something that is unknown, in a partition in which the connection has come to `place`.
    pub fn lack_values(&self, values: &Values, partition: Partition, place: Offset) -> bool {
        let (unsure, deletions) = (values.unsure_to(partition), values.deletions_unsure_to(partition));
        self.list.iter().any(|s| {
            let Stage::Started { state: Some(state), .. } = &s.stage else { return false };
            let has = place.max(offset_in(Some(&state.from), partition));
            has < unsure || has.max(offset_in(state.whole_as_of.as_ref(), partition)) < deletions
        })
    }

    /// What somebody may miss of state without having been told, in a partition in which the connection has come to `place`: what is
    /// unknown at offsets above the first, up to and including the second. Of a whole snapshot it is told otherwise that it lacks values.
    pub fn miss_values(
        &self,
        values: &Values,
        partition: Partition,
        place: Offset,
    ) -> Option<(Offset, Offset)> {
        let missed = self.list.iter().filter_map(|s| match &s.stage {
            Stage::Started { state: Some(state), .. } if state.whole_as_of.is_some() => None,
            Stage::Started { after, .. } if s.holds.state => {
                let told = place.max(offset_in(after.as_deref(), partition));
                // Who has nothing misses no deletion.
                let from_nothing = told == Offset(0);
                let last =
                    if from_nothing { values.unsure_to(partition) } else { values.unknown_to(partition) };
                (told < last).then_some((told, last))
            }
            _ => None,
        });
        missed.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }

    /// Whether a started subscription has exactly this filter.
    pub fn watches(&self, filter: &Filter) -> bool {
        self.list.iter().any(|s| matches!(s.stage, Stage::Started { .. }) && s.filter == *filter)
    }

    /// Whether this subscription has started.
    pub fn has_started(&self, id: SubscriptionId) -> bool {
        self.list.iter().any(|s| s.id == id && matches!(s.stage, Stage::Started { .. }))
    }
}

fn offset_in(cursor: Option<&Cursor>, partition: Partition) -> Offset {
    cursor.and_then(|cursor| cursor.position(partition)).map_or(Offset(0), |position| position.offset)
}
