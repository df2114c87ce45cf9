//! Carries out what sessions ask for.

use super::ahead::{ask, wait};
use super::{CLOSE_MS, Completion, Shard};
use crate::connection::Asked;
use crate::connection::look_ups::LookUp;
use crate::connection::resume::{self, Verdict};
use crate::connection::session::{Action, Millis, Refusal};
use crate::connection::start::Start;
use crate::hub::interest::ConnectionId;
use crate::log::ReadError;
use anabranch_protocol::client_frame::StartAt;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::server_frame::{Outcome, ServerFrame};
use futures_util::FutureExt;
use futures_util::future::Either;
use std::sync::Arc;

impl Shard {
    /// Carries out, in order, what the session of a connection has put into `self.actions`.
    pub(super) fn perform(&mut self, id: ConnectionId, now: Millis) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.act(id, action, now);
        }
        // Nested calls have left theirs empty again: this one's memory is kept.
        self.actions = actions;
        self.touch(id);
    }

    fn act(&mut self, id: ConnectionId, action: Action, now: Millis) {
        let connection = &mut self.connections[id as usize];
        match action {
            Action::Say(frame) => connection.say(&frame),
            Action::SayMark => {
                let mark = ServerFrame::Mark {
                    cursor: connection.cursor(&self.ring),
                    delivered: connection.delivered(),
                };
                connection.say(&mark);
            }
            Action::Pace => self.set_pace(id),
            Action::Start { subscriptions, at } => self.start(id, subscriptions, at, now),
            Action::Stop { filter, .. } => {
                if !connection.session.subscriptions().watches(&filter) {
                    self.interest.remove(&filter, id);
                }
                if connection.is_paced() {
                    self.set_pace(id);
                }
            }
            Action::Revoke { subscription, filter, code } => {
                if !connection.session.subscriptions().watches(&filter) {
                    self.interest.remove(&filter, id);
                }
                // What is due was matched under the old grants: it is matched anew, under those that are left.
                let cursor = connection.cursor(&self.ring);
                connection.fall_behind(&self.ring, false);
                connection.say(&ServerFrame::Revoked { subscription, cursor, code });
                if connection.is_paced() {
                    self.set_pace(id);
                }
            }
            Action::Rematch => connection.fall_behind(&self.ring, false),
            Action::Append { message_id, record } => {
                let serial = connection.serial;
                match self.node.publisher.publish(record) {
                    Either::Left(ended) => {
                        let result = ended.into_inner();
                        self.new_work = true;
                        self.ended.push((id, serial, Completion::Appended { message_id, result }));
                    }
                    Either::Right(publication) => self.begin_work(Box::pin(async move {
                        let result = publication.await;
                        (id, serial, Completion::Appended { message_id, result })
                    })),
                }
            }
            Action::Admitted(principal) => {
                tracing::debug!(id, subject = %principal.log_name(), "admitted");
                connection.admission = Some(self.node.registry.admit(principal));
                if let Some(message) = &self.upstream {
                    let message = message.to_string().into();
                    connection.say(&ServerFrame::Upstream { up: false, message });
                }
                if let Some(slots) = &self.draining {
                    let mut more = Vec::new();
                    connection.session.go_away(slots.next(), &mut more);
                    for action in more {
                        self.act(id, action, now);
                    }
                }
            }
            Action::Close(code) => {
                connection.close(code, now + CLOSE_MS);
                self.schedule_close(id);
            }
        }
    }

    /// Finds out where the delivery of some subscriptions begins.
    fn start(&mut self, id: ConnectionId, subscriptions: Vec<Asked>, at: StartAt<'static>, now: Millis) {
        let head = self.ring.head().clone();
        let log = Arc::clone(&self.node.log);
        let since = match at {
            StartAt::Default | StartAt::Now => {
                return self.begin(id, subscriptions, Ok(Verdict::new(head, Outcome::Live)), now);
            }
            StartAt::Cursor(text) => {
                return match text.parse::<Cursor>() {
                    Err(_) => {
                        let verdict = Verdict::reset(Code::CURSOR_MALFORMED, &head);
                        self.begin(id, subscriptions, Ok(verdict), now)
                    }
                    Ok(cursor) => self.resume(id, subscriptions, cursor, now),
                };
            }
            StartAt::Earliest => None,
            StartAt::Since(ms) => Some(self.node.clock.unix_ms().saturating_sub(ms)),
        };
        self.look_up(id, subscriptions, async move { resume::from_start(since, &head, &*log).await });
    }

    /// Finds out what a client's cursor is worth.
    fn resume(&mut self, id: ConnectionId, subscriptions: Vec<Asked>, cursor: Cursor, now: Millis) {
        let (head, log) = (self.ring.head().clone(), Arc::clone(&self.node.log));
        let partitions = log.capabilities().partitions;
        match resume::from_ring(&cursor, &self.ring, head.log(), partitions) {
            Some(verdict) => self.begin(id, subscriptions, Ok(verdict), now),
            None => self.look_up(id, subscriptions, ask(cursor, head, log)),
        }
    }

    fn look_up(
        &mut self,
        id: ConnectionId,
        subscriptions: Vec<Asked>,
        looking: impl Future<Output = Result<Verdict, ReadError>> + Send + 'static,
    ) {
        let connection = &mut self.connections[id as usize];
        let known = connection.session.subscriptions();
        connection
            .look_ups
            .add(LookUp { subscriptions, looking: looking.boxed() }, |asked| known.awaits(asked));
        self.look_up_next(id);
    }

    /// A look-up of this connection has ended.
    pub(super) fn looked_up(&mut self, id: ConnectionId) {
        self.connections[id as usize].look_ups.ended();
        self.look_up_next(id);
    }

    fn look_up_next(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id as usize];
        let serial = connection.serial;
        let known = connection.session.subscriptions();
        while let Some(LookUp { subscriptions, looking }) =
            connection.look_ups.next(|asked| known.awaits(asked))
        {
            self.new_work = true;
            self.work.push(Box::pin(async move {
                let verdict = looking.await;
                (id, serial, Completion::Started { subscriptions, verdict })
            }));
        }
    }

    /// It is known where some subscriptions begin: begins.
    pub(super) fn begin(
        &mut self,
        id: ConnectionId,
        subscriptions: Vec<Asked>,
        verdict: Result<Verdict, ReadError>,
        now: Millis,
    ) {
        let connection = &mut self.connections[id as usize];
        // Ended since, perhaps, and its id taken by another: the answer is not for that one.
        let mut subscriptions = subscriptions;
        subscriptions.retain(|asked| connection.session.subscriptions().awaits(*asked));
        if subscriptions.is_empty() || connection.closing.is_some() {
            return;
        }
        let mut actions = std::mem::take(&mut self.actions);
        match verdict {
            Err(error) => {
                // The reason is the operator's: it may hold addresses.
                tracing::warn!(id, %error, "the log does not say where a subscription begins");
                let refusal =
                    Refusal::new(Code::UPSTREAM_DOWN, "the log does not answer; ask again".to_owned());
                for subscription in subscriptions {
                    connection.session.start_failed(subscription, refusal.clone(), &mut actions);
                }
            }
            // The log was replaced while the question was under way: everybody is told so, these too.
            Ok(verdict) if verdict.cursor.log() != self.ring.head().log() => {
                let verdict = Verdict::reset(Code::CURSOR_DIVERGED, self.ring.head());
                self.actions = actions;
                return self.begin(id, subscriptions, Ok(verdict), now);
            }
            // This node is behind the one that the client comes from: what it has not read it cannot vouch for, and a failover may take
            // that back. Nor is a snapshot whole there, which is as of this node's head.
            Ok(verdict) if !self.ring.head().includes_all(&verdict.cursor) => {
                let (log, head) = (Arc::clone(&self.node.log), self.ring.head().clone());
                self.actions = actions;
                return self.look_up(id, subscriptions, wait(verdict, head, log));
            }
            // It has come there. What the log said before, it may say no more.
            Ok(Verdict { given: Some(given), waits: 1.., .. }) => {
                self.actions = actions;
                return self.resume(id, subscriptions, given, now);
            }
            Ok(verdict) => {
                let nothing = self.values.are_none();
                let starts = subscriptions.into_iter().filter_map(|subscription| {
                    let known = connection.session.subscriptions();
                    let wish = known.wish(subscription.id).cloned().unwrap_or_default();
                    let holds = known.holds(subscription.id)?;
                    let mut start = Start::new(&verdict, &wish, holds, &self.values, self.ring.head());
                    start.state.take_if(|_| nothing && self.ring.head().includes_all(&start.after));
                    Some((subscription, start))
                });
                let starts: Vec<(Asked, Start)> = starts.collect();
                let mut place = verdict.cursor.clone();
                starts.iter().for_each(|(_, start)| place.retreat_to(&start.place()));
                let joins_at_head = connection.is_current() && place.includes_all(self.ring.head());
                if !joins_at_head {
                    connection.go_back_to(&place, &self.ring);
                }
                for (subscription, start) in starts {
                    let filter = connection.session.subscriptions().filter(subscription.id).cloned();
                    let watched =
                        filter.as_ref().is_some_and(|f| connection.session.subscriptions().watches(f));
                    if connection.session.started(subscription, start, &mut actions)
                        && let Some(filter) = filter.filter(|_| !watched)
                    {
                        self.interest.insert(&filter, id);
                    }
                }
                if joins_at_head {
                    connection.session.subscriptions_mut().joined_at(self.ring.head());
                    let cursor = self.ring.head().clone();
                    actions.push(Action::Say(ServerFrame::CaughtUp { cursor }));
                }
            }
        }
        for action in actions.drain(..) {
            self.act(id, action, now);
        }
        self.actions = actions;
        self.touch(id);
    }
}
