//! What one connection asked to be delivered.

use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::cursor::{Cursor, Position};
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
    stage: Stage,
}

enum Stage {
    /// Its start is being found out; nothing is delivered for it yet.
    Starting { number: u32 },
    /// Delivered. `after` is where it began, as long as the connection reads at or before that place.
    Started { after: Option<Box<Cursor>> },
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

    pub fn add(&mut self, id: SubscriptionId, filter: Filter) -> Asked {
        if self.list.is_empty() {
            // Of hundreds of thousands of connections, most have one: `push` would make room for four.
            self.list.reserve_exact(1);
        }
        self.asked = self.asked.wrapping_add(1);
        let number = self.asked;
        self.list.push(Subscription { id, filter, stage: Stage::Starting { number } });
        Asked { id, number }
    }

    /// Whether this very wish still waits for its answer.
    pub fn awaits(&self, asked: Asked) -> bool {
        let waits =
            |s: &&Subscription| matches!(s.stage, Stage::Starting { number } if number == asked.number);
        self.list.iter().any(|s| s.id == asked.id && waits(&s))
    }

    pub fn remove(&mut self, id: SubscriptionId) -> Option<Subscription> {
        let at = self.list.iter().position(|s| s.id == id)?;
        Some(self.list.remove(at))
    }

    /// Begins the delivery of one subscription after a cursor.
    pub fn start(&mut self, id: SubscriptionId, after: &Cursor) {
        if let Some(subscription) = self.list.iter_mut().find(|s| s.id == id) {
            subscription.stage = Stage::Started { after: Some(Box::new(after.clone())) };
        }
    }

    /// Notes that everything up to `cursor` was delivered to those that have started, before the connection goes back
    /// to read older records for another one.
    pub fn note_delivered(&mut self, cursor: &Cursor) {
        for subscription in &mut self.list {
            if let Stage::Started { after } = &mut subscription.stage {
                match after {
                    Some(after) => after.advance_to(cursor),
                    None => *after = Some(Box::new(cursor.clone())),
                }
            }
        }
    }

    /// Forgets where those began that began no later than `head`, at which the connection stands.
    pub fn joined_at(&mut self, head: &Cursor) {
        for subscription in &mut self.list {
            if let Stage::Started { after } = &mut subscription.stage {
                after.take_if(|after| head.includes_all(after));
            }
        }
    }

    /// Forgets where each began: the connection has read past all of that.
    pub fn all_joined(&mut self) {
        for subscription in &mut self.list {
            if let Stage::Started { after } = &mut subscription.stage {
                *after = None;
            }
        }
    }

    /// Whether some subscription is to get this record. Costs one match for each.
    pub fn want(&self, topic: &str, position: Position) -> bool {
        self.list.iter().any(|s| match &s.stage {
            Stage::Starting { .. } => false,
            Stage::Started { after } => {
                s.filter.matches(topic) && !after.as_ref().is_some_and(|after| after.includes(position))
            }
        })
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
