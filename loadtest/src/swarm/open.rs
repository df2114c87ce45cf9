//! Connects clients, some at a time or all at once.

use super::Swarm;
use super::connection::Connection;
use super::plan::Plan;
use anyhow::{Context, Result, ensure};
use mio::net::TcpStream;
use mio::{Interest, Token};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Connections from one source address: far below the 28,000 ports that Linux has for each. Where most of them are taken, or
/// wait out their time after a storm, the kernel searches for a free one longer than the storm lasts.
const PER_ADDRESS: usize = 2_000;
/// How long there may be no progress.
const PATIENCE: Duration = Duration::from_secs(60);

impl Swarm {
    /// Opens a connection for each plan, at most `at_once` at a time, and returns when all have subscribed.
    pub fn open(&mut self, plans: &[Plan], at_once: usize, mut progress: impl FnMut(usize)) -> Result<()> {
        let first = self.connections.len();
        for plan in plans {
            self.start(plan)?;
            let started = self.connections.len() - first;
            while started - self.opened >= at_once {
                self.await_one(&mut progress)?;
            }
        }
        while self.opened < plans.len() {
            self.await_one(&mut progress)?;
        }
        self.opened = 0;
        Ok(())
    }

    pub(super) fn start(&mut self, plan: &Plan) -> Result<()> {
        let id = self.connections.len();
        if plan.publishes {
            self.publishers.push(id);
        }
        let stream = connect(self.server, id, plan.receive_buffer)?;
        self.connections.push(Connection::new(stream, plan)?);
        self.opened += usize::from(self.connections[id].is_plain());
        self.begin(id)
    }

    pub(super) fn begin(&mut self, id: usize) -> Result<()> {
        let connection = &mut self.connections[id];
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Some(stream) = &mut connection.stream {
            self.poll.registry().register(stream.source(), Token(id), interest)?;
        }
        Ok(())
    }

    pub(super) fn await_one(&mut self, progress: &mut impl FnMut(usize)) -> Result<()> {
        let before = self.opened;
        let began = Instant::now();
        while self.opened == before {
            self.turn(Duration::from_secs(1))?;
            ensure!(self.lost.is_empty(), "{} connections were lost while they were opened", self.lost.len());
            ensure!(began.elapsed() < PATIENCE, "no connection was opened for {PATIENCE:?}");
        }
        progress(self.opened);
        Ok(())
    }
}

/// Connects from 127.0.0.1, .2, .3 and so on, so that no address runs out of ports. Does not wait for the answer.
pub(super) fn connect(server: SocketAddr, number: usize, receive_buffer: Option<usize>) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // Closed, it is reset: as a lost connection is, and no port waits out its time.
    socket.set_linger(Some(Duration::ZERO))?;
    let last =
        u8::try_from(1 + number / PER_ADDRESS).context("more connections than 127.0.0.0/24 has ports")?;
    socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0).into())?;
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            let error: io::Error = error;
            return Err(error).with_context(|| format!("connecting to {server}"));
        }
        _ => {}
    }
    Ok(TcpStream::from_std(socket.into()))
}
