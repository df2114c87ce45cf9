//! A subscriber races replay: append, subscribe, trim, unsubscribe, slow reading and reconnects in every order, against a
//! model.
//!
//! The shard, its connections, ring, interest and replay are the real ones, driven turn by turn without a clock or a
//! thread; the log is a list that forgets, the socket a pipe as slow as its reader. What is checked is the promise
//! itself: each record after a subscription's cursor that its filter matches arrives once and in order, or lies inside a
//! gap that was told before the next message; of state topics, the newest value of each arrives, whatever the log has
//! forgotten; a client that asked for a snapshot holds exactly the newest values; nothing else arrives; and the marks
//! count right.

mod client;
mod log;
mod restless;
mod state;

use super::by_hand::{self, Woken, authenticator};
use super::lines::Line;
use super::{Arrival, RETRY_MS, Shard, ShardEvent, ShardHandle};
use crate::connection::session::Rules;
use crate::hub::block::Block;
use crate::hub::classes::{Class, Classes, Value};
use crate::hub::newest::Fold;
use crate::hub::registry::{Limits as Seats, Registry};
use crate::hub::sizes::Sizes;
use crate::node::{Node, Parts};
use crate::socket::Socket;
use crate::socket::pipe::Pipe;
use anabranch_protocol::client_frame::SnapshotMode;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::Limits;
use client::Client;
use log::ListLog;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::runtime::Runtime;

const TOPICS: [&str; 9] = ["a", "a/b", "c", "$s", "s", "s/1", "s/2", "p/1", "p/2"];
const FILTERS: [&str; 10] = ["a", "a/#", "+", "#", "c", "a/b", "s/#", "s/1", "p/+", "+/1"];
/// What the topics mean: whole values below `s`, patches below `p`.
const STATE: [(&str, Value); 2] = [("s/#", Value::Whole), ("p/#", Value::Patch)];
/// Payloads of patches; those of whole values are numbers, or `null`.
const PATCHES: [&str; 6] = [
    r#"{"a":{"x":1}}"#,
    r#"{"a":null}"#,
    r#"{"a":{"y":2},"b":3}"#,
    "null",
    r#"{"b":null,"c":[1]}"#,
    r#"{"a":7}"#,
];

fn classes() -> Arc<Classes> {
    let rows = STATE.map(|(row, value)| (Filter::new(row).expect("a row"), Class::State(value)));
    Arc::new(Classes::new(rows).expect("no conflict"))
}

/// A payload for a topic: of an event, of some size.
fn payload(topic: &str, pick: usize) -> String {
    match classes().class_of(topic) {
        Class::State(Value::Whole) if pick.is_multiple_of(4) => "null".into(),
        Class::State(Value::Whole) => pick.to_string(),
        Class::State(Value::Patch) => PATCHES[pick % PATCHES.len()].into(),
        Class::Event | Class::Command => format!("\"{}\"", "x".repeat(pick)),
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// The log takes a record, after a hole of so many offsets.
    Append {
        topic: usize,
        pick: usize,
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
        snapshot: SnapshotMode,
        conflate_ms: u64,
    },
    /// Ends the so-manieth subscription.
    Unsubscribe(usize),
    /// The so-manieth subscription is conflated on purpose from now on; 0: no more.
    Conflate(usize, u64),
    /// Nobody looks at the client, or somebody does again.
    Hide(bool),
    /// So many milliseconds pass.
    Wait(u64),
    /// The client reads so many bytes.
    Read(usize),
    /// The client asks for a mark.
    Probe,
    /// The connection is lost; the client comes back to another shard, which has an empty ring.
    Reconnect,
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
        40 => (0..TOPICS.len(), prop_oneof![0usize..12, Just(200)], 0..3u64)
            .prop_map(|(topic, pick, hole)| Step::Append { topic, pick, hole }),
        1 => (70usize..200).prop_map(Step::Burst),
        40 => (1usize..8).prop_map(Step::Pump),
        1 => (70usize..200).prop_map(Step::Pump),
        10 => (1usize..12).prop_map(Step::Trim),
        20 => (0..FILTERS.len(), start(), proptest::sample::select(&SnapshotMode::ALL[..]), conflate_ms())
            .prop_map(|(filter, start, snapshot, conflate_ms)| {
                Step::Subscribe { filter, start, snapshot, conflate_ms }
            }),
        10 => (0usize..4).prop_map(Step::Unsubscribe),
        5 => (0usize..4, conflate_ms()).prop_map(|(which, ms)| Step::Conflate(which, ms)),
        3 => any::<bool>().prop_map(Step::Hide),
        10 => (1u64..150).prop_map(Step::Wait),
        30 => prop_oneof![1usize..40, 40usize..4000].prop_map(Step::Read),
        10 => Just(Step::Probe),
        5 => Just(Step::Reconnect),
        60 => Just(Step::Turn),
    ]
}

fn conflate_ms() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0), 1 => 1u64..300]
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![Just(Start::Now), Just(Start::Earliest), (0usize..20).prop_map(Start::Back)]
}

/// A shard with one client, and all that is around them.
struct World {
    log: Arc<ListLog>,
    node: Arc<Node>,
    room: usize,
    fold: Fold,
    shard: Shard,
    handle: ShardHandle,
    client: Client,
    head: Cursor,
    pumped: usize,
    woken: Arc<Woken>,
}

impl World {
    fn new(room: usize, ring_bytes: usize, page: usize, newest_bytes: usize) -> World {
        let log = ListLog::new(page);
        let registry = Registry::new(Seats { total: 999, per_address: 999, per_subject: 999 });
        let limits =
            Limits { frame_bytes: 100_000, subscriptions: 256, publishes_in_flight: 8, conflate_ms: 1_000 };
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
                sizes: Sizes::new(10_000, Vec::new()),
                classes: classes(),
            },
            shadows: None,
            ring_bytes,
        });
        let head = Cursor::beginning(log.log_id());
        let fold = Fold::new(classes(), newest_bytes);
        let (shard, handle) = Shard::new(Arc::clone(&node), head.clone(), fold.values().clone());
        let pipe = World::dial(&node, &handle, room);
        let client = Client::new(pipe, log.clone(), token());
        let woken = Arc::default();
        let mut world = World { log, node, room, fold, shard, handle, client, head, pumped: 0, woken };
        // The first turn registers the wakers, as a runtime's first poll does.
        world.turn();
        world
    }

    fn dial(node: &Node, handle: &ShardHandle, room: usize) -> Pipe {
        let pipe = Pipe::new(room);
        let seat = node.registry.seat(Ipv4Addr::LOCALHOST.into()).expect("room for one");
        handle.connect(Arrival { socket: Socket::Pipe(pipe.clone()), early: Default::default(), seat });
        pipe
    }

    fn reconnect(&mut self) {
        let (shard, handle) =
            Shard::new(Arc::clone(&self.node), self.head.clone(), self.fold.values().clone());
        (self.shard, self.handle) = (shard, handle);
        let pipe = World::dial(&self.node, &self.handle, self.room);
        self.client.reconnect(pipe, token());
        self.turn();
    }

    fn turn(&mut self) {
        let _ = self.shard.turn(&mut Context::from_waker(&Waker::from(Arc::clone(&self.woken))));
    }

    fn pump(&mut self, count: usize) {
        let records = self.log.all(self.pumped, count);
        if let Some(last) = records.last() {
            self.pumped += records.len();
            self.node.publisher.pass(0, last.position.offset);
            let classes = classes();
            let block = Block::encode_with(self.head.clone(), &records, |topic| classes.is_patch(topic));
            self.head.advance(last.position);
            let newest = self.fold.take(&records);
            self.handle.mailbox().push(ShardEvent::State(Arc::new(block), newest.into()));
        }
    }

    fn take(&mut self, step: &Step, runtime: &Runtime) {
        match step {
            Step::Append { topic, pick, hole } => {
                self.log.push(TOPICS[*topic], &payload(TOPICS[*topic], *pick), *hole);
            }
            Step::Burst(count) => (0..*count).for_each(|n| {
                let topic = TOPICS[n % TOPICS.len()];
                self.log.push(topic, &payload(topic, n % 11), 0);
            }),
            Step::Pump(count) => self.pump(*count),
            // Real logs forget what was read long ago; the hub is ahead of that.
            Step::Trim(count) => self.log.trim(*count, self.pumped),
            Step::Subscribe { filter, start, snapshot, conflate_ms } => {
                self.client.subscribe(FILTERS[*filter], start, *snapshot, *conflate_ms);
            }
            Step::Conflate(which, ms) => self.client.conflate(*which, *ms),
            Step::Hide(hidden) => self.client.hide(*hidden),
            Step::Wait(ms) => runtime.block_on(tokio::time::advance(Duration::from_millis(*ms))),
            Step::Unsubscribe(which) => self.client.unsubscribe(*which),
            Step::Read(bytes) => self.client.read(*bytes),
            Step::Probe => self.client.probe(),
            Step::Reconnect => self.reconnect(),
            Step::Turn => self.turn(),
        }
    }

    /// Lets everything that is under way arrive, then checks what must have.
    fn settle(mut self, runtime: &Runtime) {
        self.pump(usize::MAX);
        self.rest(runtime);
        let values = self.fold.values();
        self.client.check(values.unsure_to(0).max(values.deletions_unsure_to(0)) > Default::default());
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

/// For its clock, which stands still until it is told to move.
fn standing_still() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime")
}

fn token() -> String {
    static ONE: OnceLock<String> = OnceLock::new();
    ONE.get_or_init(|| by_hand::token("racer", &["#"], &[], 250_000_000_000)).clone()
}

/// How many cases: 100,000, in slices that run side by side. `PROPTEST_CASES` changes the size of a slice.
const SLICE: u32 = 25_000;

fn race() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(SLICE);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let runtime = standing_still();
    let _context = runtime.enter();
    proptest!(config, |(
        steps in proptest::collection::vec(step(), 1..60),
        room in prop_oneof![Just(50usize), Just(700), Just(100_000)],
        page in prop_oneof![Just(5usize), Just(300)],
        ring in prop_oneof![Just(300usize), Just(3_000), Just(1_000_000)],
        newest in prop_oneof![3 => Just(1_000_000usize), 1 => Just(1_000)],
    )| {
        let mut world = World::new(room, ring, page, newest);
        for step in &steps {
            world.take(step, &runtime);
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

/// Found by the random race: there was no room for a value when the first part of a snapshot was told, and the rest comes from another shard.
#[test]
fn the_rest_of_a_snapshot_is_not_complete_where_its_beginning_was_not() {
    let runtime = standing_still();
    let _context = runtime.enter();
    let mut world = World::new(700, 300, 5, 1_000);
    world.client.subscribe("#", &Start::Now, SnapshotMode::IfNew, 0);
    for (topic, payload) in [("s", "1"), ("p/1", PATCHES[0]), ("p/2", PATCHES[4])] {
        world.log.push(topic, payload, 0);
    }
    world.pump(3);
    world.reconnect();
    world.client.read(599);
    world.reconnect();
    world.settle(&runtime);
}

/// Found by the random race: the last value has come, and with it the place of the values, but nobody has said that the snapshot ends.
#[test]
fn a_snapshot_that_lacks_values_is_not_complete_when_it_was_cut_before_its_end() {
    let runtime = standing_still();
    let _context = runtime.enter();
    let mut world = World::new(700, 300, 5, 1_000);
    world.log.push("s/1", "1", 0);
    world.client.subscribe("+", &Start::Earliest, SnapshotMode::None, 0);
    world.client.subscribe("+/1", &Start::Now, SnapshotMode::IfNew, 0);
    world.log.push("s", "1", 0);
    world.log.push("p/1", PATCHES[0], 0);
    world.pump(3);
    world.reconnect();
    world.turn();
    world.client.read(688);
    world.reconnect();
    world.settle(&runtime);
}

/// Found by the random race: the deletion lies among what the log has lost, and one client began at the beginning and has the value.
#[test]
fn a_lost_deletion_reaches_who_has_the_value() {
    let runtime = standing_still();
    let _context = runtime.enter();
    let mut world = World::new(700, 300, 5, 1_000_000);
    world.client.subscribe("#", &Start::Earliest, SnapshotMode::None, 0);
    world.log.push("s/1", "1", 0);
    world.client.subscribe("a", &Start::Now, SnapshotMode::None, 0);
    world.pump(1);
    world.client.subscribe("a", &Start::Earliest, SnapshotMode::None, 0);
    world.turn();
    world.log.push("s/1", "null", 0);
    world.pump(1);
    world.log.push("a", "0", 0);
    world.log.trim(2, world.pumped);
    world.settle(&runtime);
}

/// What is missed of state topics costs as many messages as there are topics, however much there was and whatever of it the
/// log has forgotten.
#[test]
fn ten_thousand_missed_updates_of_three_hundred_topics_are_three_hundred_messages() {
    let runtime = standing_still();
    let _context = runtime.enter();
    let mut world = World::new(100_000, 3_000, 300, 1 << 24);
    let update = |world: &mut World, number: usize| {
        world.log.push(&format!("s/{}", number % 300), &number.to_string(), 0);
    };
    (0..300).for_each(|number| update(&mut world, number));
    world.pump(usize::MAX);
    world.client.subscribe("s/#", &Start::Now, SnapshotMode::IfNew, 0);
    world.rest(&runtime);
    assert_eq!(world.client.messages(), 300, "the snapshot");
    for number in 0..10_000 {
        update(&mut world, number);
    }
    world.pump(usize::MAX);
    world.log.trim(usize::MAX, 10_300);
    world.reconnect();
    world.rest(&runtime);
    assert_eq!(world.client.messages(), 300, "one for each topic");
    world.settle(&runtime);
}

/// What a client that is conflated on purpose gets: how many messages, of updates that come one a millisecond.
fn conflated(conflate_ms: u64, hidden: bool, event_each: usize) -> (u64, u64) {
    let runtime = standing_still();
    let _context = runtime.enter();
    let mut world = World::new(100_000, 100_000, 300, 1 << 24);
    world.client.subscribe("#", &Start::Now, SnapshotMode::None, conflate_ms);
    if hidden {
        world.client.hide(true);
    }
    world.rest(&runtime);
    let mut reads = 0;
    for number in 0..1_000 {
        let topic = if number % event_each == event_each - 1 { "a" } else { "s/1" };
        world.log.push(topic, &(number + 1).to_string(), 0);
        world.pump(1);
        let before = world.client.messages();
        world.turn();
        world.turn();
        world.client.read(usize::MAX);
        reads += u64::from(world.client.messages() > before);
        runtime.block_on(tokio::time::advance(Duration::from_millis(1)));
    }
    world.rest(&runtime);
    let messages = world.client.messages();
    world.settle(&runtime);
    (messages, reads)
}

#[test]
fn state_comes_as_often_as_was_asked_for_and_events_at_once() {
    let never = 10_000;
    assert_eq!(conflated(0, false, never), (1_000, 1_000), "as it comes");
    let (messages, _) = conflated(100, false, never);
    assert!((10..=11).contains(&messages), "each 100 ms for a second, and the first: {messages}");
    // Each of the ten events takes along what is held: one value before each, at most.
    let (messages, _) = conflated(500, false, 100);
    assert!((20..=23).contains(&messages), "{messages}");
    let (messages, times) = conflated(0, true, 10);
    assert!((100..=106).contains(&messages), "every event, and the newest value: {messages}");
    assert!(times <= 4, "together, each 300 ms: {times}");
}

/// A message for three hundred puts them all in line; who asks something then is not the three hundred and first.
#[test]
fn who_asks_for_little_does_not_stand_behind_the_many() {
    let runtime = standing_still();
    let _context = runtime.enter();
    let mut world = World::new(100_000, 100_000, 300, 1 << 24);
    let many: Vec<Client> = (0..300)
        .map(|_| {
            let pipe = World::dial(&world.node, &world.handle, world.room);
            let mut client = Client::new(pipe, world.log.clone(), token());
            client.subscribe("c", &Start::Now, SnapshotMode::None, 0);
            client
        })
        .collect();
    world.rest(&runtime);
    assert_eq!(world.shard.connections.len(), 1 + many.len());
    world.log.push("c", "1", 0);
    world.pump(usize::MAX);
    world.client.probe();
    let waker = Waker::from(Arc::clone(&world.woken));
    let (cx, now) = (&mut Context::from_waker(&waker), world.node.clock.now());
    // Each takes a slice of time, however much that is enough for.
    while !(world.shard.take_events(cx, now) && world.shard.take_ready(cx, now)) {}
    assert_eq!(world.shard.lines.next(Line::Short), Some(0), "the first to connect has asked");
    assert_eq!(world.shard.lines.next(Line::Short), None);
    let in_line = std::iter::from_fn(|| world.shard.lines.next(Line::Long)).count();
    assert_eq!(in_line, many.len());
}
