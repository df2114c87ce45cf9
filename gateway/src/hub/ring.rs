//! The recent frames, shared by all connections of a shard.
//!
//! ```text
//!    blocks      ┌────────────┬─────┬───────────────┐
//!                │ 40 … 71    │ 72  │ 73 … 99       │
//!                └────────────┴─────┴───────────────┘
//!    sequence     oldest = 40                        next = 100
//! ```
//!
//! A sequence number counts the frames that this shard has seen. It is dense, which offsets are not, and lives only as
//! long as the process: clients never see it. The blocks are shared between shards, the index is not, so nothing here is
//! locked.

use super::block::Block;
use super::piece::Piece;
use super::recent::Recent;
use anabranch_protocol::cursor::{Cursor, Position};
use std::collections::VecDeque;
use std::sync::Arc;

/// Where a frame stands in this shard's ring.
pub type Sequence = u64;

/// The recent frames.
pub struct Ring {
    blocks: VecDeque<Slot>,
    recent: Recent,
    next: Sequence,
    head: Cursor,
    bytes: usize,
    max_bytes: usize,
}

struct Slot {
    first: Sequence,
    block: Arc<Block>,
}

/// Where a position lies, seen from the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Everything up to the position is before this sequence.
    At(Sequence),
    /// Another record stands at this offset.
    Diverged,
    /// Before what the ring holds: ask the log.
    Older,
    /// Beyond what this node has read.
    Newer,
}

impl Ring {
    /// An empty ring at `head`, that keeps at least one block and at most about `max_bytes`.
    pub fn new(head: Cursor, max_bytes: usize) -> Ring {
        Ring { blocks: VecDeque::new(), recent: Recent::default(), next: 0, head, bytes: 0, max_bytes }
    }

    /// Where a client stands that has everything.
    pub fn head(&self) -> &Cursor {
        &self.head
    }

    /// The sequence of the oldest frame held; `next()` when there is none.
    pub fn oldest(&self) -> Sequence {
        self.blocks.front().map_or(self.next, |slot| slot.first)
    }

    /// The sequence that the next frame will get.
    pub fn next(&self) -> Sequence {
        self.next
    }

    /// Appends a block; returns its first sequence. Does not evict.
    pub fn push(&mut self, block: Arc<Block>) -> Sequence {
        let first = self.next;
        self.next += block.len() as u64;
        self.head = block.cursor_before(block.len());
        self.bytes += block.size();
        self.recent.push(&block, first);
        self.blocks.push_back(Slot { first, block });
        first
    }

    /// Moves the head past a hole in the log.
    pub fn advance_head(&mut self, position: Position) {
        self.head.advance(position);
    }

    /// The sequence below which frames should go, if the ring is over its size: a sixteenth of it at once, because
    /// each eviction looks at every connection.
    pub fn surplus(&self) -> Option<Sequence> {
        if self.bytes <= self.max_bytes {
            return None;
        }
        let target = self.max_bytes - self.max_bytes / 16;
        let mut bytes = self.bytes;
        let mut below = None;
        for slot in self.blocks.iter().take(self.blocks.len() - 1) {
            if bytes <= target {
                break;
            }
            bytes -= slot.block.size();
            below = Some(slot.first + slot.block.len() as u64);
        }
        below
    }

    /// Drops every block that ends at or below `below`.
    pub fn evict(&mut self, below: Sequence) {
        while let Some(slot) = self.blocks.front() {
            if slot.first + slot.block.len() as u64 > below {
                break;
            }
            self.bytes -= slot.block.size();
            self.blocks.pop_front();
        }
    }

    /// Forgets everything: another history begins at `head`.
    pub fn reset(&mut self, head: Cursor) {
        self.blocks.clear();
        self.recent.clear();
        self.bytes = 0;
        self.head = head;
    }

    /// The last block that begins at a sequence or before it. From the newest on, in growing strides: nearly always one of the newest is
    /// asked for, and a search by halves would look at a dozen others that no cache holds.
    fn index_of(&self, sequence: Sequence) -> Option<usize> {
        let (mut low, mut high, mut stride) = (self.blocks.len(), self.blocks.len(), 1);
        loop {
            low = low.checked_sub(stride).or((low > 0).then_some(0))?;
            if self.blocks[low].first <= sequence {
                break;
            }
            (high, stride) = (low, 2 * stride);
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.blocks[middle].first <= sequence { low = middle } else { high = middle }
        }
        Some(low)
    }

    /// The block that holds a sequence, and the block's first sequence.
    pub fn block(&self, sequence: Sequence) -> Option<(&Arc<Block>, Sequence)> {
        let slot = &self.blocks[self.index_of(sequence)?];
        (sequence < slot.first + slot.block.len() as u64).then_some((&slot.block, slot.first))
    }

    /// The blocks from the one that holds a sequence on, each with its first sequence. None if that was evicted.
    pub fn blocks_from(&self, from: Sequence) -> impl Iterator<Item = (&Arc<Block>, Sequence)> {
        let at = self.index_of(from).unwrap_or(self.blocks.len());
        self.blocks.range(at..).map(|slot| (&slot.block, slot.first))
    }

    /// Frames from `from` on that lie side by side, up to `to` at most: the first piece of what is to be written.
    pub fn piece(&self, from: Sequence, to: Sequence) -> Option<Piece<'_>> {
        if let Some(piece) = self.recent.piece(from, to) {
            return Some(piece);
        }
        let (block, first) = self.block(from)?;
        Some(block.piece((from - first) as usize, (to - first).min(block.len() as u64) as usize))
    }

    /// Where a client stands that has everything before a sequence, which must be in the ring or its end.
    pub fn cursor_before(&self, sequence: Sequence) -> Cursor {
        match self.block(sequence) {
            Some((block, first)) => block.cursor_before((sequence - first) as usize),
            None => self.head.clone(),
        }
    }

    /// Finds the place after a position, and checks that the record there is the one that the client has seen.
    pub fn find(&self, position: Position) -> Lookup {
        let partition = position.partition;
        let offset_in = |cursor: &Cursor| cursor.position(partition).map(|p| p.offset);
        if offset_in(&self.head).is_none_or(|head| head < position.offset) {
            return Lookup::Newer;
        }
        if self.head.position(partition).is_some_and(|head| head.offset == position.offset) {
            return match_fingerprint(self.head.position(partition), position, self.next);
        }
        // The last block that begins before the offset holds it, if any does.
        let after = self.blocks.partition_point(|slot| {
            offset_in(slot.block.before()).is_none_or(|before| before < position.offset)
        });
        let Some(at) = after.checked_sub(1) else {
            return match self.blocks.front() {
                // Exactly before the oldest block: that record is known, though not held.
                Some(slot) if offset_in(slot.block.before()) == Some(position.offset) => {
                    match_fingerprint(slot.block.before().position(partition), position, slot.first)
                }
                _ => Lookup::Older,
            };
        };
        let slot = &self.blocks[at];
        let mut in_partition =
            (0..slot.block.len()).filter(|&f| slot.block.position(f).partition == partition);
        match in_partition.find(|&f| slot.block.position(f).offset >= position.offset) {
            Some(frame) if slot.block.position(frame).offset == position.offset => {
                match_fingerprint(Some(slot.block.position(frame)), position, slot.first + frame as u64 + 1)
            }
            Some(frame) => match_fingerprint(None, position, slot.first + frame as u64),
            None => match_fingerprint(None, position, slot.first + slot.block.len() as u64),
        }
    }
}

/// A cursor with a fingerprint must name the record that is there; one without claims no record.
fn match_fingerprint(found: Option<Position>, claimed: Position, after: Sequence) -> Lookup {
    match (found.and_then(|p| p.fingerprint), claimed.fingerprint) {
        (_, None) => Lookup::At(after),
        (Some(a), Some(b)) if a == b => Lookup::At(after),
        // A gap's end is known by its offset only.
        (None, Some(_)) if found.is_some() => Lookup::At(after),
        _ => Lookup::Diverged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{MessageKey, Record};
    use anabranch_protocol::cursor::{LogId, Offset};

    /// Blocks of one to seven frames, as many as any stride of the search needs; and none, one and many of them evicted.
    #[test]
    fn each_frame_is_found_in_its_block() {
        let mut ring = Ring::new(Cursor::beginning(LogId(1)), 1 << 30);
        assert!(ring.block(0).is_none());
        let mut firsts = Vec::new();
        for n in 0..100 {
            let records: Vec<Record> = (0..1 + n % 7).map(|frame| record(ring.next() + frame + 1)).collect();
            let block = Arc::new(Block::encode(ring.head().clone(), &records));
            firsts.push(ring.push(block));
        }
        for evicted in [0, 1, 64] {
            ring.evict(firsts.get(evicted).copied().unwrap_or(0));
            for sequence in 0..ring.next() + 2 {
                let is_held = (ring.oldest()..ring.next()).contains(&sequence);
                let first = firsts.iter().rfind(|&&first| first <= sequence).copied().filter(|_| is_held);
                assert_eq!(ring.block(sequence).map(|(_, first)| first), first, "{sequence}");
                let from = ring.blocks_from(sequence).next().map(|(_, first)| first);
                assert!(!is_held || from == first, "{sequence}");
            }
        }
    }

    fn record(offset: u64) -> Record {
        Record {
            position: Position { partition: 0, offset: Offset(offset), fingerprint: None },
            time: 0,
            topic: "a".into(),
            key: MessageKey::new("a", &offset.to_string()),
            envelope: "{}".into(),
        }
    }
}
