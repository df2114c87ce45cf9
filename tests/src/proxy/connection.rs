//! One proxied connection: two pumps that obey the weather, until an end of the connection or a fault ends it.

use super::{Counters, Flow, Side, State};
use socket2::SockRef;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

const PIECE: usize = 16 * 1024;

/// How a fault ends a connection.
enum Fault {
    Cut,
    Reset,
}

struct Open(Arc<Counters>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) async fn run(client: TcpStream, mut state: watch::Receiver<State>, counters: Arc<Counters>) {
    let began = *state.borrow_and_update();
    if began.weather.refuse {
        return reset(&client);
    }
    let Ok(upstream) = connect(began).await else { return reset(&client) };
    counters.accepted.fetch_add(1, Ordering::AcqRel);
    counters.open.fetch_add(1, Ordering::AcqRel);
    let open = Open(counters.clone());
    let (mut client, mut upstream) = (client, upstream);
    // A proxy that coalesces would hide what the peers really write.
    let _ = client.set_nodelay(true);
    let _ = upstream.set_nodelay(true);

    let fault = {
        let (client_read, client_write) = client.split();
        let (upstream_read, upstream_write) = upstream.split();
        let up = Pump { towards: Side::Upstream, began, state: state.clone(), count: &counters.up };
        let down = Pump { towards: Side::Client, began, state: state.clone(), count: &counters.down };
        tokio::select! {
            fault = struck(&mut state, began) => Some(fault),
            // An error of one direction is an end of both: the sockets below are closed.
            _ = async { tokio::try_join!(up.run(client_read, upstream_write), down.run(upstream_read, client_write)) } => None,
        }
    };
    match fault {
        Some(Fault::Reset) => {
            reset(&client);
            reset(&upstream);
        }
        Some(Fault::Cut) => {
            let _ = client.shutdown().await;
            let _ = upstream.shutdown().await;
        }
        None => {}
    }
    drop((client, upstream));
    drop(open);
}

async fn connect(State { upstream, holds, .. }: State) -> io::Result<TcpStream> {
    let socket = if upstream.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Only before it connects does this bound the window that is offered.
    if let Some(bytes) = holds {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.connect(upstream).await
}

/// Waits for a fault that is newer than the connection.
async fn struck(state: &mut watch::Receiver<State>, began: State) -> Fault {
    let changed = state.wait_for(|now| now.cuts > began.cuts || now.resets > began.resets).await;
    match changed {
        Ok(now) if now.resets > began.resets => Fault::Reset,
        // The proxy is gone: the same as a cut.
        Ok(_) | Err(_) => Fault::Cut,
    }
}

/// With a linger of zero, closing sends RST instead of FIN.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

struct Pump<'c> {
    towards: Side,
    began: State,
    state: watch::Receiver<State>,
    count: &'c AtomicU64,
}

impl Pump<'_> {
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let now = *self.state.borrow_and_update();
            let side = self.towards as usize;
            if now.half_closes[side] > self.began.half_closes[side] {
                return to.shutdown().await;
            }
            let flow = match self.towards {
                _ if now.strands > self.began.strands => Flow::Stop,
                Side::Upstream => now.weather.up,
                Side::Client => now.weather.down,
            };
            let limit = match flow {
                Flow::Stop => 0,
                Flow::Bytewise => 1,
                // Ten pieces a second: smooth enough, and no busy loop.
                Flow::Throttle(bytes) => (bytes as usize / 10).clamp(1, PIECE),
                Flow::Pass | Flow::Delay(_) => PIECE,
            };
            let read = tokio::select! {
                biased;
                changed = self.state.changed() => {
                    changed.map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
                    continue;
                }
                // Reading is cancel safe: no byte is lost when the weather changes meanwhile.
                read = from.read(&mut piece[..limit]), if limit > 0 => read?,
            };
            if read == 0 {
                return to.shutdown().await;
            }
            pause(flow, read).await;
            to.write_all(&piece[..read]).await?;
            self.count.fetch_add(read as u64, Ordering::AcqRel);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "to delay is what was asked for")]
async fn pause(flow: Flow, bytes: usize) {
    match flow {
        Flow::Delay(delay) => tokio::time::sleep(delay).await,
        Flow::Throttle(rate) => {
            tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / f64::from(rate.max(1)))).await
        }
        Flow::Pass | Flow::Bytewise | Flow::Stop => {}
    }
}
