//! A record as bytes in a file.
//!
//! ```text
//!  0        4        8        12     13      14      16       24       32        48
//!  │ magic  │ crc32c │ length │ kind │ topic │ zeros │ offset │ time   │ key     │ topic, then envelope
//!  │        │        └───────────── covered by the checksum ──────────────────────────────────────────▶
//! ```
//!
//! `length` is the whole frame's, `topic` the topic's length; integers are little-endian. The magic number contains
//! bytes that no UTF-8 text has, so that the search for the next frame after damage is not led astray by envelopes.
//!
//! A segment begins with a *start* frame and, once nothing more is to come, ends with an *end* frame, so that a
//! shortened file is not taken for a whole one.

use super::options::MAX_ENVELOPE;
use crate::log::{MessageKey, NewRecord, Record, fingerprint};
use anabranch_protocol::cursor::{LogId, Offset, Position};
use bytes::Bytes;

pub(super) const MAGIC: [u8; 4] = [0xFF, 0xA7, 0xB1, 0xFE];
/// Bytes before the topic; the size of a start or end frame.
pub(super) const HEADER: usize = 48;
/// No frame is longer.
const MAX_FRAME: usize = HEADER + u8::MAX as usize + MAX_ENVELOPE;

const RECORD: u8 = 1;
const START: u8 = 2;
const END: u8 = 3;

/// A frame whose checksum is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Record(Record),
    Start(Start),
    End(End),
}

/// What a segment says about itself at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub log: LogId,
    /// The first offset that the segment may hold.
    pub base: u64,
    /// The last offset that was given before.
    pub before: u64,
}

/// What a segment, or a cleanly closed log, says at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub log: LogId,
    /// The last offset that was given.
    pub last: u64,
    /// The latest time of a record, in milliseconds since 1970; zero if there is none.
    pub latest: u64,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Frame {
        frame: Frame,
        length: usize,
    },
    /// Not decidable with fewer than this many bytes.
    Short(usize),
    /// No frame, or a damaged one.
    Bad,
}

/// How many bytes a record takes.
pub(super) fn size(record: &NewRecord) -> usize {
    HEADER + record.topic.as_str().len() + record.envelope.len()
}

/// Appends a record's frame to `out`.
pub(super) fn encode(out: &mut Vec<u8>, record: &NewRecord, offset: u64, time: u64) {
    let topic = record.topic.as_str();
    frame(out, RECORD, offset, time, &record.key.0, topic, &record.envelope);
}

impl Start {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        frame(&mut out, START, self.base, 0, &pair(self.log.0, self.before), "", b"");
        out
    }
}

impl End {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        frame(&mut out, END, self.last, self.latest, &pair(self.log.0, 0), "", b"");
        out
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, offset: u64, time: u64, key: &[u8; 16], topic: &str, envelope: &[u8]) {
    let start = out.len();
    let length = HEADER + topic.len() + envelope.len();
    out.reserve(length);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&[kind, topic.len() as u8, 0, 0]);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(envelope);
    let crc = crc32c::crc32c(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn pair(a: u64, b: u64) -> [u8; 16] {
    let mut pair = [0; 16];
    pair[..8].copy_from_slice(&a.to_le_bytes());
    pair[8..].copy_from_slice(&b.to_le_bytes());
    pair
}

fn unpair(pair: &[u8; 16]) -> (u64, u64) {
    let (a, b) = pair.split_at(8);
    let integer = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or([0; 8]));
    (integer(a), integer(b))
}

/// Takes the frame at the beginning of `bytes`. The envelope is a slice of `bytes`, not a copy.
pub(super) fn decode(bytes: &Bytes) -> Decoded {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Decoded::Short(HEADER) };
    let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let length = u32_at(8) as usize;
    let topic_end = HEADER + usize::from(header[13]);
    if header[..4] != MAGIC || !(topic_end..=MAX_FRAME).contains(&length) {
        return Decoded::Bad;
    }
    if bytes.len() < length {
        return Decoded::Short(length);
    }
    if crc32c::crc32c(&bytes[8..length]) != u32_at(4) {
        return Decoded::Bad;
    }
    let mut key = [0; 16];
    key.copy_from_slice(&header[32..48]);
    let (offset, time) = (u64_at(16), u64_at(24));
    let (log, before) = unpair(&key);
    let frame = match header[12] {
        RECORD => {
            let Ok(topic) = std::str::from_utf8(&bytes[HEADER..topic_end]) else { return Decoded::Bad };
            let envelope = bytes.slice(topic_end..length);
            let fingerprint = Some(fingerprint(&envelope));
            let position = Position { partition: 0, offset: Offset(offset), fingerprint };
            Frame::Record(Record { position, time, topic: topic.into(), key: MessageKey(key), envelope })
        }
        START => Frame::Start(Start { log: LogId(log), base: offset, before }),
        END => Frame::End(End { log: LogId(log), last: offset, latest: time }),
        _ => return Decoded::Bad,
    };
    Decoded::Frame { frame, length }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::conformance::record_of;

    fn encoded(padding: usize) -> (NewRecord, Bytes) {
        let new = record_of("a/b", 7, padding);
        let mut out = Vec::new();
        encode(&mut out, &new, 12, 34);
        (new, out.into())
    }

    #[test]
    fn a_record_comes_back() {
        let (new, bytes) = encoded(100);
        assert_eq!(bytes.len(), size(&new));
        let Decoded::Frame { frame: Frame::Record(record), length } = decode(&bytes) else {
            panic!("no record")
        };
        assert_eq!(length, bytes.len());
        assert_eq!((record.position.offset, record.time, &*record.topic), (Offset(12), 34, "a/b"));
        assert_eq!((record.key, &record.envelope), (new.key, &new.envelope));
        assert_eq!(record.position.fingerprint, Some(fingerprint(&new.envelope)));
        let start = Start { log: LogId(u64::MAX - 3), base: 5, before: 4 };
        let frame = Frame::Start(start);
        assert_eq!(decode(&start.encode().into()), Decoded::Frame { frame, length: HEADER });
        let end = End { log: LogId(9), last: 5, latest: 99 };
        assert_eq!(decode(&end.encode().into()), Decoded::Frame { frame: Frame::End(end), length: HEADER });
    }

    #[test]
    fn every_single_flip_and_every_cut_is_noticed() {
        let (_, bytes) = encoded(3);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let decoded = decode(&flipped.into());
            assert!(!matches!(decoded, Decoded::Frame { .. }), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(matches!(decode(&bytes.slice(..length)), Decoded::Short(_)), "{length} bytes");
        }
    }
}
