//! The newest value of each state topic, encoded once for everyone: what snapshots are made of, and what a connection that is
//! behind is sent instead of all that it has missed.
//!
//! ```text
//!   record ──▶ fold ──▶ Arc<Newest> ──▶ every shard's Values
//!              (pump)   its frame       by topic and by offset
//! ```
//!
//! The pump makes it of the record that it reads, and hands it to the shards together with the block in which that record
//! stands. So each shard knows exactly the values as of its ring's head, and nothing is locked.

mod checkpoint;
mod fold;
mod values;

pub use checkpoint::Checkpoint;
pub use fold::Fold;
pub use values::Values;

use super::block::Kind;
use super::piece::Piece;
use crate::socket::header::{Opcode, write_header};
use anabranch_protocol::cursor::Position;
use std::fmt;
use std::sync::Arc;

/// What a value costs beside its texts: itself, its counts, and its places in the maps of one shard, about.
const ENTRY_BYTES: usize = 256;

/// The newest value of one topic.
pub struct Newest {
    topic: Arc<str>,
    position: Position,
    /// `{"type":"message","position":"…","snapshot":true,"envelope":…}` as a WebSocket frame.
    frame: Box<[u8]>,
    /// Where the frame ends, as a block says it.
    ends: [u32; 1],
    /// Where the envelope begins in the frame; it ends before the last byte.
    envelope: u32,
    deleted: bool,
    stale: bool,
}

impl Newest {
    /// Encodes a value. `deleted`: its payload is `null`. `stale`: a newer one may have been lost.
    pub fn new(topic: Arc<str>, position: Position, envelope: &[u8], deleted: bool, stale: bool) -> Newest {
        let mut head = format!(r#"{{"type":"message","position":"{position}","snapshot":true"#);
        head.push_str(if stale { r#","stale":true,"envelope":"# } else { r#","envelope":"# });
        let len = head.len() + envelope.len() + 1;
        let mut frame = Vec::with_capacity(len + 10);
        write_header(&mut frame, Opcode::Text, len);
        frame.extend_from_slice(head.as_bytes());
        let begin = frame.len() as u32;
        frame.extend_from_slice(envelope);
        frame.push(b'}');
        let ends = [frame.len() as u32];
        Newest { topic, position, frame: frame.into(), ends, envelope: begin, deleted, stale }
    }

    /// The same value, of which a newer one may have been lost.
    pub fn to_stale(&self) -> Newest {
        Newest::new(Arc::clone(&self.topic), self.position, self.envelope(), self.deleted, true)
    }

    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether the value was deleted: what is left is a tombstone, for those who had the value.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Whether a newer value may have been lost.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// The envelope as JSON text: of a topic of patches, with the document.
    pub fn envelope(&self) -> &[u8] {
        &self.frame[self.envelope as usize..self.frame.len() - 1]
    }

    /// The frame, to be written.
    pub fn piece(&self) -> Piece<'_> {
        Piece::new(&self.frame, &self.ends, 0, 1, Kind::Messages)
    }

    /// Memory held, in bytes, about.
    pub fn size(&self) -> usize {
        self.frame.len() + self.topic.len() + ENTRY_BYTES
    }
}

impl fmt::Debug for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.topic, self.position)
    }
}
