//! Decimal digits of a fixed width.

/// Writes a number right-aligned into all of `out`, with leading zeros. Digits that do not fit are cut off.
pub fn put(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The number in the first eight bytes, two, four, then eight digits at a time: a nanosecond, for every delivery.
pub fn read_8(bytes: &[u8]) -> u64 {
    let Some(&digits) = bytes.first_chunk::<8>() else { return u64::MAX };
    let ones = u64::from_le_bytes(digits).wrapping_sub(0x3030_3030_3030_3030);
    let pairs = ones.wrapping_mul(10).wrapping_add(ones >> 8);
    const MASK: u64 = 0x0000_00ff_0000_00ff;
    let high = (pairs & MASK).wrapping_mul(100 + (1_000_000 << 32));
    let low = ((pairs >> 16) & MASK).wrapping_mul(1 + (10_000 << 32));
    high.wrapping_add(low) >> 32
}

/// The number in the first twelve bytes.
pub fn read_12(bytes: &[u8]) -> u64 {
    let Some((high, low)) = bytes.split_at_checked(4) else { return u64::MAX };
    let high = high.iter().fold(0, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')));
    high * 100_000_000 + read_8(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_as_they_were_written() {
        for number in [0, 1, 9, 10, 12_345_678, 90_000_001, 99_999_999] {
            let mut out = [0; 12];
            put(&mut out, number * 7);
            assert_eq!(read_12(&out), number * 7);
            put(&mut out[..8], number);
            assert_eq!(read_8(&out), number);
        }
        assert_eq!(read_8(b"123"), u64::MAX);
    }
}
