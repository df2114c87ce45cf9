//! A process that runs a gateway node: the real pump, shards, sessions and replay, polled by hand. It may end at any time.

use super::classes;
use crate::connection::session::Rules;
use crate::drain::Slots;
use crate::hub::newest::Fold;
use crate::hub::pump::{Keeper, Pump};
use crate::hub::registry::{Limits as Seats, Registry};
use crate::hub::sizes::Sizes;
use crate::log::Log;
use crate::log::memory::MemoryLog;
use crate::node::{Node, Parts};
use crate::shard::by_hand::{Woken, authenticator};
use crate::shard::pumping::Pumped;
use crate::shard::{Arrival, Shard, ShardEvent, ShardHandle};
use crate::socket::Socket;
use crate::socket::pipe::Pipe;
use anabranch_protocol::server_frame::Limits;
use futures_util::FutureExt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::{Context, Waker};

/// How much of the recent frames and of the newest values the nodes of a world keep, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub ring: usize,
    pub newest: usize,
}

pub struct Host {
    number: usize,
    /// Any log on the broker: a node that starts gets its own beside it.
    broker: Arc<MemoryLog>,
    memory: Memory,
    running: Option<Running>,
}

struct Running {
    node: Arc<Node>,
    /// Those that have not drained.
    shards: Vec<Option<Shard>>,
    handles: Vec<ShardHandle>,
    woken: Vec<Arc<Woken>>,
    /// Connections that came; they spread over the shards.
    dialed: usize,
}

impl Host {
    pub fn new(number: usize, broker: Arc<MemoryLog>, memory: Memory) -> Host {
        Host { number, broker, memory, running: None }
    }

    /// Starts the node if it does not run. Without the broker it cannot. Says whether it runs.
    pub fn start(&mut self) -> bool {
        if self.running.is_none() {
            self.running = self.begin();
        }
        self.running.is_some()
    }

    fn begin(&self) -> Option<Running> {
        let log: Arc<dyn Log> = self.broker.beside();
        let limits =
            Limits { frame_bytes: 100_000, subscriptions: 256, publishes_in_flight: 4, conflate_ms: 1_000 };
        let node = Node::new(Parts {
            id: format!("n{}", self.number),
            log: Arc::clone(&log),
            authenticator: authenticator(),
            registry: Registry::new(Seats { total: 999, per_address: 999, per_subject: 999 }),
            rules: Rules {
                hello_timeout: 10_000,
                ping_interval: 20_000,
                ping_grace: 10_000,
                limits,
                sizes: Sizes::new(10_000, Vec::new()),
                classes: classes(),
            },
            shadows: None,
            ring_bytes: self.memory.ring,
        });
        let (keeper, _) = Keeper::new(None);
        let attaching = Pump::attach(
            log,
            Arc::clone(&node.publisher),
            Arc::clone(&node.canary),
            Arc::clone(&node.upstream),
            None,
            Fold::new(classes(), self.memory.newest),
            keeper,
        );
        let pump = attaching.now_or_never().expect("the memory log answers at once").ok()?;
        let new = |_| Shard::new(Arc::clone(&node), pump.head().clone(), pump.values().clone());
        // The first node has one shard, the second has two.
        let (shards, handles): (Vec<Shard>, Vec<ShardHandle>) = (0..=self.number).map(new).unzip();
        let mailboxes = handles.iter().map(|handle| Arc::clone(handle.mailbox())).collect();
        let pumping = Pumped::share(pump, mailboxes, self.memory.ring);
        let shards =
            shards.into_iter().zip(pumping).map(|(shard, pumping)| Some(shard.pumping(pumping))).collect();
        let woken = handles.iter().map(|_| Woken::already()).collect();
        Some(Running { node, shards, handles, woken, dialed: 0 })
    }

    /// Ends the process: its sockets break.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// A socket to it, if it takes one.
    pub fn dial(&mut self, room: usize) -> Option<Pipe> {
        let running = self.running.as_mut().filter(|running| !running.node.is_draining())?;
        let pipe = Pipe::new(room);
        let seat = running.node.registry.seat(Ipv4Addr::LOCALHOST.into()).expect("room for all");
        let early = Default::default();
        let shard = running.dialed % running.handles.len();
        running.dialed += 1;
        running.handles[shard].connect(Arrival { socket: Socket::Pipe(pipe.clone()), early, seat });
        Some(pipe)
    }

    /// Tells its clients to come back later, each at a time of its own.
    pub fn drain(&self, spread: u64) {
        if let Some(Running { node, handles, .. }) = &self.running {
            node.begin_drain();
            let slots = Arc::new(Slots::new(node.clock, node.registry.open(), spread, 2 * spread));
            handles.iter().for_each(|handle| handle.mailbox().push(ShardEvent::Drain(Arc::clone(&slots))));
        }
    }

    /// One turn of a shard, if something has woken it. Says whether.
    pub fn turn(&mut self, shard: usize) -> bool {
        let Some(running) = &mut self.running else { return false };
        let Some(woken) = running.woken.get(shard).filter(|woken| woken.take()) else { return false };
        let waker = Waker::from(Arc::clone(woken));
        let place = &mut running.shards[shard];
        let Some(turned) = place.as_mut().map(|shard| shard.turn(&mut Context::from_waker(&waker))) else {
            return false;
        };
        if turned.is_ready() {
            // Drained.
            *place = None;
        }
        if running.shards.iter().all(Option::is_none) {
            self.running = None;
        }
        true
    }
}
