//! How a connection reads that is not at the head: catching up, resuming and being slow are the same thing.
//!
//! It holds a cursor and at most one block (a page of the log, or a piece of the ring), never a queue.

use super::due::Due;
use super::subscriptions::Subscriptions;
use crate::hub::block::{Block, Kind};
use crate::hub::ring::{Lookup, Ring, Sequence};
use anabranch_protocol::cursor::{Cursor, Position};
use std::sync::Arc;

/// A connection's reading place.
pub struct Behind {
    /// Everything up to here was sent, or was not wanted.
    cursor: Cursor,
    source: Source,
    page: Option<Page>,
    /// Whether `caught_up` is to be said at the end.
    pub announce: bool,
}

/// Where the next page comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Ring(Sequence),
    Log,
    /// A read of the log is under way, after this position.
    Reading(Position),
}

struct Page {
    block: Arc<Block>,
    /// Frames to be sent, by their index in the block.
    due: Due,
    /// Where the connection stands after this page.
    end: Cursor,
    then: Source,
}

/// What a connection behind is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Write what is due of the page.
    Write,
    /// Read the log: this partition, after this position's offset, then call [`Behind::page`].
    Read(Position),
    /// Wait for the read.
    Wait,
    /// It stands at the head: live.
    Join,
}

impl Behind {
    /// Begins to read after a cursor.
    pub fn new(cursor: Cursor, ring: &Ring, announce: bool) -> Behind {
        let source = source_of(&cursor, ring);
        Behind { cursor, source, page: None, announce }
    }

    /// Where the connection stands. What is due of the page is not included.
    pub fn cursor(&self) -> Cursor {
        match &self.page {
            None => self.cursor.clone(),
            Some(page) => {
                let mut cursor = self.cursor.clone();
                if let Some(next) = page.due.first() {
                    cursor.advance_to(&page.block.cursor_before(next as usize));
                }
                cursor
            }
        }
    }

    /// Goes on as far as it can without a write or a read.
    pub fn next(&mut self, ring: &Ring, wanted: &Subscriptions) -> Next {
        loop {
            if let Some(page) = &self.page {
                if !page.due.is_empty() {
                    return Next::Write;
                }
                if let Some(page) = self.page.take() {
                    self.cursor.advance_to(&page.end);
                    self.source = page.then;
                }
            }
            match self.source {
                Source::Reading(_) => return Next::Wait,
                Source::Ring(at) if at >= ring.next() => {
                    return Next::Join;
                }
                Source::Ring(at) => match ring.block(at) {
                    Some((block, first)) => {
                        let after = first + block.len() as u64;
                        let end = block.cursor_before(block.len());
                        self.take(Arc::clone(block), (at - first) as usize, end, Source::Ring(after), wanted);
                    }
                    // Evicted since: back to the log.
                    None => self.source = Source::Log,
                },
                Source::Log => match source_of(&self.cursor, ring) {
                    Source::Log => {
                        let after = self.first_short_of(ring);
                        self.source = Source::Reading(after);
                        return Next::Read(after);
                    }
                    found => self.source = found,
                },
            }
        }
    }

    /// The first partition in which the ring does not reach back to the cursor, and the position there.
    fn first_short_of(&self, ring: &Ring) -> Position {
        let oldest = ring.cursor_before(ring.oldest());
        let short = oldest.positions().iter().find(|position| !self.cursor.includes(**position));
        let partition = short.map_or(0, |position| position.partition);
        self.cursor.position(partition).unwrap_or(Position {
            partition,
            offset: Default::default(),
            fingerprint: None,
        })
    }

    /// A page of the log has come: frames of one partition, and how far they cover it.
    pub fn page(&mut self, block: Arc<Block>, covered: Position, wanted: &Subscriptions) {
        let mut end = self.cursor.clone();
        end.advance(covered);
        self.take(block, 0, end, Source::Log, wanted);
    }

    /// The read has told of a loss instead: go on behind it. The client was told.
    pub fn skip_to(&mut self, position: Position) {
        self.cursor.advance(position);
        self.source = Source::Log;
    }

    /// The read has failed for now: it may be tried again.
    pub fn read_failed(&mut self) {
        self.source = Source::Log;
    }

    /// Whether this is the read that it waits for, and not one that it asked for before it changed its place.
    pub fn expects(&self, after: Position) -> bool {
        self.source == Source::Reading(after)
    }

    fn take(&mut self, block: Arc<Block>, from: usize, end: Cursor, then: Source, wanted: &Subscriptions) {
        let mut due = Due::default();
        let mut end = end;
        let mut then = then;
        for frame in from..block.len() {
            let position = block.position(frame);
            if self.cursor.includes(position) {
                continue;
            }
            if block.kind() == Kind::Messages && !wanted.want(block.topic(frame), position) {
                continue;
            }
            if !due.extend(frame as u64, frame as u64 + 1) {
                // Too many pieces for one page: the rest of the block is the next one.
                end = self.cursor.clone();
                end.advance_to(&block.cursor_before(frame));
                if let Source::Ring(after) = then {
                    then = Source::Ring(after - (block.len() - frame) as u64);
                }
                break;
            }
        }
        self.page = Some(Page { block, due, end, then });
    }

    /// The frames to be written, in order: the block and ranges of its frames.
    pub fn due(&self) -> Option<(&Arc<Block>, impl Iterator<Item = (usize, usize)>)> {
        let page = self.page.as_ref()?;
        Some((&page.block, page.due.ranges().map(|(from, to)| (from as usize, to as usize))))
    }

    /// So many frames of the page were written.
    pub fn written(&mut self, frames: u64) {
        if let Some(page) = &mut self.page {
            page.due.advance(frames);
        }
    }
}

/// The ring, if it reaches back to the cursor in every partition, else the log.
fn source_of(cursor: &Cursor, ring: &Ring) -> Source {
    let oldest = ring.cursor_before(ring.oldest());
    if !cursor.includes_all(&oldest) {
        return Source::Log;
    }
    // The earliest of the places after each position. A partition that the cursor does not know begins in the ring.
    let mut at = ring.next();
    for head in ring.head().positions() {
        let place = match cursor.position(head.partition) {
            None => ring.oldest(),
            Some(position) => match ring.find(Position { fingerprint: None, ..position }) {
                Lookup::At(sequence) => sequence,
                Lookup::Newer => ring.next(),
                Lookup::Older | Lookup::Diverged => ring.oldest(),
            },
        };
        at = at.min(place);
    }
    Source::Ring(at)
}
