//! One client, which keeps to `docs/PROTOCOL.md`: a cursor, a place of its snapshot, and what it holds of each state topic.

use crate::latency::Latencies;
use crate::wire::{frame, micros, number, read_8};
use anabranch_protocol::client_frame::{ClientFrame, Hello, SnapshotMode, StartAt, Subscribe};
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::server_frame::{Outcome, ServerFrame};
use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use std::borrow::Cow;
use std::io::{ErrorKind, Read, Write};

const MESSAGE: &[u8] = br#"{"type":"message","position":""#;
const TOPIC: &[u8] = br#""topic":"load/"#;

/// What sort of watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads all that comes; its latencies count.
    Fast,
    /// Is going to read slowly: its kernel hides less of that than it would by itself.
    Slow,
    /// Writes down every delivery.
    Witness,
}

impl Kind {
    pub fn receive_buffer(self) -> Option<usize> {
        match self {
            Kind::Fast => None,
            Kind::Slow => Some(4096),
            // So that what a cut loses is not all that there is.
            Kind::Witness => Some(64 * 1024),
        }
    }
}

/// What a client holds of a state topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub offset: u64,
    pub number: u64,
}

/// Deliveries by what they were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Newest values.
    pub values: u64,
    /// Messages as they were published.
    pub others: u64,
    /// What was accounted for already.
    pub repeated: u64,
    /// What came out of order or for a second time.
    pub disordered: u64,
}

pub struct Watcher {
    stream: TcpStream,
    received: Vec<u8>,
    kind: Kind,
    /// Bytes a second that it may read.
    pub throttle: Option<u32>,
    cursor: Option<Cursor>,
    state: Option<Cursor>,
    pub held: Vec<Held>,
    pub counts: Counts,
    /// The offset of the newest delivery.
    last: u64,
    /// Offsets of events that came, and gaps: after, before.
    pub events: Vec<u64>,
    pub gaps: Vec<(u64, u64)>,
    /// Every delivery of a witness: offset and number.
    pub taken: Vec<(u64, u64)>,
    /// As of which offset the newest `caught_up` was said, and, of a witness, what it held then.
    pub caught_up: Option<u64>,
    pub as_of: Vec<Held>,
    /// Whether the gateway did not know all values of its snapshot.
    pub lacks: bool,
    pub latencies: Latencies,
    /// A probe that was not answered.
    probing: bool,
}

impl Watcher {
    pub fn new(stream: TcpStream, received: Vec<u8>, kind: Kind, topics: u32) -> Watcher {
        Watcher {
            stream,
            received,
            kind,
            throttle: None,
            cursor: None,
            state: None,
            held: vec![Held::default(); topics as usize],
            counts: Counts::default(),
            last: 0,
            events: Vec::new(),
            gaps: Vec::new(),
            taken: Vec::new(),
            caught_up: None,
            as_of: Vec::new(),
            lacks: false,
            latencies: Latencies::default(),
            probing: false,
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// The offset up to which everything is accounted for.
    pub fn stands_at(&self) -> u64 {
        let offset = |cursor: &Cursor| cursor.positions().first().map_or(0, |position| position.offset.0);
        self.cursor.as_ref().map_or(0, |cursor| match &self.state {
            Some(state) => offset(state).min(offset(cursor)),
            None => offset(cursor),
        })
    }

    /// Goes on in a new connection. What it had received in part is lost with the old one.
    pub fn reconnect(&mut self, stream: TcpStream, received: Vec<u8>) {
        (self.stream, self.received, self.probing, self.caught_up) = (stream, received, false, None);
    }

    /// Says hello, and where it stands.
    pub fn greet(&mut self, token: &str) -> Result<()> {
        let start = match &self.cursor {
            Some(cursor) => StartAt::Cursor(cursor.to_string().into()),
            None => StartAt::Now,
        };
        let subscribe = Subscribe {
            id: 1,
            filter: Cow::Borrowed(super::FILTER),
            start,
            snapshot: if self.cursor.is_none() { SnapshotMode::Always } else { SnapshotMode::IfNew },
            state: self.state.as_ref().map(|state| state.to_string().into()),
            ..Subscribe::default()
        };
        self.say(&ClientFrame::Hello(Hello {
            token: Cow::Borrowed(token),
            client_id: Cow::Borrowed("loadtest"),
            sdk: Cow::Borrowed("anabranch-loadtest"),
            cursor: None,
            subscriptions: vec![subscribe],
        }))
    }

    /// Asks for a mark, unless one is on its way.
    pub fn probe_if_behind(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.probing, true) { Ok(()) } else { self.say(&ClientFrame::Probe) }
    }

    fn say(&mut self, said: &ClientFrame<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        frame::masked(&mut bytes, 1, said.to_json().as_bytes());
        // Far less than an empty send buffer holds.
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Reads what there is, at most so many bytes. `now` is when it came, in microseconds.
    pub fn read(&mut self, mut most: usize, now: u64) -> Result<()> {
        let mut chunk = [0; 64 * 1024];
        while most > 0 {
            let room = most.min(chunk.len());
            match self.stream.read(&mut chunk[..room]) {
                Ok(0) => bail!("the gateway has ended a watcher's connection"),
                Ok(count) => {
                    most -= count;
                    self.received.extend_from_slice(&chunk[..count]);
                    self.take(now)?;
                    if count < room {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a watcher's connection"),
            }
        }
        Ok(())
    }

    fn take(&mut self, now: u64) -> Result<()> {
        let received = std::mem::take(&mut self.received);
        let mut at = 0;
        while let Some((opcode, start, end)) = frame::whole(&received[at..]) {
            let text = &received[at + start..at + end];
            ensure!(opcode != 8, "a watcher's connection was closed: {}", String::from_utf8_lossy(text));
            if text.starts_with(MESSAGE) {
                self.message(text, now)?;
            } else if opcode == 1 {
                self.other(std::str::from_utf8(text)?)?;
            }
            at += end;
        }
        self.received = received;
        self.received.drain(..at);
        Ok(())
    }

    fn message(&mut self, text: &[u8], now: u64) -> Result<()> {
        let rest = &text[MESSAGE.len()..];
        let quote = memchr::memchr(b'"', rest).context("a position")?;
        let position: Position = std::str::from_utf8(&rest[..quote])?.parse()?;
        let snapshot = rest[quote + 1..].starts_with(br#","snapshot":true"#);
        let cursor = self.cursor.as_mut().context("a message before subscribed")?;
        let place = self.state.as_ref().filter(|_| snapshot).unwrap_or(cursor);
        if place.includes(position) {
            self.counts.repeated += 1;
            return Ok(());
        }
        cursor.advance(position);
        if let Some(state) = &mut self.state {
            state.advance(position);
        }
        let offset = position.offset.0;
        self.counts.disordered += u64::from(offset <= self.last);
        self.last = offset;
        *(if snapshot { &mut self.counts.values } else { &mut self.counts.others }) += 1;
        // The frame's own brace stands behind the envelope.
        let end = text.len() - 1;
        let held = Held { offset, number: number(text, end) };
        let at = memchr::memmem::find(text, TOPIC).context("a topic of the feed")? + TOPIC.len();
        if text[at..].starts_with(b"state/") {
            let topic = read_8(&text[at + b"state/".len()..]) as usize;
            *self.held.get_mut(topic).context("a topic that nobody publishes to")? = held;
        } else {
            ensure!(!snapshot, "an event came as a value");
            self.events.push(offset);
        }
        match self.kind {
            Kind::Witness => self.taken.push((offset, held.number)),
            Kind::Fast if !snapshot => self.latencies.add(now.saturating_sub(micros(text, end))),
            Kind::Fast | Kind::Slow => {}
        }
        Ok(())
    }

    fn other(&mut self, text: &str) -> Result<()> {
        match ServerFrame::from_json(text)? {
            ServerFrame::Subscribed { cursor, outcome, snapshot, .. } => {
                match outcome {
                    Outcome::Gap(gap) => self.gaps.push((gap.after.0, gap.before.0)),
                    Outcome::Reset(code) => bail!("a reset that nothing explains: {code}"),
                    Outcome::Live | Outcome::Resumed => {}
                }
                self.state = snapshot.map(|snapshot| snapshot.state).filter(|state| *state != cursor);
                self.cursor = Some(cursor);
            }
            ServerFrame::Gap { gap, values } => {
                self.gaps.push((gap.after.0, gap.before.0));
                let cursor = self.cursor.as_mut().context("a gap before subscribed")?;
                let offset = anabranch_protocol::cursor::Offset(gap.before.0.saturating_sub(1));
                let end = Position { partition: gap.partition, offset, fingerprint: None };
                match &mut self.state {
                    Some(state) if !values => _ = state.advance(end),
                    None if values && !cursor.includes(end) => self.state = Some(cursor.clone()),
                    _ => {}
                }
                cursor.advance(end);
            }
            ServerFrame::Mark { cursor, .. } => {
                self.probing = false;
                self.follow(&cursor);
            }
            ServerFrame::Incomplete => self.lacks = true,
            ServerFrame::CaughtUp { cursor } => {
                self.follow(&cursor);
                self.state = None;
                self.caught_up = Some(cursor.positions().first().map_or(0, |p| p.offset.0));
                if self.kind == Kind::Witness {
                    self.as_of.clone_from(&self.held);
                }
            }
            ServerFrame::Ping => self.say(&ClientFrame::Pong)?,
            ServerFrame::Refused(refused) => bail!("refused: {} {}", refused.code, refused.message),
            _ => {}
        }
        Ok(())
    }

    fn follow(&mut self, to: &Cursor) {
        if let Some(cursor) = &mut self.cursor {
            cursor.advance_to(to);
        }
        if let Some(state) = &mut self.state {
            state.advance_to(to);
        }
    }
}
