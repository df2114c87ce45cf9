//! What the app, the network, the clock and the store do to a client.

use super::super::Grants;
use super::super::account::Account;
use super::super::app::filter;
use super::super::keeper::{Done, Keeper};
use super::super::truth::Truth;
use super::Client;
use anabranch_protocol::client_frame::{SnapshotMode, SubscriptionId};
use anabranch_sdk_core::outbox::Terms;
use anabranch_sdk_core::{Machine, Wish};

/// Where a subscription is to begin.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    Now,
    Earliest,
    Since(u64),
}

/// Subscriptions of one client at a time.
const SUBSCRIPTIONS: usize = 4;

impl Client {
    /// The app's will.
    pub fn connect(&mut self, truth: &Truth) {
        self.wanted = true;
        self.machine.connect(self.now());
        self.take_effects(truth);
    }

    pub fn disconnect(&mut self, truth: &Truth) {
        self.wanted = false;
        self.machine.disconnect(self.now());
        self.take_effects(truth);
    }

    pub fn pause(&mut self, reason: &'static str, truth: &Truth) {
        self.reasons.insert(reason);
        self.machine.pause(self.now(), reason);
        self.take_effects(truth);
    }

    pub fn resume(&mut self, reason: &'static str, truth: &Truth) {
        self.reasons.remove(reason);
        self.machine.resume(self.now(), reason);
        self.take_effects(truth);
    }

    pub fn wake(&mut self, truth: &Truth) {
        self.machine.wake(self.now());
        self.take_effects(truth);
    }

    pub fn hide(&mut self, hidden: bool, truth: &Truth) {
        self.machine.hide(self.now(), hidden);
        self.take_effects(truth);
    }

    /// Opens a subscription; one with a name goes on where the app has come to under it.
    pub fn subscribe(&mut self, name: Option<&str>, text: &str, start: Start, wish: Wish, truth: &Truth) {
        let in_use =
            |name: &str| self.app.subscriptions.values().any(|one| one.name.as_deref() == Some(name));
        if self.app.subscriptions.len() == SUBSCRIPTIONS || name.is_some_and(in_use) {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        let filter = filter(text);
        let come = name.and_then(|name| self.app.place(name)).filter(|(place, _)| place.filter == filter);
        let whole = match wish.snapshot {
            SnapshotMode::None => false,
            SnapshotMode::IfNew => come.is_none(),
            SnapshotMode::Always => true,
        };
        let (begin, account) = match come {
            Some((place, account)) => {
                let mut account = account.clone();
                account.return_to(&place.cursor, whole);
                (anabranch_sdk_core::Start::After(place.cursor.clone()), account)
            }
            None => (start.into(), Account::new(filter, None, whole)),
        };
        self.app.open(id, name.map(Into::into), account);
        self.machine.subscribe(self.now(), id, text, begin, wish).expect("a filter");
        if name.is_some() {
            self.machine.keep_messages(id);
        }
        self.take_effects(truth);
    }

    /// One of its subscriptions.
    pub fn any(&mut self) -> Option<SubscriptionId> {
        let ids: Vec<SubscriptionId> = self.app.subscriptions.keys().copied().collect();
        (!ids.is_empty()).then(|| self.dice.pick(&ids))
    }

    pub fn unsubscribe(&mut self, truth: &Truth) {
        if let Some(id) = self.any() {
            self.app.subscriptions.remove(&id);
            self.machine.unsubscribe(self.now(), id);
            self.take_effects(truth);
        }
    }

    pub fn park(&mut self, parked: bool, truth: &Truth) {
        let Some(id) = self.any() else { return };
        self.app.subscriptions.get_mut(&id).into_iter().for_each(|one| one.parked = parked);
        if parked {
            self.machine.park(self.now(), id);
        } else {
            self.machine.unpark(self.now(), id);
        }
        self.take_effects(truth);
    }

    pub fn conflate(&mut self, ms: u64, truth: &Truth) {
        if let Some(id) = self.any() {
            self.machine.conflate(self.now(), id, ms);
            self.take_effects(truth);
        }
    }

    /// The app says something.
    pub fn publish(&mut self, topic: &'static str, number: u64, terms: Terms, truth: &Truth) {
        self.next_said += 1;
        let id = format!("{}-{}", self.name, self.next_said);
        let envelope = envelope(&id, topic, number);
        self.said.enter(&id, topic, terms.kept, self.process);
        self.machine.publish_on(self.now(), &id, &envelope, terms).expect("room for one");
        self.take_effects(truth);
    }

    /// Takes a publish back, or tries one again that was refused.
    pub fn reconsider(&mut self, again: bool, truth: &Truth) {
        let ids: Vec<String> = self.machine.outbox().map(|one| one.message_id.to_owned()).collect();
        if ids.is_empty() {
            return;
        }
        let id = &ids[self.dice.index(ids.len())];
        if again {
            self.machine.retry(self.now(), id);
        } else if self.machine.withdraw(self.now(), id) {
            self.said.withdrawn(id);
        }
        self.take_effects(truth);
    }

    /// The token provider answers.
    pub fn answer(&mut self, token: Option<&str>, grants: Grants, truth: &Truth) {
        let Some((request, _)) = self.request.take() else { return };
        self.tokens.extend(token.map(|token| (token.to_owned(), grants)));
        match token {
            Some(token) => self.machine.handle_token(self.now(), request, token),
            None => self.machine.handle_token_failed(self.now(), request),
        }
        self.take_effects(truth);
    }

    /// The connection breaks after some bytes of whatever is under way, so that a frame may be cut. The client hears of it.
    pub fn cut(&mut self, truth: &Truth) {
        let (there, here) = (self.dice.index(300), self.dice.index(300));
        self.receive(here, truth);
        let Some(link) = self.link.take() else { return };
        let attempt = link.attempt;
        link.end(there, self.dice.one_in(2));
        self.machine.handle_closed(self.now(), attempt, 1006);
        self.take_effects(truth);
    }

    /// The store writes so many batches. Says whether there was one.
    pub fn commit(&mut self, count: usize, truth: &Truth) -> bool {
        let mut any = false;
        for _ in 0..count {
            let Some(batch) = self.keeper.commit() else { break };
            self.trace.line(|| format!("{} has written {batch:?}", self.name));
            self.app.check_written(&batch, &self.keeper, truth);
            any = true;
        }
        any
    }

    /// The store says of one thing, any, that it is written.
    pub fn tell(&mut self) -> bool {
        let done = self.keeper.tell(|count| self.dice.index(count));
        match &done {
            Some(Done::Publish(message_id)) => self.said.accepted(message_id),
            Some(Done::Place(id)) => self.app.go_on(*id),
            None => {}
        }
        done.is_some()
    }

    /// The app asks for so many events.
    pub fn take(&mut self, count: usize, truth: &Truth) -> bool {
        let ids: Vec<SubscriptionId> = self.app.subscriptions.keys().copied().collect();
        let mut any = false;
        for id in ids {
            any |= (0..count).take_while(|_| self.app.take(id, &mut self.keeper, truth)).count() > 0;
        }
        any
    }

    /// The process ends at once, with so many of the batches written that were given to the store, and another begins.
    pub fn crash(&mut self, written: usize, truth: &Truth) {
        self.commit(written, truth);
        if let Some(link) = self.link.take() {
            link.end(self.dice.index(300), self.dice.one_in(2));
        }
        (self.dialing, self.request) = (None, None);
        let durable = self.keeper.durable().clone();
        self.trace.line(|| format!("{} finds {durable:?}", self.name));
        self.keeper = Keeper::on(durable.clone());
        self.app = std::mem::take(&mut self.app).again();
        self.process += 1;
        self.machine = Machine::new(&self.name, "simulated", self.dice.seed());
        (self.wanted, self.slot) = (false, 0);
        self.reasons.clear();
        self.machine.restore(self.now(), durable);
        self.take_effects(truth);
    }

    /// Peace: whatever the app did to stand in its own way is undone.
    pub fn relent(&mut self, truth: &Truth) {
        for reason in self.reasons.clone() {
            self.resume(reason, truth);
        }
        let now = self.now();
        for (id, subscription) in &mut self.app.subscriptions {
            if std::mem::take(&mut subscription.parked) {
                self.machine.unpark(now, *id);
            }
        }
        self.hide(false, truth);
        self.connect(truth);
    }

    /// What was refused for good is tried again, or taken back.
    pub fn reconsider_all(&mut self, again: bool, truth: &Truth) {
        let wedged = self.machine.outbox().filter(|one| one.wedged.is_some());
        let wedged: Vec<String> = wedged.map(|one| one.message_id.to_owned()).collect();
        for id in wedged {
            if again {
                self.machine.retry(self.now(), &id);
            } else if self.machine.withdraw(self.now(), &id) {
                self.said.withdrawn(&id);
            }
        }
        self.take_effects(truth);
    }
}

impl From<Start> for anabranch_sdk_core::Start {
    fn from(start: Start) -> anabranch_sdk_core::Start {
        match start {
            Start::Now => anabranch_sdk_core::Start::Now,
            Start::Earliest => anabranch_sdk_core::Start::Earliest,
            Start::Since(ms) => anabranch_sdk_core::Start::Since(ms),
        }
    }
}

/// As a device or an app writes it.
pub fn envelope(message_id: &str, topic: &str, number: u64) -> String {
    format!(r#"{{"metadata":{{"messageId":"{message_id}","topic":"{topic}"}},"payload":{number}}}"#)
}
