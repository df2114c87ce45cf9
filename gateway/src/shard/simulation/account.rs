//! What the app has been told of one subscription, and whether that is right: the oracle.

use super::is_state;
use super::truth::{Stored, Truth};
use anabranch_protocol::cursor::{Cursor, Offset, Partition, Position};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Gap, GapReason};
use std::collections::{BTreeMap, BTreeSet};

/// What an app is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// Delivery begins after this cursor, or goes on.
    Begins(Cursor),
    Message(Message),
    Gap(Gap),
}

#[derive(Clone, Debug)]
pub struct Message {
    pub position: Position,
    /// The newest value of its topic, whatever was before.
    pub newest: bool,
    pub topic: Box<str>,
    pub number: u64,
    pub message_id: Box<str>,
}

/// One subscription's book.
#[derive(Clone, Debug)]
pub struct Account {
    pub filter: Filter,
    /// Every value was asked for, from whenever it is.
    whole: bool,
    /// Everything after it must be accounted for. `None` until the gateway has said where it begins.
    base: Option<Cursor>,
    /// Where the delivery began last, until it is known whether that was a reset.
    begun: Option<Cursor>,
    messages: Vec<Message>,
    places: BTreeSet<(Partition, Offset)>,
    gaps: Vec<Gap>,
    /// Topics of which the store may hold nothing.
    purged: BTreeSet<Box<str>>,
    /// What a dashboard would show.
    view: BTreeMap<Box<str>, (Position, u64)>,
}

impl Account {
    pub fn new(filter: Filter, base: Option<Cursor>, whole: bool) -> Account {
        Account {
            filter,
            whole,
            base,
            begun: None,
            messages: Vec::new(),
            places: BTreeSet::new(),
            gaps: Vec::new(),
            purged: BTreeSet::new(),
            view: BTreeMap::new(),
        }
    }

    /// The app takes an event. I2 and I3: nothing twice, nothing out of order, nothing that was not asked for.
    pub fn take(&mut self, event: Event, truth: &Truth) {
        match event {
            Event::Begins(cursor) => {
                self.base.get_or_insert_with(|| cursor.clone());
                self.begun = Some(cursor);
            }
            Event::Gap(gap) if gap.reason == GapReason::Reset => {
                // Several, one for each partition, tell of one reset.
                if let Some(mut begun) = self.begun.take() {
                    // It tells of what was forgotten before, too.
                    truth.forgotten().for_each(|position| _ = begun.advance(position));
                    *self = Account::new(self.filter.clone(), Some(begun), self.whole);
                }
            }
            Event::Gap(gap) => self.gaps.push(gap),
            Event::Message(message) => self.message(message, truth),
        }
    }

    fn message(&mut self, message: Message, truth: &Truth) {
        self.begun = None;
        let Message { position, newest, topic, number, message_id } = &message;
        assert!(self.filter.matches(topic), "I2: {topic} is none of {}'s business", self.filter);
        // What was held of a history that has ended says nothing, if it cannot be compared with what stands there now.
        let torn = self.base.as_ref().is_some_and(|base| truth.was_torn(base.log()));
        let counts = |at: Position| !torn || at.offset > truth.blind_to(at.partition);
        let held = self.view.get(topic).filter(|(at, _)| counts(*at));
        if *newest {
            assert!(is_state(topic), "{topic} is no state");
            let held =
                held.is_none_or(|(at, _)| at.partition == position.partition && at.offset <= position.offset);
            assert!(held, "I3: {topic} goes back to {position}");
        } else {
            let ahead = self
                .messages
                .iter()
                .rev()
                .find(|one| !one.newest && one.position.partition == position.partition);
            let ahead = ahead.map(|one| one.position);
            assert!(
                ahead.is_none_or(|ahead| ahead.offset < position.offset),
                "I3: {position} after {ahead:?} for {}",
                self.filter
            );
            assert!(
                held.is_none_or(|(at, _)| at.offset < position.offset),
                "I3: {topic} goes back to {position}"
            );
            let again =
                self.messages.iter().find(|one| one.message_id == *message_id && one.number == *number);
            let again = again.filter(|one| !one.newest && !truth.doubled.contains(&one.message_id));
            // What comes of a history that has ended, before anybody knows, is void: a reset follows.
            let again = again.filter(|_| self.base.as_ref().is_none_or(|base| truth.is_whole(base.log())));
            assert!(again.is_none(), "I2: {message_id} at {position}, which came before: {again:?}");
        }
        if is_state(topic) {
            self.view.insert(topic.clone(), (*position, *number));
        }
        self.purged.remove(topic);
        self.places.insert((position.partition, position.offset));
        self.messages.push(message);
    }

    /// Goes back to a cursor that was stored: what the app was told behind it comes again.
    pub fn return_to(&mut self, cursor: &Cursor, whole: bool) {
        self.begun = None;
        self.whole = whole;
        self.messages.retain(|one| cursor.includes(one.position));
        self.places.retain(|(partition, offset)| {
            cursor.includes(Position { partition: *partition, offset: *offset, fingerprint: None })
        });
        self.gaps.retain(|gap| {
            let last =
                Position { partition: gap.partition, offset: Offset(gap.before.0 - 1), fingerprint: None };
            cursor.includes(last)
        });
        self.view.retain(|_, (position, _)| cursor.includes(*position));
    }

    /// The store was told to forget what this filter means.
    pub fn purge(&mut self, gone: &Filter) {
        let topics = self.messages.iter().map(|one| &one.topic).filter(|topic| gone.matches(topic));
        self.purged.extend(topics.cloned());
    }

    fn was_told(&self, position: Position) -> bool {
        self.places.contains(&(position.partition, position.offset)) || self.is_in_a_gap(position)
    }

    fn is_in_a_gap(&self, Position { partition, offset, .. }: Position) -> bool {
        let is_in = |gap: &Gap| gap.partition == partition && gap.after < offset && offset < gap.before;
        self.gaps.iter().any(is_in)
    }

    /// I1: every event up to a cursor was delivered, or lies in a gap that was told. What is repeated need not come.
    pub fn check(&self, cursor: &Cursor, truth: &Truth, who: &str) {
        let Some(base) = self.base.as_ref().filter(|base| base.log() == cursor.log()) else { return };
        if !truth.is_whole(cursor.log()) {
            return;
        }
        let wanted = |one: &&Stored| {
            !base.includes(one.position) && cursor.includes(one.position) && self.filter.matches(&one.topic)
        };
        for one in truth.standing().filter(wanted).filter(|one| !is_state(&one.topic) && !one.repeated) {
            assert!(
                self.was_told(one.position),
                "I1: {who}: {} is missing, {} says nothing",
                one.position,
                self.filter
            );
        }
    }

    /// The newest message of each topic that the app was told of and this cursor covers.
    pub fn newest_messages(&self, cursor: &Cursor) -> BTreeMap<&str, &Message> {
        let covered = self.messages.iter().filter(|one| cursor.includes(one.position));
        let covered = covered.filter(|one| !self.purged.contains(&one.topic));
        covered.map(|one| (&*one.topic, one)).collect()
    }

    /// At the end, with everybody at the head: nothing is missing, nothing is shown that is not there, and each value is the newest.
    pub fn check_at_the_end(&self, cursor: &Cursor, truth: &Truth, who: &str) {
        let base = self.base.as_ref().unwrap_or_else(|| panic!("{who}: {} has never begun", self.filter));
        assert_eq!(base.log(), cursor.log(), "{who}: {} was never told of the reset", self.filter);
        assert!(truth.is_at_head(cursor), "{who}: {} stands elsewhere", self.filter);
        // A cursor that stands behind a gap has nothing to be compared by; and before anybody knows that a history has ended, a node may
        // show a value of it.
        let torn = truth.was_torn(cursor.log());
        let compared = |one: &&Message| {
            let partition = one.position.partition;
            let blind = torn && (one.newest || self.gaps.iter().any(|gap| gap.partition == partition));
            !blind && one.position.offset > truth.blind_to(partition)
        };
        for one in self.messages.iter().filter(compared) {
            let stands = truth.at(one.position);
            let same =
                stands.is_some_and(|stored| (stored.number, &stored.topic) == (one.number, &one.topic));
            assert!(same, "{who}: {one:?} stands no more, and nobody has said so");
        }
        let wanted = |one: &&Stored| {
            !base.includes(one.position) && self.filter.matches(&one.topic) && !truth.is_hidden(one)
        };
        for one in truth.standing().filter(wanted).filter(|one| !is_state(&one.topic) && !one.repeated) {
            assert!(
                self.was_told(one.position),
                "I1: {who}: {} is missing for {}",
                one.position,
                self.filter
            );
        }
        for (topic, newest) in truth.newest() {
            let concerned = self.whole || !base.includes(newest.position);
            let blind = torn && self.is_in_a_gap(newest.position);
            if concerned && !blind && self.filter.matches(topic) {
                let shown = self.view.get(topic).map(|(_, number)| *number);
                assert_eq!(
                    shown,
                    Some(newest.number),
                    "{who}: {topic} at {} for {}",
                    newest.position,
                    self.filter
                );
            }
        }
    }
}
