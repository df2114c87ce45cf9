//! What follows from every input: deadlines that have passed, the next step of the connection, the state to tell.

use super::Machine;
use crate::Now;
use crate::backoff::HEALTHY_MS;
use crate::effect::{Effect, Phase, State};
use crate::link::{DIAL_MS, Link};
use crate::liveness::Verdict;
use crate::outbox::Expired;
use crate::token::REJECTIONS;
use anabranch_protocol::client_frame::ClientFrame;
use anabranch_protocol::code::{Code, Remedy};

/// The close code of WebSocket for "done".
const NORMAL: u16 = 1000;

impl Machine {
    /// Before an input is taken in: did the machine sleep?
    pub(super) fn begin(&mut self, now: Now) {
        if self.sleep.observe(now) {
            self.woken(now);
        }
    }

    /// After an input was taken in: everything that is due now.
    pub(super) fn finish(&mut self, now: Now) {
        self.tokens.expire(now.mono, &mut self.random);
        self.expire_publishes(now);
        self.check_deadlines(now);
        self.follow_intent(now);
        self.dial_if_due(now);
        self.refresh_token(now);
        self.send_due(now);
        self.tell_state(now);
    }

    fn check_deadlines(&mut self, now: Now) {
        match &mut self.link {
            Link::Dialing { deadline, .. } | Link::Greeting { deadline, .. } if *deadline <= now.mono => {
                self.hang_up(now, false);
                self.wait(now);
            }
            Link::Online(online) => {
                if online.leave_at.is_some_and(|at| at <= now.mono) {
                    self.hang_up(now, true);
                    // This is the moment that the gateway chose for us: no backoff on top.
                    self.link = Link::Waiting { until: self.backoff.not_before(now.mono) };
                    return;
                }
                match online.liveness.check(now.mono) {
                    Verdict::Alive => {}
                    Verdict::Probe => {
                        let attempt = online.attempt;
                        online.liveness.probe(now.mono);
                        self.send(attempt, &ClientFrame::Probe);
                    }
                    Verdict::Dead => {
                        self.hang_up(now, false);
                        self.wait(now);
                    }
                }
            }
            _ => {}
        }
    }

    /// Brings the link in line with what the app wants.
    fn follow_intent(&mut self, now: Now) {
        if matches!(self.link, Link::Closed | Link::NeedsAuth | Link::Stopped) {
            return;
        }
        if !self.intent.connect {
            if !matches!(self.link, Link::Idle) {
                self.hang_up(now, true);
                self.link = Link::Idle;
            }
        } else if self.intent.paused() {
            if !matches!(self.link, Link::Paused) {
                self.hang_up(now, true);
                self.link = Link::Paused;
            }
        } else if matches!(self.link, Link::Idle | Link::Paused) {
            self.link = Link::Waiting { until: self.backoff.not_before(now.mono) };
        }
    }

    fn dial_if_due(&mut self, now: Now) {
        let due = match self.link {
            Link::Waiting { until } => until <= now.mono,
            Link::Fetching => true,
            _ => false,
        };
        if !due {
            return;
        }
        if self.tokens.usable(now).is_some() {
            self.attempts = self.attempts.wrapping_add(1);
            self.backoff.attempted();
            self.link = Link::Dialing { attempt: self.attempts, deadline: now.mono.saturating_add(DIAL_MS) };
            self.verdict = None;
            self.effects.push_back(Effect::Open { attempt: self.attempts });
        } else {
            self.link = Link::Fetching;
            self.ask_token(now);
        }
    }

    fn refresh_token(&mut self, now: Now) {
        if self.link.online().is_some()
            && self.tokens.refresh_due(now.mono)
            && self.tokens.rejections() < REJECTIONS
        {
            self.ask_token(now);
        }
    }

    fn ask_token(&mut self, now: Now) {
        if let Some((request, why)) = self.tokens.ask(now.mono) {
            self.effects.push_back(Effect::NeedToken { request, why });
        }
    }

    /// Sends what may be sent now: subscriptions whose retry is due, publishes within the window.
    fn send_due(&mut self, now: Now) {
        let Some(attempt) = self.link.online().map(|online| online.attempt) else { return };
        for subscribe in self.subscriptions.take_due(now.mono) {
            self.send(attempt, &ClientFrame::Subscribe(subscribe));
        }
        self.send_pace(attempt);
        while let Some((envelope, first)) = self.outbox.next(now.mono) {
            let text = ClientFrame::Publish { envelope }.to_json();
            self.effects.push_back(Effect::Send { attempt, text });
            self.effects.extend(first.map(|message_id| Effect::Sent { message_id: message_id.into() }));
        }
    }

    fn expire_publishes(&mut self, now: Now) {
        while let Some(Expired { message_id, sent, kept }) = self.outbox.expire(now.mono) {
            self.keep_settled(&message_id, Some(kept));
            let (code, message) = match sent {
                false => (Code::EXPIRED, "its time to live ended before it was sent"),
                true => (Code::UNCONFIRMED, "its time to live ended; it was sent and not confirmed"),
            };
            self.effects.push_back(Effect::Failed {
                message_id: message_id.into(),
                code,
                message: message.into(),
                retryable: sent,
            });
        }
    }

    /// Tells a gateway that understands it how this client wants to be conflated, where that has changed.
    fn send_pace(&mut self, attempt: u32) {
        let Link::Online(online) = &mut self.link else { return };
        if !online.conflates {
            return;
        }
        let hidden = self.hidden;
        let news = core::mem::replace(&mut online.told_hidden, hidden) != hidden;
        if news {
            self.send(attempt, &ClientFrame::Hidden(hidden));
        }
        for (id, ms) in self.subscriptions.take_conflations() {
            self.send(attempt, &ClientFrame::Conflate { id, ms });
        }
    }

    /// Closes the socket, if there is one. The link's new state is the caller's to set.
    pub(super) fn hang_up(&mut self, now: Now, goodbye: bool) {
        let Some(attempt) = self.link.attempt() else { return };
        if goodbye && !matches!(self.link, Link::Dialing { .. }) {
            self.send(attempt, &ClientFrame::Goodbye);
        }
        self.effects.push_back(Effect::Close { attempt, code: NORMAL });
        self.forget_connection(now);
    }

    /// Only a connection that has lived for a minute makes the next failure a first one.
    fn forget_connection(&mut self, now: Now) {
        if self.link.online().is_some_and(|online| now.mono.saturating_sub(online.since) >= HEALTHY_MS) {
            self.backoff.healthy();
        }
        self.subscriptions.forget_connection();
        self.outbox.disconnected();
    }

    pub(super) fn wait(&mut self, now: Now) {
        self.link = Link::Waiting { until: self.backoff.next(now.mono, &mut self.random) };
    }

    /// The socket is gone. What the gateway said last outweighs the close code.
    pub(super) fn lost(&mut self, now: Now, close: Code) {
        let code = self.verdict.take().unwrap_or(close);
        self.forget_connection(now);
        self.intent.code = Some(code);
        match code.remedy() {
            Remedy::Retry | Remedy::DropItem => self.wait(now),
            Remedy::StartAnew => {
                self.subscriptions.start_anew();
                self.wait(now);
            }
            Remedy::Stop => self.link = Link::Stopped,
            Remedy::Authenticate => {
                // A refusal has told the tokens already; a bare close code has not.
                if self.tokens.usable(now).is_some() {
                    self.tokens.rejected(now.mono, &mut self.random);
                }
                match self.tokens.rejections() {
                    REJECTIONS.. => self.link = Link::NeedsAuth,
                    _ => self.wait(now),
                }
            }
        }
    }

    fn tell_state(&mut self, now: Now) {
        let phase = Phase::of(&self.link, now.mono, &self.tokens);
        let retry_at = match (&self.link, phase) {
            (Link::Waiting { until }, _) => Some(*until),
            (Link::Fetching, Phase::Offline) => self.tokens.waits_until(now.mono),
            _ => None,
        };
        let trying = |phase| matches!(phase, Phase::Connecting | Phase::Offline);
        let since = if phase == self.told.phase || (trying(phase) && trying(self.told.phase)) {
            self.told.since
        } else {
            now.wall
        };
        let state = State {
            phase,
            attempt: self.backoff.failures(),
            retry_in_ms: retry_at.map(|at| at.saturating_sub(now.mono)),
            since,
            code: if matches!(phase, Phase::Syncing | Phase::Live) { None } else { self.intent.code },
            upstream: self.link.online().is_none_or(|online| online.upstream),
        };
        let same = state.phase == self.told.phase
            && state.attempt == self.told.attempt
            && state.code == self.told.code
            && state.upstream == self.told.upstream
            && retry_at == self.told_retry_at;
        if !same {
            self.told = state.clone();
            self.told_retry_at = retry_at;
            self.effects.push_back(Effect::State(state));
        }
    }
}
