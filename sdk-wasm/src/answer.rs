//! Writes effects as JSON.

use alloc::string::String;
use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::code::Code;
use anabranch_protocol::json::{ObjectWriter, Plain, write_number, write_string};
use anabranch_protocol::server_frame::{About, Outcome};
use anabranch_sdk_core::outbox::Merged;
use anabranch_sdk_core::store::Write as Keep;
use anabranch_sdk_core::{Effect, State};

/// What a message's payload is: `,1` for a whole newest value, plus 2 if a newer one may have been lost; `,4` for a merge patch;
/// nothing for anything else.
pub(crate) fn write_flags(out: &mut String, about: About) {
    let flags = u32::from(about.snapshot) | u32::from(about.stale) << 1 | u32::from(about.patch) << 2;
    if let Some(digit) = char::from_digit(flags, 10).filter(|_| flags > 0) {
        out.push(',');
        out.push(digit);
    }
}

/// A JSON array of effects in the making.
pub(crate) struct Answer {
    out: String,
}

impl Answer {
    pub(crate) fn new() -> Answer {
        Answer { out: String::from("[") }
    }

    pub(crate) fn end(mut self) -> String {
        self.out.push(']');
        self.out
    }

    pub(crate) fn push_timer(&mut self, timer: Option<u64>) {
        self.begin("timer");
        self.out.push(',');
        optional(&mut self.out, timer);
        self.out.push(']');
    }

    pub(crate) fn push_merged(&mut self, message_id: &str, into: &Merged) {
        self.begin("merged");
        self.text(message_id);
        self.text(&into.message_id);
        self.text(&into.envelope);
        self.out.push(']');
    }

    pub(crate) fn push(&mut self, effect: &Effect) {
        match effect {
            Effect::Open { attempt } => {
                self.begin("open");
                self.number(*attempt);
            }
            Effect::Send { attempt, text } => {
                self.begin("send");
                self.number(*attempt);
                self.text(text);
            }
            Effect::Close { attempt, code } => {
                self.begin("close");
                self.number(*attempt);
                self.number(*code);
            }
            Effect::NeedToken { request, why } => {
                self.begin("token");
                self.number(*request);
                self.text(why.name());
            }
            Effect::Deliver { subscriptions, position, about, envelope } => {
                self.begin("message");
                self.ids(subscriptions);
                self.plain(position);
                self.out.push(',');
                self.out.push_str(envelope);
                write_flags(&mut self.out, *about);
            }
            Effect::Transient { subscriptions, envelope } => {
                self.begin("transient");
                self.ids(subscriptions);
                self.out.push(',');
                self.out.push_str(envelope);
            }
            Effect::Gap { subscriptions, gap } => {
                self.begin("gap");
                self.ids(subscriptions);
                self.out.push(',');
                let mut object = ObjectWriter::begin(&mut self.out);
                object.number("partition", u64::from(gap.partition));
                object.plain("after", gap.after).plain("before", gap.before);
                object.string("reason", gap.reason.name()).end();
            }
            Effect::Live { subscriptions } => {
                self.begin("live");
                self.ids(subscriptions);
            }
            Effect::Subscribed { subscription, outcome } => {
                self.begin("subscribed");
                self.number(*subscription);
                self.text(match outcome {
                    Outcome::Live => "live",
                    Outcome::Resumed => "resumed",
                    Outcome::Gap(_) => "gap",
                    Outcome::Reset(_) => "reset",
                });
            }
            Effect::SnapshotBegins { subscription } => {
                self.begin("snapshot_begins");
                self.number(*subscription);
            }
            Effect::SnapshotEnds { subscription, complete } => {
                self.begin("snapshot_ends");
                self.number(*subscription);
                self.boolean(*complete);
            }
            Effect::Refused { subscription, code, message } => {
                self.begin("refused");
                self.out.push(',');
                optional(&mut self.out, subscription.map(u64::from));
                self.code(*code);
                self.text(message);
            }
            Effect::Revoked { subscription, code } => {
                self.begin("revoked");
                self.number(*subscription);
                self.code(*code);
            }
            Effect::Cursor { subscription, cursor } => {
                self.begin("cursor");
                self.number(*subscription);
                self.plain(cursor);
            }
            Effect::Published { message_id, position, duplicate } => {
                self.begin("published");
                self.text(message_id);
                self.plain(position);
                self.boolean(*duplicate);
            }
            Effect::Failed { message_id, code, message, retryable } => {
                self.begin("failed");
                self.text(message_id);
                self.code(*code);
                self.text(message);
                self.boolean(*retryable);
            }
            Effect::Sent { message_id } => {
                self.begin("sent");
                self.text(message_id);
            }
            Effect::Wedged { message_id, code, message } => {
                self.begin("wedged");
                self.text(message_id);
                self.code(*code);
                self.text(message);
            }
            // Where the app stands is the shell's to write.
            Effect::Keep(Keep::Cursor { .. }) => return,
            Effect::Keep(write) => self.keep(write),
            Effect::State(state) => {
                self.begin("state");
                self.out.push(',');
                self.state(state);
            }
        }
        self.out.push(']');
    }

    fn keep(&mut self, write: &Keep) {
        self.begin("keep");
        match write {
            Keep::Enqueue { message_id, envelope, expires } => {
                self.text("enqueue");
                self.text(message_id);
                self.text(envelope);
                self.out.push(',');
                optional(&mut self.out, *expires);
            }
            Keep::Wedge { message_id, why } => {
                self.text("wedge");
                self.text(message_id);
                if let Some((code, message)) = why {
                    self.code(*code);
                    self.text(message);
                }
            }
            Keep::Settle { message_id } => {
                self.text("settle");
                self.text(message_id);
            }
            Keep::Message { topic, position, about, envelope } => {
                self.text("message");
                self.text(topic);
                self.plain(position);
                self.text(envelope);
                write_flags(&mut self.out, *about);
            }
            Keep::Trim { topic, keep } => {
                self.text("trim");
                self.text(topic);
                self.number(*keep as u64);
            }
            Keep::Cursor { .. } => {}
        }
    }

    fn state(&mut self, state: &State) {
        let mut object = ObjectWriter::begin(&mut self.out);
        object.string("phase", state.phase.name()).number("attempt", u64::from(state.attempt));
        optional(object.key("retryInMs"), state.retry_in_ms);
        object.number("since", state.since);
        optional(object.key("code"), state.code.map(|code| u64::from(code.0)));
        object.boolean("upstream", state.upstream).end();
    }

    fn begin(&mut self, name: &str) {
        if self.out.len() > 1 {
            self.out.push(',');
        }
        self.out.push('[');
        write_string(&mut self.out, name);
    }

    fn text(&mut self, text: &str) {
        self.out.push(',');
        write_string(&mut self.out, text);
    }

    /// A text that needs no escapes: a position, a cursor.
    fn plain(&mut self, value: &impl Plain) {
        self.out.push_str(",\"");
        value.write_to(&mut self.out);
        self.out.push('"');
    }

    fn number(&mut self, number: impl Into<u64>) {
        self.out.push(',');
        optional(&mut self.out, Some(number.into()));
    }

    fn code(&mut self, code: Code) {
        self.number(code.0);
    }

    fn boolean(&mut self, value: bool) {
        self.out.push_str(if value { ",true" } else { ",false" });
    }

    fn ids(&mut self, ids: &[SubscriptionId]) {
        self.out.push_str(",[");
        for (i, id) in ids.iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            optional(&mut self.out, Some(u64::from(*id)));
        }
        self.out.push(']');
    }
}

fn optional(out: &mut String, number: Option<u64>) {
    match number {
        Some(number) => write_number(out, number),
        None => out.push_str("null"),
    }
}
