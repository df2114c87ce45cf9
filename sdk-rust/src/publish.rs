//! From a value to the gateway's confirm.

use crate::client::Handle;
use crate::error::PublishError;
use crate::outbox::Queued;
use crate::shared::Stored;
use anabranch_protocol::cursor::Position;
use anabranch_protocol::envelope::{Envelope, MessageType, Stamp};
use anabranch_protocol::json::Scanner;
use anabranch_protocol::topic::Topic;
use anabranch_sdk_core::PublishRefused;
use anabranch_sdk_core::outbox::Terms;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// A message that the log has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Under which the log keeps one copy.
    pub message_id: String,
    /// Where the log has it.
    pub position: Position,
    /// An earlier try under the same message id had stored it.
    pub duplicate: bool,
}

/// Waits until the store has it.
pub(crate) async fn stored(message_id: &str, stored: Stored) -> Result<(), PublishError> {
    let message_id = || message_id.to_owned();
    match stored.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(PublishError::NotKept { message_id: message_id(), why: why.to_string() }),
        Err(_) => Err(PublishError::Unconfirmed { message_id: message_id() }),
    }
}

/// A message about to be published. Does nothing until [`send`](Publish::send) or [`queue`](Publish::queue).
///
/// ```
/// # anabranch_gateway::testing::example(async |url, token| {
/// # use anabranch::{Client, MessageType};
/// # let client = Client::builder(url).token(token).build()?;
/// # client.connect();
/// let notice = || client.publish("iotsphere/users/u-17/notifications").message_type(MessageType::Notification);
/// let first = notice().message_id("n-1").payload_text("\"hello\"").send().await?;
/// let again = notice().message_id("n-1").payload_text("\"hello\"").send().await?;
/// assert!(!first.duplicate && again.duplicate);        // stored once
///
/// let refused = client.publish("no/wildcards/+").payload_text("1").send().await.unwrap_err();
/// assert!(!refused.is_retryable() && !refused.could_have_happened());
/// # Ok(()) });
/// ```
#[derive(Debug)]
#[must_use = "a message is published by send() or queue()"]
pub struct Publish {
    handle: Arc<Handle>,
    topic: String,
    payload: String,
    message_id: Option<String>,
    correlation_id: Option<String>,
    source: Option<String>,
    message_type: MessageType,
    ttl: Option<Duration>,
}

impl Publish {
    pub(crate) fn new(handle: Arc<Handle>, topic: &str) -> Publish {
        Publish {
            handle,
            topic: topic.into(),
            payload: "null".into(),
            message_id: None,
            correlation_id: None,
            source: None,
            message_type: MessageType::Event,
            ttl: None,
        }
    }

    /// The payload, from a value.
    ///
    /// # Errors
    /// The value cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, payload: &T) -> Result<Publish, PublishError> {
        self.payload = serde_json::to_string(payload)?;
        Ok(self)
    }

    /// The payload, from JSON text. Without a payload, `null` is published.
    pub fn payload_text(mut self, json: impl Into<String>) -> Publish {
        self.payload = json.into();
        self
    }

    /// The message id: the key under which the log keeps one copy. Without it, a random UUID.
    pub fn message_id(mut self, id: impl Into<String>) -> Publish {
        self.message_id = Some(id.into());
        self
    }

    /// Joins a response to its command.
    pub fn correlation_id(mut self, id: impl Into<String>) -> Publish {
        self.correlation_id = Some(id.into());
        self
    }

    /// The component that speaks. Without it, the client id. A gateway puts whom the token speaks for in its place, so that readers can trust it.
    pub fn source(mut self, source: impl Into<String>) -> Publish {
        self.source = Some(source.into());
        self
    }

    /// Without it, [`MessageType::Event`].
    pub fn message_type(mut self, message_type: MessageType) -> Publish {
        self.message_type = message_type;
        self
    }

    /// For so long it may be sent, whatever happens to the connection; then it fails with [`Code::EXPIRED`](crate::Code::EXPIRED) if it never was sent.
    pub fn time_to_live(mut self, ttl: Duration) -> Publish {
        self.ttl = Some(ttl);
        self
    }

    /// Puts the message into the outbox, to be published whenever there is a connection. Returns when the client's store has it: from then on it
    /// outlives the process. Without a store it lasts as long as the process does.
    ///
    /// Unlike with [`send`](Publish::send), a refusal by the gateway does not end it: see [`Outboxed::wedged`](crate::Outboxed::wedged).
    ///
    /// Cancel safe: once polled, it is in the outbox.
    ///
    /// # Errors
    /// See [`PublishError`]. After [`PublishError::NotKept`] it is published, but ends with the process.
    pub async fn queue(self) -> Result<Queued, PublishError> {
        let (handle, message_id, envelope, terms) = self.complete(true)?;
        let (confirm, kept) = handle.shared().enqueue(&message_id, &envelope, terms)?;
        stored(&message_id, kept).await?;
        Ok(Queued { handle, message_id, confirm })
    }

    /// Queues the message and waits until the log has it. Without a connection it waits for one; it is sent again after a
    /// reconnect, under the same message id.
    ///
    /// Cancel safe: dropping the future gives up waiting, not the message.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn send(self) -> Result<Published, PublishError> {
        let (handle, message_id, envelope, terms) = self.complete(false)?;
        match handle.shared().publish(&message_id, &envelope, terms)?.await {
            Ok(result) => result,
            // The driver is gone, with the runtime that it ran on.
            Err(_) => Err(PublishError::Unconfirmed { message_id }),
        }
    }

    /// The message id, the envelope, and how it is to be treated.
    pub(crate) fn complete(self, kept: bool) -> Result<(Arc<Handle>, String, String, Terms), PublishError> {
        Topic::check(&self.topic)?;
        // Checked alone: in the envelope, `1},"x":{` would be as good as a value.
        let mut scanner = Scanner::new(&self.payload);
        let whole = scanner.raw().is_ok() && scanner.end().is_ok();
        if !whole {
            return Err(PublishRefused::NotJson.into());
        }
        let message_id = self.message_id.unwrap_or_else(|| Uuid::new_v4().to_string());
        let envelope = Envelope {
            correlation_id: self.correlation_id.map(Into::into),
            message_type: Some(self.message_type),
            payload: &self.payload,
            ..Envelope::default()
        };
        let timestamp = jiff::Timestamp::now().to_string();
        let stamp = Stamp {
            message_id: &message_id,
            timestamp: &timestamp,
            source: self.source.as_deref().unwrap_or(self.handle.shared().client_id()),
        };
        let envelope = envelope.complete(&self.topic, stamp);
        let ttl_ms = self.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        Ok((self.handle, message_id, envelope, Terms { kept, ttl_ms }))
    }
}
