//! Records encoded for sockets: frames side by side in one piece of memory, shared by every connection of the node.

use super::piece::Piece;
use crate::log::Record;
use crate::socket::header::{Opcode, write_header};
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::json::Plain;
use anabranch_protocol::server_frame::{Gap, ServerFrame};
use bytes::Bytes;

/// A run of frames of one partition in the order of the log, ready to be written: neighbours leave in one slice.
///
/// Immutable once made, so shards share it without locks.
#[derive(Debug)]
pub struct Block {
    bytes: Bytes,
    topics: String,
    frames: Vec<Entry>,
    /// Where each frame ends in `bytes`; each begins where its predecessor ends.
    ends: Vec<u32>,
    /// Where a client stands that has everything before this block.
    before: Cursor,
    kind: Kind,
}

/// What a block's frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Messages, each for those who subscribed to its topic.
    Messages,
    /// One gap, for everyone.
    Gap,
}

#[derive(Debug)]
struct Entry {
    position: Position,
    /// Where its topic ends in `topics`; it begins where its predecessor's ends.
    topic_end: u32,
}

impl Block {
    /// Encodes records of one partition that follow `before`.
    pub fn encode(before: Cursor, records: &[Record]) -> Block {
        Block::encode_with(before, records, |_| false)
    }

    /// The same; those of some topics say that they are merge patches.
    pub fn encode_with(before: Cursor, records: &[Record], mut is_patch: impl FnMut(&str) -> bool) -> Block {
        debug_assert!(records.windows(2).all(|two| two[0].position.partition == two[1].position.partition));
        let envelopes: usize = records.iter().map(|r| r.envelope.len() + 96).sum();
        let mut bytes = Vec::with_capacity(envelopes);
        let mut topics = String::new();
        let mut frames = Vec::with_capacity(records.len());
        let mut ends = Vec::with_capacity(records.len());
        let mut head = String::new();
        for record in records {
            message_head(&mut head, record.position, is_patch(&record.topic));
            write_header(&mut bytes, Opcode::Text, head.len() + record.envelope.len() + 1);
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(&record.envelope);
            bytes.push(b'}');
            topics.push_str(&record.topic);
            ends.push(bytes.len() as u32);
            frames.push(Entry { position: record.position, topic_end: topics.len() as u32 });
        }
        Block { bytes: bytes.into(), topics, frames, ends, before, kind: Kind::Messages }
    }

    /// One gap after `before`; `last` is the position at which it ends.
    pub fn gap(before: Cursor, gap: Gap, last: Position) -> Block {
        let text = ServerFrame::Gap { gap, values: false }.to_json();
        let mut bytes = Vec::new();
        write_header(&mut bytes, Opcode::Text, text.len());
        bytes.extend_from_slice(text.as_bytes());
        let frames = vec![Entry { position: last, topic_end: 0 }];
        let ends = vec![bytes.len() as u32];
        Block { bytes: bytes.into(), topics: String::new(), frames, ends, before, kind: Kind::Gap }
    }

    /// Where a client stands that has everything before this block.
    pub fn before(&self) -> &Cursor {
        &self.before
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Memory held, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
            + self.topics.capacity()
            + self.frames.capacity() * size_of::<Entry>()
            + self.ends.capacity() * size_of::<u32>()
            + size_of::<Block>()
    }

    pub fn position(&self, frame: usize) -> Position {
        self.frames[frame].position
    }

    pub fn topic(&self, frame: usize) -> &str {
        let start = if frame == 0 { 0 } else { self.frames[frame - 1].topic_end as usize };
        &self.topics[start..self.frames[frame].topic_end as usize]
    }

    /// Where a frame's bytes end.
    pub fn end(&self, frame: usize) -> usize {
        self.ends[frame] as usize
    }

    /// The frames `from..to`, to be written.
    pub fn piece(&self, from: usize, to: usize) -> Piece<'_> {
        Piece::new(&self.bytes, &self.ends, from, to, self.kind)
    }

    /// Where a client stands that has everything before this frame; `len()` for everything in the block.
    pub fn cursor_before(&self, frame: usize) -> Cursor {
        let mut cursor = self.before.clone();
        if let Some(last) = self.frames[..frame].last() {
            cursor.advance(last.position);
        }
        cursor
    }
}

/// `{"type":"message","position":"…","envelope":`, the part of a message frame before the envelope.
fn message_head(out: &mut String, position: Position, patch: bool) {
    out.clear();
    out.push_str(r#"{"type":"message","position":""#);
    position.write_to(out);
    out.push_str(if patch { r#"","patch":true,"envelope":"# } else { r#"","envelope":"# });
}
