//! The message that every contestant carries, and the bytes that it looks like on each one's wire.
//!
//! A message is an envelope whose last bytes are always the same distance from its end, so that a subscriber checks its
//! number and takes its time without reading the JSON:
//!
//! ```text
//!   {"metadata":{…},"payload":{"p":"xxx…","s":"00000042","t":"000012345678"}}
//!                                             number          microseconds
//! ```

mod digits;
pub mod frame;
pub mod mqtt;
pub mod nats;

pub use digits::{put, read_8, read_12};

/// What stands behind the digits of the time until the envelope ends: `"}}`.
const END: usize = 3;
/// From the beginning of the number's digits to the end of the time's: `00000042","t":"000012345678`.
const NUMBER_TO_TIME: usize = 8 + r#"","t":""#.len();

/// How a contestant wraps an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// One text frame each: `{"type":"message","position":"…","envelope":…}`.
    Anabranch,
    /// One frame each, which is the envelope.
    Bare,
    /// `MSG <topic> 1 <length>\r\n<envelope>\r\n`, in binary frames that may hold several, and pieces.
    Nats,
    /// A PUBLISH packet of MQTT 3.1.1, in binary frames that may hold several, and pieces.
    Mqtt,
}

/// Makes messages for one topic after the other, all of one size.
pub struct Template {
    before_topic: Vec<u8>,
    after_topic: Vec<u8>,
}

impl Template {
    /// Messages whose payload measures about `payload` bytes.
    pub fn new(payload: usize) -> Template {
        let padding = "x".repeat(payload.saturating_sub(50));
        Template {
            before_topic: br#"{"metadata":{"messageId":"load-00000000","timestamp":"2026-01-01T00:00:00.000Z","topic":""#
                .to_vec(),
            after_topic: format!(
                r#"","source":"loadtest","messageType":"event","version":"1.0"}},"payload":{{"p":"{padding}","s":"00000000","t":"000000000000"}}}}"#
            )
            .into_bytes(),
        }
    }

    /// Length of an envelope with a topic of so many bytes.
    pub fn len(&self, topic: usize) -> usize {
        self.before_topic.len() + topic + self.after_topic.len()
    }

    /// Appends the envelope with this number, that was due at this time.
    pub fn write(&self, out: &mut Vec<u8>, topic: &str, number: u64, micros: u64) {
        const ID: usize = r#"{"metadata":{"messageId":"load-"#.len();
        let start = out.len();
        out.extend_from_slice(&self.before_topic);
        out.extend_from_slice(topic.as_bytes());
        out.extend_from_slice(&self.after_topic);
        put(&mut out[start + ID..start + ID + 8], number);
        let end = out.len();
        put(&mut out[end - END - 12..end - END], micros);
        let number_at = end - END - 12 - NUMBER_TO_TIME;
        put(&mut out[number_at..number_at + 8], number);
    }
}

/// The number of the envelope that ends at `end`. Numbers are below 100,000,000.
pub fn number(bytes: &[u8], end: usize) -> u64 {
    let time = end - END - 12;
    read_8(&bytes[time - NUMBER_TO_TIME..])
}

/// The time of the envelope that ends at `end`, in microseconds.
pub fn micros(bytes: &[u8], end: usize) -> u64 {
    read_12(&bytes[end - END - 12..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let template = Template::new(200);
        let mut out = b"before".to_vec();
        template.write(&mut out, "load/g07/d0107", 90_123_456, 123_456_789_012);
        assert_eq!(out.len() - 6, template.len(14));
        assert_eq!((number(&out, out.len()), micros(&out, out.len())), (90_123_456, 123_456_789_012));
        let text = std::str::from_utf8(&out[6..]).unwrap();
        let envelope = anabranch_protocol::envelope::Envelope::parse(text).unwrap();
        assert_eq!(envelope.topic.as_deref(), Some("load/g07/d0107"));
        assert_eq!(envelope.message_id.as_deref(), Some("load-90123456"));
        assert!((190..=210).contains(&envelope.payload.len()), "{}", envelope.payload.len());
    }
}
