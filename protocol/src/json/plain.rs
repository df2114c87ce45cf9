//! How much of a string stands in JSON as it is, found eight bytes at a time: payloads are mostly that.

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// Bytes before the first that ends a JSON string or needs an escape: a quote, a backslash, a control character.
pub(super) fn prefix(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = special(u64::from_le_bytes(*word));
        if found != 0 {
            return 8 * at + found.trailing_zeros() as usize / 8;
        }
    }
    let special = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
    8 * words.len() + special.unwrap_or(rest.len())
}

/// The high bit of the first special byte of a word, and perhaps bits above it.
///
/// A byte less than n borrows from its neighbour above when n is taken off each byte: "determine if a word has a byte less than
/// n", Sean Anderson's Bit Twiddling Hacks. Only bytes above the first one found can be mistaken.
fn special(word: u64) -> u64 {
    let less_than = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word & HIGH;
    let equal = |byte: u8| less_than(word ^ (ONES * u64::from(byte)), 1);
    less_than(word, 0x20) | equal(b'"') | equal(b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte at every place of two words and a rest, among neighbours of every kind.
    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        for around in [b'a', b'!', 0x7f, 0x80, 0xff, b'#', b'[', b']'] {
            for at in 0..21 {
                for byte in 0..=255 {
                    for after in [around, 0, b'"'] {
                        let mut bytes = [around; 21];
                        bytes[at] = byte;
                        if let Some(next) = bytes.get_mut(at + 1) {
                            *next = after;
                        }
                        let expected = bytes.iter().position(|&b| is_special(b)).unwrap_or(21);
                        assert_eq!(prefix(&bytes), expected, "{bytes:?}");
                    }
                }
            }
        }
    }
}
