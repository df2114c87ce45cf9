//! How a connection reads that is not at the head: catching up, resuming and being slow are the same thing.
//!
//! It holds a cursor and at most one page (pieces of the ring or of a block of the log, newest values), never a queue.
//!
//! ```text
//!   place ──── newest values only ────┬──── ring or log: events as they were, state by its newest value ────▶ head: live
//!                                     └ where the first event is wanted
//! ```
//!
//! # Why nothing is missing, and nothing comes twice
//!
//! The place only grows, and what is sent of an offset is sent when the place passes it. Each state topic stands in
//! [`Values`] at the offset of its newest value. Say that the place has come to `p`. Then each topic's newest value as of
//! the head either stands at or below `p`, and was sent when the place passed it (a value that stood there then and has been
//! replaced since stands above `p` now), or stands above `p`, and will be passed. At the head, all have been. Offsets that
//! are sent rise strictly, so nothing comes twice. This needs no copy of the values and holds no topic back, so a snapshot
//! may be cut at any place, and the place alone resumes it, on any node.

mod conflate;

use super::page::{Of, Page};
use super::subscriptions::Subscriptions;
use crate::hub::block::Block;
use crate::hub::newest::Values;
use crate::hub::piece::Piece;
use crate::hub::ring::{Lookup, Ring, Sequence};
use anabranch_protocol::cursor::{Cursor, Offset, Position};
use anabranch_protocol::server_frame::Gap;
use std::sync::Arc;

/// Frames of the ring, or values, looked at for one page, at most: half a millisecond with a few filters.
/// Few in tests, so that their races meet its end.
const LOOKED_AT: u64 = if cfg!(test) { 16 } else { 4096 };

/// What a shard knows: its recent frames, and the newest values as of their head.
#[derive(Clone, Copy)]
pub struct Known<'k> {
    pub ring: &'k Ring,
    pub values: &'k Values,
}

/// A connection's reading place.
pub struct Behind {
    /// Everything up to here was sent, or was not wanted, or was replaced by what stands further on.
    cursor: Cursor,
    source: Source,
    page: Option<Page>,
    /// A loss that was found, and is to be told before anything else.
    owed: Option<Gap>,
    lack: Lack,
    /// Whether `caught_up` is to be said at the end.
    pub announce: bool,
}

/// Where the next page comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The newest values, as far as nobody wants anything else.
    Values,
    Ring(Sequence),
    Log,
    /// A read of the log is under way, after this position.
    Reading(Position),
}

/// Whether values are unknown here that a snapshot on its way should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    No,
    /// To be said before anything that lies behind those values: until then, nothing is due, and the place stays.
    Owed,
    Said,
}

/// What a connection behind is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Write what is due of the page.
    Write,
    /// Tell of this loss, before anything else, and that everybody's events begin behind it: [`Subscriptions::pass`].
    Tell(Gap),
    /// Say that snapshots on their way lack values, before anything else.
    Admit,
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
    pub fn new(cursor: Cursor, announce: bool) -> Behind {
        Behind { cursor, source: Source::Values, page: None, owed: None, lack: Lack::No, announce }
    }

    /// Goes on for one that has read before, with what is to be said at the end. What is lacking from its place on is found again,
    /// and said again: to a subscription that begins here, it was not.
    pub fn instead_of(self, before: &Behind) -> Behind {
        Behind { announce: self.announce || before.announce, ..self }
    }

    /// Where the connection stands. What is due of the page is not included.
    pub fn cursor(&self, ring: &Ring) -> Cursor {
        let mut cursor = self.cursor.clone();
        if let Some(page) = self.due() {
            match (&page.of, page.first()) {
                (Of::Ring { end }, first) => cursor.advance_to(&ring.cursor_before(first.unwrap_or(*end))),
                (Of::Log { block, .. }, Some(next)) => cursor.advance_to(&block.cursor_before(next as usize)),
                (Of::Log { end, .. } | Of::Values { end }, None) => cursor.advance_to(end),
                (Of::Values { .. }, Some(_)) => {}
            }
        }
        cursor
    }

    /// The first sequence of the ring that the page still needs.
    pub fn needs(&self) -> Option<Sequence> {
        match &self.page {
            Some(page) => match page.of {
                Of::Ring { end } => Some(page.first().unwrap_or(end)),
                Of::Log { .. } | Of::Values { .. } => None,
            },
            None => None,
        }
    }

    /// Goes on as far as it can without a write or a read.
    pub fn next(&mut self, known: Known<'_>, wanted: &Subscriptions) -> Next {
        let ring = known.ring;
        loop {
            if self.lack == Lack::Owed {
                self.lack = Lack::Said;
                return Next::Admit;
            }
            if self.page.as_ref().is_some_and(|page| !page.is_empty()) {
                return Next::Write;
            }
            self.turn_page(ring);
            self.look_for_lack(known.values, wanted);
            if self.lack == Lack::Owed {
                continue;
            }
            if let Some(gap) = self.owed.take().or_else(|| self.unsure(known, wanted)) {
                // Its values follow, and the client is told when they have come.
                self.announce = true;
                return Next::Tell(gap);
            }
            match self.source {
                Source::Values => match self.take_values(known, wanted) {
                    conflate::Taken::Some => {}
                    conflate::Taken::None => {
                        self.turn_page(ring);
                        return Next::Rest;
                    }
                    conflate::Taken::All => self.source = source_of(&self.cursor, ring),
                },
                Source::Reading(_) => return Next::Wait,
                Source::Ring(at) if at >= ring.next() => return Next::Join,
                Source::Ring(at) if at >= ring.oldest() => {
                    if !self.take_from_ring(at, known, wanted) {
                        self.turn_page(ring);
                        return match self.source {
                            Source::Ring(at) if at == ring.next() => Next::Join,
                            _ => Next::Rest,
                        };
                    }
                }
                // Evicted since: back to the log, or to the values.
                Source::Ring(_) => self.source = Source::Values,
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

    /// To be called where the place stands, before anything is taken from behind it.
    fn look_for_lack(&mut self, values: &Values, wanted: &Subscriptions) {
        if self.lack == Lack::No && self.is_short_of(values, wanted) {
            self.lack = Lack::Owed;
        }
    }

    /// The page, if something of it is due.
    fn due(&self) -> Option<&Page> {
        self.page.as_ref().filter(|_| self.lack != Lack::Owed)
    }

    /// Whether a snapshot on its way should have values from beyond this place that are not known here.
    fn is_short_of(&self, values: &Values, wanted: &Subscriptions) -> bool {
        values.partitions().any(|partition| {
            let place = self.cursor.position(partition).map_or(Offset(0), |at| at.offset);
            place < values.unknown_to(partition) && wanted.lack_values(values, partition, place)
        })
    }

    /// The page was written: goes on behind it.
    fn turn_page(&mut self, ring: &Ring) {
        match self.page.take().map(|page| page.of) {
            None => {}
            Some(Of::Ring { end }) => {
                self.cursor.advance_to(&ring.cursor_before(end));
                self.source = Source::Ring(end);
            }
            Some(Of::Log { end, .. } | Of::Values { end }) => self.cursor.advance_to(&end),
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
    pub fn page(&mut self, block: Arc<Block>, covered: Position, values: &Values, wanted: &Subscriptions) {
        // Values may have been forgotten while the read was under way.
        self.look_for_lack(values, wanted);
        let mut end = self.cursor.clone();
        end.advance(covered);
        let mut page = Page::new(Of::Log { block: Arc::clone(&block), end });
        for frame in 0..block.len() {
            if !self.take_frame(&block, frame, frame as u64, values, wanted, &mut page) {
                // Too many pieces for one page: the rest of the block is read again.
                let mut end = self.cursor.clone();
                end.advance_to(&block.cursor_before(frame));
                page.of = Of::Log { block, end };
                break;
            }
        }
        self.page = Some(page);
        self.source = Source::Log;
    }

    /// The read has told of a loss instead. It is told first; the newest values among what is gone follow: they are known.
    pub fn lose(&mut self, gap: Gap) {
        self.owed = Some(gap);
        self.source = Source::Values;
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
    fn take_from_ring(&mut self, from: Sequence, known: Known<'_>, wanted: &Subscriptions) -> bool {
        let mut end = from;
        let mut page = Page::new(Of::Ring { end });
        'page: for (block, first) in known.ring.blocks_from(from) {
            let skipped = from.saturating_sub(first) as usize;
            for frame in skipped..block.len() {
                let at = first + frame as u64;
                if at - from >= LOOKED_AT
                    || !self.take_frame(block, frame, at, known.values, wanted, &mut page)
                {
                    break 'page;
                }
                end = at + 1;
            }
        }
        page.of = Of::Ring { end };
        let any = !page.is_empty();
        self.page = Some(page);
        any
    }

    /// What is due of the page, piece by piece, until the visitor has enough.
    pub fn pieces<'b>(&'b self, ring: &'b Ring, visit: impl FnMut(Piece<'b>) -> bool) {
        if let Some(page) = self.due() {
            page.pieces(ring, visit);
        }
    }

    /// So many frames of the page were written.
    pub fn written(&mut self, frames: u64) {
        if let Some(page) = &mut self.page {
            let alone = matches!(page.of, Of::Values { .. });
            page.advance(frames, |value| {
                if alone {
                    self.cursor.advance(value.position());
                }
            });
        }
    }
}

/// Where a client stands that was told of a gap.
pub fn end_of(gap: &Gap) -> Position {
    let offset = Offset(gap.before.0.saturating_sub(1));
    Position { partition: gap.partition, offset, fingerprint: None }
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
    use crate::connection::subscriptions::{Earlier, Wish};
    use crate::hub::classes::Holds;
    use crate::hub::newest::Newest;
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
        let filter = Filter::new(filter).expect("a good filter");
        wanted.add(1, filter, Holds { events: true, state: true }, Wish::default());
        wanted.start(1, &beginning(), None);
        wanted
    }

    fn after(offsets: &[u64]) -> Cursor {
        let mut cursor = beginning();
        for (partition, offset) in offsets.iter().enumerate() {
            cursor.set(Position { partition: partition as u16, ..at(*offset) });
        }
        cursor
    }

    fn wanting_state(place: &Cursor, state: Option<Earlier>) -> Subscriptions {
        let mut wanted = Subscriptions::default();
        let filter = Filter::new("#").expect("a good filter");
        wanted.add(1, filter, Holds { events: false, state: true }, Wish::default());
        wanted.start(1, place, state);
        wanted
    }

    fn stands(behind: &Behind, ring: &Ring) -> u64 {
        behind.cursor(ring).position(0).map_or(0, |position| position.offset.0)
    }

    /// Where it stands decides what is sent once more after it falls back. Clients drop that, so nobody else would notice.
    #[test]
    fn it_stands_behind_what_was_written_of_a_page_of_the_log() {
        let (ring, values) = (Ring::new(beginning(), 1_000_000), Values::new(1_000));
        let mut behind = Behind::new(beginning(), false);
        behind.page(block(), at(4), &values, &wanting("a"));
        let mut places = vec![stands(&behind, &ring)];
        for _ in 0..2 {
            behind.written(1);
            places.push(stands(&behind, &ring));
        }
        assert_eq!(places, [0, 2, 4], "before 1 and 3, which are due, and at the page's end");
        behind.page(block(), at(4), &values, &wanting("c"));
        assert_eq!(stands(&behind, &ring), 4, "nothing was wanted");
    }

    /// Written first, or claimed by a mark, the page would be all that a client has of them that is cut then.
    #[test]
    fn values_forgotten_during_a_read_are_admitted_before_its_page_is_written() {
        let (ring, mut values) = (Ring::new(beginning(), 1_000_000), Values::new(1_000));
        let mut wanted = wanting("a");
        let state = Filter::new("b").expect("a good filter");
        wanted.add(2, state, Holds { events: false, state: true }, Wish::default());
        wanted.start(1, &after(&[1]), None);
        wanted.start(2, &after(&[4]), Some(beginning().into()));
        let mut behind = Behind::new(beginning(), false);
        values.lose(0, Offset(1));
        behind.page(block(), at(4), &values, &wanted);
        assert_eq!(stands(&behind, &ring), 0, "nothing is claimed");
        let due = |behind: &Behind| {
            let mut frames = 0;
            behind.pieces(&ring, |piece| {
                frames += piece.frames();
                true
            });
            frames
        };
        assert_eq!(due(&behind), 0);
        let known = Known { ring: &ring, values: &values };
        assert_eq!(behind.next(known, &wanted), Next::Admit);
        assert_eq!(behind.next(known, &wanted), Next::Write);
        assert!(due(&behind) > 0, "what there is follows");
    }

    #[test]
    fn who_may_miss_values_is_told_of_each_partition_and_of_what_is_forgotten_later() {
        let mut ring = Ring::new(beginning(), 1_000_000);
        after(&[100, 100]).positions().iter().for_each(|head| ring.advance_head(*head));
        let mut values = Values::new(1_000);
        values.lose(0, Offset(60));
        values.lose(1, Offset(70));
        let mut wanted = wanting_state(&after(&[5, 65]), None);
        let mut behind = Behind::new(after(&[5, 65]), false);
        let mut told = Vec::new();
        for step in 0..6 {
            if step == 3 {
                // While what there is of the first is on its way.
                behind = Behind::new(after(&[30, 70]), false);
                values.lose(0, Offset(80));
            }
            let known = Known { ring: &ring, values: &values };
            if let Next::Tell(gap) = behind.next(known, &wanted) {
                wanted.pass(&behind.cursor(&ring), end_of(&gap));
                told.push((gap.partition, gap.after.0, gap.before.0));
            }
        }
        assert_eq!(told, [(0, 5, 61), (1, 65, 71), (0, 60, 81)]);
    }

    #[test]
    fn a_whole_snapshot_does_not_lack_word_of_what_was_deleted_before_it_began() {
        let deleted_at = |offset| {
            let mut ring = Ring::new(beginning(), 1_000_000);
            ring.advance_head(at(100));
            let mut values = Values::new(0);
            values.put(Arc::new(Newest::new("a".into(), at(offset), b"{}", true, false)));
            let state = Earlier { from: beginning(), whole_as_of: Some(after(&[90])) };
            let wanted = wanting_state(&after(&[80]), Some(state));
            Behind::new(beginning(), false).next(Known { ring: &ring, values: &values }, &wanted)
        };
        assert_eq!(deleted_at(85), Next::Join, "it is not named");
        assert_eq!(deleted_at(95), Next::Admit, "it may have been, before");
    }

    #[test]
    fn who_begins_with_nothing_misses_no_deletion() {
        let mut ring = Ring::new(beginning(), 1_000_000);
        ring.advance_head(at(100));
        let mut values = Values::new(0);
        values.put(Arc::new(Newest::new("a".into(), at(60), b"{}", true, false)));
        let began_after = |place: Cursor| {
            let wanted = wanting_state(&place, None);
            Behind::new(place, false).next(Known { ring: &ring, values: &values }, &wanted)
        };
        assert_eq!(began_after(beginning()), Next::Join);
        assert!(matches!(began_after(after(&[5])), Next::Tell(_)), "it may have the value");
    }

    #[test]
    fn who_has_come_further_does_not_lack_what_another_reads_again() {
        let mut ring = Ring::new(beginning(), 1_000_000);
        ring.advance_head(at(100));
        let mut values = Values::new(1_000);
        values.lose(0, Offset(40));
        let begun_at = |offset| {
            let wanted = wanting_state(&after(&[90]), Some(after(&[offset]).into()));
            Behind::new(beginning(), false).next(Known { ring: &ring, values: &values }, &wanted)
        };
        assert_eq!([begun_at(39), begun_at(40)], [Next::Admit, Next::Join]);
    }

    #[test]
    fn it_stands_behind_what_was_written_of_the_ring() {
        let mut ring = Ring::new(beginning(), 1_000_000);
        ring.push(block());
        let values = Values::new(1_000);
        let known = Known { ring: &ring, values: &values };
        let wanted = wanting("a");
        let mut behind = Behind::new(beginning(), false);
        assert_eq!(behind.next(known, &wanted), Next::Write);
        let mut places = vec![(stands(&behind, &ring), behind.needs())];
        for _ in 0..2 {
            behind.written(1);
            places.push((stands(&behind, &ring), behind.needs()));
        }
        let first = ring.oldest();
        assert_eq!(places, [(0, Some(first)), (2, Some(first + 2)), (4, Some(first + 4))]);
        assert_eq!(behind.next(known, &wanted), Next::Join);
        assert_eq!((stands(&behind, &ring), behind.needs()), (4, None), "the page is turned");
    }
}
