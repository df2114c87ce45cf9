//! What [`lost_history`](crate::lost_history) tries, on RabbitMQ.

use crate::brokers::{self, Queue};
use crate::fleet::Fleet;
use crate::lost_history::{deleted_under_clients, trimmed_past_cursors};
use anabranch_gateway::log::Log;
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_trims_past_cursors() {
    let Some(server) = anabranch_tests::brokers::rabbitmq().await else { return };
    let (queue, log) = Queue::fresh(&server);
    trimmed_past_cursors(&log, 2_000, async || {
        let opened = queue.open().await;
        let oldest = async || opened.bounds(0).await.expect("bounds").oldest;
        let before = oldest().await;
        queue.keep(200 << 10);
        until("the broker forgets", async || (oldest().await > before).then_some(())).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_rabbitmq_is_deleted() {
    let Some(server) = anabranch_tests::brokers::rabbitmq().await else { return };
    let (queue, log) = Queue::fresh(&server);
    deleted_under_clients(&log, async || queue.delete()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_rabbitmq_is_deleted_and_a_stranger_declares_it_again() {
    let Some(server) = anabranch_tests::brokers::rabbitmq().await else { return };
    let (queue, log) = Queue::fresh(&server);
    deleted_under_clients(&log, async || queue.replace()).await;
}

/// A gateway that may not declare cannot bring it back: clients know that nothing comes, and publishers are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_rabbitmq_is_deleted_for_good() {
    const CLIENTS: usize = 20;
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
