//! The way to the broker goes silent: sockets stay open, nothing arrives. Noticed, told, and gone on after it is mended.

use crate::brokers;
use crate::fleet::{Fleet, Load, Pace};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::http_client;
use anabranch_tests::ledger::Ledger;
use anabranch_tests::proxy::ChaosProxy;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CLIENTS: usize = 20;
const PACE: Pace = Pace { batch: 10, every: Duration::from_millis(20) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_redis_goes_silent() {
    let Some(server) = brokers::had(anabranch_brokers::shared::redis()) else { return };
    let proxy = ChaosProxy::start(SocketAddr::from(([127, 0, 0, 1], server.port()))).await.expect("a proxy");
    let log = brokers::redis_log(&server)
        .replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.address().port()));
    silent(&proxy, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_rabbitmq_goes_silent() {
    let Some(server) = brokers::had(anabranch_brokers::shared::rabbitmq()) else { return };
    let port = server.amqp_port();
    let proxy = ChaosProxy::start(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("a proxy");
    let log = brokers::rabbitmq_log(&server)
        .replace(&format!(":{port}/"), &format!(":{}/", proxy.address().port()));
    silent(&proxy, &log).await;
}

/// Runs a gateway on this log, which it reaches through the proxy, makes the proxy silent, heals it, and judges.
pub async fn silent(proxy: &ChaosProxy, log: &str) {
    let gateway = Gateway::with(Settings::default().set("log", &format!("{log:?}"))).await;
    gateway.ready().await;
    let ledger = Ledger::new();
    let url = gateway.url();
    let fleet = Fleet::live(CLIENTS, &tokens::all("fleet"), |_| url.clone()).await;
    let load = Load::at(PACE, HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger.clone()));
    until("confirms", async || (ledger.confirmed() >= 200).then_some(())).await;
    proxy.freeze();
    let silent = Instant::now();
    until("readiness ends", async || (!is_ready(&gateway).await).then_some(())).await;
    let unready = silent.elapsed();
    let told = async || fleet.members.iter().all(|member| !member.client.state().upstream).then_some(());
    until("every client is told that the log is down", told).await;
    let noticed = silent.elapsed();
    proxy.heal();
    let healed = Instant::now();
    gateway.ready().await;
    let ready = healed.elapsed();
    let confirmed = ledger.confirmed();
    until("confirms again", async || (ledger.confirmed() > confirmed).then_some(())).await;
    load.stop().await;
    let verdict = fleet.judge(&ledger, Duration::from_secs(60)).await;
    println!(
        "silent: not ready after {unready:.2?}, every client told after {noticed:.2?}; healed: ready after {ready:.2?}, \
         {} messages\n{verdict}",
        ledger.confirmed(),
    );
    assert!(verdict.is_perfect(), "{verdict}");
}

async fn is_ready(gateway: &Gateway) -> bool {
    http_client::get(gateway.address(), "/readyz").await.is_ok_and(|response| response.status == 200)
}
