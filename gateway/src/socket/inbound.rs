//! Takes a client's bytes apart into messages (RFC 6455, sections 5 and 8.1).
//!
//! Incremental: bytes may come in any pieces. A message that arrived whole is handed out where it lies in the shard's
//! read buffer, unmasked in place; only what is incomplete is copied, into a buffer that exists only as long as that.

use anabranch_protocol::code::Code;
use std::fmt;

/// The largest payload of a control frame.
const CONTROL_BYTES: usize = 125;
/// Many tiny fragments cost more than their bytes: beyond so many, they must have an average of [`FRAGMENT_BYTES`].
const FRAGMENTS: usize = 1024;
const FRAGMENT_BYTES: usize = 64;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'b> {
    Text(&'b str),
    Binary(&'b [u8]),
    Ping(&'b [u8]),
    Pong,
    /// With its code, if it gave one.
    Close(Option<u16>),
}

/// Why the bytes are not WebSocket. The connection ends; the code is WebSocket's own (RFC 6455, section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    pub close: u16,
    pub what: &'static str,
}

impl Violation {
    /// What the client is told before the close, whose code has no remedy.
    pub fn code(self) -> Code {
        if self.close == TOO_BIG { Code::FRAME_TOO_LARGE } else { Code::BAD_WEBSOCKET }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

const PROTOCOL: u16 = 1002;
const NOT_UTF8: u16 = 1007;
const TOO_BIG: u16 = 1009;

fn violation<T>(close: u16, what: &'static str) -> Result<T, Violation> {
    Err(Violation { close, what })
}

/// One connection's place in its stream of frames. Idle, it owns no heap memory.
#[derive(Default)]
pub struct Inbound {
    partial: Option<Box<Partial>>,
}

#[derive(Default)]
struct Partial {
    /// The beginning of a frame whose rest has not come yet.
    frame: Vec<u8>,
    /// The unmasked fragments of a message whose last one has not come yet.
    message: Vec<u8>,
    /// The kind of the fragmented message; `None` when there is none.
    text: Option<bool>,
    fragments: usize,
}

/// The header of a client frame.
struct Head {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    /// Where the payload begins, and its length.
    start: usize,
    len: usize,
}

impl Inbound {
    /// Takes in bytes and hands out each message that they complete, until one handler says to stop (`false`).
    ///
    /// `bytes` is scratch space: payloads are unmasked in it. After an error or a stop the connection must end.
    pub fn feed(
        &mut self,
        mut bytes: &mut [u8],
        max: usize,
        mut handler: impl FnMut(Message<'_>) -> bool,
    ) -> Result<(), Violation> {
        // Finish a frame that was begun earlier, byte-frugally: only what it lacks is copied.
        while let Some(partial) = self.partial.as_mut().filter(|p| !p.frame.is_empty()) {
            let have = partial.frame.len();
            let want = match head(&partial.frame, max)? {
                Some(head) => head.start + head.len - have,
                None => 1,
            };
            let take = want.min(bytes.len());
            let (now, rest) = std::mem::take(&mut bytes).split_at_mut(take);
            partial.frame.extend_from_slice(now);
            bytes = rest;
            match head(&partial.frame, max)? {
                Some(head) if head.start + head.len == partial.frame.len() => {
                    let mut frame = std::mem::take(&mut partial.frame);
                    let go_on = self.frame(head, &mut frame, max, &mut handler)?;
                    if !go_on {
                        return Ok(());
                    }
                    self.settle();
                }
                _ if bytes.is_empty() => return Ok(()),
                _ => {}
            }
        }
        loop {
            match head(bytes, max)? {
                Some(head) if head.start + head.len <= bytes.len() => {
                    let (frame, rest) = std::mem::take(&mut bytes).split_at_mut(head.start + head.len);
                    bytes = rest;
                    if !self.frame(head, frame, max, &mut handler)? {
                        return Ok(());
                    }
                }
                _ => break,
            }
        }
        if !bytes.is_empty() {
            self.partial.get_or_insert_default().frame.extend_from_slice(bytes);
        }
        self.settle();
        Ok(())
    }

    /// Gives memory back once nothing is half done.
    fn settle(&mut self) {
        if self.partial.as_ref().is_some_and(|p| p.frame.is_empty() && p.text.is_none()) {
            self.partial = None;
        }
    }

    /// Handles one whole frame.
    fn frame(
        &mut self,
        head: Head,
        frame: &mut [u8],
        max: usize,
        handler: &mut impl FnMut(Message<'_>) -> bool,
    ) -> Result<bool, Violation> {
        let payload = &mut frame[head.start..];
        unmask(payload, head.mask);
        match head.opcode {
            8 => {
                let code = close_code(payload)?;
                handler(Message::Close(code));
                Ok(false)
            }
            9 => Ok(handler(Message::Ping(payload))),
            10 => Ok(handler(Message::Pong)),
            0 => {
                let Some(partial) = self.partial.as_mut().filter(|p| p.text.is_some()) else {
                    return violation(PROTOCOL, "a continuation without a beginning");
                };
                partial.fragments += 1;
                if partial.message.len() + payload.len() > max {
                    return violation(TOO_BIG, "the message is over the size limit");
                }
                let have = partial.message.len() + payload.len();
                if partial.fragments > FRAGMENTS && have < (partial.fragments - 1) * FRAGMENT_BYTES {
                    return violation(1008, "the message has too many fragments");
                }
                partial.message.extend_from_slice(payload);
                if !head.fin {
                    return Ok(true);
                }
                let message = std::mem::take(&mut partial.message);
                let text = partial.text.take() == Some(true);
                partial.fragments = 0;
                let go_on = whole(text, &message, handler)?;
                self.settle();
                Ok(go_on)
            }
            opcode => {
                if self.partial.as_ref().is_some_and(|p| p.text.is_some()) {
                    return violation(PROTOCOL, "a new message inside a fragmented one");
                }
                if head.fin {
                    return whole(opcode == 1, payload, handler);
                }
                let partial = self.partial.get_or_insert_default();
                partial.text = Some(opcode == 1);
                partial.fragments = 1;
                partial.message.extend_from_slice(payload);
                Ok(true)
            }
        }
    }
}

fn whole(
    text: bool,
    payload: &[u8],
    handler: &mut impl FnMut(Message<'_>) -> bool,
) -> Result<bool, Violation> {
    if !text {
        return Ok(handler(Message::Binary(payload)));
    }
    match std::str::from_utf8(payload) {
        Ok(text) => Ok(handler(Message::Text(text))),
        Err(_) => violation(NOT_UTF8, "a text message that is not UTF-8"),
    }
}

/// Reads a frame's header; `None` if it is not complete. Everything that can be wrong with it is checked here, before
/// a byte of payload is waited for.
fn head(bytes: &[u8], max: usize) -> Result<Option<Head>, Violation> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
    if first & 0x70 != 0 {
        return violation(PROTOCOL, "reserved bits are set, but no extension was agreed on");
    }
    if second & 0x80 == 0 {
        return violation(PROTOCOL, "a client's frame must be masked");
    }
    let short = usize::from(second & 0x7f);
    if opcode >= 8 && (short > CONTROL_BYTES || !fin) {
        return violation(PROTOCOL, "a control frame that is fragmented or over 125 bytes");
    }
    if !matches!(opcode, 0..=2 | 8..=10) {
        return violation(PROTOCOL, "a reserved opcode");
    }
    let (len, at) = match short {
        126 => match bytes.get(2..4) {
            Some(len) => (u64::from(u16::from_be_bytes([len[0], len[1]])), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|len| <[u8; 8]>::try_from(len).ok()) {
            Some(len) => (u64::from_be_bytes(len), 10),
            None => return Ok(None),
        },
        len => (len as u64, 2),
    };
    if len > max as u64 {
        return violation(TOO_BIG, "the frame is over the size limit");
    }
    let Some(mask) = bytes.get(at..at + 4) else { return Ok(None) };
    Ok(Some(Head {
        fin,
        opcode,
        mask: [mask[0], mask[1], mask[2], mask[3]],
        start: at + 4,
        len: len as usize,
    }))
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => violation(PROTOCOL, "a close frame with half a code"),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return violation(PROTOCOL, "a close code that may not be sent");
            }
            if std::str::from_utf8(reason).is_err() {
                return violation(NOT_UTF8, "a close reason that is not UTF-8");
            }
            Ok(Some(code))
        }
    }
}
