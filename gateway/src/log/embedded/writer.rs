//! The one thread that writes: takes what waits, writes it at once, syncs it at once, and confirms all of it.
//!
//! It never waits for more to come. What arrives during a write or a sync is the next batch, so batches grow with the
//! load and by nothing else.

mod mend;
mod retain;

use super::disk::DiskFile;
use super::frame;
use super::mark;
use super::options::Sync;
use super::queue::{Append, Confirm, Outcome};
use super::segment::{Entry, Extent, STEP, Segment};
use super::shared::Shared;
use crate::log::{AppendError, Record, fingerprint};
use anabranch_protocol::cursor::{Offset, Position};
use mend::Refusal;
pub(super) use mend::Torn;
use std::sync::Arc;
use std::time::Instant;

/// Bytes written at once, unless a record is larger.
const CHUNK: usize = 1024 * 1024;

/// What the thread owns. Dropped, it closes the log for everyone.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The segment being written; `None` until one can be begun.
    active: Option<Active>,
    /// What has to be done before another segment can be begun.
    torn: Option<Torn>,
    /// Why appends are refused at present.
    refusal: Option<Refusal>,
    /// The next record's offset.
    next: u64,
    /// The last offset that was given before the active segment, or before the one to be begun.
    before: u64,
    /// Written, and confirmed with the next sync.
    unsynced: Vec<(Confirm, Position)>,
    sync_due: Option<Instant>,
    retain_due: Option<Instant>,
    buffer: Vec<u8>,
    /// Keeps other processes out.
    lock: Option<Box<dyn Send + std::marker::Sync>>,
}

/// The segment being written.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// What was written in full. Under `always`, readers see it one sync later.
    extent: Extent,
}

/// Records that were given offsets, and who waits for them.
#[derive(Default)]
struct Written {
    records: Vec<Record>,
    confirms: Vec<Confirm>,
    /// For the segment's index, once they are there to stay.
    entries: Vec<Entry>,
}

impl Writer {
    /// For a log whose state is at rest. `torn` is what has to be done first.
    pub(super) fn new(
        shared: Arc<Shared>,
        active: Option<(Arc<Segment>, Arc<dyn DiskFile>, Extent)>,
        torn: Option<Torn>,
        (next, before): (u64, u64),
        lock: Box<dyn Send + std::marker::Sync>,
    ) -> Writer {
        Writer {
            shared,
            active: active.map(|(segment, file, extent)| Active { segment, file, extent }),
            torn,
            refusal: None,
            next,
            before,
            unsynced: Vec::new(),
            sync_due: None,
            retain_due: None,
            buffer: Vec::with_capacity(CHUNK),
            lock: Some(lock),
        }
    }

    /// Works until the log is closed.
    pub(super) fn run(mut self) {
        loop {
            let deadline =
                [self.sync_due, self.retain_due, self.refusal.as_ref().map(|refusal| refusal.retry)];
            let work = self.shared.queue.take(deadline.into_iter().flatten().min());
            self.append(work.appends);
            let now = Instant::now();
            if work.closing || self.sync_due.is_some_and(|due| due <= now) {
                self.sync();
            }
            if work.closing {
                return self.close();
            }
            if self.refusal.as_ref().is_some_and(|refusal| refusal.retry <= now) {
                self.try_again();
            }
            if self.retain_due.is_some_and(|due| due <= now) {
                self.retain();
            }
        }
    }

    fn append(&mut self, appends: Vec<Append>) {
        let mut appends = appends.into_iter().peekable();
        while let Some(append) = appends.peek() {
            let size = frame::size(&append.record);
            if let Some(refusal) = &self.refusal {
                let refused = refusal.error.clone();
                appends.for_each(|append| append.confirm.tell(Err(refused.clone())));
                return;
            }
            if !self.room_for(size) {
                self.roll();
                continue;
            }
            let mut written = Written::default();
            let time = (self.shared.clock)();
            self.buffer.clear();
            while let Some(append) = appends.next_if(|append| {
                let size = frame::size(&append.record);
                (self.buffer.is_empty() || self.buffer.len() + size <= CHUNK)
                    && self.room_for(self.buffer.len() + size)
            }) {
                self.encode(append, time, &mut written);
            }
            self.write(written);
        }
    }

    /// Whether the active segment takes so many bytes more. An empty one takes anything.
    fn room_for(&self, bytes: usize) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let used = active.extent.length;
            active.extent.last < active.segment.base && self.buffer.is_empty()
                || used + bytes as u64 <= self.shared.options.segment_bytes
        })
    }

    fn encode(&mut self, append: Append, time: u64, written: &mut Written) {
        let Some(active) = &self.active else { return append.confirm.tell(Err(unknown("no segment"))) };
        let offset = self.next;
        self.next += 1;
        let at = active.extent.length + self.buffer.len() as u64;
        if written.entries.last().is_none_or(|last| at >= last.at + STEP) {
            written.entries.push(Entry { at, offset, latest: active.extent.latest.max(time) });
        }
        frame::encode(&mut self.buffer, &append.record, offset, time);
        let fingerprint = Some(fingerprint(&append.record.envelope));
        written.records.push(Record {
            position: Position { partition: 0, offset: Offset(offset), fingerprint },
            time,
            topic: append.record.topic.into(),
            key: append.record.key,
            envelope: append.record.envelope,
        });
        written.confirms.push(append.confirm);
    }

    fn write(&mut self, written: Written) {
        let Some(active) = &mut self.active else { return };
        let before = active.extent;
        if let Err(error) = active.file.write_at(&self.buffer, before.length) {
            return self.write_failed(&error, written);
        }
        let latest = written.records.iter().map(|record| record.time).max().unwrap_or(0);
        active.extent = Extent {
            length: before.length + self.buffer.len() as u64,
            last: self.next - 1,
            latest: before.latest.max(latest),
        };
        self.buffer.clear();
        if self.shared.options.sync == Sync::Always
            && let Err(error) = active.file.sync()
        {
            // What readers have not seen is cut off, and its offsets are not given again.
            active.extent = before;
            let why = unknown(&format!("the disk failed to keep it: {error}"));
            written.confirms.into_iter().for_each(|confirm| confirm.tell(Err(why.clone())));
            return self.suspect(&error);
        }
        let Written { records, confirms, entries } = written;
        entries.into_iter().for_each(|entry| active.segment.note(entry));
        let positions: Vec<_> = records.iter().map(|record| record.position).collect();
        let extent = active.extent;
        self.shared.change(|state| state.publish(records.into(), extent));
        let confirmed = confirms.into_iter().zip(positions);
        if self.shared.options.sync == Sync::Interval {
            self.unsynced.extend(confirmed);
            let interval = self.shared.options.interval();
            self.sync_due.get_or_insert_with(|| Instant::now() + interval);
        } else {
            confirm(confirmed);
        }
    }

    /// Makes durable what was written since the last time, and confirms it.
    fn sync(&mut self) {
        self.sync_due = None;
        if self.unsynced.is_empty() {
            return;
        }
        let Some(active) = &self.active else { return };
        match active.file.sync() {
            Ok(()) => confirm(std::mem::take(&mut self.unsynced)),
            Err(error) => self.suspect(&error),
        }
    }

    fn close(mut self) {
        self.sync();
        let Some(active) = &self.active else { return };
        let end = frame::End { log: self.shared.id, last: active.extent.last, latest: active.extent.latest };
        // Without the mark, the next opening takes this for a crash: safe, only slower and with a jump in offsets.
        let marked = active.file.sync().and_then(|()| mark::write(&*self.shared.disk, end));
        if let Err(error) = marked {
            tracing::warn!(%error, "the log could not be marked as closed cleanly");
        }
    }
}

impl Drop for Writer {
    /// Also when the thread panics: nobody may wait for ever.
    fn drop(&mut self) {
        self.shared.queue.close();
        for append in self.shared.queue.take(None).appends {
            append.confirm.tell(Err(AppendError::Closed));
        }
        self.lock = None; // Before anyone can hear of the end and open the log again.
        self.shared.change(|state| state.closed = true);
    }
}

fn confirm(confirmed: impl IntoIterator<Item = (Confirm, Position)>) {
    confirmed.into_iter().for_each(|(confirm, position)| confirm.tell(Outcome::Ok(position)));
}

fn unknown(why: &str) -> AppendError {
    AppendError::Unknown(why.into())
}
