//! How a connection reads that is not at the head: catching up, resuming and being slow are the same thing.
//!
//! It holds a cursor and at most one page (a block of the log, or ranges of the ring), never a queue.

use super::due::Due;
use super::subscriptions::Subscriptions;
use crate::hub::block::{Block, Kind};
use crate::hub::ring::{Lookup, Ring, Sequence};
use anabranch_protocol::cursor::{Cursor, Position};
use std::sync::Arc;

/// Frames of the ring looked at for one page, at most: half a millisecond with a few filters.
/// Few in tests, so that their races meet its end.
const LOOKED_AT: u64 = if cfg!(test) { 16 } else { 4096 };

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

/// What is to be sent before the cursor moves on.
struct Page {
    due: Due,
    of: Of,
}

/// What a page's ranges count, and where the connection stands after it.
enum Of {
    /// Sequences of the ring, across its blocks, which are small where little is published at a time.
    Ring { end: Sequence },
    /// Frames of a block that was read from the log.
    Log { block: Arc<Block>, end: Cursor },
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
    /// Go on in another turn: nothing was wanted of much that was looked at.
    Rest,
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
    pub fn cursor(&self, ring: &Ring) -> Cursor {
        let mut cursor = self.cursor.clone();
        match &self.page {
            None => {}
            Some(Page { due, of: Of::Ring { end } }) => {
                cursor.advance_to(&ring.cursor_before(due.first().unwrap_or(*end)));
            }
            Some(Page { due, of: Of::Log { block, end } }) => match due.first() {
                Some(next) => cursor.advance_to(&block.cursor_before(next as usize)),
                None => cursor.advance_to(end),
            },
        }
        cursor
    }

    /// The first sequence of the ring that the page still needs.
    pub fn needs(&self) -> Option<Sequence> {
        match &self.page {
            Some(Page { due, of: Of::Ring { end } }) => Some(due.first().unwrap_or(*end)),
            _ => None,
        }
    }

    /// Goes on as far as it can without a write or a read.
    pub fn next(&mut self, ring: &Ring, wanted: &Subscriptions) -> Next {
        loop {
            if self.page.as_ref().is_some_and(|page| !page.due.is_empty()) {
                return Next::Write;
            }
            self.turn_page(ring);
            match self.source {
                Source::Reading(_) => return Next::Wait,
                Source::Ring(at) if at >= ring.next() => return Next::Join,
                Source::Ring(at) if at >= ring.oldest() => {
                    if !self.take_from_ring(at, ring, wanted) {
                        self.turn_page(ring);
                        return if self.source == Source::Ring(ring.next()) {
                            Next::Join
                        } else {
                            Next::Rest
                        };
                    }
                }
                // Evicted since: back to the log.
                Source::Ring(_) => self.source = Source::Log,
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

    /// The page was written: goes on behind it.
    fn turn_page(&mut self, ring: &Ring) {
        match self.page.take().map(|page| page.of) {
            None => {}
            Some(Of::Ring { end }) => {
                self.cursor.advance_to(&ring.cursor_before(end));
                self.source = Source::Ring(end);
            }
            Some(Of::Log { end, .. }) => self.cursor.advance_to(&end),
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
        let mut due = Due::default();
        let mut end = self.cursor.clone();
        end.advance(covered);
        for frame in 0..block.len() {
            let at = frame as u64;
            if self.wants(&block, frame, wanted) && !due.extend(at, at + 1) {
                // Too many pieces for one page: the rest of the block is read again.
                end = self.cursor.clone();
                end.advance_to(&block.cursor_before(frame));
                break;
            }
        }
        self.page = Some(Page { due, of: Of::Log { block, end } });
        self.source = Source::Log;
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

    /// Makes a page of what the ring holds from a sequence on. Says whether anything of it is wanted.
    fn take_from_ring(&mut self, from: Sequence, ring: &Ring, wanted: &Subscriptions) -> bool {
        let mut due = Due::default();
        let mut end = from;
        'page: for (block, first) in ring.blocks_from(from) {
            let skipped = from.saturating_sub(first) as usize;
            for frame in skipped..block.len() {
                let at = first + frame as u64;
                let full =
                    at - from >= LOOKED_AT || (self.wants(block, frame, wanted) && !due.extend(at, at + 1));
                if full {
                    break 'page;
                }
                end = at + 1;
            }
        }
        let any = !due.is_empty();
        self.page = Some(Page { due, of: Of::Ring { end } });
        any
    }

    fn wants(&self, block: &Block, frame: usize, wanted: &Subscriptions) -> bool {
        let position = block.position(frame);
        !self.cursor.includes(position)
            && (block.kind() != Kind::Messages || wanted.want(block.topic(frame), position))
    }

    /// The ranges to be written: of the ring, or of the block that comes with them.
    pub fn due(&self) -> Option<(&Due, Option<&Block>)> {
        self.page.as_ref().map(|page| match &page.of {
            Of::Ring { .. } => (&page.due, None),
            Of::Log { block, .. } => (&page.due, Some(&**block)),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{MessageKey, Record};
    use anabranch_protocol::cursor::{LogId, Offset};
    use anabranch_protocol::filter::Filter;
    use bytes::Bytes;

    fn at(offset: u64) -> Position {
        Position { partition: 0, offset: Offset(offset), fingerprint: None }
    }

    /// Records 1 to 4, of the topics a, b, a, b.
    fn block() -> Arc<Block> {
        let record = |offset: u64| Record {
            position: at(offset),
            time: 1,
            topic: if offset % 2 == 1 { "a" } else { "b" }.into(),
            key: MessageKey::new("t", &offset.to_string()),
            envelope: Bytes::from_static(b"{}"),
        };
        Arc::new(Block::encode(beginning(), &[1, 2, 3, 4].map(record)))
    }

    fn beginning() -> Cursor {
        Cursor::beginning(LogId(1))
    }

    fn wanting(filter: &str) -> Subscriptions {
        let mut wanted = Subscriptions::default();
        wanted.add(1, Filter::new(filter).expect("a good filter"));
        wanted.start(1, &beginning());
        wanted
    }

    fn stands(behind: &Behind, ring: &Ring) -> u64 {
        behind.cursor(ring).position(0).map_or(0, |position| position.offset.0)
    }

    /// Where it stands decides what is sent once more after it falls back. Clients drop that, so nobody else would notice.
    #[test]
    fn it_stands_behind_what_was_written_of_a_page_of_the_log() {
        let ring = Ring::new(beginning(), 1_000_000);
        let mut behind = Behind::new(beginning(), &ring, false);
        behind.page(block(), at(4), &wanting("a"));
        let mut places = vec![stands(&behind, &ring)];
        for _ in 0..2 {
            behind.written(1);
            places.push(stands(&behind, &ring));
        }
        assert_eq!(places, [0, 2, 4], "before 1 and 3, which are due, and at the page's end");
        behind.page(block(), at(4), &wanting("c"));
        assert_eq!(stands(&behind, &ring), 4, "nothing was wanted");
    }

    #[test]
    fn it_stands_behind_what_was_written_of_the_ring() {
        let mut ring = Ring::new(beginning(), 1_000_000);
        ring.push(block());
        let wanted = wanting("a");
        let mut behind = Behind::new(beginning(), &ring, false);
        assert_eq!(behind.next(&ring, &wanted), Next::Write);
        let mut places = vec![(stands(&behind, &ring), behind.needs())];
        for _ in 0..2 {
            behind.written(1);
            places.push((stands(&behind, &ring), behind.needs()));
        }
        let first = ring.oldest();
        assert_eq!(places, [(0, Some(first)), (2, Some(first + 2)), (4, Some(first + 4))]);
        assert_eq!(behind.next(&ring, &wanted), Next::Join);
        assert_eq!((stands(&behind, &ring), behind.needs()), (4, None), "the page is turned");
    }
}
