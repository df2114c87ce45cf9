//! Clients that follow the protocol in full (cursors, snapshots, gaps, coming back), and a publisher of state and events
//! whose records are all known: what each client should have at the end is compared with what it has.
//!
//! ```text
//!   feed ──▶ gateway ──▶ watchers        all of them in one thread, one epoll
//!    └─▶ model ◀── compared ──┘
//! ```
//!
//! The swarm is leaner, and cannot do this: it knows the number of the next message, and with conflation there is none.

mod check;
mod feed;
mod model;
mod watcher;

pub use check::Faults;
pub use feed::Rates;
pub use model::Model;
pub use watcher::{Kind, Watcher};

use crate::contestant::Running;
use crate::cpu;
use anyhow::{Context, Result, ensure};
use feed::Feed;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The filter that watches everything that the feed publishes.
pub const FILTER: &str = "load/#";
/// What the gateway is to take for state.
pub const STATE: &str = "load/state/+";
/// How often the feed publishes what is due, hence how often the gateway writes to everybody, about. Each write costs as much as
/// thirty deliveries.
const TICK: Duration = Duration::from_millis(10);
/// How often a reader with a throttle may read.
const THROTTLE_STEP: Duration = Duration::from_millis(50);
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const FEED: Token = Token(usize::MAX - 1);

/// A publisher and its watchers.
pub struct Watch {
    server: SocketAddr,
    token: String,
    poll: Poll,
    events: Events,
    feed: Feed,
    pub watchers: Vec<Watcher>,
    throttled_at: Instant,
    began: Instant,
}

impl Watch {
    /// Connects the publisher. There are so many state topics, and payloads measure about `payload` bytes.
    pub fn start(server: &Running, topics: u32, payload: usize) -> Result<Watch> {
        cpu::pin(cpu::GENERATOR)?;
        let poll = Poll::new()?;
        let (publisher, _) = dial(server.address, None)?;
        let mut feed = Feed::new(publisher, &server.token(0, "load/none", &[FILTER]), topics, payload)?;
        poll.registry().register(feed.source(), FEED, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Watch {
            server: server.address,
            token: server.token(1, FILTER, &[]),
            poll,
            events: Events::with_capacity(256),
            feed,
            watchers: Vec::new(),
            throttled_at: Instant::now(),
            began: Instant::now(),
        })
    }

    pub fn model(&self) -> &Model {
        self.feed.model()
    }

    /// Connects a watcher, which asks for a snapshot and for what follows it. Its number is the place in `watchers`.
    pub fn open(&mut self, kind: Kind) -> Result<usize> {
        let number = self.watchers.len();
        let (stream, rest) = dial(self.server, kind.receive_buffer())?;
        let mut watcher = Watcher::new(stream, rest, kind, self.feed.model().topics());
        watcher.greet(&self.token)?;
        self.poll.registry().register(watcher.source(), Token(number), Interest::READABLE)?;
        self.watchers.push(watcher);
        Ok(number)
    }

    /// Cuts a watcher's connection, with whatever is under way in it, and brings it back to where it stands.
    pub fn cut(&mut self, number: usize) -> Result<()> {
        let watcher = &mut self.watchers[number];
        self.poll.registry().deregister(watcher.source())?;
        let (stream, rest) = dial(self.server, watcher.kind().receive_buffer())?;
        watcher.reconnect(stream, rest);
        watcher.greet(&self.token)?;
        self.poll.registry().register(watcher.source(), Token(number), Interest::READABLE)?;
        Ok(())
    }

    /// Lets a watcher read so many bytes a second from now on; without a number, all that comes.
    pub fn throttle(&mut self, number: usize, bytes_per_second: Option<u32>) -> Result<()> {
        self.throttled_at = Instant::now();
        self.watchers[number].throttle = bytes_per_second;
        // What has come meanwhile gives no further event.
        let now = self.micros();
        if bytes_per_second.is_none() { self.watchers[number].read(usize::MAX, now) } else { Ok(()) }
    }

    /// Publishes a first value of every state topic, and returns when all are confirmed.
    pub fn fill(&mut self) -> Result<()> {
        let began = Instant::now();
        while !self.feed.is_full() {
            let now = self.micros();
            self.feed.fill(now)?;
            self.turn(TICK)?;
            ensure!(began.elapsed() < PATIENCE, "the first values are not stored within {PATIENCE:?}");
        }
        self.quiesce()
    }

    /// Publishes at these rates, as long as `on` says so. Returns for how long.
    pub fn run(
        &mut self,
        rates: Rates,
        mut on: impl FnMut(&mut Watch, Duration) -> Result<bool>,
    ) -> Result<Duration> {
        let began = Instant::now();
        let base = self.micros();
        let mut sent = 0;
        let mut next = Duration::ZERO;
        while on(self, began.elapsed())? {
            let past = began.elapsed();
            if past >= next {
                let due = rates.due(past);
                self.feed.publish(rates, sent, due, base)?;
                (sent, next) = (due, past + TICK);
            }
            self.turn(next.saturating_sub(began.elapsed()))?;
        }
        Ok(began.elapsed())
    }

    /// Returns when everything that was published is confirmed.
    pub fn quiesce(&mut self) -> Result<()> {
        let began = Instant::now();
        while !self.feed.is_confirmed() {
            self.turn(TICK)?;
            ensure!(began.elapsed() < PATIENCE, "messages are not confirmed within {PATIENCE:?}");
        }
        Ok(())
    }

    /// Waits until every watcher stands at the last record. Says how many do not within so long.
    pub fn settle(&mut self, patience: Duration) -> Result<usize> {
        let began = Instant::now();
        let last = self.feed.model().last();
        loop {
            let short = self.watchers.iter().filter(|watcher| watcher.stands_at() < last).count();
            if short == 0 || began.elapsed() > patience {
                return Ok(short);
            }
            self.watchers.iter_mut().try_for_each(Watcher::probe_if_behind)?;
            self.turn(Duration::from_millis(20))?;
        }
    }

    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn turn(&mut self, timeout: Duration) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let now = self.began.elapsed().as_micros() as u64;
            match event.token() {
                FEED => self.feed.ready()?,
                Token(number) if self.watchers[number].throttle.is_none() => {
                    self.watchers[number].read(usize::MAX, now)?;
                }
                _ => {}
            }
        }
        let past = self.throttled_at.elapsed();
        if past >= THROTTLE_STEP {
            self.throttled_at = Instant::now();
            let now = self.micros();
            for watcher in &mut self.watchers {
                if let Some(rate) = watcher.throttle {
                    watcher.read((f64::from(rate) * past.as_secs_f64()) as usize, now)?;
                }
            }
        }
        Ok(())
    }
}

/// Opens a WebSocket, and hands over what came behind the handshake.
fn dial(server: SocketAddr, receive_buffer: Option<usize>) -> Result<(TcpStream, Vec<u8>)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Closed, it is reset: as a lost connection is, with what is under way.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect(&server.into()).with_context(|| format!("connecting to {server}"))?;
    let mut stream = std::net::TcpStream::from(socket);
    stream.write_all(
        crate::swarm::request(server, "/v1/ws", Some(anabranch_protocol::SUBPROTOCOL)).as_slice(),
    )?;
    let mut received = Vec::new();
    let rest = loop {
        let mut chunk = [0; 1024];
        let count = stream.read(&mut chunk).context("the answer to the handshake")?;
        ensure!(count > 0, "the gateway ended the connection");
        received.extend_from_slice(&chunk[..count]);
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            ensure!(
                received.starts_with(b"HTTP/1.1 101"),
                "the gateway answered {}",
                String::from_utf8_lossy(&received)
            );
            break received.split_off(end + 4);
        }
    };
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream), rest))
}
