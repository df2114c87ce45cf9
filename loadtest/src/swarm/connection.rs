//! One client's socket.

use super::plan::Plan;
use super::stream::{Scratch, Stream};
use super::tally::Tally;
use crate::wire::{self, Dialect, frame};
use anyhow::{Result, bail, ensure};
use mio::net::TcpStream;
use std::io::{self, ErrorKind};
use std::time::Instant;

/// One client.
pub struct Connection {
    /// `None` while it is cut.
    pub stream: Option<Stream>,
    stage: Stage,
    /// The beginning of a frame whose rest has not come yet.
    pub partial: Vec<u8>,
    /// Bytes that are still to be written.
    pub outbox: Vec<u8>,
    /// What is said once the request was answered.
    greeting: Vec<u8>,
    /// The number that is due, and the distance to the next.
    pub next: u64,
    pub stride: u64,
    /// What an envelope stands in, where frames do not tell, and what the current one still lacks.
    unit: (usize, usize, usize),
    lacks: usize,
    /// Reads at most so many bytes a second; those that do count apart.
    pub throttle: Option<u32>,
    pub slow: bool,
    /// Publishes that wait for their confirm, where there is one.
    pub unconfirmed: u32,
    /// Where it stands in the log, if that is kept.
    pub cursor: Option<Box<Place>>,
}

/// A place in the log.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub log: String,
    pub position: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waiting for the answer to the request.
    Upgrading,
    /// Waiting to be told that it has subscribed.
    Greeting,
    Open,
    /// No WebSocket: answers to what is posted do not matter.
    Plain,
}

/// Where what was heard is written down.
pub struct Heard<'h> {
    pub now: Instant,
    pub tally: &'h mut Tally,
    pub opened: &'h mut usize,
}

impl Connection {
    pub fn new(socket: TcpStream, plan: &Plan) -> Result<Connection> {
        Ok(Connection {
            stream: Some(Stream::new(socket, plan.tls.as_ref())?),
            stage: if plan.request.is_empty() { Stage::Plain } else { Stage::Upgrading },
            partial: Vec::new(),
            outbox: plan.request.clone(),
            greeting: plan.greeting.clone(),
            next: plan.first,
            stride: plan.stride,
            unit: plan.unit,
            lacks: 0,
            throttle: None,
            slow: plan.slow,
            unconfirmed: 0,
            cursor: None,
        })
    }

    /// Whether it is open without a word from the server.
    pub fn is_plain(&self) -> bool {
        self.stage == Stage::Plain
    }

    pub fn read(&mut self, buffer: &mut [u8], scratch: &mut Scratch) -> io::Result<usize> {
        self.stream.as_mut().map_or(Err(ErrorKind::WouldBlock.into()), |stream| stream.read(buffer, scratch))
    }

    /// Writes what is left to write, as far as the socket takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.outbox.is_empty() {
            match stream.write(&self.outbox) {
                Ok(wrote) => drop(self.outbox.drain(..wrote)),
                // Not connected yet: it will be writable once it is.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        stream.flush()
    }

    /// Takes in all that has come: `partial` and what followed it. Keeps what is not whole.
    #[inline]
    pub fn take(&mut self, bytes: &[u8], dialect: Dialect, mut heard: Heard<'_>) -> Result<()> {
        let mut at = 0;
        if self.stage == Stage::Plain {
            return Ok(());
        }
        if self.stage == Stage::Upgrading {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                return self.keep(bytes);
            };
            let head = String::from_utf8_lossy(&bytes[..end]);
            ensure!(head.starts_with("HTTP/1.1 101"), "the server answered {head}");
            at = end + 4;
            self.stage = Stage::Greeting;
            self.outbox.extend_from_slice(&std::mem::take(&mut self.greeting));
            if dialect == Dialect::Bare {
                self.open(&mut heard);
            }
        }
        // One look at the clock for each read: what came in it came at the same time.
        let mut micros = None;
        while let Some((opcode, start, end)) = frame::whole(&bytes[at..]) {
            let (start, end) = (at + start, at + end);
            at = end;
            match (opcode, dialect) {
                (1, Dialect::Anabranch) => {
                    // `{"type":"message"`, and not `mark`.
                    if bytes[start..end].get(9..11) == Some(b"me") {
                        self.delivery(bytes, end - 1, &mut heard, &mut micros);
                        if let Some(place) = &mut self.cursor {
                            place.position = string(&bytes[start..end], "position");
                        }
                    } else {
                        self.other(&bytes[start..end], &mut heard)?;
                    }
                }
                (1 | 2, Dialect::Bare) => self.delivery(bytes, end, &mut heard, &mut micros),
                (2, Dialect::Nats | Dialect::Mqtt) => {
                    self.stream_of_units(bytes, start, end, dialect, &mut heard, &mut micros)?;
                }
                (9, _) => frame::masked(&mut self.outbox, 10, &bytes[start..end]),
                (8, _) => {
                    bail!("the server closed a connection: {}", String::from_utf8_lossy(&bytes[start..end]))
                }
                _ => {}
            }
        }
        if !self.outbox.is_empty() {
            self.flush()?;
        }
        self.keep(&bytes[at..])
    }

    #[inline]
    fn keep(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            if self.partial.capacity() > 0 {
                self.partial = Vec::new();
            }
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn open(&mut self, heard: &mut Heard<'_>) {
        if self.stage != Stage::Open {
            self.stage = Stage::Open;
            *heard.opened += 1;
        }
    }

    /// The envelope that ends at `end`.
    #[inline]
    fn delivery(&mut self, bytes: &[u8], end: usize, heard: &mut Heard<'_>, micros: &mut Option<u64>) {
        let number = wire::number(bytes, end);
        if number == self.next {
            self.next += self.stride;
        } else if number > self.next {
            heard.tally.lost += (number - self.next) / self.stride.max(1);
            self.next = number + self.stride;
        } else {
            heard.tally.doubled += 1;
        }
        if self.slow {
            heard.tally.slow += 1;
            return;
        }
        heard.tally.deliveries += 1;
        if heard.tally.samples() {
            let now = *micros.get_or_insert_with(|| heard.now.elapsed().as_micros() as u64);
            heard.tally.latencies.add(now.saturating_sub(wire::micros(bytes, end)));
        }
    }

    /// A frame of the gateway that is no message.
    fn other(&mut self, text: &[u8], heard: &mut Heard<'_>) -> Result<()> {
        let kind = text.get(9..).and_then(|rest| rest.split(|&byte| byte == b'"').next()).unwrap_or_default();
        match kind {
            b"ping" => frame::masked(&mut self.outbox, 1, br#"{"type":"pong"}"#),
            b"caught_up" => {
                if let Some(place) = &mut self.cursor {
                    let cursor = string(text, "cursor");
                    place.log = cursor.split('/').next().unwrap_or_default().to_owned();
                }
                self.open(heard);
            }
            b"published" => {
                self.unconfirmed = self.unconfirmed.saturating_sub(1);
                heard.tally.published += 1;
            }
            b"welcome" if self.stride == 0 => self.open(heard),
            b"gap" => heard.tally.gaps += 1,
            b"refused" | b"revoked" => bail!("the server refused: {}", String::from_utf8_lossy(text)),
            _ => {}
        }
        Ok(())
    }

    /// Part of a stream in which deliveries stand one after the other, all of the same size.
    fn stream_of_units(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        dialect: Dialect,
        heard: &mut Heard<'_>,
        micros: &mut Option<u64>,
    ) -> Result<()> {
        let (before, envelope, after) = self.unit;
        let mut at = start;
        while at < end {
            if self.lacks == 0 {
                let first = bytes[at];
                let message = if dialect == Dialect::Nats { first == b'M' } else { first == 0x30 };
                if !message {
                    at += self.control(&bytes[at..end], dialect, heard)?;
                    continue;
                }
                self.lacks = before + envelope + after;
            }
            let here = self.lacks.min(end - at);
            (at, self.lacks) = (at + here, self.lacks - here);
            if self.lacks == 0 {
                // Cut by a frame's header just there, it is counted and not looked at.
                if here >= after + envelope {
                    self.delivery(bytes, at - after, heard, micros);
                } else {
                    self.next += self.stride;
                    heard.tally.deliveries += 1;
                }
            }
        }
        Ok(())
    }

    /// What is not a delivery; returns its length.
    fn control(&mut self, bytes: &[u8], dialect: Dialect, heard: &mut Heard<'_>) -> Result<usize> {
        if dialect == Dialect::Mqtt {
            // CONNACK comes before; SUBACK and PINGRESP say that it is open.
            ensure!(bytes.len() >= 2 && bytes[1] < 0x80, "the server sent an odd MQTT packet");
            if matches!(bytes[0], 0x90 | 0xd0) {
                self.open(heard);
            }
            return Ok((2 + usize::from(bytes[1])).min(bytes.len()));
        }
        let len = bytes.windows(2).position(|two| two == b"\r\n").map_or(bytes.len(), |at| at + 2);
        match &bytes[..len.min(4)] {
            b"PONG" => self.open(heard),
            b"PING" => frame::masked(&mut self.outbox, 2, b"PONG\r\n"),
            b"-ERR" => bail!("the server said {}", String::from_utf8_lossy(&bytes[..len])),
            _ => {}
        }
        Ok(len)
    }
}

/// The string that a frame has under this name. Without escapes.
fn string(frame: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(frame);
    let value = text.split_once(&format!("\"{name}\":\"")).and_then(|(_, rest)| rest.split_once('"'));
    value.map(|(value, _)| value.to_owned()).unwrap_or_default()
}
