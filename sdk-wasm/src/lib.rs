//! The browser's client core: synchronous exports around `anabranch-sdk-core`.
//!
//! The TypeScript shell owns the WebSocket, the timers and the store. It calls one method of [`Core`] for each thing that
//! happens and runs the effects that come back. Every method takes the time as its last two arguments:
//!
//! * `now`: monotonic milliseconds (`performance.now()`),
//! * `wall`: milliseconds since 1970 (`Date.now()`).
//!
//! Every method returns a JSON array of effects, to be carried out in order. An envelope stands in it as it came from
//! the gateway, so one `JSON.parse` of the answer parses it too.
//!
//! | effect | meaning |
//! |---|---|
//! | `["open", attempt]` | open a WebSocket; report `opened`, `received`, `closed` with this attempt |
//! | `["send", attempt, text]` | send a text frame on it (may hold a token: never log it) |
//! | `["close", attempt, code]` | close it and forget it; nothing needs to be reported |
//! | `["token", request, why]` | ask the app for a token; answer `token` or `token_failed`. `why`: `first`, `expiring`, `rejected` |
//! | `["timer", at]` | call `timer` at this monotonic time, instead of any earlier wish; `null`: no timer. It may come before anything is due |
//! | `["message", [id…], position, envelope, flags]` | one message for these subscriptions. `flags` is 1 for the whole newest value of a state topic, 3 if a newer one may have been lost, 4 for a merge patch, and absent for anything else |
//! | `["gap", [id…], {partition, after, before, reason}]` | records that they have not seen are gone; `after` and `before` are strings |
//! | `["live", [id…]]` | they have everything up to the newest record |
//! | `["subscribed", id, outcome]` | delivery begins: `live`, `resumed`, `gap`, `reset`. The last two are followed by a `gap` effect (of reason `reset` for a reset) |
//! | `["snapshot_begins", id]` | every value that its state topics have comes from here on |
//! | `["snapshot_ends", id, complete]` | all have come; topics that did not have none, unless it is not `complete` |
//! | `["refused", id or null, code, message]` | the subscription is gone; or, with `null`, the connection was refused (what follows shows in `state`) |
//! | `["revoked", id, code]` | the token no longer grants it: it is gone |
//! | `["cursor", id, cursor]` | where it stands after all that came before in this array; at most one for each subscription. Store both together |
//! | `["published", messageId, position, duplicate]` | the log has it |
//! | `["failed", messageId, code, message, retryable]` | it will not be published |
//! | `["merged", messageId, into, envelope]` | a patch has become part of an earlier one by its author, `into`, whose envelope (as text) is now this. What is told of that one is told of both |
//! | `["sent", messageId]` | a publish that is kept or has a time to live has left this page for the first time |
//! | `["wedged", messageId, code, message]` | the gateway refused a kept publish for good: it waits for `retry` or `withdraw`, and others of its topic behind it |
//! | `["keep", what, …]` | after `restore`: write this to the store, in this order, together with the rest of the array. `enqueue` messageId envelope expires-or-null, `wedge` messageId [code message], `settle` messageId, `message` topic position envelope [flags], `trim` topic keep; envelopes as text. `anabranch_sdk_core::store::Write` says what each means |
//! | `["state", {phase, attempt, retryInMs, since, code, upstream}]` | `phase`: `idle`, `connecting`, `syncing`, `live`, `offline`, `paused`, `needs_auth`, `closed`; `retryInMs` and `code` may be `null`; `since` is wall time |
//!
//! A `startJson` is an object with the fields of a `subscribe` frame: at most one of `cursor`, `from` (`now`,
//! `earliest`) and `sinceMs`, and `snapshot`. Empty, `{}` or `null` means from now, and no snapshot. A cursor that cannot be read begins from now and is
//! told as a reset. Use a fresh id for each subscription.

#![cfg_attr(target_arch = "wasm32", no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
#[cfg(target_arch = "wasm32")]
mod bare;
mod start;

use alloc::borrow::ToOwned;
use alloc::string::String;
use anabranch_protocol::code::Code;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::json::{Plain, write_number, write_string};
use anabranch_protocol::server_frame::About;
use anabranch_sdk_core::outbox::Terms;
use anabranch_sdk_core::store::{Kept, KeptMessage, KeptPublish, Place};
use anabranch_sdk_core::{Effect, Machine, Now};
use answer::{Answer, write_flags};
use wasm_bindgen::prelude::wasm_bindgen;

/// One client. See the [crate](self) for the contract.
#[wasm_bindgen]
pub struct Core {
    machine: Machine,
    /// What the shell has read from its store so far.
    kept: Kept,
    /// The timer that the shell has set.
    timer: Option<u64>,
}

#[wasm_bindgen]
impl Core {
    /// A client that does nothing yet. The two halves of the seed come from `crypto.getRandomValues`.
    #[wasm_bindgen(constructor)]
    pub fn new(client_id: &str, sdk: &str, seed_high: u32, seed_low: u32) -> Core {
        let seed = u64::from(seed_high) << 32 | u64::from(seed_low);
        Core { machine: Machine::new(client_id, sdk, seed), kept: Kept::default(), timer: None }
    }

    /// Bounds the memory cache to so many bytes and empties it; 0 keeps nothing. Without it: 4 MiB.
    pub fn limit_cache(&mut self, bytes: u32) {
        self.machine.limit_cache(bytes as usize);
    }

    /// The app wants a connection. Also: try again after `needs_auth` or a `closed` that the gateway caused.
    pub fn connect(&mut self, now: f64, wall: f64) -> String {
        self.machine.connect(at(now, wall));
        self.answer()
    }

    /// The app wants none, until the next `connect`.
    pub fn disconnect(&mut self, now: f64, wall: f64) -> String {
        self.machine.disconnect(at(now, wall));
        self.answer()
    }

    /// The end, for good.
    pub fn close(&mut self, now: f64, wall: f64) -> String {
        self.machine.close(at(now, wall));
        self.answer()
    }

    /// Adds a reason to be silent.
    pub fn pause(&mut self, reason: &str, now: f64, wall: f64) -> String {
        self.machine.pause(at(now, wall), reason);
        self.answer()
    }

    /// Takes a reason away.
    pub fn resume(&mut self, reason: &str, now: f64, wall: f64) -> String {
        self.machine.resume(at(now, wall), reason);
        self.answer()
    }

    /// The page became visible, came back from a freeze, or is online again.
    pub fn wake(&mut self, now: f64, wall: f64) -> String {
        self.machine.wake(at(now, wall));
        self.answer()
    }

    /// The timer fired, late or not.
    pub fn timer(&mut self, now: f64, wall: f64) -> String {
        self.timer = None;
        self.machine.handle_timer(at(now, wall));
        self.answer()
    }

    /// The socket of this attempt is open.
    pub fn opened(&mut self, attempt: u32, now: f64, wall: f64) -> String {
        self.machine.handle_opened(at(now, wall), attempt);
        self.answer()
    }

    /// A text frame arrived on it.
    pub fn received(&mut self, attempt: u32, text: &str, now: f64, wall: f64) -> String {
        self.machine.handle_frame(at(now, wall), attempt, text);
        self.answer()
    }

    /// It closed, or could not be opened. `code` as in the close event.
    pub fn closed(&mut self, attempt: u32, code: u16, now: f64, wall: f64) -> String {
        self.machine.handle_closed(at(now, wall), attempt, code);
        self.answer()
    }

    /// The app's answer to a `token` effect.
    pub fn token(&mut self, request: u32, token: &str, now: f64, wall: f64) -> String {
        self.machine.handle_token(at(now, wall), request, token);
        self.answer()
    }

    /// The app could not answer it; it is asked again later. The message is the shell's to show.
    pub fn token_failed(&mut self, request: u32, _message: &str, now: f64, wall: f64) -> String {
        self.machine.handle_token_failed(at(now, wall), request);
        self.answer()
    }

    /// Adds a subscription.
    pub fn subscribe(&mut self, id: u32, filter: &str, start_json: &str, now: f64, wall: f64) -> String {
        let (start, wish) = start::parse(start_json);
        let refused = self.machine.subscribe(at(now, wall), id, filter, start, wish).err();
        let mut answer = Answer::new();
        if let Some(error) = refused {
            let message = error.message().into();
            answer.push(&Effect::Refused { subscription: Some(id), code: Code::BAD_FILTER, message });
        }
        self.complete(answer)
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: u32, now: f64, wall: f64) -> String {
        self.machine.unsubscribe(at(now, wall), id);
        self.answer()
    }

    /// Has its state topics told at most once in so many milliseconds; 0: each value as it comes.
    pub fn conflate(&mut self, id: u32, ms: u32, now: f64, wall: f64) -> String {
        self.machine.conflate(at(now, wall), id, ms.into());
        self.answer()
    }

    /// Nobody looks at the page, or somebody does again.
    pub fn hide(&mut self, hidden: bool, now: f64, wall: f64) -> String {
        self.machine.hide(at(now, wall), hidden);
        self.answer()
    }

    /// The app does not keep up with a subscription: stops its delivery until `unpark`.
    pub fn park(&mut self, id: u32, now: f64, wall: f64) -> String {
        self.machine.park(at(now, wall), id);
        self.answer()
    }

    /// Takes it up again where it stopped.
    pub fn unpark(&mut self, id: u32, now: f64, wall: f64) -> String {
        self.machine.unpark(at(now, wall), id);
        self.answer()
    }

    /// A publish of the store: in the order in which they were written. `expires` below 0: never; `code` 0: not wedged.
    pub fn kept_publish(&mut self, message_id: &str, envelope: &str, expires: f64, code: u16, message: &str) {
        self.kept.publishes.push(KeptPublish {
            message_id: message_id.into(),
            envelope: envelope.into(),
            expires: (expires >= 0.0).then_some(expires as u64),
            wedged: (code > 0).then(|| (Code(code), message.into())),
        });
    }

    /// A message of the store, in the same way. One that cannot be read is left out.
    pub fn kept_message(&mut self, topic: &str, position: &str, envelope: &str, flags: u8) {
        if let Ok(position) = position.parse() {
            let about = About { snapshot: flags & 1 > 0, stale: flags & 2 > 0, patch: flags & 4 > 0 };
            self.kept.messages.push(KeptMessage {
                topic: topic.into(),
                position,
                about,
                envelope: envelope.into(),
            });
        }
    }

    /// How far the app had come with a subscription, of the store.
    pub fn kept_place(&mut self, name: &str, filter: &str, cursor: &str) {
        if let (Ok(filter), Ok(cursor)) = (Filter::new(filter), cursor.parse()) {
            self.kept.places.push((name.into(), Place { filter, cursor }));
        }
    }

    /// Goes on from what the store held, and asks for every change to be kept. Once, before anything else.
    pub fn restore(&mut self, now: f64, wall: f64) -> String {
        let kept = core::mem::take(&mut self.kept);
        self.machine.restore(at(now, wall), kept);
        self.answer()
    }

    /// Keeps the messages of a subscription.
    pub fn keep_messages(&mut self, id: u32) {
        self.machine.keep_messages(id);
    }

    /// Queues an envelope. `messageId` is the one in its metadata; `kept`: it outlives the page, where there is a store, and a refusal for good;
    /// `ttl`: for so many milliseconds it may be sent, for ever if below 0. `author`: whose merge patch it is, if it may become part of their last one;
    /// 0 for all else, and for what an earlier core may have sent.
    #[expect(clippy::too_many_arguments, reason = "over the border go plain values, each by itself")]
    pub fn publish(
        &mut self,
        message_id: &str,
        envelope_json: &str,
        kept: bool,
        ttl: f64,
        author: u32,
        now: f64,
        wall: f64,
    ) -> String {
        let known = self.machine.outbox().find(|one| kept && one.kept && one.message_id == message_id);
        let wedged = known.map(|known| known.wedged.map(|(code, message)| (code, message.to_owned())));
        if let Some(wedged) = wedged {
            // A page asks again that does not know whether an earlier core took it.
            let mut answer = Answer::new();
            if let Some((code, message)) = wedged {
                answer.push(&Effect::Wedged { message_id: message_id.into(), code, message });
            }
            return self.complete(answer);
        }
        let terms = Terms { kept, ttl_ms: (ttl >= 0.0).then_some(ttl as u64) };
        let queued = self.machine.publish_patch(at(now, wall), message_id, envelope_json, terms, author);
        let mut answer = Answer::new();
        match queued {
            Ok(None) => {}
            Ok(Some(earlier)) => answer.push_merged(message_id, &earlier),
            Err(refused) => {
                let (code, message) = (refused.code(), refused.message().into());
                let retryable = code == Code::TOO_MANY_IN_FLIGHT;
                answer.push(&Effect::Failed { message_id: message_id.into(), code, message, retryable });
            }
        }
        self.complete(answer)
    }

    /// Takes out a publish that never was sent, or is wedged. `outbox` shows whether it has gone.
    pub fn withdraw(&mut self, message_id: &str, now: f64, wall: f64) -> String {
        self.machine.withdraw(at(now, wall), message_id);
        self.answer()
    }

    /// Tries a wedged publish again.
    pub fn retry(&mut self, message_id: &str, now: f64, wall: f64) -> String {
        self.machine.retry(at(now, wall), message_id);
        self.answer()
    }

    /// What waits for its confirm, or is wedged, as a JSON array of `[messageId, envelope, kept, sent]`, with code and message behind if it is
    /// wedged; oldest first.
    pub fn outbox(&self) -> String {
        let mut out = String::from("[");
        for one in self.machine.outbox() {
            out.push_str(if out.len() > 1 { ",[" } else { "[" });
            write_string(&mut out, one.message_id);
            out.push(',');
            out.push_str(one.envelope);
            out.push_str(if one.kept { ",true" } else { ",false" });
            out.push_str(if one.sent { ",true" } else { ",false" });
            if let Some((code, message)) = one.wedged {
                out.push(',');
                write_number(&mut out, code.0.into());
                out.push(',');
                write_string(&mut out, message);
            }
            out.push(']');
        }
        out.push(']');
        out
    }

    /// Where a subscription stands; empty while it is not known.
    pub fn cursor(&self, id: u32) -> String {
        self.machine.cursor(id).map(Plain::text).unwrap_or_default()
    }

    /// The newest messages in memory for a filter, as a JSON array of `[position, envelope, flags]`, oldest first; flags as in a `message`
    /// effect.
    pub fn cached(&self, filter: &str, limit: u32) -> String {
        let mut out = String::from("[");
        if let Ok(filter) = Filter::new(filter) {
            for (i, message) in self.machine.cached(&filter, limit as usize).iter().enumerate() {
                out.push_str(if i > 0 { ",[" } else { "[" });
                write_string(&mut out, &message.position.text());
                out.push(',');
                out.push_str(&message.envelope);
                write_flags(&mut out, message.about);
                out.push(']');
            }
        }
        out.push(']');
        out
    }
}

impl Core {
    fn answer(&mut self) -> String {
        self.complete(Answer::new())
    }

    /// All effects, and the timer if it is to change.
    fn complete(&mut self, mut answer: Answer) -> String {
        while let Some(effect) = self.machine.poll_effect() {
            answer.push(&effect);
        }
        let timer = self.machine.next_timer();
        // Each frame puts the connection's deadline off. The timer that is set then comes early, and is followed by another: that is cheaper
        // than another for each frame.
        let sooner = match (timer, self.timer) {
            (Some(wanted), Some(set)) => wanted < set,
            (wanted, set) => wanted != set,
        };
        if sooner {
            self.timer = timer;
            answer.push_timer(timer);
        }
        answer.end()
    }
}

/// JavaScript's times as ours. What is no sensible time becomes 0 or the largest exact number.
fn at(now: f64, wall: f64) -> Now {
    const MOST: f64 = (1u64 << 53) as f64;
    Now { mono: now.clamp(0.0, MOST) as u64, wall: wall.clamp(0.0, MOST) as u64 }
}
