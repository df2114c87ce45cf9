//! Watches the topics of one shadow.

use super::{Inner, Topics};
use crate::client::Client;
use crate::error::SubscribeError;
use crate::message::Message;
use crate::subscription::{Event, Subscription};
use anabranch_protocol::code::Code;
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::server_frame::Outcome;
use anabranch_sdk_core::{Phase, State};
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;

pub(super) struct Watch {
    client: Client,
    topics: Topics,
    shared: Arc<Inner>,
    documents: Subscription,
    /// Open from the beginning: an answer may come before whoever asked is back.
    accepted: Subscription,
    rejected: Subscription,
    /// The `messageId` of the question of what the shadow is.
    asked: Option<String>,
}

/// What an answer says.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    incarnation: u64,
    #[serde(default)]
    version: u64,
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

impl Watch {
    pub fn new(client: &Client, topics: &Topics, shared: &Arc<Inner>) -> Result<Watch, SubscribeError> {
        let open = |leaf| client.subscribe(&topics.leaf(leaf)).open();
        Ok(Watch {
            client: client.clone(),
            topics: topics.clone(),
            shared: Arc::clone(shared),
            documents: open("document")?,
            accepted: open("accepted")?,
            rejected: open("rejected")?,
            asked: None,
        })
    }

    /// Begins with what memory and store have: the document, and changes that wait.
    pub fn recall(&self) {
        let cached = self.client.cached(&self.topics.leaf("document")).limit(1).read().unwrap_or_default();
        let topic = self.topics.leaf("desired");
        let waiting = self.client.outbox().into_iter().filter(|waiting| waiting.topic == topic);
        self.shared.change(|state| {
            for message in cached {
                state.known |= state.core.take(message.payload_text()).is_some();
            }
            for waiting in waiting {
                let Ok(envelope) = Envelope::parse(&waiting.envelope) else { continue };
                if state.core.set(&waiting.message_id, envelope.payload).is_err() {
                    continue;
                }
                if let Some((code, message)) = &waiting.wedged {
                    state.core.rejected(&waiting.message_id, *code, message);
                }
            }
        });
    }

    pub async fn run(mut self) {
        let mut states = self.client.states();
        let shared = Arc::clone(&self.shared);
        loop {
            let goes_on = tokio::select! {
                state = states.next() => self.connection(state),
                event = self.documents.next() => self.document(event),
                event = self.accepted.next() => self.answer(event),
                event = self.rejected.next() => self.answer(event),
                () = shared.doubt.notified() => {
                    self.ask();
                    true
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Says whether it goes on. That it is live again, its own subscription says.
    fn connection(&self, state: Option<State>) -> bool {
        let Some(state) = state else { return false };
        if !matches!(state.phase, Phase::Live | Phase::Syncing) {
            self.shared.change(|state| state.live = false);
        }
        true
    }

    /// Says whether it goes on.
    fn document(&mut self, event: Option<Event>) -> bool {
        let Some(event) = event else { return false };
        let may_lack_it = matches!(event, Event::SnapshotEnds { complete: false });
        self.shared.change(|state| match event {
            Event::Message(message) => {
                state.core.take(message.payload_text());
                (state.known, state.seen) = (true, true);
            }
            Event::SnapshotBegins => {
                // What does not come until its end does not exist; what comes is true, whatever was there before.
                state.core.begin();
                state.seen = false;
            }
            Event::SnapshotEnds { complete } => {
                if complete && !state.seen {
                    state.core.take_none();
                }
                state.known |= complete;
            }
            Event::Subscribed(Outcome::Reset(_)) => {
                state.core.begin();
                state.live = false;
            }
            Event::Subscribed(_) => state.live = false,
            Event::Live => state.live = true,
            Event::Closed(why) => {
                state.live = false;
                state.closed = Some(why);
            }
            _ => {}
        });
        if may_lack_it && !self.shared.lock().seen {
            self.ask();
        }
        self.shared.lock().closed.is_none()
    }

    /// Asks the gateway what the shadow is, where the document or answers may be lost. It answers behind everything that was sent before.
    ///
    /// Who may not ask goes on in doubt.
    fn ask(&mut self) {
        let id = Uuid::new_v4().to_string();
        let asking =
            self.client.publish(&self.topics.leaf("get")).message_id(&*id).payload_text("null").send();
        self.asked = Some(id);
        let topic = self.topics.leaf("get");
        tokio::spawn(async move {
            if let Err(error) = asking.await {
                tracing::warn!(topic, %error, "what became of some changes of a shadow cannot be asked");
            }
        });
    }

    fn answer(&mut self, event: Option<Event>) -> bool {
        let Some(event) = event else { return false };
        match event {
            Event::Message(message) => self.answered(&message),
            Event::Gap(_) | Event::Subscribed(Outcome::Reset(_) | Outcome::Gap(_))
                if self.shared.change(|state| state.core.unsure()) =>
            {
                self.ask();
            }
            Event::Closed(why) => {
                self.shared.change(|state| {
                    state.live = false;
                    state.closed = Some(why);
                });
                return false;
            }
            _ => {}
        }
        true
    }

    fn answered(&mut self, message: &Message) {
        let Some(id) = message.metadata().get("correlationId") else { return };
        let Ok(answer) = message.json::<Answer>() else { return };
        if self.asked.as_deref() == Some(&*id) {
            self.asked = None;
            self.shared.change(|state| {
                if !state.known {
                    // It has the document's own shape.
                    let text = if answer.version == 0 { "null" } else { message.payload_text() };
                    state.core.take(text);
                    state.known = true;
                }
                state.core.decided(answer.incarnation, answer.version);
            });
            return;
        }
        self.shared.change(|state| match answer.code {
            0 => state.core.accepted(&id, answer.incarnation, answer.version),
            code => state.core.rejected(&id, Code(code), &answer.message),
        });
    }
}
