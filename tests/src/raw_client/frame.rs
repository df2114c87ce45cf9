//! WebSocket frames as they are on the wire (RFC 6455, section 5.2), right or wrong.

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
    /// Any other of the sixteen.
    Reserved(u8),
}

impl Opcode {
    fn number(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
            Opcode::Reserved(number) => number & 0x0f,
        }
    }

    fn from_number(number: u8) -> Opcode {
        match number {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => Opcode::Reserved(other),
        }
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    /// The three reserved bits, in the lowest bits.
    pub reserved: u8,
    pub opcode: Opcode,
    pub masked: bool,
    /// What the header says the length is; `None` for the truth.
    pub claimed: Option<u64>,
    pub payload: Vec<u8>,
}

/// Any four bytes will do: the mask hides nothing from anybody.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

impl Frame {
    /// A correct frame of a client.
    pub fn new(opcode: Opcode, payload: impl Into<Vec<u8>>) -> Frame {
        Frame { fin: true, reserved: 0, opcode, masked: true, claimed: None, payload: payload.into() }
    }

    pub fn text(text: &str) -> Frame {
        Frame::new(Opcode::Text, text)
    }

    /// A message in fragments of so many bytes.
    pub fn fragments(text: &str, bytes: usize) -> Vec<Frame> {
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(bytes).collect();
        let last = pieces.len() - 1;
        let frame = |(at, piece): (usize, &&[u8])| Frame {
            fin: at == last,
            ..Frame::new(if at == 0 { Opcode::Text } else { Opcode::Continuation }, *piece)
        };
        pieces.iter().enumerate().map(frame).collect()
    }

    /// The frame as bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | (self.reserved & 7) << 4 | self.opcode.number()];
        let mask_bit = u8::from(self.masked) << 7;
        let length = self.claimed.unwrap_or(self.payload.len() as u64);
        match length {
            0..126 => bytes.push(mask_bit | length as u8),
            126..0x1_0000 => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(MASK);
            bytes.extend(self.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// Reads a server's frame from the beginning of some bytes: the frame, and how many bytes it has.
    pub fn read(bytes: &[u8]) -> Option<(Frame, usize)> {
        let [first, second, ..] = *bytes else { return None };
        assert_eq!(second & 0x80, 0, "a server's frame is not masked");
        let (length, start) = match second {
            126 => (u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
            short => (u64::from(short), 2),
        };
        let end = start + usize::try_from(length).ok()?;
        let payload = bytes.get(start..end)?.to_vec();
        let frame = Frame {
            fin: first & 0x80 != 0,
            reserved: first >> 4 & 7,
            masked: false,
            ..Frame::new(Opcode::from_number(first & 0x0f), payload)
        };
        assert!(frame.fin && frame.reserved == 0, "the gateway sends whole frames without extensions");
        Some((frame, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let frame = Frame { masked: false, ..Frame::new(Opcode::Text, vec![7; size]) };
            let bytes = frame.bytes();
            assert_eq!(Frame::read(&bytes), Some((frame, bytes.len())));
            assert_eq!(Frame::read(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn the_masked_example_of_the_rfc() {
        let bytes = Frame::text("Hello").bytes();
        assert_eq!(bytes, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn fragments_join() {
        let frames = Frame::fragments("abcde", 2);
        let kinds: Vec<_> = frames.iter().map(|f| (f.opcode, f.fin, f.payload.len())).collect();
        let (text, more) = (Opcode::Text, Opcode::Continuation);
        assert_eq!(kinds, [(text, false, 2), (more, false, 2), (more, true, 1)]);
    }
}
