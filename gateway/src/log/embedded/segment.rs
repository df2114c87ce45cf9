//! One file of the log, as it is known in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A file: which offsets it holds, and a sparse index of where.
#[derive(Debug)]
pub(super) struct Segment {
    pub name: String,
    /// The first offset that it may hold. Offsets within a segment are consecutive.
    pub base: u64,
    /// The last offset that was given before. What lies between it and `base` was never given, or was lost in a crash.
    pub before: u64,
    index: Mutex<Vec<Entry>>,
}

/// How far a segment reaches. Of the newest one it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes that may be read.
    pub length: u64,
    /// The last offset; below `base` if there is none.
    pub last: u64,
    /// The latest time of a record, in milliseconds since 1970.
    pub latest: u64,
}

/// Where a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub at: u64,
    pub offset: u64,
    /// The latest time of all records before this one. Their own times may go back.
    pub latest: u64,
}

/// One index entry for so many bytes.
pub(super) const STEP: u64 = 64 * 1024;

impl Segment {
    /// `first` is where the first frame after the start frame begins.
    pub(super) fn new(base: u64, before: u64, first: u64) -> Segment {
        let entry = Entry { at: first, offset: base, latest: 0 };
        Segment { name: file_name(base), base, before, index: Mutex::new(vec![entry]) }
    }

    fn index(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes where a frame was written or found, if the last note is far enough behind.
    pub(super) fn note(&self, entry: Entry) {
        let mut index = self.index();
        if index.last().is_none_or(|last| entry.at >= last.at + STEP) {
            index.push(entry);
        }
    }

    /// The nearest known frame at or before an offset.
    pub(super) fn seek(&self, offset: u64) -> Entry {
        let index = self.index();
        index[index.partition_point(|entry| entry.offset <= offset).saturating_sub(1)]
    }

    /// The last known frame before which every record is older than `since`.
    pub(super) fn seek_time(&self, since: u64) -> Entry {
        let index = self.index();
        index[index.partition_point(|entry| entry.latest < since).saturating_sub(1)]
    }
}

/// Sorts by offset, as text too.
pub(super) fn file_name(base: u64) -> String {
    format!("{base:020}.log")
}

/// The base offset that a file's name tells; `None` if it is not a segment's.
pub(super) fn base_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_finds_the_frame_before() {
        let segment = Segment::new(10, 9, 48);
        for n in 0..100 {
            segment.note(Entry { at: 48 + n * 10_000, offset: 10 + n, latest: n * 5 });
        }
        assert_eq!(segment.seek(10), Entry { at: 48, offset: 10, latest: 0 });
        assert_eq!(segment.seek(16).offset, 10);
        assert_eq!(segment.seek(17).offset, 17, "one entry for 64 KiB");
        assert_eq!(segment.seek(u64::MAX).offset, 10 + 98);
        assert_eq!(segment.seek_time(0).offset, 10);
        assert_eq!(segment.seek_time(35).offset, 10, "17 may be after a record of time 35");
        assert_eq!(segment.seek_time(36).offset, 17);
    }

    #[test]
    fn names_tell_the_base() {
        assert_eq!(base_of(&file_name(123)), Some(123));
        for name in ["123.log", "id", "lock", "0000000000000000012x.log", "99999999999999999999.log"] {
            assert_eq!(base_of(name), None, "{name}");
        }
    }
}
