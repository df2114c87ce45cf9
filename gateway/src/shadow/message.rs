//! The envelopes that the gateway writes for shadows.

use crate::log::{MessageKey, NewRecord, iso_8601};
use anabranch_protocol::json::ObjectWriter;
use anabranch_protocol::topic::Topic;

/// What is said in one envelope.
pub(super) struct Message<'m> {
    pub topic: Topic,
    pub id: &'m str,
    /// The request that it answers.
    pub answers: Option<&'m str>,
    /// `metadata.shadow`.
    pub entry: Option<&'m str>,
    /// JSON.
    pub payload: &'m str,
    /// Milliseconds since 1970.
    pub time: u64,
}

impl Message<'_> {
    pub(super) fn record(&self) -> NewRecord {
        let mut text = String::with_capacity(self.payload.len() + self.entry.map_or(0, str::len) + 320);
        let mut envelope = ObjectWriter::begin(&mut text);
        let mut metadata = ObjectWriter::begin(envelope.key("metadata"));
        metadata.string("messageId", self.id).string("timestamp", &iso_8601(self.time));
        metadata.string("topic", self.topic.as_str()).string("source", "anabranch");
        if let Some(answers) = self.answers {
            metadata.string("correlationId", answers);
        }
        metadata.string("messageType", if self.answers.is_some() { "response" } else { "event" });
        metadata.string("version", "1.0");
        if let Some(entry) = self.entry {
            metadata.raw("shadow", entry);
        }
        metadata.end();
        // The payload stands last: a deletion is seen by the envelope's end.
        envelope.raw("payload", self.payload).end();
        let key = MessageKey::new(self.topic.as_str(), self.id);
        NewRecord { topic: self.topic.clone(), key, envelope: text.into() }
    }
}
