//! The newest frames once more, side by side, so that what a live connection is due leaves in one slice.
//!
//! Blocks come as the log gives them: under load that is a few frames, or one, each in memory of its own. A connection
//! that is due thirty of them would cost a search for each block and a vectored write of thirty slices; the search alone
//! was 9 % of a gateway's CPU with 1,000 subscribers, and 32 slices instead of one cost 8 to 17 % of a bare server's.
//! A copy costs each frame 50 ns, once for all its deliveries.

use super::block::{Block, Kind};
use super::piece::Piece;
use super::ring::Sequence;

/// Bytes of frames, at most. What is due in one turn lies in the processor's second cache.
const BYTES: usize = 256 * 1024;

/// Copies of the newest frames. May be empty: the blocks have everything.
#[derive(Default)]
pub struct Recent {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// The sequence of the first frame here.
    first: Sequence,
}

impl Recent {
    /// A block was put into the ring, its first frame with this sequence.
    pub fn push(&mut self, block: &Block, first: Sequence) {
        let piece = block.piece(0, block.len());
        // A large block is one slice as it is. What is not a message counts differently.
        if block.kind() != Kind::Messages || piece.bytes().len() > BYTES / 4 {
            return self.clear();
        }
        if self.bytes.len() + piece.bytes().len() > BYTES {
            self.forget_half();
        }
        if self.ends.is_empty() {
            self.first = first;
        }
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(piece.bytes());
        self.ends.extend((0..block.len()).map(|frame| offset + block.end(frame) as u32));
    }

    /// As many of the frames from `from` on as are here, up to `to`.
    pub fn piece(&self, from: Sequence, to: Sequence) -> Option<Piece<'_>> {
        let begin = usize::try_from(from.checked_sub(self.first)?).ok()?;
        let end = self.ends.len().min((to - self.first) as usize);
        (begin < end).then(|| Piece::new(&self.bytes, &self.ends, begin, end, Kind::Messages))
    }

    /// Forgets everything; what comes next begins anew.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn forget_half(&mut self) {
        let frames = self.ends.partition_point(|&end| (end as usize) < BYTES / 2) + 1;
        let frames = frames.min(self.ends.len());
        let bytes = self.ends[frames - 1];
        self.bytes.drain(..bytes as usize);
        self.ends.drain(..frames);
        self.ends.iter_mut().for_each(|end| *end -= bytes);
        self.first += frames as Sequence;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Record;
    use crate::log::conformance::record;
    use anabranch_protocol::cursor::{Cursor, LogId, Offset, Position};
    use anabranch_protocol::server_frame::{Gap, GapReason};

    fn block(numbers: std::ops::Range<u64>) -> Block {
        let records: Vec<Record> = numbers
            .map(|number| {
                let new = record(number);
                let position = Position { partition: 0, offset: Offset(number + 1), fingerprint: None };
                let topic = new.topic.as_str().into();
                Record { position, time: 0, topic, key: new.key, envelope: new.envelope }
            })
            .collect();
        Block::encode(Cursor::beginning(LogId(1)), &records)
    }

    /// Every frame that is found is the block's own, across pushes, halvings and gaps.
    #[test]
    fn what_is_here_is_what_the_blocks_say() {
        let mut recent = Recent::default();
        let mut blocks: Vec<(Sequence, Block)> = Vec::new();
        let mut next = 0;
        for size in (1..60).cycle().take(400) {
            let block = block(next..next + size);
            recent.push(&block, next);
            blocks.push((next, block));
            next += size;
        }
        let mut found = 0;
        for (first, block) in &blocks {
            for frame in 0..block.len() {
                let sequence = first + frame as u64;
                if let Some(piece) = recent.piece(sequence, sequence + 1) {
                    assert_eq!(piece.bytes(), block.piece(frame, frame + 1).bytes(), "sequence {sequence}");
                    found += 1;
                }
            }
        }
        assert!(found > 100 && recent.bytes.len() <= BYTES, "{found} frames, {} bytes", recent.bytes.len());
        let all = recent.piece(recent.first, Sequence::MAX).map(|piece| piece.frames());
        assert_eq!(all, Some(found), "they are one piece");
        assert!(recent.piece(next, next + 1).is_none() && recent.piece(0, 1).is_none());

        let reason = GapReason::Retention;
        let gap = Gap { partition: 0, after: Offset(1), before: Offset(9), reason };
        let last = Position { partition: 0, offset: Offset(8), fingerprint: None };
        recent.push(&Block::gap(Cursor::beginning(LogId(1)), gap, last), next);
        assert!(recent.piece(next, next + 1).is_none(), "a gap is read from its block");
        let after = self::block(0..2);
        recent.push(&after, next + 1);
        assert_eq!(recent.piece(next + 1, next + 3).map(|piece| piece.frames()), Some(2));
    }
}
