//! The chaos proxy: a TCP proxy that forwards bytes, and misbehaves on command.
//!
//! It knows nothing of WebSocket, so what it does to a connection is what a network does. All faults are told through one
//! [`watch`] channel, whose value is the weather and how often each one-time fault has struck: a connection compares with
//! what it saw when it began.

mod connection;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How bytes of one direction travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// At once.
    #[default]
    Pass,
    /// Each piece after this time. A piece is at most 16 KiB, so this is a limit of throughput too.
    Delay(Duration),
    /// In pieces of one byte, each a write (and, with TCP_NODELAY, mostly a segment) of its own.
    Bytewise,
    /// Not at all. Sockets stay open and nothing is read, so that the sender's buffers fill: a black hole, and what a
    /// frozen peer looks like.
    Stop,
    /// At most this many bytes a second.
    Throttle(u32),
}

/// What every connection, old or new, meets now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// From the client to the upstream.
    pub up: Flow,
    /// From the upstream to the client.
    pub down: Flow,
    /// New connections are reset as soon as they are accepted.
    pub refuse: bool,
}

/// One side of a proxied connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Upstream,
}

#[derive(Clone, Copy, Debug)]
struct State {
    weather: Weather,
    upstream: SocketAddr,
    /// Bytes in the receive buffer towards the upstream; without it, as the system likes.
    holds: Option<u32>,
    cuts: u64,
    resets: u64,
    strands: u64,
    half_closes: [u64; 2],
}

#[derive(Debug, Default)]
struct Counters {
    open: AtomicUsize,
    accepted: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// A running proxy. Dropping it closes its listener and all its connections.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    counters: Arc<Counters>,
    accepting: JoinHandle<()>,
}

impl ChaosProxy {
    /// Starts a proxy on a free port of 127.0.0.1. Must be called in a tokio runtime.
    pub async fn start(upstream: SocketAddr) -> io::Result<ChaosProxy> {
        ChaosProxy::bind(SocketAddr::from(([127, 0, 0, 1], 0)), upstream).await
    }

    /// Starts a proxy on the given address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr, upstream: SocketAddr) -> io::Result<ChaosProxy> {
        ChaosProxy::holding(address, upstream, None).await
    }

    /// The same, but of what the upstream sends it takes hardly more than so many bytes that it cannot pass on. Otherwise the system's buffers hold some hundred KiB
    /// for each connection, which at a throttled link are many seconds.
    pub async fn narrow(address: SocketAddr, upstream: SocketAddr, holds: u32) -> io::Result<ChaosProxy> {
        ChaosProxy::holding(address, upstream, Some(holds)).await
    }

    async fn holding(
        address: SocketAddr,
        upstream: SocketAddr,
        holds: Option<u32>,
    ) -> io::Result<ChaosProxy> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let weather = Weather::default();
        let state = State { weather, upstream, holds, cuts: 0, resets: 0, strands: 0, half_closes: [0; 2] };
        let (state, seen) = watch::channel(state);
        let counters = Arc::new(Counters::default());
        let accepting = tokio::spawn(accept(listener, seen, counters.clone()));
        Ok(ChaosProxy { address, state, counters, accepting })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for every connection.
    pub fn set(&self, weather: Weather) {
        self.state.send_modify(|state| state.weather = weather);
    }

    /// Everything passes again. Connections that were frozen go on where they stopped.
    pub fn heal(&self) {
        self.set(Weather::default());
    }

    /// Both directions stop; sockets stay open.
    pub fn freeze(&self) {
        self.set(Weather { up: Flow::Stop, down: Flow::Stop, refuse: false });
    }

    /// Ends every connection in order (FIN both ways). New ones are accepted, unless the weather refuses them.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Ends every connection, and refuses new ones until [`ChaosProxy::heal`].
    pub fn cut_and_refuse(&self) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.weather.refuse = true;
        });
    }

    /// Ends every connection at once with RST both ways.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// Every connection that is open now stays open and passes nothing ever again, while new ones do: what is left where a machine slept, or changed its
    /// network, and whoever stood between has forgotten the connection.
    pub fn strand(&self) {
        self.state.send_modify(|state| state.strands += 1);
    }

    /// Sends FIN towards one side, and nothing more; what that side sends is still forwarded.
    pub fn half_close(&self, towards: Side) {
        self.state.send_modify(|state| state.half_closes[towards as usize] += 1);
    }

    /// New connections go to another upstream: a gateway that came back on another port.
    pub fn retarget(&self, upstream: SocketAddr) {
        self.state.send_modify(|state| state.upstream = upstream);
    }

    /// How many connections are open now.
    pub fn connections(&self) -> usize {
        self.counters.open.load(Ordering::Acquire)
    }

    /// How many connections were accepted so far, refused ones not counted.
    pub fn accepted(&self) -> u64 {
        self.counters.accepted.load(Ordering::Acquire)
    }

    /// How many bytes were forwarded so far: from clients, and to clients.
    pub fn forwarded(&self) -> (u64, u64) {
        (self.counters.up.load(Ordering::Acquire), self.counters.down.load(Ordering::Acquire))
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: watch::Receiver<State>, counters: Arc<Counters>) {
    // Connections belong to this task: when it is aborted, so are they.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of file descriptors, or a client that left at once: the next accept tells.
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(connection::run(client, state.clone(), counters.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
