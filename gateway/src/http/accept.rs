//! Takes connections in: a limit for each address, and a deadline for everything that a client may keep us waiting for.

use crate::hub::registry::{Registry, Seat};
use crate::shard::{Arrival, ShardHandle};
use crate::socket::Socket;
use axum::Router;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::Service as _;

/// How long a TLS handshake, or a request's head, may take. Also how long an idle keep-alive connection stays.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long one request may take, body included.
pub const REQUEST: Duration = Duration::from_secs(30);
/// What an unfinished request head may hold in memory, in bytes. hyper's own minimum.
const HEAD_BYTES: usize = 8 * 1024;
/// Bytes that the kernel may hold unsent for a client. Without it the kernel hides megabytes of a slow client's lag.
const NOT_SENT_BYTES: u32 = 16 * 1024;

/// What an accept loop needs.
pub struct Door {
    pub listener: TcpListener,
    pub tls: Option<TlsAcceptor>,
    pub router: Router,
    pub registry: Arc<Registry>,
    /// Who takes WebSockets; nobody in the [lobby](super::lobby), whose routes upgrade none.
    pub shard: Option<ShardHandle>,
}

/// The way to a socket that is being upgraded: the handler leaves it here for the accepting task.
#[derive(Clone, Default)]
pub struct UpgradeSlot(Arc<Mutex<Option<OnUpgrade>>>);

impl UpgradeSlot {
    pub fn put(&self, upgrade: OnUpgrade) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(upgrade);
    }

    fn take(&self) -> Option<OnUpgrade> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}

/// The client's address, for handlers.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

impl Door {
    /// Accepts until `closing` says to stop. Handshakes under way then are cut off.
    pub async fn run(self, mut closing: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = async { drop(closing.wait_for(|closing| *closing).await) } => return,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(seat) = self.registry.seat(peer.ip()) {
                            tasks.spawn(self.serve(stream, peer, seat));
                        } else {
                            metrics::counter!("anabranch_connections_refused_total").increment(1);
                        }
                    }
                    Err(error) => pause_after(&error).await,
                },
            }
        }
    }

    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (tls, router, shard) = (self.tls.clone(), self.router.clone(), self.shard.clone());
        async move {
            let _ = stream.set_nodelay(true);
            let _ = SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT_BYTES);
            let arrival = match tls {
                None => http(stream, router, peer).await.and_then(|upgraded| plain(upgraded, seat)),
                Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        http(stream, router, peer).await.and_then(|upgraded| encrypted(upgraded, seat))
                    }
                    _ => None,
                },
            };
            if let (Some(shard), Some(arrival)) = (shard, arrival) {
                shard.connect(arrival);
            }
        }
    }
}

/// Serves requests until the connection ends, or becomes a WebSocket.
async fn http<S>(stream: S, router: Router, peer: SocketAddr) -> Option<Upgraded>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let slot = UpgradeSlot::default();
    let service = {
        let slot = slot.clone();
        service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(slot.clone());
            request.extensions_mut().insert(Peer(peer.ip()));
            let mut router = router.clone();
            async move {
                match tokio::time::timeout(REQUEST, router.call(request)).await {
                    Ok(response) => response,
                    Err(_) => {
                        let mut response = axum::response::Response::new(axum::body::Body::empty());
                        *response.status_mut() = http::StatusCode::REQUEST_TIMEOUT;
                        Ok(response)
                    }
                }
            }
        })
    };
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "an HTTP connection has ended");
    }
    slot.take()?.await.ok()
}

fn plain(upgraded: Upgraded, seat: Seat) -> Option<Arrival> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    let socket = Socket::Plain(parts.io.into_inner());
    Some(Arrival { socket, early: own(&parts.read_buf), seat })
}

fn encrypted(upgraded: Upgraded, seat: Seat) -> Option<Arrival> {
    let parts = upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>().ok()?;
    let socket = Socket::Tls(Box::new(parts.io.into_inner()));
    Some(Arrival { socket, early: own(&parts.read_buf), seat })
}

/// A copy: as a slice it would keep hyper's whole buffer alive.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// After an error of `accept`: those of one connection are that connection's, the others (no file descriptors left)
/// would come again at once.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::error!(%error, "cannot accept connections; trying again in 100 ms");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
