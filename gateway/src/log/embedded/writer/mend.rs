//! What the writer does when the disk does not: refuse, keep what is known to be good, and go on when it can.
//!
//! * No room, or a failed write: the file is cut back to what was whole. Nothing was stored, and the callers are told.
//!   From time to time the writer tries whether there is room again.
//! * A failed sync: nobody knows what the disk has, and a second sync that succeeds would prove nothing. Callers are
//!   told so, the segment is ended after what readers have seen, and another one is begun.

use super::{Active, Writer, Written, unknown};
use crate::log::embedded::frame::{self, HEADER};
use crate::log::embedded::options::Sync;
use crate::log::embedded::scan::{CHUNK, Item, Scan};
use crate::log::embedded::segment::{Extent, Segment};
use crate::log::{AppendError, Health};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between attempts to write again.
const PAUSE: Duration = Duration::from_millis(250);
/// Room that must be there before appends are taken again, in bytes, however small the one that failed.
const LEAST_ROOM: usize = 64 * 1024;

/// Why appends are refused, and when to look again.
#[derive(Debug)]
pub(in crate::log::embedded) struct Refusal {
    pub(super) error: AppendError,
    pub(super) retry: Instant,
    /// Bytes that did not fit.
    room: usize,
}

/// A segment that takes no more records, and has still to be ended.
#[derive(Debug)]
pub(in crate::log::embedded) struct Torn {
    pub segment: Arc<Segment>,
    /// What readers have seen; anything after it is cut off.
    pub extent: Extent,
    /// Whether what was written last may not be on the disk although it can be read.
    pub suspect: bool,
}

impl Writer {
    /// Begins another segment; the active one was full.
    pub(super) fn roll(&mut self) {
        self.give_up(false);
        if let Err(error) = self.mend() {
            self.refuse(&error, 0);
        }
        self.retain();
    }

    /// Ends the torn segment, and begins another one.
    pub(in crate::log::embedded) fn mend(&mut self) -> io::Result<()> {
        if let Some(torn) = &self.torn {
            let disk = &self.shared.disk;
            let file = match disk.open(&torn.segment.name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None, // Forgotten meanwhile.
                other => Some(other?),
            };
            if let Some(file) = file {
                let Extent { length, last, latest } = torn.extent;
                if torn.suspect {
                    verify(&torn.segment, file.clone(), torn.extent);
                }
                file.set_len(length)?;
                let end = frame::End { log: self.shared.id, last, latest };
                file.write_at(&end.encode(), length)?;
                if torn.suspect || self.shared.options.sync != Sync::None {
                    file.sync()?;
                    // Nobody waits for a suspect segment any more: it was settled when it became one.
                    self.settle(&Ok(()));
                }
                let extent = Extent { length: length + HEADER as u64, last, latest };
                self.shared.change(|state| {
                    if let Some((_, known)) = state.segments.back_mut() {
                        *known = extent;
                    }
                });
            }
            self.torn = None;
        }
        self.begin()
    }

    fn begin(&mut self) -> io::Result<()> {
        let disk = &self.shared.disk;
        let (base, before) = (self.next, self.before);
        let segment = Arc::new(Segment::new(base, before, HEADER as u64));
        let file = disk.create(&segment.name)?;
        let start = frame::Start { log: self.shared.id, base, before };
        file.write_at(&start.encode(), 0)?;
        file.sync()?;
        disk.sync()?;
        let extent = Extent { length: HEADER as u64, last: base - 1, latest: 0 };
        self.shared.change(|state| {
            state.segments.push_back((segment.clone(), extent));
            state.health = Health::Connected;
        });
        self.active = Some(Active { segment, file, extent });
        self.refusal = None;
        Ok(())
    }

    /// Not all of a batch could be written.
    pub(super) fn write_failed(&mut self, error: &io::Error, written: Written) {
        let Some(active) = &self.active else { return };
        let room = self.buffer.len();
        self.buffer.clear();
        let cut = active.file.set_len(active.extent.length).and_then(|()| match self.shared.options.sync {
            Sync::None => Ok(()),
            // Otherwise a power loss could bring back what its publisher was told is not stored.
            Sync::Interval | Sync::Always => active.file.sync(),
        });
        match cut {
            Ok(()) => {
                if self.shared.options.sync != Sync::None {
                    self.settle(&Ok(())); // The cut was synced, and they with it.
                }
                // Nobody has seen these offsets, and nothing stands at them.
                self.next -= written.records.len() as u64;
                self.refuse(error, room);
                let refused = self.refusal.as_ref().map(|refusal| refusal.error.clone());
                let refused = refused.unwrap_or_else(|| unknown("the disk failed"));
                written.confirms.into_iter().for_each(|confirm| confirm.tell(Err(refused.clone())));
            }
            Err(second) => {
                let why = unknown(&format!("the disk failed: {error}, then {second}"));
                written.confirms.into_iter().for_each(|confirm| confirm.tell(Err(why.clone())));
                self.suspect(error);
            }
        }
    }

    /// A sync failed: gives up the active segment after what readers have seen of it.
    pub(super) fn suspect(&mut self, error: &io::Error) {
        self.give_up(true);
        self.refuse(error, 0);
    }

    /// Tells who waits for a sync how it went. After a failure nothing is known, and a later success would prove
    /// nothing.
    fn settle(&mut self, synced: &io::Result<()>) {
        self.sync_due = None;
        for (confirm, position) in self.unsynced.drain(..) {
            confirm.tell(match synced {
                Ok(()) => Ok(position),
                Err(error) => Err(unknown(&format!("the disk failed to keep it: {error}"))),
            });
        }
    }

    fn give_up(&mut self, suspect: bool) {
        if let Some(Active { segment, extent, .. }) = self.active.take() {
            self.before = extent.last;
            self.torn = Some(Torn { segment, extent, suspect });
        }
    }

    /// Refuses appends from now on, until [`try_again`](Writer::try_again) finds that it need not. Who waits for a
    /// sync is told that nothing is known.
    pub(in crate::log::embedded) fn refuse(&mut self, error: &io::Error, room: usize) {
        self.settle(&Err(io::Error::new(error.kind(), error.to_string())));
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let what = if full { "no room on the disk" } else { "the disk fails" };
        let why = format!("{what}: {error}");
        if self.refusal.is_none() {
            tracing::error!(%error, "{what}: the log takes no records; it tries again by itself");
        }
        let error = if full { AppendError::Full(why.clone()) } else { AppendError::Blocked(why.clone()) };
        let room = room.clamp(LEAST_ROOM, super::CHUNK);
        self.refusal = Some(Refusal { error, retry: Instant::now() + PAUSE, room });
        self.shared.change(|state| state.health = Health::Blocked(why));
    }

    /// Looks whether appends can be taken again.
    pub(super) fn try_again(&mut self) {
        let Some(refusal) = &self.refusal else { return };
        let room = refusal.room;
        self.retain();
        let result = match &self.active {
            None => self.mend(),
            Some(active) => {
                let at = active.extent.length;
                let zeros = vec![0; room];
                let tried = active.file.write_at(&zeros, at);
                let cut = active.file.set_len(at);
                match (tried, cut) {
                    (tried, Ok(())) => tried,
                    (_, Err(error)) => return self.suspect(&error),
                }
            }
        };
        match result {
            Ok(()) => {
                self.refusal = None;
                self.shared.change(|state| state.health = Health::Connected);
                tracing::info!("the disk works again: the log takes records");
            }
            Err(error) => self.refuse(&error, room),
        }
    }
}

/// Reads what readers have seen of a segment whose sync failed, and says what is damaged. Readers find out themselves;
/// the operator should know at once.
fn verify(segment: &Segment, file: Arc<dyn crate::log::embedded::disk::DiskFile>, extent: Extent) {
    let mut scan = Scan::new(file, HEADER as u64, extent.length, segment.base, CHUNK);
    let mut damaged = 0_u64;
    let mut found = segment.base - 1;
    loop {
        match scan.next() {
            Ok(Some(Item::Record { record, .. })) => found = record.position.offset.0,
            Ok(Some(Item::Damage)) => damaged += 1,
            Ok(Some(Item::End(_)) | None) => break,
            Err(error) => {
                tracing::error!(%error, segment = segment.name, "the segment cannot be read after a failed sync");
                return;
            }
        }
    }
    let missing = extent.last.saturating_sub(found);
    if damaged > 0 || missing > 0 {
        tracing::error!(segment = segment.name, damaged, missing, "records are damaged after a failed sync");
    }
}
