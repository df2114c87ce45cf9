//! Frames of WebSocket (RFC 6455), as far as a client and a server that keep to it need them.

/// Appends a text or binary frame as clients send it. The mask is for proxies between us and the server, of which there are
/// none: it is all zero, and the server undoes it all the same.
pub fn masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    masked_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Appends the header of a client's frame.
pub fn masked_header(out: &mut Vec<u8>, opcode: u8, len: usize) {
    let at = out.len();
    header(out, opcode, len);
    out[at + 1] |= 0x80;
    out.extend_from_slice(&[0; 4]);
}

/// Appends the header of a server's frame.
pub fn header(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(0x80 | opcode);
    match len {
        0..=125 => out.push(len as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// The first frame of a server if it is complete: its opcode, and where its payload begins and ends.
#[inline]
pub fn whole(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (start, len) = length(bytes)?;
    let end = start + len;
    (end <= bytes.len()).then_some((bytes[0] & 0x0f, start, end))
}

/// Where the payload would begin without a mask, and its length, once that much of the header has come.
#[inline]
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    Some(match *bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).ok()?),
        short => (2, usize::from(short)),
    })
}

/// The first frame of a client if it is complete, unmasked in place: its opcode, and where its payload begins and ends.
pub fn unmasked(bytes: &mut [u8]) -> Option<(u8, usize, usize)> {
    let (at, len) = length(bytes)?;
    let (start, end) = (at + 4, at + 4 + len);
    if end > bytes.len() {
        return None;
    }
    let mask = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if mask != [0; 4] {
        bytes[start..end].iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    }
    Some((bytes[0] & 0x0f, start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_their_length_both_ways() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![7; len];
            let mut server = Vec::new();
            header(&mut server, 2, len);
            server.extend_from_slice(&payload);
            assert_eq!(whole(&server[..server.len() - 1]).is_some(), len == 0 && server.len() < 2);
            assert_eq!(whole(&server).map(|(opcode, start, end)| (opcode, end - start)), Some((2, len)));
            let mut client = Vec::new();
            masked(&mut client, 1, &payload);
            assert_eq!(
                unmasked(&mut client).map(|(opcode, start, end)| (opcode, end - start)),
                Some((1, len))
            );
        }
    }

    #[test]
    fn a_mask_is_undone() {
        let mut frame = vec![0x81, 0x85, 1, 2, 3, 4, b'h' ^ 1, b'e' ^ 2, b'l' ^ 3, b'l' ^ 4, b'o' ^ 1];
        assert_eq!(unmasked(&mut frame), Some((1, 6, 11)));
        assert_eq!(&frame[6..], b"hello");
    }
}
