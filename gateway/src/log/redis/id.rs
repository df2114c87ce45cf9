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
//! sequence must bear some minutes of writing. No id is ever wrapped. One with a larger sequence is passed over: what
//! follows in its millisecond has one, too, so it counts as a blank at that millisecond's last offset
//! ([`reaches`](EntryId::reaches)). One beyond the last of all stops the log, see [`beyond`](super::beyond).

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
    /// The offset, if one tells the id.
    pub(super) fn offset(self) -> Option<Offset> {
        let fits = self.ms <= MAX_MS && self.sequence <= MAX_SEQUENCE;
        fits.then_some(Offset(self.ms << SEQUENCE_BITS | self.sequence))
    }

    /// The largest offset that lies not behind the id: its own, or the last of its millisecond. No entry that comes later
    /// can get one up to it. `None` if the id is beyond the last offset.
    pub(super) fn reaches(self) -> Option<Offset> {
        EntryId { sequence: self.sequence.min(MAX_SEQUENCE), ..self }.offset().filter(|_| !self.is_beyond())
    }

    /// Whether no offset tells the id, nor any after it.
    pub(super) fn is_beyond(self) -> bool {
        self > EntryId { ms: MAX_MS, sequence: MAX_SEQUENCE }
    }

    /// The last id of its millisecond.
    pub(super) fn last_of_its_ms(self) -> EntryId {
        EntryId { sequence: u64::MAX, ..self }
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
                Some(ms) => EntryId { ms, ..id }.last_of_its_ms(),
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
    fn an_id_that_no_offset_tells_reaches_the_last_of_its_millisecond() {
        let last = |ms| Some(EntryId { ms, sequence: MAX_SEQUENCE }.offset().expect("an offset"));
        assert_eq!(id("5-7").reaches(), id("5-7").offset());
        assert_eq!((id("5-4194303").reaches(), id("5-4194304").reaches()), (last(5), last(5)));
        assert_eq!(id("4398046511102-18446744073709551615").reaches(), last(MAX_MS - 1));
        assert_eq!(id("4398046511103-4194303").reaches(), last(MAX_MS));
        for beyond in ["4398046511103-4194304", "4398046511104-0"] {
            assert!(id(beyond).is_beyond() && id(beyond).reaches().is_none(), "{beyond}");
        }
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
