//! One message: an envelope and where the log has it, if it has it.

use anabranch_protocol::cursor::Position;
use anabranch_protocol::json::{JsonError, Scanner};
use anabranch_protocol::server_frame::About;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A message as it came from the gateway. Cheap to clone; nothing but the topic is read until it is asked for.
///
/// ```
/// # anabranch_gateway::testing::example(async |url, token| {
/// # use anabranch::{Client, Start};
/// # let client = Client::builder(url).token(token).build()?;
/// # client.connect();
/// #[derive(serde::Deserialize)]
/// struct Reading { celsius: f64 }
///
/// client.publish("site/temp").payload_text(r#"{"celsius": 21.5}"#).send().await?;
/// let mut temperatures = client.subscribe("site/temp").from(Start::Earliest).open()?;
/// let message = temperatures.next_message().await.expect("a message");
/// assert_eq!(message.json::<Reading>()?.celsius, 21.5);
/// let source = message.metadata().source();            // whom the publisher's token speaks for
/// println!("{} at {} by {source:?}", message.topic(), message.position());
/// # assert_eq!(source.as_deref(), Some("dev"));
/// # Ok(()) });
/// ```
#[derive(Clone)]
pub struct Message {
    content: Content,
    position: Position,
    about: About,
}

/// A message that no log keeps: presence, typing. It comes to whoever is there, and to nobody afterwards; nothing covers it,
/// and its loss is not told.
#[derive(Clone)]
pub struct Transient {
    content: Content,
}

#[derive(Clone)]
struct Content {
    envelope: Arc<str>,
    topic: Arc<str>,
    metadata: Range<usize>,
    payload: Range<usize>,
}

impl Content {
    /// `None` if the text has no metadata with a topic, or no payload.
    fn new(envelope: Arc<str>) -> Option<Content> {
        let (metadata, payload) = split(&envelope).ok()?;
        let (metadata, payload) = (metadata?, payload?);
        let topic = Metadata { json: &envelope[metadata.clone()] }.get("topic")?.into();
        Some(Content { envelope, topic, metadata, payload })
    }

    fn payload_text(&self) -> &str {
        &self.envelope[self.payload.clone()]
    }

    fn metadata(&self) -> Metadata<'_> {
        Metadata { json: &self.envelope[self.metadata.clone()] }
    }

    fn bytes(&self) -> usize {
        self.envelope.len() + self.topic.len()
    }
}

impl Message {
    /// `None` if the text has no metadata with a topic, or no payload.
    pub(crate) fn new(envelope: Arc<str>, position: Position, about: About) -> Option<Message> {
        Some(Message { content: Content::new(envelope)?, position, about })
    }

    /// The full topic.
    pub fn topic(&self) -> &str {
        &self.content.topic
    }

    /// The payload as JSON text, exactly as it was published.
    pub fn payload_text(&self) -> &str {
        self.content.payload_text()
    }

    /// The payload as a value.
    ///
    /// # Errors
    /// The payload is not such a value.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.payload_text())
    }

    /// What the envelope says about the message.
    pub fn metadata(&self) -> Metadata<'_> {
        self.content.metadata()
    }

    /// Where the log has it. Together with a topic, this is the message's identity.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether the payload is the whole newest value of its topic: one of a snapshot, or sent in the place of messages that it
    /// has replaced and that did not come. `null` means that the topic has no value any more.
    pub fn is_snapshot(&self) -> bool {
        self.about.snapshot
    }

    /// Of such a value: whether a newer one may have been lost.
    pub fn is_stale(&self) -> bool {
        self.about.stale
    }

    /// Whether the payload is a merge patch (RFC 7396) of the topic's value before.
    pub fn is_patch(&self) -> bool {
        self.about.patch
    }

    /// The whole envelope as JSON text.
    pub fn envelope_text(&self) -> &str {
        &self.content.envelope
    }

    /// What it holds of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.content.bytes()
    }
}

impl Transient {
    pub(crate) fn new(envelope: Arc<str>) -> Option<Transient> {
        Some(Transient { content: Content::new(envelope)? })
    }

    /// The full topic.
    pub fn topic(&self) -> &str {
        &self.content.topic
    }

    /// The payload as JSON text, exactly as it was published.
    pub fn payload_text(&self) -> &str {
        self.content.payload_text()
    }

    /// The payload as a value.
    ///
    /// # Errors
    /// The payload is not such a value.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.payload_text())
    }

    /// What the envelope says about the message.
    pub fn metadata(&self) -> Metadata<'_> {
        self.content.metadata()
    }

    /// The whole envelope as JSON text.
    pub fn envelope_text(&self) -> &str {
        &self.content.envelope
    }

    /// What it holds of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.content.bytes()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} {} {})", self.position, self.topic(), self.payload_text())
    }
}

impl fmt::Debug for Transient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transient({} {})", self.topic(), self.payload_text())
    }
}

/// Metadata of an envelope. Fields are read when they are asked for.
#[derive(Clone, Copy)]
pub struct Metadata<'a> {
    json: &'a str,
}

impl<'a> Metadata<'a> {
    /// A field's value, if it is a string.
    pub fn get(&self, field: &str) -> Option<Cow<'a, str>> {
        Scanner::new(self.raw(field)?).string().ok()
    }

    /// A field's value as JSON text, also of fields that the platform does not know.
    pub fn raw(&self, field: &str) -> Option<&'a str> {
        let mut scanner = Scanner::new(self.json);
        scanner.enter_object().ok()?;
        while let Some(key) = scanner.next_key().ok()? {
            let value = scanner.raw().ok()?;
            if key == field {
                return Some(value);
            }
        }
        None
    }

    /// All of it as JSON text.
    pub fn text(&self) -> &'a str {
        self.json
    }

    /// Under which the log keeps one copy.
    pub fn message_id(&self) -> Option<Cow<'a, str>> {
        self.get("messageId")
    }

    /// When it was published, by the publisher's clock: ISO 8601.
    pub fn timestamp(&self) -> Option<Cow<'a, str>> {
        self.get("timestamp")
    }

    /// Who published it: whom their token speaks for. Of what did not come through a gateway, whatever it says itself.
    pub fn source(&self) -> Option<Cow<'a, str>> {
        self.get("source")
    }

    /// What joins a response to its command.
    pub fn correlation_id(&self) -> Option<Cow<'a, str>> {
        self.get("correlationId")
    }

    /// `event`, `command`, `response` or `notification`.
    pub fn message_type(&self) -> Option<Cow<'a, str>> {
        self.get("messageType")
    }

    /// Of the envelope's format.
    pub fn version(&self) -> Option<Cow<'a, str>> {
        self.get("version")
    }
}

impl fmt::Debug for Metadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json)
    }
}

type Place = Option<Range<usize>>;

/// Where the metadata and the payload stand in an envelope. Fields beside them are a newer gateway's.
fn split(envelope: &str) -> Result<(Place, Place), JsonError> {
    let (mut metadata, mut payload) = (None, None);
    let mut scanner = Scanner::new(envelope);
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        let value = scanner.raw()?;
        let place = scanner.at() - value.len()..scanner.at();
        match &*key {
            "metadata" => metadata = Some(place),
            "payload" => payload = Some(place),
            _ => {}
        }
    }
    Ok((metadata, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_protocol::cursor::Offset;

    fn message(text: &str) -> Option<Message> {
        let position = Position { partition: 0, offset: Offset(1), fingerprint: None };
        Message::new(text.into(), position, About::default())
    }

    #[test]
    fn reads_what_is_asked_for() {
        let text = r#" { "metadata" : {"messageId":"m","topic":"a\/b","x":[1]} , "payload" : {"t": 21.5} , "later": 1 }"#;
        let message = message(text).expect("an envelope");
        assert_eq!(message.topic(), "a/b");
        assert_eq!(message.payload_text(), r#"{"t": 21.5}"#);
        assert_eq!(message.metadata().message_id().as_deref(), Some("m"));
        assert_eq!(message.metadata().raw("x"), Some("[1]"));
        assert_eq!(message.metadata().get("x"), None);
        assert_eq!(message.json::<serde_json::Value>().expect("JSON")["t"], 21.5);
    }

    #[test]
    fn what_is_no_envelope_is_none() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"metadata":{},"payload":1}"#,
            r#"{"metadata":{"topic":"a"}}"#,
            "{\"metadata\"",
        ] {
            assert!(message(text).is_none(), "{text}");
        }
    }
}
