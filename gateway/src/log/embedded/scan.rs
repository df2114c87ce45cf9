//! Walks over a segment's frames, and over damage to the next one that is whole.

use super::disk::DiskFile;
use super::frame::{self, Decoded, End, Frame, HEADER, MAGIC};
use crate::log::Record;
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;

/// How much is read at once, at most, unless a frame is longer.
pub(super) const CHUNK: usize = 256 * 1024;

/// What a scan comes to.
#[derive(Debug)]
pub(super) enum Item {
    /// A record, and where its frame begins.
    Record { record: Record, at: u64 },
    /// The segment's end frame.
    End(End),
    /// Bytes that are no frame which belongs here.
    Damage,
}

/// A walk over part of a segment. Offsets within a segment are consecutive, which a frame has to fit.
#[derive(Debug)]
pub(super) struct Scan {
    file: Arc<dyn DiskFile>,
    /// Where the next frame should begin.
    at: u64,
    /// Nothing beyond is looked at.
    limit: u64,
    /// The offset that the next record should have.
    expected: u64,
    window: Bytes,
    window_at: u64,
    chunk: usize,
}

impl Scan {
    /// From a frame at `at`, whose record should have the offset `expected`, to `limit`. `chunk` is how much to read
    /// at once.
    pub(super) fn new(file: Arc<dyn DiskFile>, at: u64, limit: u64, expected: u64, chunk: usize) -> Scan {
        let chunk = chunk.clamp(4096, CHUNK);
        Scan { file, at, limit, expected, window: Bytes::new(), window_at: at, chunk }
    }

    /// Where the next frame should begin.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next item; `None` at the limit.
    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        if self.at >= self.limit {
            return Ok(None);
        }
        let start = self.at;
        let mut at = start;
        loop {
            if let Some((frame, length)) = self.frame(at)? {
                let skipped = at - start;
                match frame {
                    Frame::Record(record) if self.fits(record.position.offset.0, skipped) => {
                        if skipped > 0 {
                            self.at = at; // The next call decodes it again: damage is rare.
                            self.expected = record.position.offset.0;
                            return Ok(Some(Item::Damage));
                        }
                        self.at = at + length as u64;
                        self.expected = record.position.offset.0 + 1;
                        return Ok(Some(Item::Record { record, at }));
                    }
                    Frame::End(end) if self.fits(end.last.saturating_add(1), skipped) => {
                        if skipped > 0 {
                            self.at = at;
                            self.expected = end.last.saturating_add(1);
                            return Ok(Some(Item::Damage));
                        }
                        self.at = at + length as u64;
                        return Ok(Some(Item::End(end)));
                    }
                    _ => {}
                }
            }
            match self.next_magic(at + 1)? {
                Some(found) => at = found,
                None => {
                    self.at = self.limit;
                    return Ok(Some(Item::Damage));
                }
            }
        }
    }

    /// Whether a frame that continues with this offset can stand here, after so many bytes of damage.
    fn fits(&self, offset: u64, skipped: u64) -> bool {
        (self.expected..=self.expected + skipped / HEADER as u64).contains(&offset)
    }

    fn frame(&mut self, at: u64) -> io::Result<Option<(Frame, usize)>> {
        let mut needed = HEADER;
        loop {
            if self.limit - at < needed as u64 {
                return Ok(None);
            }
            match frame::decode(&self.bytes(at, needed)?) {
                Decoded::Frame { frame, length } => return Ok(Some((frame, length))),
                Decoded::Short(more) if more > needed => needed = more,
                Decoded::Short(_) | Decoded::Bad => return Ok(None),
            }
        }
    }

    /// The bytes from `at` on: as many as are at hand, at least `needed` if the file has them.
    fn bytes(&mut self, at: u64, needed: usize) -> io::Result<Bytes> {
        let have = self.window_at..self.window_at + self.window.len() as u64;
        if at < have.start || at + needed as u64 > have.end {
            let left = usize::try_from(self.limit - at).unwrap_or(usize::MAX);
            let mut buffer = BytesMut::zeroed(self.chunk.max(needed).min(left));
            let count = self.file.read_at(&mut buffer, at)?;
            buffer.truncate(count);
            self.window = buffer.freeze();
            self.window_at = at;
        }
        let skip = usize::try_from(at - self.window_at).unwrap_or(usize::MAX);
        Ok(self.window.slice(skip.min(self.window.len())..))
    }

    fn next_magic(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        while self.limit.saturating_sub(at) >= HEADER as u64 {
            let bytes = self.bytes(at, HEADER)?;
            if bytes.len() < MAGIC.len() {
                return Ok(None); // The file is shorter than it should be.
            }
            match bytes.windows(MAGIC.len()).position(|four| four == MAGIC) {
                Some(found) => return Ok(Some(at + found as u64)),
                None => at += (bytes.len() - MAGIC.len() + 1) as u64,
            }
        }
        Ok(None)
    }
}
