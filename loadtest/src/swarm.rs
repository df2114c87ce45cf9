//! The generator: thousands of subscribers and a few publishers in one thread, one epoll, one buffer.
//!
//! It must cost less for each delivery than any server. So there is no WebSocket library and no JSON here: a delivery is
//! found by its frame's length, its number is compared with the one that is due ([`crate::wire`]), and of every so many the
//! time is taken. Where it is busier than the server all the same, the report says so.

mod connection;
mod load;
mod open;
mod plan;
mod probe;
mod slow;
mod storm;
mod stream;
mod tally;

pub use load::{Load, Measured, Pace};
pub use plan::{Plan, request};
pub use probe::{Probed, Probers, Waits};
pub use storm::Storm;
pub use tally::Tally;

use crate::wire::{Dialect, Template};
use anyhow::Result;
use connection::{Connection, Heard};
use mio::{Events, Poll, Token};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use stream::Scratch;

/// Sockets looked at before publishers have their turn: few, so that what waits for the generator is small.
const EVENTS: usize = 128;
/// How often a reader with a throttle may read.
const THROTTLE_STEP: Duration = Duration::from_millis(50);

/// All clients of one server.
pub struct Swarm {
    server: SocketAddr,
    dialect: Dialect,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    /// Those of the connections that publish.
    publishers: Vec<usize>,
    /// Those that read slowly.
    throttled: Vec<usize>,
    throttled_at: Instant,
    buffer: Vec<u8>,
    scratch: Scratch,
    template: Template,
    began: Instant,
    tally: Tally,
    /// Connections that have become ready, or were lost, since somebody looked.
    opened: usize,
    lost: Vec<usize>,
    /// The number of the next message, and of how many deliveries all that were published make.
    next: u64,
    owed: u64,
    /// Messages that nobody watches, and publishes that wait for their confirm.
    fillers: u64,
    unconfirmed: u64,
}

impl Swarm {
    /// Nobody yet. Payloads measure about `payload` bytes.
    pub fn new(server: SocketAddr, dialect: Dialect, payload: usize) -> Result<Swarm> {
        Ok(Swarm {
            server,
            dialect,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            connections: Vec::new(),
            publishers: Vec::new(),
            throttled: Vec::new(),
            throttled_at: Instant::now(),
            buffer: vec![0; 256 * 1024],
            scratch: Scratch::default(),
            template: Template::new(payload),
            began: Instant::now(),
            tally: Tally::default(),
            opened: 0,
            lost: Vec::new(),
            next: 0,
            owed: 0,
            fillers: 0,
            unconfirmed: 0,
        })
    }

    /// Connections that are open.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Microseconds since this began.
    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Waits for sockets at most so long, and does what they ask for.
    fn turn(&mut self, timeout: Duration) -> Result<()> {
        let timeout = if self.throttled.is_empty() { timeout } else { timeout.min(THROTTLE_STEP) };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut result = Ok(());
        for event in &events {
            let Token(id) = event.token();
            if event.is_writable() {
                result = result.and(self.writable(id));
            }
            if event.is_readable() && self.connections[id].throttle.is_none() {
                result = result.and(self.read(id, usize::MAX));
            }
        }
        self.events = events;
        self.read_slowly()?;
        result
    }

    fn read_slowly(&mut self) -> Result<()> {
        if self.throttled.is_empty() || self.throttled_at.elapsed() < THROTTLE_STEP {
            return Ok(());
        }
        let past = self.throttled_at.elapsed().as_secs_f64();
        self.throttled_at = Instant::now();
        for at in 0..self.throttled.len() {
            let id = self.throttled[at];
            let rate = self.connections[id].throttle.unwrap_or_default();
            let share = (f64::from(rate) * past) as usize;
            if share > 0 {
                self.read(id, share)?;
            }
        }
        Ok(())
    }

    /// Reads what there is, at most so many bytes.
    fn read(&mut self, id: usize, most: usize) -> Result<()> {
        let mut left = most;
        loop {
            let connection = &mut self.connections[id];
            let kept = connection.partial.len();
            if self.buffer.len() < 2 * kept + 4096 {
                self.buffer.resize(2 * kept + 4096, 0);
            }
            let end = self.buffer.len().min(kept.saturating_add(left));
            self.buffer[..kept].copy_from_slice(&connection.partial);
            let read = match connection.read(&mut self.buffer[kept..end], &mut self.scratch) {
                Ok(0) => {
                    self.lost.push(id);
                    return Ok(());
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => {
                    self.lost.push(id);
                    return Ok(());
                }
            };
            self.tally.reads += 1;
            let heard = Heard { now: self.began, tally: &mut self.tally, opened: &mut self.opened };
            connection.take(&self.buffer[..kept + read], self.dialect, heard)?;
            left -= read;
            if kept + read < end || left == 0 {
                return Ok(());
            }
        }
    }

    fn writable(&mut self, id: usize) -> Result<()> {
        if self.connections[id].flush().is_err() {
            self.lost.push(id);
        }
        Ok(())
    }
}
