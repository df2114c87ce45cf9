//! What a folder holds, found out by reading alone. Changing anything is the writer's work, afterwards.
//!
//! A sealed segment is believed as its end frame says; damage inside is found by whoever reads there. The last segment
//! is read through: after a crash its torn tail is cut, and offsets go on far beyond what was found.

use super::disk::{Disk, DiskFile};
use super::frame::{self, Decoded, End, Frame, HEADER, Start};
use super::mark;
use super::scan::{CHUNK, Item, Scan};
use super::segment::{Entry, Extent, Segment, base_of, file_name};
use super::writer::Torn;
use anabranch_protocol::cursor::{LogId, Position};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Offsets left out after an unclean stop: more than could have been given and lost since the last write that the
/// disk has. Offsets are never given twice.
pub(super) const LEAP: u64 = 1 << 20;

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub id: LogId,
    /// Whether the id must be written: the folder is new, or its id file was damaged.
    pub write_id: bool,
    pub segments: VecDeque<(Arc<Segment>, Extent)>,
    pub newest: Option<Position>,
    /// The segment to go on writing to, after a clean stop.
    pub active: Option<(Arc<Segment>, Arc<dyn DiskFile>, Extent)>,
    /// The segment to be ended first, after an unclean stop.
    pub torn: Option<Torn>,
    pub next: u64,
    /// The last offset before the segment to be begun.
    pub before: u64,
    /// Segments without a record, to be removed once another one is begun.
    pub empty: Vec<String>,
}

/// Why nothing can be made of a folder.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(&'static str, io::Error),
    Damaged(String),
}

/// One segment, as found.
struct Look {
    segment: Segment,
    extent: Extent,
    sealed: bool,
    start: Option<Start>,
    newest: Option<Position>,
    file: Arc<dyn DiskFile>,
}

pub(super) fn look(disk: &dyn Disk, segment_bytes: u64, new_id: LogId) -> Result<Found, Trouble> {
    let io = |what| move |error| Trouble::Io(what, error);
    let names = disk.names().map_err(io("its folder cannot be read"))?;
    let mut bases: Vec<u64> = names.iter().filter_map(|name| base_of(name)).collect();
    bases.sort_unstable();
    let known_id = mark::id(disk).map_err(io("its id cannot be read"))?;
    let clean = mark::read(disk).map_err(io("its mark cannot be read"))?;
    let mut looks = Vec::with_capacity(bases.len());
    for (n, &base) in bases.iter().enumerate() {
        let last = n + 1 == bases.len();
        looks.push(segment(disk, base, last).map_err(io("a segment cannot be read"))?);
    }
    let (id, write_id) = identify(known_id, &looks, new_id)?;
    // A mark of another log, or one that a later crash has overtaken, is none.
    let clean = clean.filter(|end| end.log == id);
    Ok(assemble(looks, id, write_id, clean, segment_bytes))
}

/// Which log this is: its id file says so, unless it is damaged and the segments agree on another.
fn identify(known: Option<LogId>, looks: &[Look], new: LogId) -> Result<(LogId, bool), Trouble> {
    let mut told = looks.iter().filter_map(|look| look.start.map(|start| (start.log, &look.segment.name)));
    let Some((first, _)) = told.next() else {
        return match known {
            Some(known) => Ok((known, false)),
            None if looks.is_empty() => Ok((new, true)),
            None => Err(Trouble::Damaged("neither its id nor any segment can be read".into())),
        };
    };
    if let Some((_, name)) = told.find(|(other, _)| *other != first) {
        return Err(Trouble::Damaged(format!("{name} belongs to another log than the other segments")));
    }
    if known != Some(first) {
        tracing::warn!(id = %first, "the log's id file is damaged; its segments tell the id");
    }
    Ok((first, known != Some(first)))
}

fn assemble(looks: Vec<Look>, id: LogId, write_id: bool, clean: Option<End>, segment_bytes: u64) -> Found {
    let mut found = Found {
        id,
        write_id,
        segments: VecDeque::new(),
        newest: None,
        active: None,
        torn: None,
        next: 1,
        before: 0,
        empty: Vec::new(),
    };
    let count = looks.len();
    let mut ended = false;
    for (n, look) in looks.into_iter().enumerate() {
        let Look { mut segment, mut extent, sealed, start, newest, file } = look;
        let newest_segment = n + 1 == count;
        segment.before = match start {
            Some(start) => start.before.min(segment.base - 1),
            // Of a damaged start frame, the end frame before knows. Without either, what is missing counts as lost.
            None if ended => found.before,
            None => segment.base - 1,
        };
        ended = sealed && extent.last >= segment.base;
        found.newest = newest.or(found.newest);
        if !newest_segment {
            if extent.last < segment.base {
                found.empty.push(segment.name);
                continue;
            }
            found.before = extent.last;
            found.segments.push_back((Arc::new(segment), extent));
            continue;
        }
        let is_clean = clean.is_some_and(|end| end.last >= extent.last && end.last >= segment.base - 1);
        found.next = extent.last + 1;
        if is_clean {
            let last = clean.map_or(extent.last, |end| end.last);
            let whole = last == extent.last;
            found.next = last + 1;
            extent.last = last;
            let length = file.len().unwrap_or(extent.length);
            if whole && !sealed && length == extent.length && length < segment_bytes {
                let segment = Arc::new(segment);
                found.before = segment.before;
                found.active = Some((segment.clone(), file, extent));
                found.segments.push_back((segment, extent));
                continue;
            }
            if !whole {
                tracing::warn!(segment = segment.name, "the newest records are damaged");
                extent.length = length; // Damage may hide more than the scan could tell: nothing is cut.
            }
        } else {
            found.next += LEAP;
            if extent.last < segment.base {
                // Nothing was kept of it; the segment to be begun takes its place.
                found.before = segment.before;
                found.empty.push(segment.name);
                continue;
            }
        }
        let segment = Arc::new(segment);
        found.before = extent.last;
        if !sealed {
            found.torn = Some(Torn { segment: segment.clone(), extent, suspect: false });
        }
        found.segments.push_back((segment, extent));
    }
    found
}

fn segment(disk: &dyn Disk, base: u64, last: bool) -> io::Result<Look> {
    let file = disk.open(&file_name(base))?;
    let length = file.len()?;
    let start = match frame_at(&*file, 0)? {
        Some(Frame::Start(start)) if start.base == base => Some(start),
        _ => None,
    };
    let segment = Segment::new(base, base - 1, HEADER as u64);
    if !last
        && let Some(at) = length.checked_sub(HEADER as u64)
        && let Some(Frame::End(end)) = frame_at(&*file, at)?
        && end.last >= base - 1
    {
        let extent = Extent { length, last: end.last, latest: end.latest };
        return Ok(Look { segment, extent, sealed: true, start, newest: None, file });
    }
    read_through(segment, file, length, start)
}

/// Reads every frame. The extent ends after the last whole one.
fn read_through(
    segment: Segment,
    file: Arc<dyn DiskFile>,
    length: u64,
    start: Option<Start>,
) -> io::Result<Look> {
    let mut scan = Scan::new(file.clone(), HEADER as u64, length, segment.base, CHUNK);
    let mut extent = Extent { length: HEADER as u64, last: segment.base - 1, latest: 0 };
    let mut sealed = false;
    let mut newest = None;
    let mut damaged = 0;
    while let Some(item) = scan.next()? {
        match item {
            Item::Record { record, at } => {
                let offset = record.position.offset.0;
                segment.note(Entry { at, offset, latest: extent.latest });
                newest = Some(record.position);
                extent = Extent { length: scan.at(), last: offset, latest: extent.latest.max(record.time) };
            }
            Item::End(end) => {
                extent = Extent { length: scan.at(), last: end.last, latest: extent.latest.max(end.latest) };
                sealed = true;
                break;
            }
            Item::Damage => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::warn!(segment = segment.name, damaged, "damage or a torn tail was found");
    }
    Ok(Look { segment, extent, sealed, start, newest, file })
}

fn frame_at(file: &dyn DiskFile, at: u64) -> io::Result<Option<Frame>> {
    let mut buffer = BytesMut::zeroed(HEADER);
    let count = file.read_at(&mut buffer, at)?;
    buffer.truncate(count);
    match frame::decode(&buffer.freeze()) {
        Decoded::Frame { frame, .. } => Ok(Some(frame)),
        Decoded::Short(_) | Decoded::Bad => Ok(None),
    }
}
