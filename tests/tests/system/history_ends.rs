//! The stream is deleted under the gateway: every client is told that another history begins, and nobody waits in silence.

use crate::brokers::{self, Queue};
use crate::fleet::{Fleet, Load, Pace};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::ledger::Ledger;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use std::time::{Duration, Instant};

const CLIENTS: usize = 20;
const PACE: Pace = Pace { batch: 10, every: Duration::from_millis(20) };

/// Replaces the stream below a gateway, and returns how long it took until every client knew of it.
pub async fn everybody_is_told(what: &str, log: &str, replace: impl FnOnce()) -> Duration {
    let gateway = Gateway::with(Settings::default().set("log", &format!("{log:?}"))).await;
    let before = Ledger::new();
    let url = gateway.url();
    let fleet = Fleet::live(CLIENTS, &tokens::all("fleet"), |_| url.clone()).await;
    let publisher = |ledger| HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger);
    let load = Load::at(PACE, publisher(before.clone()));
    until("messages", async || (before.confirmed() >= 500).then_some(())).await;
    load.stop().await;
    let verdict = fleet.judge(&before, Duration::from_secs(30)).await;
    assert!(verdict.is_perfect(), "{verdict}");

    let began = Instant::now();
    replace();
    let told = async || fleet.members.iter().all(|member| member.witness().resets() > 0).then_some(());
    until("every client is told of the reset", told).await;
    let took = began.elapsed();

    // And it goes on, for everybody, with one reset each.
    let after = Ledger::new();
    let load = Load::at(PACE, publisher(after.clone()));
    until("messages", async || (after.confirmed() >= 500).then_some(())).await;
    load.stop().await;
    for member in &fleet.members {
        let complete = async || (after.judge(&member.witness()).lost_unannounced == 0).then_some(());
        until("everything of the new history", complete).await;
        assert_eq!(member.witness().resets(), 1);
    }
    println!("{what}: {CLIENTS} clients told after {:.2} s", took.as_secs_f64());
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_rabbitmq_that_is_deleted() {
    let Some(server) = anabranch_tests::brokers::rabbitmq().await else { return };
    let (queue, log) = Queue::fresh(&server);
    everybody_is_told("deleted", &log, || queue.delete()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_rabbitmq_that_a_stranger_declares_again() {
    let Some(server) = anabranch_tests::brokers::rabbitmq().await else { return };
    let (queue, log) = Queue::fresh(&server);
    everybody_is_told("deleted and declared again", &log, || queue.replace()).await;
}

/// A gateway that may not declare cannot bring it back: clients know that nothing comes, and publishers are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_rabbitmq_that_stays_away() {
    let Some(server) = anabranch_tests::brokers::rabbitmq().await else { return };
    let (queue, log) = Queue::fresh(&server);
    // The first gateway makes it.
    Gateway::with(Settings::default().set("log", &format!("{log:?}"))).await.ready().await;
    let log = format!("{log}&declare=no");
    let gateway = Gateway::with(Settings::default().set("log", &format!("{log:?}"))).await;
    gateway.ready().await;
    let url = gateway.url();
    let fleet = Fleet::live(CLIENTS, &tokens::all("fleet"), |_| url.clone()).await;
    let began = Instant::now();
    queue.delete();
    let told = async || fleet.members.iter().all(|member| !member.client.state().upstream).then_some(());
    until("every client is told that the log is gone", told).await;
    println!("deleted for good: {CLIENTS} clients told after {:.2} s", began.elapsed().as_secs_f64());
    let refusal = brokers::publish_once(&gateway).await;
    assert_eq!(refusal["remedy"], "retry", "{refusal}");
}
