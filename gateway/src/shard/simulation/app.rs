//! The app of one client: its subscriptions, what waits for it, how far it has come, and where that is written down.

use super::account::{Account, Event};
use super::keeper::{Done, Keeper};
use super::truth::Truth;
use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::filter::Filter;
use anabranch_sdk_core::store::{Place, Write};
use std::collections::{BTreeMap, VecDeque};

/// How far the app has come with a subscription of some name, and what it had been told by then.
type Come = (Place, Account);

#[derive(Default)]
pub struct App {
    pub subscriptions: BTreeMap<SubscriptionId, Subscription>,
    /// By the names of subscriptions that are kept.
    places: BTreeMap<Box<str>, Come>,
    /// What was given to the store and is not written, in order.
    writing: VecDeque<(Box<str>, Option<Come>)>,
    /// What the store has.
    written: BTreeMap<Box<str>, Come>,
}

pub struct Subscription {
    pub name: Option<Box<str>>,
    pub account: Account,
    pub parked: bool,
    items: VecDeque<Item>,
    /// So many of them the app may take.
    shown: usize,
    /// Covers what the app has taken.
    cursor: Option<Cursor>,
    /// The app's place is being written: it gets nothing meanwhile.
    waits: bool,
}

enum Item {
    Event(Event),
    Cursor(Cursor),
}

impl App {
    /// After a crash: what the store has is all there is.
    pub fn again(self) -> App {
        App { places: self.written.clone(), written: self.written, ..App::default() }
    }

    /// Where the app has come to under this name, with this filter.
    pub fn place(&self, name: &str) -> Option<&Come> {
        self.places.get(name)
    }

    pub fn open(&mut self, id: SubscriptionId, name: Option<Box<str>>, account: Account) {
        let (items, parked) = (VecDeque::new(), false);
        let subscription =
            Subscription { name, account, parked, items, shown: 0, cursor: None, waits: false };
        self.subscriptions.insert(id, subscription);
    }

    /// Passes an event on, which the app does not see before its cursor is there.
    pub fn push(&mut self, id: SubscriptionId, event: Event) {
        let subscription =
            self.subscriptions.get_mut(&id).expect("told only of subscriptions that are there");
        subscription.items.push_back(Item::Event(event));
    }

    pub fn push_cursor(&mut self, id: SubscriptionId, cursor: Cursor) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.items.push_back(Item::Cursor(cursor));
        }
    }

    /// Shows what was passed on.
    pub fn show(&mut self) {
        self.subscriptions.values_mut().for_each(|one| one.shown = one.items.len());
    }

    /// The app asks for the next event of a subscription, and so is done with what it has. Says whether anything came of it.
    pub fn take(&mut self, id: SubscriptionId, keeper: &mut Keeper, truth: &Truth) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(&id).filter(|one| !one.waits) else {
            return false;
        };
        let mut come = None;
        while subscription.shown > 0 && matches!(subscription.items.front(), Some(Item::Cursor(_))) {
            let Some(Item::Cursor(cursor)) = subscription.items.pop_front() else { break };
            subscription.shown -= 1;
            subscription.account.check(&cursor, truth, "an app's cursor");
            come = Some(cursor);
        }
        if let Some(cursor) = come {
            subscription.cursor = Some(cursor.clone());
            if let Some(name) = subscription.name.clone() {
                let place = Place { filter: subscription.account.filter.clone(), cursor };
                let come = (place.clone(), subscription.account.clone());
                subscription.waits = true;
                self.places.insert(name.clone(), come.clone());
                self.writing.push_back((name.clone(), Some(come)));
                keeper.write(vec![Write::Cursor { name, place: Some(place) }], vec![Done::Place(id)]);
            }
            return true;
        }
        if subscription.shown == 0 {
            return false;
        }
        subscription.shown -= 1;
        if let Some(Item::Event(event)) = subscription.items.pop_front() {
            subscription.account.take(event, truth);
        }
        true
    }

    /// The store has the app's place.
    pub fn go_on(&mut self, id: SubscriptionId) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.waits = false;
        }
    }

    /// It ended, and not by the app's will: what waits is still told.
    pub fn end(&mut self, id: SubscriptionId, keeper: &mut Keeper) {
        let Some(Subscription { name: Some(name), .. }) = self.subscriptions.remove(&id) else { return };
        if self.places.remove(&name).is_some() {
            self.writing.push_back((name.clone(), None));
            keeper.write(vec![Write::Cursor { name, place: None }], Vec::new());
        }
    }

    /// What this filter means may no longer be shown, so the store holds nothing of it, whatever the places say. It may hold what
    /// another subscription means, too.
    pub fn purge(&mut self, gone: &Filter) {
        let writing = self.writing.iter_mut().filter_map(|(_, come)| come.as_mut());
        let come = self.places.values_mut().chain(self.written.values_mut()).chain(writing);
        let open = self.subscriptions.values_mut().map(|one| &mut one.account);
        come.map(|(_, account)| account).chain(open).for_each(|account| account.purge(gone));
    }

    /// The store has written this. I4: what a cursor covers, the app has been told, and the store has it.
    pub fn check_written(&mut self, batch: &[Write], keeper: &Keeper, truth: &Truth) {
        for write in batch {
            let Write::Cursor { name, .. } = write else { continue };
            let (given, come) = self.writing.pop_front().expect("it was given");
            assert_eq!(given, *name, "in the order in which it was given");
            match come {
                Some(come) => _ = self.written.insert(given, come),
                None => _ = self.written.remove(&given),
            }
        }
        for (name, (place, account)) in &self.written {
            account.check(&place.cursor, truth, name);
            let kept = &keeper.durable().messages;
            for (topic, newest) in account.newest_messages(&place.cursor) {
                let there = kept.iter().any(|one| *one.topic == *topic && one.position == newest.position);
                assert!(there, "I4: {name} stands at {}, and {newest:?} is not stored", place.cursor);
            }
        }
    }

    /// Whether the app has taken everything, and nothing is being written.
    pub fn is_idle(&self) -> bool {
        self.subscriptions.values().all(|one| one.items.is_empty() && !one.waits)
    }

    /// Where the app stands with each of its subscriptions.
    pub fn cursors(&self) -> impl Iterator<Item = (Option<&Cursor>, &Account)> {
        self.subscriptions.values().map(|one| (one.cursor.as_ref(), &one.account))
    }
}

/// A filter that is one.
pub fn filter(text: &str) -> Filter {
    Filter::new(text).expect("a filter")
}
