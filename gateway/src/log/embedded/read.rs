//! Reading records back from files, around damage, without passing over it in silence.

use super::scan::{Item, Scan};
use super::segment::{Entry, Extent, Segment};
use super::shared::{Shared, closed};
use crate::log::{Batch, Budget, ReadError};
use anabranch_protocol::cursor::Offset;
use bytes::Bytes;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::oneshot;

/// How much is read from a file at once.
const CHUNK: usize = 64 * 1024;

/// Answers from memory at once, or from files by way of the pool.
pub(super) async fn read(shared: Arc<Shared>, after: Offset, budget: Budget) -> Result<Batch, ReadError> {
    if let Some(answer) = shared.read_recent(after.0, budget) {
        return answer;
    }
    on_pool(shared, move |shared| read_files(shared, after.0, budget)).await
}

/// Runs a read on the pool.
pub(super) async fn on_pool<T: Send + 'static>(
    shared: Arc<Shared>,
    job: impl FnOnce(&Shared) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    let (answer, answered) = oneshot::channel();
    let inner = shared.clone();
    let queued = shared.pool.run(move || {
        // Nobody may be waiting any more: then the work is not worth doing.
        if !answer.is_closed() {
            drop(answer.send(job(&inner)));
        }
    });
    if !queued {
        return Err(ReadError::Unavailable("too many reads wait for the disk".into()));
    }
    answered.await.unwrap_or_else(|_| Err(ReadError::Unavailable("the reader failed".into())))
}

/// What to look at next.
enum Step {
    Read(Arc<Segment>, Extent),
    /// Nothing was given between here and there.
    Skip(u64),
    Lost {
        before: u64,
    },
    Forgotten {
        oldest: u64,
    },
    End,
    Closed,
}

/// Where the record `wanted` is. `asked` says that the offset before it comes from outside: then it must be one
/// that this log has given, or is known to have lost.
fn step(shared: &Shared, wanted: u64, asked: bool) -> Step {
    let state = shared.lock();
    if state.closed {
        return Step::Closed;
    }
    if wanted < state.oldest() {
        return Step::Forgotten { oldest: state.oldest() };
    }
    if wanted > state.last {
        return Step::End;
    }
    let next = state.segments.partition_point(|(segment, _)| segment.base <= wanted);
    let before = next.checked_sub(1).and_then(|at| state.segments.get(at));
    if let Some((segment, extent)) = before
        && wanted <= extent.last
    {
        return Step::Read(segment.clone(), *extent);
    }
    let Some((next, _)) = state.segments.get(next) else { return Step::End };
    let last = before.map_or(next.before, |(_, extent)| extent.last);
    if wanted <= next.before {
        return Step::Lost { before: next.before + 1 }; // A file is missing.
    }
    if asked && wanted - 1 > last.max(next.before) && wanted < next.base {
        // A crash took records that the asker has seen: there may have been more of them.
        return Step::Lost { before: next.base };
    }
    Step::Skip(next.base)
}

pub(super) fn read_files(shared: &Shared, after: u64, budget: Budget) -> Result<Batch, ReadError> {
    let mut page = Page { wanted: after.saturating_add(1), batch: Batch::default(), bytes: 0, budget };
    let mut asked = true;
    loop {
        match step(shared, page.wanted, asked) {
            Step::Closed => return Err(closed()),
            Step::Forgotten { oldest } if page.batch.records.is_empty() => {
                return Err(ReadError::Forgotten { oldest: Offset(oldest) });
            }
            Step::Lost { before } if page.batch.records.is_empty() => {
                return Err(ReadError::Corrupt { after: Offset(page.wanted - 1), before: Offset(before) });
            }
            Step::Forgotten { .. } | Step::Lost { .. } => return Ok(page.finish(false)),
            Step::Skip(base) => page.wanted = base,
            Step::End => return Ok(page.finish(true)),
            Step::Read(segment, extent) => {
                if let ControlFlow::Break(result) = page.segment(shared, &segment, extent) {
                    return result;
                }
            }
        }
        asked = false;
    }
}

/// A batch in the making.
struct Page {
    wanted: u64,
    batch: Batch,
    bytes: usize,
    budget: Budget,
}

impl Page {
    /// Takes what one segment has. Breaks when the page is full, or when what follows is lost.
    fn segment(
        &mut self,
        shared: &Shared,
        segment: &Segment,
        extent: Extent,
    ) -> ControlFlow<Result<Batch, ReadError>> {
        let file = match shared.disk.open(&segment.name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let listed = shared.lock().segments.iter().any(|(known, _)| known.base == segment.base);
                if !listed {
                    return ControlFlow::Continue(()); // Forgotten meanwhile.
                }
                return self.lost(extent.last + 1);
            }
            Err(error) => return ControlFlow::Break(Err(unavailable(&error))),
        };
        let Entry { at, offset, mut latest } = segment.seek(self.wanted);
        let mut scan = Scan::new(file, at, extent.length, offset, CHUNK);
        loop {
            let item = match scan.next() {
                Ok(item) => item,
                Err(error) => return ControlFlow::Break(Err(unavailable(&error))),
            };
            match item {
                Some(Item::Record { record, at }) => {
                    let offset = record.position.offset.0;
                    segment.note(Entry { at, offset, latest });
                    latest = latest.max(record.time);
                    if offset < self.wanted {
                        continue;
                    }
                    if offset > self.wanted {
                        return self.lost(offset);
                    }
                    let size = record.envelope.len();
                    let records = self.batch.records.len();
                    if records > 0
                        && (records >= self.budget.records || self.bytes + size > self.budget.bytes)
                    {
                        return ControlFlow::Break(Ok(self.finish(false)));
                    }
                    self.bytes += size;
                    self.wanted = offset + 1;
                    self.batch.records.push(record);
                    if self.wanted > extent.last {
                        return ControlFlow::Continue(()); // No need to look at what follows.
                    }
                }
                Some(Item::Damage | Item::End(_)) => {}
                None if self.wanted <= extent.last => return self.lost(extent.last + 1),
                None => return ControlFlow::Continue(()),
            }
        }
    }

    fn lost(&mut self, before: u64) -> ControlFlow<Result<Batch, ReadError>> {
        if self.batch.records.is_empty() {
            let (after, before) = (Offset(self.wanted - 1), Offset(before));
            return ControlFlow::Break(Err(ReadError::Corrupt { after, before }));
        }
        ControlFlow::Break(Ok(self.finish(false)))
    }

    fn finish(&mut self, at_end: bool) -> Batch {
        let mut batch = std::mem::take(&mut self.batch);
        batch.covered_to = batch.records.last().map_or(Offset(self.wanted - 1), |last| last.position.offset);
        batch.at_end = at_end;
        if self.bytes < CHUNK / 4 {
            // Envelopes are slices of what was read at once: a few must not keep all of it in memory.
            for record in &mut batch.records {
                record.envelope = Bytes::copy_from_slice(&record.envelope);
            }
        }
        batch
    }
}

/// As [`Log::locate`](crate::log::Log::locate).
pub(super) fn locate(shared: &Shared, since: u64) -> Result<Offset, ReadError> {
    let (segment, extent) = {
        let state = shared.lock();
        if state.closed {
            return Err(closed());
        }
        match state.segments.iter().find(|(_, extent)| extent.latest >= since) {
            Some(found) => found.clone(),
            None => return Ok(Offset(state.last)),
        }
    };
    let Entry { at, offset, mut latest } = segment.seek_time(since);
    // Damaged records may be of any time: they count as found.
    let mut place = Offset(offset - 1);
    let file = match shared.disk.open(&segment.name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(place),
        Err(error) => return Err(unavailable(&error)),
    };
    let mut scan = Scan::new(file, at, extent.length, offset, CHUNK);
    while let Some(Item::Record { record, at }) = scan.next().map_err(|error| unavailable(&error))? {
        if record.time >= since {
            break;
        }
        segment.note(Entry { at, offset: record.position.offset.0, latest });
        latest = latest.max(record.time);
        place = record.position.offset;
    }
    Ok(place)
}

fn unavailable(error: &io::Error) -> ReadError {
    ReadError::Unavailable(format!("the disk: {error}"))
}
