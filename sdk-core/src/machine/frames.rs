//! What each frame of the gateway means.

use super::Machine;
use crate::Now;
use crate::backoff::delay;
use crate::effect::Effect;
use crate::link::{Link, Online};
use crate::liveness::Liveness;
use crate::resume::AfterRefusal;
use crate::store::Write;
use alloc::borrow::Cow;
use alloc::borrow::ToOwned;
use alloc::sync::Arc;
use anabranch_protocol::client_frame::ClientFrame;
use anabranch_protocol::code::{Code, Remedy};
use anabranch_protocol::cursor::Position;
use anabranch_protocol::json::Scanner;
use anabranch_protocol::server_frame::{About, Refused, ServerFrame, Welcome};

impl Machine {
    pub(super) fn take_frame(&mut self, now: Now, attempt: u32, text: &str) {
        let Ok(frame) = ServerFrame::from_json(text) else {
            // Skipping it could skip a message without a word. Resume from the cursors instead.
            self.effects.push_back(Effect::Close { attempt, code: Code::BAD_FRAME.0 });
            self.lost(now, Code::INTERNAL);
            return;
        };
        if let Link::Online(online) = &mut self.link {
            online.liveness.heard(now.mono);
            if matches!(frame, ServerFrame::Mark { .. }) {
                online.liveness.answered();
            }
        }
        match frame {
            ServerFrame::Welcome(welcome) => self.welcomed(now, attempt, &welcome),
            ServerFrame::Refused(refused) => self.refused(now, refused),
            ServerFrame::GoAway { code, reconnect_after_ms } => {
                self.verdict = Some(code);
                self.backoff.advise(now.mono, reconnect_after_ms, &mut self.random);
                let slot = self.backoff.not_before(now.mono);
                if let Link::Online(online) = &mut self.link {
                    online.leave_at = Some(slot);
                }
            }
            // Everything else makes sense only after the welcome.
            _ if self.link.online().is_none() => {}
            ServerFrame::Message { position, about, envelope } => self.message(position, about, envelope),
            ServerFrame::Transient { envelope } => self.transient(envelope),
            ServerFrame::Subscribed { subscription, cursor, outcome, snapshot } => {
                self.subscriptions.subscribed(subscription, &cursor, outcome, snapshot, &mut self.effects);
                self.note_caught_up();
            }
            ServerFrame::CaughtUp { cursor } => {
                self.subscriptions.caught_up(&cursor, &mut self.effects);
                self.note_caught_up();
            }
            ServerFrame::Incomplete => self.subscriptions.lack(),
            ServerFrame::Gap { gap, values } => self.subscriptions.gap(gap, values, &mut self.effects),
            ServerFrame::Mark { cursor, delivered } => {
                self.subscriptions.mark(&cursor, delivered, &mut self.effects);
            }
            ServerFrame::Published { message_id, position, duplicate } => {
                let settled = self.outbox.settle(&message_id);
                self.keep_settled(&message_id, settled);
                if settled.is_some() {
                    let message_id = message_id.into_owned();
                    self.effects.push_back(Effect::Published { message_id, position, duplicate });
                }
            }
            ServerFrame::Revoked { subscription, cursor, code } => {
                if let Some((subscription, filter, cursor)) =
                    self.subscriptions.revoked(subscription, &cursor)
                {
                    let others = &self.subscriptions;
                    self.cache.purge(|topic| filter.matches(topic) && !others.matches(topic));
                    self.keep_trims();
                    if let Some(cursor) = cursor {
                        self.effects.push_back(Effect::Cursor { subscription, cursor });
                    }
                    self.effects.push_back(Effect::Revoked { subscription, code });
                    self.note_caught_up();
                }
            }
            ServerFrame::Authenticated { token_ttl_ms } => {
                self.tokens.in_force(now, token_ttl_ms, &mut self.random);
            }
            ServerFrame::Upstream { up, .. } => {
                if let Link::Online(online) = &mut self.link {
                    online.upstream = up;
                }
            }
            ServerFrame::Ping => self.send(attempt, &ClientFrame::Pong),
            ServerFrame::Unknown => {}
        }
    }

    fn welcomed(&mut self, now: Now, attempt: u32, welcome: &Welcome<'_>) {
        if !matches!(self.link, Link::Greeting { .. }) {
            return;
        }
        let allowance = welcome.ping_interval_ms.saturating_add(welcome.ping_grace_ms);
        self.link = Link::Online(Online {
            attempt,
            since: now.mono,
            caught_up: false,
            liveness: Liveness::new(now.mono, allowance),
            upstream: true,
            leave_at: None,
            conflates: welcome.limits.conflate_ms > 0,
            told_hidden: false,
        });
        self.intent.code = None;
        self.tokens.in_force(now, welcome.token_ttl_ms, &mut self.random);
        self.outbox.connected(welcome.limits.publishes_in_flight);
        self.note_caught_up();
    }

    pub(super) fn note_caught_up(&mut self) {
        let all_live = self.subscriptions.all_live();
        if let Link::Online(online) = &mut self.link {
            online.caught_up |= all_live;
        }
    }

    fn message(&mut self, position: Position, about: About, envelope: &str) {
        self.subscriptions.count();
        let Some(topic) = topic_of(envelope) else { return };
        let subscriptions = self.subscriptions.message(&topic, position, about.snapshot);
        if !subscriptions.is_empty() {
            let envelope: Arc<str> = envelope.into();
            self.cache.insert(&topic, position, about, &envelope);
            self.keep_message(&subscriptions, &topic, position, about, &envelope);
            self.effects.push_back(Effect::Deliver { subscriptions, position, about, envelope });
        }
    }

    fn transient(&mut self, envelope: &str) {
        let Some(topic) = topic_of(envelope) else { return };
        let subscriptions = self.subscriptions.watching(&topic);
        if !subscriptions.is_empty() {
            self.effects.push_back(Effect::Transient { subscriptions, envelope: envelope.into() });
        }
    }

    fn refused(&mut self, now: Now, refused: Refused<'_>) {
        let Refused { code, message, retry_after_ms, subscription, message_id } = refused;
        let remedy = code.remedy();
        if let Some(message_id) = message_id {
            match remedy {
                Remedy::Retry => {
                    let after =
                        retry_after_ms.unwrap_or_else(|| delay(self.outbox.refusals(), &mut self.random));
                    self.outbox.retry(&message_id, now.mono.saturating_add(after));
                }
                Remedy::Authenticate => {
                    self.tokens.rejected(now.mono, &mut self.random);
                    let after = delay(self.outbox.refusals() + 1, &mut self.random);
                    self.outbox.retry(&message_id, now.mono.saturating_add(after));
                }
                Remedy::DropItem | Remedy::StartAnew | Remedy::Stop => {
                    self.publish_refused(&message_id, code, &message);
                }
            }
        } else if let Some(id) = subscription {
            let after =
                retry_after_ms.unwrap_or_else(|| delay(self.subscriptions.refusals(id), &mut self.random));
            let at = now.mono.saturating_add(after);
            if remedy == Remedy::Authenticate {
                self.tokens.rejected(now.mono, &mut self.random);
            }
            let then = match remedy {
                Remedy::Retry | Remedy::Authenticate => AfterRefusal::RetryAt(at),
                Remedy::StartAnew => AfterRefusal::Anew(at),
                Remedy::DropItem | Remedy::Stop => AfterRefusal::Drop,
            };
            if let Some(id) = self.subscriptions.refused(id, then) {
                let message = message.into_owned();
                self.effects.push_back(Effect::Refused { subscription: Some(id), code, message });
            }
            self.note_caught_up();
        } else {
            self.connection_refused(now, code, message, retry_after_ms);
        }
    }

    /// For good.
    fn publish_refused(&mut self, message_id: &str, code: Code, message: &str) {
        let Some(kept) = self.outbox.refuse(message_id, code, message) else { return };
        let (id, text) = (message_id.to_owned(), message.to_owned());
        if kept {
            let why = Some((code, message.into()));
            self.keep(|| Write::Wedge { message_id: message_id.into(), why });
            self.effects.push_back(Effect::Wedged { message_id: id, code, message: text });
        } else {
            self.effects.push_back(Effect::Failed { message_id: id, code, message: text, retryable: false });
        }
    }

    fn connection_refused(&mut self, now: Now, code: Code, message: Cow<'_, str>, after_ms: Option<u64>) {
        if let Some(after) = after_ms {
            self.backoff.advise(now.mono, after, &mut self.random);
        }
        match code.remedy() {
            // Of an `authenticate`, perhaps: the connection may live on until its own token ends.
            Remedy::Authenticate => self.tokens.rejected(now.mono, &mut self.random),
            Remedy::DropItem => {}
            Remedy::Retry | Remedy::StartAnew | Remedy::Stop => self.verdict = Some(code),
        }
        if self.link.online().is_none() {
            self.verdict = Some(code);
        }
        let message = message.into_owned();
        self.effects.push_back(Effect::Refused { subscription: None, code, message });
    }
}

/// The topic in an envelope's metadata. Nothing behind it is looked at.
pub(crate) fn topic_of(envelope: &str) -> Option<Cow<'_, str>> {
    Scanner::new(envelope).find_string(&["metadata", "topic"]).ok().flatten()
}
