//! A whole gateway: binds, runs its threads, and drains.

use crate::auth::Authenticator;
use crate::config::Origins;
use crate::connection::session::{Millis, Rules};
use crate::drain::Slots;
use crate::http::accept::Door;
use crate::http::{self, Service};
use crate::hub::newest::Fold;
use crate::hub::pump::{Ask, Keeper, Pump};
use crate::hub::registry::{self, Registry};
use crate::hub::transient;
use crate::log::{Log, ReadError};
use crate::metrics::Exporter;
use crate::node::{Node, Parts};
use crate::shadow::{self, Shadows};
use crate::shard::pumping::Pumped;
use crate::shard::{Shard, ShardEvent, ShardHandle};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// How long the drain waits for the newest values to be written.
const CHECKPOINT: Duration = Duration::from_secs(5);

/// What a gateway is to be.
pub struct Options {
    /// Names the node in logs.
    pub id: String,
    pub listen: SocketAddr,
    pub tls: Option<Arc<ServerConfig>>,
    /// Threads that own connections.
    pub shards: usize,
    pub origins: Origins,
    /// A folder of files to serve besides.
    pub files: Option<PathBuf>,
    pub rules: Rules,
    pub limits: registry::Limits,
    /// How much of the recent frames each shard keeps, in bytes.
    pub ring_bytes: usize,
    /// How much memory the newest values of state topics may take, in bytes.
    pub newest_bytes: usize,
    /// What the shadows of devices may be; `None` if that service is off.
    pub shadows: Option<(shadow::Topics, shadow::Limits)>,
    /// A file in which the newest values outlive the process.
    pub checkpoint: Option<PathBuf>,
    /// Over how long reconnects are spread when this node drains, in milliseconds.
    pub drain_spread: Millis,
    /// How long the drain waits for clients to leave, in milliseconds.
    pub drain_patience: Millis,
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    #[error("cannot read the log: {0}")]
    Log(#[from] ReadError),
}

/// A gateway that has found its place in the log, and does not listen yet.
pub struct Attached {
    options: Options,
    log: Arc<dyn Log>,
    node: Arc<Node>,
    pump: Pump,
    ask: Ask,
    metrics: Exporter,
}

/// A gateway that runs. The runtime in which it was opened must outlive it: what reads the log is at home there.
pub struct Gateway {
    address: SocketAddr,
    node: Arc<Node>,
    shards: Vec<ShardHandle>,
    threads: Vec<JoinHandle<()>>,
    closing: watch::Sender<bool>,
    drain_spread: Millis,
    drain_patience: Millis,
    /// Asks for a checkpoint, if there is a file for one.
    ask: Option<Ask>,
    /// The canary, the watch on the lag and what else is beside the shards. Aborted when dropped.
    tasks: JoinSet<()>,
}

impl Gateway {
    /// Attaches to the log, binds, and starts the threads. When it returns, connections are accepted.
    pub async fn start(
        options: Options,
        log: Arc<dyn Log>,
        authenticator: Arc<Authenticator>,
    ) -> Result<Gateway, StartError> {
        Gateway::attach(options, log, authenticator).await?.open()
    }

    /// The half of the start that needs the log, and no address yet.
    pub async fn attach(
        options: Options,
        log: Arc<dyn Log>,
        authenticator: Arc<Authenticator>,
    ) -> Result<Attached, StartError> {
        // Before anything looks a counter up: what is looked up without a recorder counts nothing, for ever.
        let metrics = Exporter::install();
        let registry = Registry::new(options.limits);
        let Options { id, rules, ring_bytes, .. } = &options;
        let (id, rules, ring_bytes) = (id.clone(), rules.clone(), *ring_bytes);
        let (keeper, ask) = Keeper::new(options.checkpoint.clone());
        let fold = Fold::new(Arc::clone(&rules.classes), options.newest_bytes);
        let shadows = options.shadows.clone().map(|(topics, limits)| Shadows::new(topics, limits));
        let node = Node::new(Parts {
            id,
            log: Arc::clone(&log),
            authenticator,
            registry,
            rules,
            shadows,
            ring_bytes,
        });
        let pump = Pump::attach(
            Arc::clone(&log),
            Arc::clone(&node.publisher),
            Arc::clone(&node.canary),
            Arc::clone(&node.upstream),
            node.shadows.clone(),
            fold,
            keeper,
        )
        .await?;
        Ok(Attached { options, log, node, pump, ask, metrics })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its threads share.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Ends in order: no new connections, a time of its own for each client to come back, then the end. Returns when
    /// every connection has ended, or patience has.
    pub async fn drain(mut self) {
        self.node.begin_drain();
        let clients = self.node.registry.open();
        tracing::info!(clients, "draining");
        let _ = self.closing.send(true);
        if let Some(ask) = self.ask.take() {
            let (answer, written) = tokio::sync::oneshot::channel();
            if ask.try_send(answer).is_ok() {
                // A disk that hangs does not hold up the drain.
                let _ = tokio::time::timeout(CHECKPOINT, written).await;
            }
        }
        let slots = Arc::new(Slots::new(self.node.clock, clients, self.drain_spread, self.drain_patience));
        for shard in &self.shards {
            shard.mailbox().push(ShardEvent::Drain(Arc::clone(&slots)));
        }
        let threads = std::mem::take(&mut self.threads);
        let _ = tokio::task::spawn_blocking(move || join(threads)).await;
        tracing::info!(left = self.node.registry.open(), "drained");
    }
}

impl Drop for Gateway {
    /// Ends without a drain, if there was none: returns when the shards have ended, each when it has seen what was before it.
    fn drop(&mut self) {
        let _ = self.closing.send(true);
        let slots = Arc::new(Slots::new(self.node.clock, 1, 0, 0));
        for shard in &self.shards {
            shard.mailbox().push(ShardEvent::Drain(Arc::clone(&slots)));
        }
        join(std::mem::take(&mut self.threads));
    }
}

impl Attached {
    /// Binds and starts the threads.
    pub fn open(self) -> Result<Gateway, StartError> {
        let Attached { options, log, node, pump, ask, metrics } = self;
        let count = options.shards.max(1);
        let listeners = listen(options.listen, count)
            .map_err(|error| StartError::Listen { address: options.listen, error })?;
        let address = listeners[0]
            .local_addr()
            .map_err(|error| StartError::Listen { address: options.listen, error })?;
        let service = Service { node: Arc::clone(&node), origins: Arc::new(options.origins), metrics };
        let router = http::router(service, options.files);
        let (closing, closed) = watch::channel(false);
        let (shards, handles): (Vec<Shard>, Vec<ShardHandle>) = (0..count)
            .map(|_| Shard::new(Arc::clone(&node), pump.head().clone(), pump.values().clone()))
            .unzip();
        let mailboxes: Vec<_> = handles.iter().map(|shard| Arc::clone(shard.mailbox())).collect();
        let pumping = Pumped::share(pump, mailboxes.clone(), node.ring_bytes);
        let pumping = shards.into_iter().zip(pumping).map(|(shard, pumping)| shard.pumping(pumping));
        let mut gateway = Gateway {
            address,
            node: Arc::clone(&node),
            shards: handles.clone(),
            threads: Vec::new(),
            closing,
            drain_spread: options.drain_spread,
            drain_patience: options.drain_patience,
            ask: options.checkpoint.is_some().then_some(ask),
            tasks: JoinSet::new(),
        };
        // Into the gateway, whose end ends those that run if one cannot start.
        for (number, ((shard, handle), listener)) in pumping.zip(&handles).zip(listeners).enumerate() {
            let start = Start {
                shard,
                listener,
                tls: options.tls.clone().map(TlsAcceptor::from),
                router: router.clone(),
                registry: Arc::clone(&node.registry),
                handle: handle.clone(),
                closed: closed.clone(),
            };
            let thread =
                std::thread::Builder::new().name(format!("shard-{number}")).spawn(move || start.run());
            gateway.threads.push(thread.map_err(StartError::Thread)?);
        }
        let tasks = &mut gateway.tasks;
        if let Some(source) = log.transient() {
            tasks.spawn(transient::run(source, mailboxes));
        }
        if let Some(shadows) = &node.shadows {
            tasks.spawn(Arc::clone(shadows).keep(Arc::clone(&log)));
            tasks.spawn(Arc::clone(shadows).run(Arc::clone(&log), Arc::clone(&node.publisher), node.clock));
        }
        tasks.spawn(Arc::clone(&node.canary).run(Arc::clone(&node.publisher)));
        tasks.spawn(Arc::clone(&node.upstream).watch(log));
        Ok(gateway)
    }
}

/// What a shard's thread begins with.
struct Start {
    shard: Shard,
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    router: axum::Router,
    registry: Arc<Registry>,
    handle: ShardHandle,
    closed: watch::Receiver<bool>,
}

impl Start {
    fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // A shard with much to write wakes itself for each slice; sockets are looked at between a few of them, not
            // after tokio's usual 61.
            .event_interval(4)
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "a shard cannot start"),
        };
        runtime.block_on(async move {
            let listener = match tokio::net::TcpListener::from_std(self.listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "a shard cannot listen"),
            };
            let door = Door {
                listener,
                tls: self.tls,
                router: self.router,
                registry: self.registry,
                shard: Some(self.handle),
            };
            let mut tasks = JoinSet::new();
            tasks.spawn(door.run(self.closed));
            self.shard.run().await;
        });
        // The checkpoint of an only shard, if it waits for a disk, does not hold up its end.
        runtime.shutdown_background();
    }
}

/// Waits for the shards' ends.
fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a shard has panicked");
        }
    }
}

/// Binds one listener for each shard to the same address; the kernel spreads the connections.
pub(crate) fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let socket = |address| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        Ok(socket)
    };
    // Sharing is for our own only: a second gateway on the same port must fail. The kernel lets any process of this user share a
    // port that is shared already, and none that asks for it alone.
    socket(address)?.bind(&address.into())?;
    let mut address = address;
    let mut listeners = Vec::new();
    for _ in 0..count {
        let socket = socket(address)?;
        socket.set_reuse_port(count > 1)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        let listener: std::net::TcpListener = socket.into();
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::listen;

    /// Else each would have a share of the clients, and what one stores the others' clients would never see.
    #[test]
    fn a_port_has_one_gateway_however_many_shards() {
        for count in [1, 2, 4] {
            let listeners = listen(([127, 0, 0, 1], 0).into(), count).expect("a free port");
            assert_eq!(listeners.len(), count);
            let address = listeners[0].local_addr().expect("an address");
            let second = listen(address, count).expect_err("somebody listens there");
            assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
        }
    }
}
