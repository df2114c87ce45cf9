//! Where a client stands in a log: the one thing it needs to resume on any node.
//!
//! ```text
//! 7f3a9c21d0e1b2c4/0:1234:9f3a5c01,1:998:00c0ffee
//! └── log id ────┘ │ │    └ fingerprint of that record (hex)
//!                  │ └ offset (decimal)
//!                  └ partition
//! ```
//!
//! A partition without a position has been seen from nothing: the cursor stands before its first record. A position
//! without a fingerprint (`0:1234`) claims coverage up to an offset at which no record is known.

use crate::json::{Plain, write_hexadecimal, write_number};
use crate::limits;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

/// One of the ordered sequences that a log consists of.
pub type Partition = u16;

/// A record's place in its partition, given by the broker, the same on every gateway node.
///
/// Ordered, **not dense**: the next record may have any larger offset. Nothing may be concluded from `offset + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(pub u64);

impl Plain for Offset {
    fn write_to(&self, out: &mut String) {
        write_number(out, self.0);
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Offset {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Offset, CursorError> {
        decimal(text).map(Offset)
    }
}

/// 32 bits of a hash over a record. Tells a rewritten history from the one that the client has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u32);

/// Which log, hence which history: a random number that changes whenever the history may have been rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub u64);

impl Plain for LogId {
    fn write_to(&self, out: &mut String) {
        write_hexadecimal::<16>(out, self.0);
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

/// One partition's part of a cursor: everything up to and including `offset` is accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub partition: Partition,
    pub offset: Offset,
    /// The fingerprint of the record at `offset`; `None` if no record is known there.
    pub fingerprint: Option<Fingerprint>,
}

impl Plain for Position {
    fn write_to(&self, out: &mut String) {
        write_number(out, self.partition.into());
        out.push(':');
        write_number(out, self.offset.0);
        if let Some(Fingerprint(fingerprint)) = self.fingerprint {
            out.push(':');
            write_hexadecimal::<8>(out, fingerprint.into());
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

/// The text is not a position or not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorError;

impl fmt::Display for CursorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a cursor: expected log/partition:offset:fingerprint")
    }
}

impl core::error::Error for CursorError {}

impl CursorError {
    /// Always `false`: a text does not get better by itself. Begin without a cursor.
    pub const fn is_retryable(self) -> bool {
        false
    }
}

impl FromStr for Position {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Position, CursorError> {
        let mut parts = text.split(':');
        let partition = decimal(parts.next().ok_or(CursorError)?)?;
        let offset = decimal(parts.next().ok_or(CursorError)?)?;
        let fingerprint = match parts.next() {
            Some(hex) => Some(Fingerprint(hexadecimal(hex, 8)? as u32)),
            None => None,
        };
        let partition = Partition::try_from(partition).map_err(|_| CursorError)?;
        if parts.next().is_some() || usize::from(partition) >= limits::PARTITIONS {
            return Err(CursorError);
        }
        Ok(Position { partition, offset: Offset(offset), fingerprint })
    }
}

/// A decimal without sign, blanks or leading zeros: one value has one text.
fn decimal(text: &str) -> Result<u64, CursorError> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if !plain {
        return Err(CursorError);
    }
    text.parse().map_err(|_| CursorError)
}

fn hexadecimal(text: &str, digits: usize) -> Result<u64, CursorError> {
    let plain = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !plain {
        return Err(CursorError);
    }
    u64::from_str_radix(text, 16).map_err(|_| CursorError)
}

/// Where a client stands in every partition of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    log: LogId,
    /// Sorted by partition, one entry each.
    positions: Vec<Position>,
}

impl Cursor {
    /// Before the first record of every partition.
    pub fn beginning(log: LogId) -> Cursor {
        Cursor { log, positions: Vec::new() }
    }

    /// The log that the offsets belong to.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// The positions, by rising partition.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// Where the cursor stands in one partition; `None` is its beginning.
    pub fn position(&self, partition: Partition) -> Option<Position> {
        let at = self.positions.binary_search_by_key(&partition, |p| p.partition).ok()?;
        Some(self.positions[at])
    }

    /// Moves one partition's position, in either direction.
    pub fn set(&mut self, position: Position) {
        match self.positions.binary_search_by_key(&position.partition, |p| p.partition) {
            Ok(at) => self.positions[at] = position,
            Err(at) => self.positions.insert(at, position),
        }
    }

    /// Moves one partition's position forward; says whether it moved.
    pub fn advance(&mut self, position: Position) -> bool {
        let ahead = self.position(position.partition).is_none_or(|now| now.offset < position.offset);
        if ahead {
            self.set(position);
        }
        ahead
    }

    /// Moves every partition forward to where `other`, a cursor of the same log, stands, if that is ahead.
    pub fn advance_to(&mut self, other: &Cursor) {
        for position in &other.positions {
            self.advance(*position);
        }
    }

    /// Moves every partition back to where `other`, a cursor of the same log, stands, if that is behind.
    pub fn retreat_to(&mut self, other: &Cursor) {
        self.positions.retain_mut(|mine| match other.position(mine.partition) {
            None => false,
            Some(theirs) => {
                if theirs.offset < mine.offset {
                    *mine = theirs;
                }
                true
            }
        });
    }

    /// Whether everything that `other`, a cursor of the same log, accounts for is accounted for here too.
    pub fn includes_all(&self, other: &Cursor) -> bool {
        other.positions.iter().all(|position| self.includes(*position))
    }

    /// Whether a record at this position is already accounted for.
    pub fn includes(&self, position: Position) -> bool {
        self.position(position.partition).is_some_and(|now| now.offset >= position.offset)
    }
}

impl Plain for Cursor {
    fn write_to(&self, out: &mut String) {
        self.log.write_to(out);
        for (i, position) in self.positions.iter().enumerate() {
            out.push(if i > 0 { ',' } else { '/' });
            position.write_to(out);
        }
        if self.positions.is_empty() {
            out.push('/');
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Cursor, CursorError> {
        if text.len() > limits::CURSOR_BYTES {
            return Err(CursorError);
        }
        let (log, positions) = text.split_once('/').ok_or(CursorError)?;
        let mut cursor = Cursor::beginning(LogId(hexadecimal(log, 16)?));
        if positions.is_empty() {
            return Ok(cursor);
        }
        for text in positions.split(',') {
            let position: Position = text.parse()?;
            if cursor.positions.last().is_some_and(|last| last.partition >= position.partition) {
                return Err(CursorError);
            }
            cursor.positions.push(position);
        }
        Ok(cursor)
    }
}
