//! Neighbouring frames, as one slice to be written.

use super::block::Kind;

/// A run of frames that lie side by side in memory.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'b> {
    bytes: &'b [u8],
    /// Where each frame ends, counted from `start`.
    ends: &'b [u32],
    start: u32,
    kind: Kind,
}

impl<'b> Piece<'b> {
    /// The frames `from..to` of `bytes`, in which they end at `ends`.
    pub fn new(bytes: &'b [u8], ends: &'b [u32], from: usize, to: usize, kind: Kind) -> Piece<'b> {
        let start = from.checked_sub(1).map_or(0, |before| ends[before]);
        let ends = &ends[from..to];
        let end = ends.last().copied().unwrap_or(start);
        Piece { bytes: &bytes[start as usize..end as usize], ends, start, kind }
    }

    pub fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.ends.len()
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where the piece is cut after so many bytes: how many frames have begun before that, and what is left of the last.
    pub fn cut(&self, bytes: usize) -> (usize, &'b [u8]) {
        let whole = self.ends.partition_point(|&end| (end - self.start) as usize <= bytes);
        let begins = whole.checked_sub(1).map_or(0, |last| (self.ends[last] - self.start) as usize);
        match self.ends.get(whole) {
            Some(&end) if begins < bytes => (whole + 1, &self.bytes[bytes..(end - self.start) as usize]),
            _ => (whole, &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_leaves_the_rest_of_one_frame() {
        let (bytes, ends) = (b"xxaabbbcc", [2, 4, 7, 9]);
        let piece = Piece::new(bytes, &ends, 1, 4, Kind::Messages);
        assert_eq!((piece.bytes(), piece.frames()), (&b"aabbbcc"[..], 3));
        assert_eq!(piece.cut(0), (0, &b""[..]));
        assert_eq!(piece.cut(1), (1, &b"a"[..]));
        assert_eq!(piece.cut(2), (1, &b""[..]));
        assert_eq!(piece.cut(3), (2, &b"bb"[..]));
        assert_eq!(piece.cut(7), (3, &b""[..]));
    }
}
