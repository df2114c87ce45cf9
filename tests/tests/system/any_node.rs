//! Any node: three gateways on one broker's log, and clients that are moved between them at random, all the time.
//!
//! Each client has a proxy of its own for an address: the balancer that sends it elsewhere.

use crate::brokers;
use crate::fleet::{Fleet, Load, Pace};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::ledger::Ledger;
use anabranch_tests::proxy::ChaosProxy;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::tokens;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

const NODES: usize = 3;
const CLIENTS: usize = 300;
/// Moves go on for so long.
const MOVING: Duration = Duration::from_secs(60);
/// One client is moved this often: each about every three seconds.
const BETWEEN_MOVES: Duration = Duration::from_millis(10);
/// Of one publisher, of which each node has one: 1,000 messages a second in all.
const PACE: Pace = Pace { batch: 10, every: Duration::from_millis(30) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moved_at_random_on_redis() {
    let Some(server) = brokers::had(anabranch_brokers::shared::redis()) else { return };
    moved_at_random(&brokers::redis_log(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moved_at_random_on_rabbitmq() {
    let Some(server) = brokers::had(anabranch_brokers::shared::rabbitmq()) else { return };
    moved_at_random(&brokers::rabbitmq_log(&server)).await;
}

/// Runs the nodes on this log, moves the clients, and judges.
pub async fn moved_at_random(log: &str) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(Gateway::with(Settings::default().set("log", &format!("{log:?}"))).await);
    }
    let mut at: Vec<usize> = (0..CLIENTS).map(|number| number % NODES).collect();
    let mut proxies = Vec::new();
    for node in &at {
        proxies.push(ChaosProxy::start(nodes[*node].address()).await.expect("a proxy"));
    }
    let fleet =
        Fleet::live(CLIENTS, &tokens::all("fleet"), |n| format!("ws://{}", proxies[n].address())).await;
    let ledger = Ledger::new();
    let publisher =
        |node: &Gateway| HttpPublisher::new(node.address(), &tokens::all("plant"), ledger.clone());
    let loads: Vec<Load> = nodes.iter().map(|node| Load::at(PACE, publisher(node))).collect();

    let began = Instant::now();
    let mut moves = 0;
    let mut ticks = tokio::time::interval(BETWEEN_MOVES);
    while began.elapsed() < MOVING {
        ticks.tick().await;
        let client = random.random_range(0..CLIENTS);
        at[client] = (at[client] + random.random_range(1..NODES)) % NODES;
        proxies[client].retarget(nodes[at[client]].address());
        // In order, or torn off in the middle of whatever was on its way.
        if random.random_bool(0.5) {
            proxies[client].cut()
        } else {
            proxies[client].reset()
        }
        moves += 1;
        if random.random_bool(0.8) {
            fleet.members[client].client.pause("radio");
            fleet.members[client].client.resume("radio");
        }
    }
    let mut retries = 0;
    for load in loads {
        retries += load.stop().await;
    }
    let took = began.elapsed().as_secs_f64();
    fleet.members.iter().for_each(|member| member.client.wake());
    let verdict = fleet.judge(&ledger, Duration::from_secs(60)).await;
    let confirmed = ledger.confirmed();
    println!(
        "{NODES} nodes, {CLIENTS} clients, {moves} moves, {confirmed} messages in {took:.1} s ({:.0}/s), \
         {retries} publishes retried\n{verdict}",
        confirmed as f64 / took,
    );
    assert!(verdict.is_perfect(), "{verdict}");
}
