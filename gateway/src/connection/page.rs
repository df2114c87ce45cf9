//! What a connection behind is to be sent before it goes on: pieces of the ring or of a block, and newest values in between.

use crate::hub::block::Block;
use crate::hub::newest::Newest;
use crate::hub::piece::Piece;
use crate::hub::ring::{Ring, Sequence};
use anabranch_protocol::cursor::Cursor;
use std::collections::VecDeque;
use std::sync::Arc;

/// Items of a page, at most. Few in tests, so that their races meet its end.
const ITEMS: usize = if cfg!(test) { 8 } else { 64 };

/// A page, and where the connection stands after it.
pub(super) struct Page {
    items: VecDeque<Item>,
    pub of: Of,
}

/// What a page's sequences count.
pub(super) enum Of {
    /// Sequences of the ring, across its blocks, which are small where little is published at a time.
    Ring { end: Sequence },
    /// Frames of a block that was read from the log.
    Log { block: Arc<Block>, end: Cursor },
    /// Nothing: there are values only.
    Values { end: Cursor },
}

enum Item {
    /// Consecutive frames: from, to.
    Frames(Sequence, Sequence),
    /// A value, and the sequence of the frame in whose place it is sent.
    Value(Sequence, Arc<Newest>),
}

impl Page {
    pub fn new(of: Of) -> Page {
        Page { items: VecDeque::new(), of }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds the frame behind all that were added before. `false` if there is no room.
    pub fn add_frame(&mut self, at: Sequence) -> bool {
        match self.items.back_mut() {
            Some(Item::Frames(_, to)) if *to == at => {
                *to = at + 1;
                true
            }
            _ => self.add(Item::Frames(at, at + 1)),
        }
    }

    /// Adds a value, sent in the place of a frame. `false` if there is no room.
    pub fn add_value(&mut self, at: Sequence, value: &Arc<Newest>) -> bool {
        self.add(Item::Value(at, Arc::clone(value)))
    }

    fn add(&mut self, item: Item) -> bool {
        let room = self.items.len() < ITEMS;
        if room {
            self.items.push_back(item);
        }
        room
    }

    /// The sequence that is to be sent next.
    pub fn first(&self) -> Option<Sequence> {
        self.items.front().map(|item| match item {
            Item::Frames(at, _) | Item::Value(at, _) => *at,
        })
    }

    /// Takes away the first `count` frames. Tells of each value among them.
    pub fn advance(&mut self, mut count: u64, mut sent: impl FnMut(&Newest)) {
        while count > 0 {
            match self.items.front_mut() {
                Some(Item::Frames(from, to)) if *to - *from > count => {
                    *from += count;
                    return;
                }
                Some(Item::Frames(from, to)) => count -= *to - *from,
                Some(Item::Value(_, value)) => {
                    sent(value);
                    count -= 1;
                }
                None => return,
            }
            self.items.pop_front();
        }
    }

    /// Hands out the pieces, in order, until the visitor has enough.
    pub fn pieces<'p>(&'p self, ring: &'p Ring, mut visit: impl FnMut(Piece<'p>) -> bool) {
        for item in &self.items {
            let (mut from, to) = match item {
                Item::Frames(from, to) => (*from, *to),
                Item::Value(_, value) => {
                    if !visit(value.piece()) {
                        return;
                    }
                    continue;
                }
            };
            while from < to {
                let piece = match &self.of {
                    Of::Log { block, .. } => Some(block.piece(from as usize, to as usize)),
                    Of::Ring { .. } | Of::Values { .. } => ring.piece(from, to),
                };
                let Some(piece) = piece else { return };
                if !visit(piece) {
                    return;
                }
                from += piece.frames() as u64;
            }
        }
    }
}
