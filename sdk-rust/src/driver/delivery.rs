//! From effects to the app: queues of subscriptions, results of publishes, and what a full queue does to reading.

use crate::error::PublishError;
use crate::message::{Message, Transient};
use crate::publish::Published;
use crate::shared::{Locked, Shared};
use crate::subscription::queue::Queue;
use crate::subscription::{Closed, Event};
use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::code::Code;
use anabranch_sdk_core::Effect;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a full queue may keep the client from reading. Longer, and pings, confirms and other subscriptions suffer.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Delivery {
    shared: Arc<Shared>,
    /// Subscriptions whose queue is full: reading waits for them.
    full: Vec<(SubscriptionId, Arc<Queue>)>,
    /// Since when reading waits.
    since: Option<Instant>,
    /// Subscriptions whose delivery the gateway was told to stop.
    parked: Vec<(SubscriptionId, Arc<Queue>)>,
    /// Queues with something that their apps do not see yet.
    hidden: Vec<Arc<Queue>>,
}

impl Delivery {
    pub(crate) fn new(shared: Arc<Shared>) -> Delivery {
        Delivery { shared, full: Vec::new(), since: None, parked: Vec::new(), hidden: Vec::new() }
    }

    pub(crate) fn may_read(&self) -> bool {
        self.full.is_empty()
    }

    /// When the subscriptions that are full now are to be parked.
    pub(crate) fn park_at(&self) -> Option<Instant> {
        self.since.map(|since| since + PATIENCE)
    }

    /// Lets the subscriptions go on whose app has taken enough.
    pub(crate) fn relieve(&mut self) {
        self.full.retain(|(_, queue)| queue.is_full());
        if self.full.is_empty() {
            self.since = None;
        }
        let shared = &self.shared;
        self.parked.retain(|(id, queue)| {
            let still = queue.is_full();
            if !still {
                shared.lock().machine.unpark(shared.now(), *id);
            }
            still
        });
    }

    /// Parks what has been full for too long, and reads on.
    pub(crate) fn park_if_due(&mut self) {
        if self.park_at().is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.since = None;
        for (id, queue) in self.full.drain(..) {
            tracing::debug!(
                client = self.shared.client_id(),
                subscription = id,
                "parked: its app does not keep up"
            );
            self.shared.lock().machine.park(self.shared.now(), id);
            self.parked.push((id, queue));
        }
    }

    /// Passes on what the machine tells the app.
    pub(crate) fn take(&mut self, locked: &mut Locked, effect: Effect) {
        match effect {
            Effect::Deliver { subscriptions, position, about, envelope } => {
                let Some(message) = Message::new(envelope, position, about) else { return };
                for id in subscriptions {
                    self.push(locked, id, Event::Message(message.clone()));
                }
            }
            Effect::Transient { subscriptions, envelope } => {
                let Some(message) = Transient::new(envelope) else { return };
                // What the app has no time for must not hold up what it must not miss.
                let has_room =
                    |id: &SubscriptionId| locked.queues.get(id).is_some_and(|queue| !queue.is_full());
                let ids: Vec<SubscriptionId> = subscriptions.into_iter().filter(has_room).collect();
                for id in ids {
                    self.push(locked, id, Event::Transient(message.clone()));
                }
            }
            Effect::Gap { subscriptions, gap } => {
                for id in subscriptions {
                    self.push(locked, id, Event::Gap(gap.clone()));
                }
            }
            Effect::Live { subscriptions } => {
                for id in subscriptions {
                    self.push(locked, id, Event::Live);
                }
            }
            Effect::Subscribed { subscription, outcome } => {
                self.push(locked, subscription, Event::Subscribed(outcome));
            }
            Effect::SnapshotBegins { subscription } => self.push(locked, subscription, Event::SnapshotBegins),
            Effect::SnapshotEnds { subscription, complete } => {
                self.push(locked, subscription, Event::SnapshotEnds { complete });
            }
            Effect::Cursor { subscription, cursor } => {
                if let Some(queue) = locked.queues.get(&subscription) {
                    queue.push_cursor(cursor);
                    self.hide(queue);
                }
            }
            Effect::Refused { subscription: Some(id), code, message } => {
                self.finish(locked, id, Closed::Refused { code, message });
            }
            Effect::Refused { subscription: None, code, message } => {
                tracing::warn!(client = self.shared.client_id(), %code, "refused by the gateway: {message}");
                locked.last_failure = Some(format!("refused by the gateway: {code}: {message}"));
            }
            Effect::Revoked { subscription, code } => {
                self.finish(locked, subscription, Closed::Revoked { code })
            }
            Effect::Sent { message_id } => {
                if let Some(sent) = locked.sent.remove(&message_id) {
                    let _ = sent.send(());
                }
            }
            Effect::Published { message_id, position, duplicate } => {
                locked.sent.remove(&message_id);
                if let Some(confirm) = locked.confirms.remove(&message_id) {
                    // Whoever asked may have given up waiting.
                    let _ = confirm.send(Ok(Published { message_id, position, duplicate }));
                }
            }
            Effect::Failed { message_id, code, message, .. } => {
                locked.sent.remove(&message_id);
                if let Some(confirm) = locked.confirms.remove(&message_id) {
                    let _ = confirm.send(Err(match code {
                        Code::UNCONFIRMED => PublishError::Unconfirmed { message_id },
                        _ => PublishError::Refused { code, message },
                    }));
                }
            }
            Effect::Wedged { message_id, code, message } => {
                if let Some(confirm) = locked.confirms.remove(&message_id) {
                    let _ = confirm.send(Err(PublishError::Refused { code, message }));
                }
            }
            Effect::Open { .. }
            | Effect::Send { .. }
            | Effect::Close { .. }
            | Effect::NeedToken { .. }
            | Effect::Keep(_)
            | Effect::State(_) => {}
        }
    }

    /// Shows the apps what was passed on. To be called when nothing is left to take: cursors come last.
    pub(crate) fn show(&mut self) {
        self.hidden.drain(..).for_each(|queue| queue.show());
    }

    fn hide(&mut self, queue: &Arc<Queue>) {
        if !self.hidden.last().is_some_and(|last| Arc::ptr_eq(last, queue)) {
            self.hidden.push(queue.clone());
        }
    }

    fn push(&mut self, locked: &Locked, id: SubscriptionId, event: Event) {
        let Some(queue) = locked.queues.get(&id) else { return };
        let full = queue.push(event);
        self.hide(queue);
        if full && !self.full.iter().any(|(other, _)| *other == id) {
            self.full.push((id, queue.clone()));
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// The last event of a subscription.
    fn finish(&mut self, locked: &mut Locked, id: SubscriptionId, why: Closed) {
        if let Some(queue) = locked.queues.remove(&id) {
            queue.push(Event::Closed(why));
            self.hide(&queue);
        }
        self.full.retain(|(other, _)| *other != id);
        self.parked.retain(|(other, _)| *other != id);
    }
}
