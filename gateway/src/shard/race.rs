//! A subscriber races replay: append, subscribe, trim, unsubscribe and slow reading in every order, against a model.
//!
//! The shard, its connections, ring, interest and replay are the real ones, driven turn by turn without a clock or a
//! thread; the log is a list that forgets, the socket a pipe as slow as its reader. What is checked is the promise
//! itself: each record after a subscription's cursor that its filter matches arrives once and in order, or lies inside a
//! gap that was told before the next message; nothing else arrives; and the marks count right.

mod client;
mod log;

use super::{Arrival, RETRY_MS, Shard, ShardEvent, ShardHandle};
use crate::auth::{Algorithm, Authenticator, NewToken};
use crate::config::{AuthConfig, KeyConfig, Secret};
use crate::connection::session::Rules;
use crate::hub::block::Block;
use crate::hub::newest::Values;
use crate::hub::registry::{Limits as Seats, Registry};
use crate::node::{Node, Parts};
use crate::socket::Socket;
use crate::socket::pipe::Pipe;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::server_frame::Limits;
use client::Client;
use log::ListLog;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use tokio::runtime::Runtime;

const TOPICS: [&str; 4] = ["a", "a/b", "c", "$s"];
const FILTERS: [&str; 6] = ["a", "a/#", "+", "#", "c", "a/b"];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// The log takes a record, after a hole of so many offsets.
    Append {
        topic: usize,
        size: usize,
        hole: u64,
    },
    /// The log takes so many records of changing topics: more pieces than due ranges hold.
    Burst(usize),
    /// The hub reads so many records of the log, as one block.
    Pump(usize),
    /// The log forgets so many of its oldest records.
    Trim(usize),
    Subscribe {
        filter: usize,
        start: Start,
    },
    /// Ends the so-manieth subscription.
    Unsubscribe(usize),
    /// The client reads so many bytes.
    Read(usize),
    /// The client asks for a mark.
    Probe,
    Turn,
}

#[derive(Clone, Debug)]
enum Start {
    Now,
    Earliest,
    /// After the so-manieth record from the end of what the log ever had.
    Back(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0..TOPICS.len(), prop_oneof![Just(10usize), Just(200)], 0..3u64)
            .prop_map(|(topic, size, hole)| Step::Append { topic, size, hole }),
        1 => (70usize..200).prop_map(Step::Burst),
        40 => (1usize..8).prop_map(Step::Pump),
        1 => (70usize..200).prop_map(Step::Pump),
        10 => (1usize..12).prop_map(Step::Trim),
        20 => (0..FILTERS.len(), start()).prop_map(|(filter, start)| Step::Subscribe { filter, start }),
        10 => (0usize..4).prop_map(Step::Unsubscribe),
        30 => prop_oneof![1usize..40, 40usize..4000].prop_map(Step::Read),
        10 => Just(Step::Probe),
        60 => Just(Step::Turn),
    ]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![Just(Start::Now), Just(Start::Earliest), (0usize..20).prop_map(Start::Back)]
}

/// A shard with one client, and all that is around them.
struct World {
    log: Arc<ListLog>,
    shard: Shard,
    handle: ShardHandle,
    client: Client,
    head: Cursor,
    pumped: usize,
    woken: Arc<Woken>,
}

impl World {
    fn new(room: usize, ring_bytes: usize, page: usize) -> World {
        let log = ListLog::new(page);
        let registry = Registry::new(Seats { total: 9, per_address: 9, per_subject: 9 });
        let limits = Limits { frame_bytes: 100_000, subscriptions: 256, publishes_in_flight: 8 };
        let node = Node::new(Parts {
            id: "race".into(),
            log: log.clone(),
            authenticator: authenticator(),
            registry: Arc::clone(&registry),
            rules: Rules {
                hello_timeout: 1 << 50,
                ping_interval: 1 << 50,
                ping_grace: 1 << 50,
                limits,
                envelope_bytes: 10_000,
                classes: Arc::default(),
            },
            ring_bytes,
        });
        let head = Cursor::beginning(log.log_id());
        let (shard, handle) = Shard::new(node, head.clone(), Values::new(1 << 20));
        let pipe = Pipe::new(room);
        let seat = registry.seat(Ipv4Addr::LOCALHOST.into()).expect("room for one");
        handle.connect(Arrival { socket: Socket::Pipe(pipe.clone()), early: Default::default(), seat });
        let client = Client::new(pipe, log.clone(), token());
        let mut world = World { log, shard, handle, client, head, pumped: 0, woken: Arc::default() };
        // The first turn registers the wakers, as a runtime's first poll does.
        world.turn();
        world
    }

    fn turn(&mut self) {
        let _ = self.shard.turn(&mut Context::from_waker(&Waker::from(Arc::clone(&self.woken))));
    }

    fn pump(&mut self, count: usize) {
        let records = self.log.all(self.pumped, count);
        if let Some(last) = records.last() {
            self.pumped += records.len();
            let block = Block::encode(self.head.clone(), &records);
            self.head.advance(last.position);
            self.handle.mailbox().push(ShardEvent::Block(Arc::new(block)));
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append { topic, size, hole } => self.log.push(TOPICS[*topic], *size, *hole),
            Step::Burst(count) => (0..*count).for_each(|n| self.log.push(TOPICS[n % TOPICS.len()], 10, 0)),
            Step::Pump(count) => self.pump(*count),
            // Real logs forget what was read long ago; the hub is ahead of that.
            Step::Trim(count) => self.log.trim(*count, self.pumped),
            Step::Subscribe { filter, start } => self.client.subscribe(FILTERS[*filter], start),
            Step::Unsubscribe(which) => self.client.unsubscribe(*which),
            Step::Read(bytes) => self.client.read(*bytes),
            Step::Probe => self.client.probe(),
            Step::Turn => self.turn(),
        }
    }

    /// Lets everything that is under way arrive, then checks what must have.
    fn settle(mut self, runtime: &Runtime) {
        self.pump(usize::MAX);
        self.rest(runtime);
        self.client.check();
        self.client.probe();
        self.rest(runtime);
        let settled = self.client.has_settled(&self.head);
        assert!(
            settled,
            "the client is not told that it stands at {}: {}",
            self.head,
            self.client.describe()
        );
    }

    /// Turns the shard as often as it is woken, and no more: a wake-up that is lost stops it here.
    fn rest(&mut self, runtime: &Runtime) {
        let mut idle = 0;
        // Far more than any page, piece of the ring or pipeful needs.
        for _ in 0..20_000 {
            if idle == 3 {
                return;
            }
            idle = if self.woken.take() { 0 } else { idle + 1 };
            if idle == 0 {
                self.turn();
            }
            self.client.read(usize::MAX);
            // The time that a read of the log waits before it is tried again.
            runtime.block_on(tokio::time::advance(Duration::from_millis(RETRY_MS)));
        }
        panic!("the shard does not come to rest: {}", self.client.describe());
    }
}

/// Whether the shard was woken since it was asked last.
#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn secret() -> Secret {
    Secret::new(*b"a secret of at least 32 bytes, for tests only")
}

fn authenticator() -> Arc<Authenticator> {
    static ONE: OnceLock<Arc<Authenticator>> = OnceLock::new();
    let make = || {
        let key = KeyConfig { algorithm: Algorithm::Hs256, kid: None, issuer: None, material: secret() };
        let config = AuthConfig { keys: vec![key], ..AuthConfig::default() };
        Arc::new(Authenticator::new(&config).expect("one good key"))
    };
    Arc::clone(ONE.get_or_init(make))
}

fn token() -> String {
    let token = NewToken {
        subject: "racer".into(),
        issuer: AuthConfig::DEFAULT_NAME.into(),
        audience: AuthConfig::DEFAULT_NAME.into(),
        not_before: 1,
        expires: 250_000_000_000,
        read: vec!["#".into()],
        ..NewToken::default()
    };
    static ONE: OnceLock<String> = OnceLock::new();
    ONE.get_or_init(|| token.sign(&secret())).clone()
}

/// How many cases: 100,000, in slices that run side by side. `PROPTEST_CASES` changes the size of a slice.
const SLICE: u32 = 25_000;

fn race() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(SLICE);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    // For its clock, which stands still until it is told to move.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let _context = runtime.enter();
    proptest!(config, |(
        steps in proptest::collection::vec(step(), 1..60),
        room in prop_oneof![Just(50usize), Just(700), Just(100_000)],
        page in prop_oneof![Just(5usize), Just(300)],
        ring in prop_oneof![Just(300usize), Just(3_000), Just(1_000_000)],
    )| {
        let mut world = World::new(room, ring, page);
        for step in &steps {
            world.take(step);
        }
        world.settle(&runtime);
    });
}

#[test]
fn a_subscriber_races_replay_first_slice() {
    race();
}

#[test]
fn a_subscriber_races_replay_second_slice() {
    race();
}

#[test]
fn a_subscriber_races_replay_third_slice() {
    race();
}

#[test]
fn a_subscriber_races_replay_fourth_slice() {
    race();
}
