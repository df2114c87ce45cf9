//! What ingest makes of an envelope.

use crate::{each, load, pieces, text};
use anabranch_protocol::envelope::{Envelope, EnvelopeError, Stamp};

pub(crate) const KINDS: &[&str] = &["valid", "invalid"];

/// Parses and completes, as ingest does. Returns the topic and the stored form.
fn ingest(input: &str, stamp: Stamp<'_>) -> Result<(String, String), EnvelopeError> {
    let envelope = Envelope::parse(input)?;
    let topic = envelope.valid_topic()?;
    Ok((topic.to_string(), envelope.complete(topic.as_str(), stamp)))
}

#[test]
fn envelopes() {
    let stamp = &load("envelopes.json")["stamp"];
    let stamp = Stamp {
        message_id: text(stamp, "messageId"),
        timestamp: text(stamp, "timestamp"),
        source: text(stamp, "source"),
    };
    each("envelopes.json", "valid", |case| {
        let (topic, stored) = ingest(text(case, "input"), stamp).expect("an envelope");
        assert_eq!(topic, text(case, "topic"));
        assert_eq!(stored, text(case, "completed"));
        let (_, again) =
            ingest(&stored, Stamp { message_id: "x", timestamp: "x", source: "x" }).expect("stored");
        assert_eq!(again, stored, "what is complete stays as it is");
    });
    each("envelopes.json", "invalid", |case| {
        let error = ingest(&pieces(&case["input"]), stamp).expect_err("refused");
        assert_eq!(u64::from(error.code.0), case["code"], "{error}");
        assert!(error.message.len() < 200, "an error message has a bound");
    });
}
