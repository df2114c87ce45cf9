//! What any program put on a broker becomes a record, or is quarantined.
//!
//! ```text
//!   what arrived                          becomes
//!   an envelope that a gateway wrote      itself
//!   an envelope from elsewhere            itself, with what is absent filled in; its topic is the broker's
//!   any other JSON                        the payload of an envelope that is made for it
//!   anything else                         nothing: it is counted, and the log goes on behind it
//! ```
//!
//! Every node reads the same records and must make the same text of them. So nothing here is random or depends on the
//! reader: an id that is absent is derived from the record and its place.

use super::{MessageKey, Record, fingerprint, iso_8601};
use anabranch_protocol::cursor::{Offset, Partition, Position};
use anabranch_protocol::envelope::{Envelope, Stamp};
use anabranch_protocol::json::{Scanner, has_lone_surrogate};
use anabranch_protocol::limits;
use anabranch_protocol::topic::Topic;
use bytes::Bytes;
use sha1::Digest;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that a broker delivered, in the broker's words.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    pub partition: Partition,
    pub offset: Offset,
    /// When the broker took it, in milliseconds since 1970; the best that is known.
    pub time: u64,
    /// The topic that the broker routed it by. What an envelope says of its topic does not count: the broker's
    /// permissions are on this one.
    pub topic: &'a str,
    pub body: Bytes,
    /// The id that the broker's own fields give it, if any.
    pub message_id: Option<&'a str>,
    /// Who is named as the source if the envelope names nobody.
    pub source: &'a str,
    /// The publisher says that it is a gateway, which completes its envelopes before it appends them. It may be anybody: the
    /// envelope is checked all the same, and only stays as it is.
    pub from_gateway: bool,
}

/// Why something on the log can be delivered to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quarantine {
    /// Its routing key is no topic, or is none that maps back to itself.
    Topic,
    /// Larger than any envelope may be.
    TooLarge,
    /// Not UTF-8, or with half a surrogate pair in a string: JSON to a browser, and an error to most other clients.
    Text,
    /// Not JSON, or nested too deep.
    Json,
    /// It has `metadata` and `payload`, and is no valid envelope.
    Envelope,
    /// The broker's record lacks what makes it a message.
    Shape,
    /// The broker's id for it is none that an offset can tell.
    Id,
}

impl Quarantine {
    pub const ALL: [Quarantine; 7] = [
        Quarantine::Topic,
        Quarantine::TooLarge,
        Quarantine::Text,
        Quarantine::Json,
        Quarantine::Envelope,
        Quarantine::Shape,
        Quarantine::Id,
    ];

    /// The label `reason` of `anabranch_quarantined_records_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Quarantine::Topic => "topic",
            Quarantine::TooLarge => "too_large",
            Quarantine::Text => "text",
            Quarantine::Json => "json",
            Quarantine::Envelope => "envelope",
            Quarantine::Shape => "shape",
            Quarantine::Id => "id",
        }
    }
}

impl fmt::Display for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Quarantine::Topic => "its routing key is not a topic",
            Quarantine::TooLarge => "it is larger than an envelope may be",
            Quarantine::Text => "it is not UTF-8, or has half a surrogate pair",
            Quarantine::Json => "it is not JSON, or nested too deep",
            Quarantine::Envelope => "it has metadata and payload, and is not a valid envelope",
            Quarantine::Shape => "the broker's record lacks a topic or a body",
            Quarantine::Id => "no offset can tell the id that somebody chose for it, or for one before it",
        })
    }
}

/// Counts what was quarantined, and tells the operator of the first of each run.
#[derive(Debug, Default)]
pub struct Ward {
    count: AtomicU64,
}

impl Ward {
    /// Notes one, and where it stands, in the broker's words or ours. A record that is read twice counts twice.
    pub fn note(&self, why: Quarantine, partition: Partition, at: impl fmt::Display) {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("anabranch_quarantined_records_total", "reason" => why.name()).increment(1);
        // Powers of two: a flood of bad records must not become a flood of lines.
        if (before + 1).is_power_of_two() {
            tracing::warn!(partition, %at, so_far = before + 1, "a record is delivered to nobody: {why}");
        }
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Makes a record of it.
///
/// The position's fingerprint is that of the body as the broker keeps it, so it stays the same however envelopes are
/// completed by later versions.
pub fn record(arrival: Arrival<'_>) -> Result<Record, Quarantine> {
    let Arrival { partition, offset, time, body, .. } = &arrival;
    if body.len() > limits::ENVELOPE_BYTES {
        return Err(Quarantine::TooLarge);
    }
    let topic = Topic::new(arrival.topic).map_err(|_| Quarantine::Topic)?;
    let text = std::str::from_utf8(body).map_err(|_| Quarantine::Text)?;
    if has_lone_surrogate(text) {
        return Err(Quarantine::Text);
    }
    let (key, envelope) = match Envelope::parse(text) {
        Ok(envelope) => adopt(&arrival, &topic, &envelope)?,
        Err(_) if has_envelope_shape(text) => return Err(Quarantine::Envelope),
        Err(_) => wrap(&arrival, &topic, text)?,
    };
    let position =
        Position { partition: *partition, offset: *offset, fingerprint: Some(fingerprint(&arrival.body)) };
    Ok(Record { position, time: *time, topic: topic.into(), key, envelope })
}

/// An envelope as it came, or completed.
fn adopt(
    arrival: &Arrival<'_>,
    topic: &Topic,
    envelope: &Envelope<'_>,
) -> Result<(MessageKey, Bytes), Quarantine> {
    if envelope.timestamp.as_ref().is_some_and(|time| time.parse::<jiff::Timestamp>().is_err()) {
        return Err(Quarantine::Envelope);
    }
    let same_topic = envelope.topic.as_deref() == Some(topic.as_str());
    if let Some(id) = envelope.message_id.as_deref()
        && arrival.from_gateway
        && same_topic
    {
        return Ok((MessageKey::new(topic.as_str(), id), arrival.body.clone()));
    }
    complete(arrival, topic, envelope)
}

/// Any other JSON, made a payload.
fn wrap(arrival: &Arrival<'_>, topic: &Topic, text: &str) -> Result<(MessageKey, Bytes), Quarantine> {
    // The payload will stand in an envelope in a frame.
    let mut scanner = Scanner::inside(2, text);
    let payload = scanner.raw().map_err(|_| Quarantine::Json)?;
    scanner.end().map_err(|_| Quarantine::Json)?;
    complete(arrival, topic, &Envelope { payload, ..Envelope::default() })
}

fn complete(
    arrival: &Arrival<'_>,
    topic: &Topic,
    envelope: &Envelope<'_>,
) -> Result<(MessageKey, Bytes), Quarantine> {
    let given = arrival.message_id.filter(|id| !id.is_empty() && id.len() <= limits::METADATA_FIELD_BYTES);
    let derived = match (&envelope.message_id, given) {
        (None, None) => derived_id(arrival),
        _ => String::new(),
    };
    let message_id = given.unwrap_or(&derived);
    let timestamp = iso_8601(arrival.time);
    let stamp = Stamp { message_id, timestamp: &timestamp, source: arrival.source };
    let text = envelope.complete(topic.as_str(), stamp);
    if text.len() > limits::ENVELOPE_BYTES {
        return Err(Quarantine::TooLarge);
    }
    let key = MessageKey::new(topic.as_str(), envelope.message_id.as_deref().unwrap_or(message_id));
    Ok((key, text.into()))
}

/// The id of a message that has none: the same on every node, another for another record. Not secret, not random: a
/// UUID of version 8 from the record's place and bytes.
fn derived_id(arrival: &Arrival<'_>) -> String {
    let mut hash = sha1::Sha1::new();
    hash.update(arrival.partition.to_be_bytes());
    hash.update(arrival.offset.0.to_be_bytes());
    hash.update(arrival.topic.as_bytes());
    hash.update([0]);
    hash.update(&arrival.body);
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// Whether it is an object with `metadata` and `payload`, whatever else is wrong with it.
fn has_envelope_shape(text: &str) -> bool {
    let look = || {
        let mut scanner = Scanner::inside(1, text);
        let (mut metadata, mut payload) = (false, false);
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            metadata |= key == "metadata";
            payload |= key == "payload";
            scanner.raw()?;
        }
        scanner.end()?;
        Ok::<_, anabranch_protocol::json::JsonError>(metadata && payload)
    };
    look().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(topic: &'static str, body: impl Into<Bytes>) -> Arrival<'static> {
        Arrival {
            partition: 0,
            offset: Offset(7),
            time: 1_700_000_000_123,
            topic,
            body: body.into(),
            message_id: None,
            source: "broker",
            from_gateway: false,
        }
    }

    fn text(record: &Record) -> &str {
        std::str::from_utf8(&record.envelope).unwrap()
    }

    #[test]
    fn a_bare_payload_is_wrapped_and_always_in_the_same_way() {
        let first = record(arrival("a/b", " {\"v\": 1} ")).unwrap();
        let second = record(arrival("a/b", " {\"v\": 1} ")).unwrap();
        assert_eq!(first, second, "two nodes make the same of it");
        let envelope = Envelope::parse(text(&first)).unwrap();
        assert_eq!(envelope.topic.as_deref(), Some("a/b"));
        assert_eq!(envelope.payload, "{\"v\": 1}");
        assert_eq!(envelope.timestamp.as_deref(), Some("2023-11-14T22:13:20.123Z"));
        assert_eq!(envelope.source.as_deref(), Some("broker"));
        let mut other = arrival("a/b", " {\"v\": 1} ");
        other.offset = Offset(8);
        assert_ne!(record(other).unwrap().key, first.key, "the same reading twice is two messages");
    }

    #[test]
    fn every_json_value_is_a_payload() {
        for body in ["21.5", "\"on\"", "true", "null", "[1,2]", r#"{"payload":1}"#, r#"{"metadata":1}"#] {
            let record = record(arrival("a", body)).unwrap();
            assert_eq!(Envelope::parse(text(&record)).unwrap().payload, body);
        }
    }

    #[test]
    fn a_foreign_envelope_is_completed_and_keeps_what_it_says() {
        let body = r#"{"payload":[1],"metadata":{"messageId":"m1","topic":"forged/topic","room":7}}"#;
        let record = record(arrival("a/b", body)).unwrap();
        let envelope = Envelope::parse(text(&record)).unwrap();
        assert_eq!(envelope.message_id.as_deref(), Some("m1"));
        assert_eq!(envelope.topic.as_deref(), Some("a/b"), "the broker's topic holds");
        assert_eq!(envelope.unknown, [("room".into(), "7")]);
        assert_eq!(record.key, MessageKey::new("a/b", "m1"));
    }

    #[test]
    fn who_poses_as_a_gateway_is_checked_all_the_same() {
        for body in [
            r#"{"metadata":{"messageId":"m","topic":"a","timestamp":"noon"},"payload":1}"#,
            r#"{"metadata":{"messageId":"","topic":"a"},"payload":1}"#,
        ] {
            let posing = Arrival { from_gateway: true, ..arrival("a", body) };
            assert_eq!(record(posing).unwrap_err(), Quarantine::Envelope);
        }
    }

    #[test]
    fn what_a_gateway_wrote_stays_as_it_is() {
        let body = r#"{"metadata":{"messageId":"m1","topic":"a/b"},"payload":1}"#;
        let ours = record(Arrival { from_gateway: true, ..arrival("a/b", body) }).unwrap();
        assert_eq!(text(&ours), body);
        // The mark alone is no passport: it must say the topic on which it arrived.
        let forged = record(Arrival { from_gateway: true, ..arrival("a/c", body) }).unwrap();
        assert_eq!(Envelope::parse(text(&forged)).unwrap().topic.as_deref(), Some("a/c"));
    }

    #[test]
    fn the_brokers_id_serves_if_the_envelope_has_none() {
        let given = record(Arrival { message_id: Some("x9"), ..arrival("a", "1") }).unwrap();
        assert_eq!(given.key, MessageKey::new("a", "x9"));
    }

    #[test]
    fn what_cannot_be_delivered_is_quarantined() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        let large = format!("\"{}\"", "x".repeat(limits::ENVELOPE_BYTES - 10));
        let cases = [
            (arrival("a", "not json"), Quarantine::Json),
            (arrival("a", ""), Quarantine::Json),
            (arrival("a", "{} {}"), Quarantine::Json),
            (arrival("a", deep), Quarantine::Json),
            (arrival("a", &b"\"\xff\""[..]), Quarantine::Text),
            (arrival("a", r#""\ud800""#), Quarantine::Text),
            (arrival("a", r#"{"k\uDC00":1}"#), Quarantine::Text),
            (arrival("a", vec![b' '; 10 << 20]), Quarantine::TooLarge),
            (arrival("a", large), Quarantine::TooLarge),
            (arrival("a/#", "1"), Quarantine::Topic),
            (arrival("", "1"), Quarantine::Topic),
            (arrival("a", r#"{"metadata":{"messageId":""},"payload":1}"#), Quarantine::Envelope),
            (arrival("a", r#"{"metadata":{"timestamp":"noon"},"payload":1}"#), Quarantine::Envelope),
            (arrival("a", r#"{"metadata":{},"payload":1,"more":2}"#), Quarantine::Envelope),
        ];
        for (arrival, why) in cases {
            let shown = format!("{:?}", arrival.body.slice(..arrival.body.len().min(60)));
            assert_eq!(record(arrival).unwrap_err(), why, "{shown}");
        }
    }
}
