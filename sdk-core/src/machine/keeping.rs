//! What goes to the store, and what comes from it.

use super::Machine;
use crate::Now;
use crate::effect::Effect;
use crate::outbox::Terms;
use crate::store::{Kept, KeptMessage, KeptPublish, Place, Write};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::cursor::Position;
use anabranch_protocol::server_frame::About;

impl Machine {
    /// Goes on from what a store holds, and asks for every further change to be written there. To be called once, before anything else.
    ///
    /// Messages that the app has not come to are left out: they come again, since its cursors do not cover them.
    pub fn restore(&mut self, now: Now, kept: Kept) {
        self.kept.get_or_insert_default();
        self.begin(now);
        self.cache.note_dropped();
        for KeptPublish { message_id, envelope, expires, wedged } in kept.publishes {
            let left = expires.map(|at| at.saturating_sub(now.wall));
            self.outbox.restore(now, &message_id, &envelope, left, wedged);
        }
        let seen = |one: &KeptMessage| {
            let covers =
                |place: &Place| place.filter.matches(&one.topic) && place.cursor.includes(one.position);
            kept.places.iter().any(|(_, place)| covers(place))
        };
        // Sorted as it grows, because the sorts of the standard library weigh 5 KiB in a browser.
        let mut anew: Vec<Box<str>> = Vec::new();
        for one in kept.messages.iter().filter(|one| !seen(one)) {
            if let Err(at) = anew.binary_search(&one.topic) {
                anew.insert(at, one.topic.clone());
            }
        }
        self.effects
            .extend(anew.iter().map(|topic| Effect::Keep(Write::Trim { topic: topic.clone(), keep: 0 })));
        for one in kept.messages.iter().filter(|one| seen(one)) {
            let KeptMessage { topic, position, about, envelope } = one.clone();
            self.cache.insert(&topic, position, about, &envelope);
            if anew.binary_search(&topic).is_ok() {
                self.keep(|| Write::Message { topic, position, about, envelope });
            }
        }
        self.keep_trims();
        self.finish(now);
    }

    /// Keeps the messages of this subscription, where there is a store.
    pub fn keep_messages(&mut self, id: SubscriptionId) {
        self.kept.iter_mut().for_each(|kept| kept.push(id));
    }

    pub(super) fn keep(&mut self, write: impl FnOnce() -> Write) {
        if self.kept.is_some() {
            self.effects.push_back(Effect::Keep(write()));
        }
    }

    pub(super) fn keep_publish(&mut self, now: Now, message_id: &str, envelope: &str, terms: Terms) {
        if terms.kept {
            let expires = terms.ttl_ms.map(|ttl| now.wall.saturating_add(ttl));
            self.keep(|| Write::Enqueue {
                message_id: message_id.into(),
                envelope: envelope.into(),
                expires,
            });
        }
    }

    /// `kept` is what the outbox said of it.
    pub(super) fn keep_settled(&mut self, message_id: &str, kept: Option<bool>) {
        if kept == Some(true) {
            self.keep(|| Write::Settle { message_id: message_id.into() });
        }
    }

    pub(super) fn keep_message(
        &mut self,
        to: &[SubscriptionId],
        topic: &str,
        position: Position,
        about: About,
        envelope: &Arc<str>,
    ) {
        let kept = self.kept.as_ref().is_some_and(|kept| kept.iter().any(|one| to.contains(one)));
        if kept {
            self.keep(|| Write::Message { topic: topic.into(), position, about, envelope: envelope.clone() });
        }
        self.keep_trims();
    }

    pub(super) fn keep_trims(&mut self) {
        let trims = self.cache.take_dropped().map(|(topic, keep)| Effect::Keep(Write::Trim { topic, keep }));
        self.effects.extend(trims);
    }
}
