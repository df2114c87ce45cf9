//! Stream ids as offsets: `milliseconds-sequence` in one number that keeps their order.
//!
//! ```text
//!   63                          22 21          0
//!   ┌─────────────────────────────┬────────────┐
//!   │ milliseconds since 1970     │ sequence   │     1763712345678-3  ↔  1763712345678 · 2²² + 3
//!   └─────────────────────────────┴────────────┘
//! ```
//!
//! 42 bits of milliseconds last until the year 2109. 22 bits of sequence are 4,194,304 entries in one millisecond: far
//! more than Redis can take in one, but ids stay at the last millisecond while the server's clock is set back, so the
//! sequence must bear some minutes of writing. An id beyond either is refused, never wrapped; what it stops is in
//! [`beyond`](super::beyond).

use anabranch_protocol::cursor::Offset;
use std::fmt;
use std::str::FromStr;

const SEQUENCE_BITS: u32 = 22;
pub(super) const MAX_SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;
pub(super) const MAX_MS: u64 = u64::MAX >> SEQUENCE_BITS;

/// The id of a stream entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    pub ms: u64,
    pub sequence: u64,
}

impl EntryId {
    /// The offset, unless the id lies beyond what offsets can tell.
    pub(super) fn offset(self) -> Option<Offset> {
        let fits = self.ms <= MAX_MS && self.sequence <= MAX_SEQUENCE;
        fits.then_some(Offset(self.ms << SEQUENCE_BITS | self.sequence))
    }

    /// The id at an offset. Every number is one.
    pub(super) fn at(offset: Offset) -> EntryId {
        EntryId { ms: offset.0 >> SEQUENCE_BITS, sequence: offset.0 & MAX_SEQUENCE }
    }

    /// The greatest id before the one at an offset, even one that no offset tells: what `XREAD` must be given to deliver
    /// the entry there.
    pub(super) fn before(offset: Offset) -> EntryId {
        let id = EntryId::at(offset);
        match id.sequence.checked_sub(1) {
            Some(sequence) => EntryId { sequence, ..id },
            None => match id.ms.checked_sub(1) {
                Some(ms) => EntryId { ms, sequence: u64::MAX },
                None => id,
            },
        }
    }

    /// The first offset of a millisecond; the last there is for times beyond.
    pub(super) fn first_of(ms: u64) -> Offset {
        EntryId { ms, sequence: 0 }.offset().unwrap_or(Offset(u64::MAX))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.sequence)
    }
}

/// The text is not an entry's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotAnId;

impl FromStr for EntryId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<EntryId, NotAnId> {
        let (ms, sequence) = text.split_once('-').ok_or(NotAnId)?;
        let number = |text: &str| text.parse().map_err(|_| NotAnId);
        Ok(EntryId { ms: number(ms)?, sequence: number(sequence)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> EntryId {
        text.parse().expect("an id")
    }

    #[test]
    fn an_id_beyond_the_range_is_refused() {
        assert_eq!(id("0-1").offset(), Some(Offset(1)));
        assert_eq!(id("4398046511103-4194303").offset(), Some(Offset(u64::MAX)));
        assert_eq!(id("4398046511104-0").offset(), None);
        assert_eq!(id("1-4194304").offset(), None);
        assert_eq!(id("18446744073709551615-18446744073709551615").offset(), None);
    }

    #[test]
    fn before_an_offset_comes_whatever_is_smaller() {
        assert_eq!(EntryId::before(Offset(0)), id("0-0"));
        assert_eq!(EntryId::before(id("5-7").offset().unwrap()), id("5-6"));
        assert_eq!(EntryId::before(id("5-0").offset().unwrap()), id("4-18446744073709551615"));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "-", "5", "5-", "-5", "a-b", "1-2-3", "18446744073709551616-0"] {
            assert_eq!(text.parse::<EntryId>(), Err(NotAnId), "{text}");
        }
    }

    proptest! {
        #[test]
        fn offsets_keep_the_order_of_ids(
            a in (0..=MAX_MS, 0..=MAX_SEQUENCE), b in (0..=MAX_MS, 0..=MAX_SEQUENCE),
        ) {
            let (a, b) = (EntryId { ms: a.0, sequence: a.1 }, EntryId { ms: b.0, sequence: b.1 });
            prop_assert_eq!(a.cmp(&b), a.offset().cmp(&b.offset()));
            prop_assert_eq!(a.offset().map(EntryId::at), Some(a));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
        }
    }
}
