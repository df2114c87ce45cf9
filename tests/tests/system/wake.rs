//! A machine wakes up: its sockets look open, and whoever stood between has forgotten them. Each is found out and replaced, and nothing is missed.

use crate::fleet::{Fleet, Load, Pace};
use anabranch::Phase;
use anabranch_tests::gateway_process::Gateway;
use anabranch_tests::ledger::Ledger;
use anabranch_tests::proxy::ChaosProxy;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use std::time::{Duration, Instant};

const CLIENTS: usize = 100;
/// 200 messages a second.
const PACE: Pace = Pace { batch: 10, every: Duration::from_millis(50) };

/// How long it takes is printed, not judged: by the core's rules the answer to a probe may take 2 s, and the first attempt comes within half a second more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_died_in_sleep_are_replaced() {
    let gateway = Gateway::start().await;
    let proxy = ChaosProxy::start(gateway.address()).await.expect("a proxy");
    let ledger = Ledger::new();
    let url = format!("ws://{}", proxy.address());
    let fleet = Fleet::live(CLIENTS, &tokens::all("fleet"), |_| url.clone()).await;
    let load = Load::at(PACE, HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger.clone()));
    let more = async || {
        let goal = ledger.confirmed() + 50;
        until("confirms", async || (ledger.confirmed() >= goal).then_some(())).await;
    };
    more().await;
    let accepted = proxy.accepted();
    let before: Vec<u64> = fleet.members.iter().map(|member| member.client.state().since).collect();
    proxy.strand();
    more().await;
    assert_eq!(fleet.live_now(), CLIENTS, "nobody has noticed yet");
    let woken = Instant::now();
    fleet.members.iter().for_each(|member| member.client.wake());
    let mut took = Vec::new();
    let mut waiting: Vec<usize> = (0..CLIENTS).collect();
    let all_live_anew = async || {
        waiting.retain(|number| {
            let state = fleet.members[*number].client.state();
            state.phase != Phase::Live || state.since == before[*number]
        });
        took.resize(CLIENTS - waiting.len(), woken.elapsed());
        waiting.is_empty().then_some(())
    };
    until("everybody is live on a new connection", all_live_anew).await;
    assert_eq!(proxy.accepted(), accepted + CLIENTS as u64, "one new connection for each");
    load.stop().await;
    let verdict = fleet.judge(&ledger, Duration::from_secs(60)).await;
    println!(
        "{CLIENTS} clients woken on dead sockets: live after {:.2?} to {:.2?}, half of them within {:.2?}\n{verdict}",
        took[0],
        took[CLIENTS - 1],
        took[CLIENTS / 2],
    );
    assert!(verdict.is_perfect(), "{verdict}");
}
