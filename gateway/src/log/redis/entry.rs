//! Stream entries: what a gateway writes, and what it understands of what others write.
//!
//! ```text
//!   XADD iotsphere * topic iotsphere/devices/d1/telemetry/temperature payload '{"v":1}'
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `topic` | the topic. Without it, the one in the envelope |
//! | `envelope`, `payload`, `body` or `data` | the first of these that is there: an envelope, or a bare payload (any JSON) |
//! | `messageId` | the message's id, for a bare payload: of two messages of one topic with one id the second is a repeat |
//! | `by` | `anabranch`: a gateway wrote it, its envelope is complete |
//!
//! No other field is taken for the message's id: an `id` is as likely the device's, and its second message would be dropped.
//! Whatever the body's field is called, what is in it decides. Other fields are ignored. What lacks a topic or a body is
//! quarantined.

use super::id::EntryId;
use crate::log::ingest::{self, Arrival, Quarantine, Ward};
use crate::log::source::Delivery;
use crate::log::{NewRecord, fingerprint};
use anabranch_protocol::cursor::{Partition, Position};
use anabranch_protocol::envelope::Envelope;
use bytes::Bytes;
use redis::{Cmd, Value};
use std::borrow::Cow;

/// The names that a body goes by, in the order in which they are tried.
const BODIES: [&[u8]; 4] = [b"envelope", b"payload", b"body", b"data"];
const GATEWAY: &[u8] = b"anabranch";

/// The command that appends a record.
pub(super) fn append(stream: &str, record: &NewRecord) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("*").arg(&fields(record));
    command
}

/// What stands in a record's entry: names and values in turn.
pub(super) fn fields(record: &NewRecord) -> [&[u8]; 6] {
    [b"topic", record.topic.as_str().as_bytes(), b"envelope", &record.envelope, b"by", GATEWAY]
}

/// An entry as the server tells it.
#[derive(Debug)]
pub(super) struct Entry {
    pub id: EntryId,
    fields: Vec<(Bytes, Bytes)>,
}

impl Entry {
    /// Reads `[id, [name, value, …]]`. `None` if it is anything else.
    pub(super) fn read(value: Value) -> Option<Entry> {
        let Value::Array(parts) = value else { return None };
        let mut parts = parts.into_iter();
        let id = text(parts.next()?)?.parse().ok()?;
        let mut fields = Vec::new();
        if let Value::Array(flat) = parts.next()? {
            let mut flat = flat.into_iter();
            while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                fields.push((bytes(name)?, bytes(value)?));
            }
        }
        Some(Entry { id, fields })
    }

    /// Roughly how much memory it takes.
    pub(super) fn size(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + 64
    }

    fn field(&self, name: &[u8]) -> Option<&Bytes> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn body(&self) -> Option<&Bytes> {
        BODIES.iter().find_map(|name| self.field(name))
    }

    /// Where it stands, with its fingerprint if it is a message; of one that no offset tells, what it reaches.
    pub(super) fn position(&self, partition: Partition) -> Option<Position> {
        let offset = self.id.reaches()?;
        let fingerprint = self.record(partition).ok().and_then(|record| record.position.fingerprint);
        Some(Position { partition, offset, fingerprint })
    }

    /// Whether it is the record at a position whose fingerprint is known.
    pub(super) fn is(&self, position: Position) -> bool {
        self.id.offset() == Some(position.offset)
            && self.body().map(|body| fingerprint(body)) == position.fingerprint
    }

    /// What a consumer is given; `ward` counts what is no message, or has no offset. `None` if the id is beyond them all.
    pub(super) fn delivery(self, partition: Partition, ward: Option<&Ward>) -> Option<Delivery> {
        let offset = self.id.reaches()?;
        Some(match self.record(partition) {
            Ok(record) => Delivery::Record(record),
            Err(why) => {
                if let Some(ward) = ward {
                    ward.note(why, partition, self.id);
                }
                Delivery::Blank(offset)
            }
        })
    }

    fn record(&self, partition: Partition) -> Result<crate::log::Record, Quarantine> {
        let offset = self.id.offset().ok_or(Quarantine::Id)?;
        let body = self.body().ok_or(Quarantine::Shape)?;
        let topic = match self.field(b"topic") {
            Some(topic) => Cow::Borrowed(std::str::from_utf8(topic).map_err(|_| Quarantine::Topic)?),
            None => Cow::Owned(topic_inside(body).ok_or(Quarantine::Shape)?),
        };
        let message_id = self.field(b"messageId");
        ingest::record(Arrival {
            partition,
            offset,
            time: self.id.ms,
            topic: &topic,
            body: body.clone(),
            message_id: message_id.and_then(|id| std::str::from_utf8(id).ok()),
            source: "redis",
            from_gateway: self.field(b"by").is_some_and(|by| by == GATEWAY),
        })
    }
}

/// The topic that an envelope names.
fn topic_inside(body: &[u8]) -> Option<String> {
    if body.len() > anabranch_protocol::limits::ENVELOPE_BYTES {
        return None;
    }
    let envelope = Envelope::parse(std::str::from_utf8(body).ok()?).ok()?;
    envelope.topic.map(Cow::into_owned)
}

fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        Value::SimpleString(text) => Some(text.into_bytes().into()),
        Value::Int(number) => Some(number.to_string().into_bytes().into()),
        _ => None,
    }
}

/// A value as text.
pub(super) fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?.into()).ok()
}
