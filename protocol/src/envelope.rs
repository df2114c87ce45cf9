//! The platform's standard envelope: `{"metadata": {…}, "payload": …}`.
//!
//! An [`Envelope`] is a view of a text: metadata fields are read, unknown ones are kept as they are, the payload is never
//! looked into. At ingest, [`Envelope::complete`] writes the one form in which it is stored and delivered.

use crate::code::Code;
use crate::json::{JsonError, ObjectWriter, Scanner};
use crate::limits;
use crate::topic::Topic;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

/// What kind of message an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MessageType {
    /// Something has happened.
    #[default]
    Event,
    /// Somebody is asked to do something.
    Command,
    /// The answer to a command, joined to it by the `correlationId`.
    Response,
    /// Something for people to read.
    Notification,
}

impl MessageType {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            MessageType::Event => "event",
            MessageType::Command => "command",
            MessageType::Response => "response",
            MessageType::Notification => "notification",
        }
    }

    /// The type of this name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<MessageType> {
        [MessageType::Event, MessageType::Command, MessageType::Response, MessageType::Notification]
            .into_iter()
            .find(|t| t.name() == name)
    }
}

/// An envelope as it was received. What is absent is `None`, and made at ingest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope<'a> {
    pub message_id: Option<Cow<'a, str>>,
    /// ISO 8601 with an offset or `Z`.
    pub timestamp: Option<Cow<'a, str>>,
    pub topic: Option<Cow<'a, str>>,
    pub source: Option<Cow<'a, str>>,
    pub correlation_id: Option<Cow<'a, str>>,
    pub message_type: Option<MessageType>,
    pub version: Option<Cow<'a, str>>,
    /// Metadata fields that we do not know, each with its value as JSON text.
    pub unknown: Vec<(Cow<'a, str>, &'a str)>,
    /// The payload as JSON text.
    pub payload: &'a str,
}

/// Why a text is not an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeError {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl EnvelopeError {
    fn new(message: impl Into<Cow<'static, str>>) -> EnvelopeError {
        EnvelopeError { code: Code::BAD_ENVELOPE, message: message.into() }
    }
}

/// The beginning of a name that somebody else chose: error messages have a bound.
fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(40)]
}

impl From<JsonError> for EnvelopeError {
    fn from(error: JsonError) -> EnvelopeError {
        EnvelopeError::new(error.to_string())
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for EnvelopeError {}

/// What ingest puts in where the publisher said nothing.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'s> {
    pub message_id: &'s str,
    pub timestamp: &'s str,
    pub source: &'s str,
}

impl<'a> Envelope<'a> {
    /// Reads an envelope. Checks shape and sizes, not yet the topic's validity.
    pub fn parse(text: &'a str) -> Result<Envelope<'a>, EnvelopeError> {
        if text.len() > limits::ENVELOPE_BYTES {
            return Err(EnvelopeError { code: Code::TOO_LARGE, message: Code::TOO_LARGE.advice().into() });
        }
        let mut scanner = Scanner::inside(1, text); // In a frame.
        let envelope = Envelope::scan(&mut scanner)?;
        scanner.end()?;
        Ok(envelope)
    }

    /// The `messageId` of a text that is no envelope, if it can be read all the same: whoever is refused it must be told which.
    /// `None` too if it measures more than 1 KiB.
    pub fn claimed_id(text: &str) -> Option<Cow<'_, str>> {
        let found = Scanner::new(text).find_string(&["metadata", "messageId"]);
        found.ok().flatten().filter(|id| id.len() <= 1024)
    }

    fn scan(scanner: &mut Scanner<'a>) -> Result<Envelope<'a>, EnvelopeError> {
        let mut envelope = Envelope::default();
        let (mut metadata, mut payload) = (false, None);
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            match &*key {
                "metadata" if !metadata => {
                    metadata = true;
                    envelope.scan_metadata(scanner)?;
                }
                "payload" if payload.is_none() => payload = Some(scanner.raw()?),
                "metadata" | "payload" => return Err(EnvelopeError::new(format!("{key} stands twice"))),
                other => {
                    return Err(EnvelopeError::new(format!(
                        "unknown field {:?} beside metadata and payload",
                        short(other)
                    )));
                }
            }
        }
        if !metadata {
            return Err(EnvelopeError::new("metadata is missing"));
        }
        envelope.payload = payload.ok_or_else(|| EnvelopeError::new("payload is missing"))?;
        Ok(envelope)
    }

    fn scan_metadata(&mut self, scanner: &mut Scanner<'a>) -> Result<(), EnvelopeError> {
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            let slot = match &*key {
                "messageId" => &mut self.message_id,
                "timestamp" => &mut self.timestamp,
                "topic" => &mut self.topic,
                "source" => &mut self.source,
                "correlationId" => &mut self.correlation_id,
                "version" => &mut self.version,
                "messageType" => {
                    let name = scanner.string()?;
                    let known = MessageType::from_name(&name).ok_or_else(|| {
                        EnvelopeError::new(
                            "metadata.messageType must be event, command, response or notification",
                        )
                    })?;
                    if self.message_type.replace(known).is_some() {
                        return Err(EnvelopeError::new("metadata.messageType stands twice"));
                    }
                    continue;
                }
                _ => {
                    if self.unknown.len() == limits::METADATA_UNKNOWN_FIELDS {
                        return Err(EnvelopeError::new("metadata has more than 32 fields of its own"));
                    }
                    if self.unknown.iter().any(|(known, _)| *known == key) {
                        return Err(EnvelopeError::new(format!("metadata.{} stands twice", short(&key))));
                    }
                    if key.len() > limits::METADATA_FIELD_BYTES {
                        return Err(EnvelopeError::new("the name of a metadata field is over 256 bytes"));
                    }
                    self.unknown.push((key, scanner.raw()?));
                    continue;
                }
            };
            let value = scanner.string()?;
            if value.is_empty() || value.len() > limits::METADATA_FIELD_BYTES {
                return Err(EnvelopeError::new(format!("metadata.{key} must have 1 to 256 bytes")));
            }
            if slot.replace(value).is_some() {
                return Err(EnvelopeError::new(format!("metadata.{} stands twice", short(&key))));
            }
        }
        Ok(())
    }

    /// The topic, checked.
    pub fn valid_topic(&self) -> Result<Topic, EnvelopeError> {
        let topic = self.topic.as_deref().ok_or_else(|| EnvelopeError::new("metadata.topic is missing"))?;
        Topic::new(topic).map_err(|e| EnvelopeError { code: Code::BAD_TOPIC, message: e.message().into() })
    }

    /// Writes the envelope in its one stored form: known fields first and in order, unknown ones as they were, the
    /// payload untouched. `stamp` fills in what is absent.
    pub fn complete(&self, topic: &str, stamp: Stamp<'_>) -> String {
        let mut out = String::with_capacity(self.payload.len() + topic.len() + 256);
        let mut envelope = ObjectWriter::begin(&mut out);
        let mut metadata = ObjectWriter::begin(envelope.key("metadata"));
        metadata
            .string("messageId", self.message_id.as_deref().unwrap_or(stamp.message_id))
            .string("timestamp", self.timestamp.as_deref().unwrap_or(stamp.timestamp))
            .string("topic", topic)
            .string("source", self.source.as_deref().unwrap_or(stamp.source));
        if let Some(id) = &self.correlation_id {
            metadata.string("correlationId", id);
        }
        metadata
            .string("messageType", self.message_type.unwrap_or_default().name())
            .string("version", self.version.as_deref().unwrap_or("1.0"));
        for (key, value) in &self.unknown {
            metadata.member(key, value);
        }
        metadata.end();
        envelope.raw("payload", self.payload).end();
        out
    }
}
