//! RabbitMQ takes nothing for a while, low on memory: publishers are told what to do, readers notice nothing.
//!
//! At which rate readers go on is measured by `anabranch-loadtest alarm`.

use crate::brokers;
use crate::fleet::{Fleet, Load, Pace};
use anabranch_brokers::{RabbitMq, RabbitMqOptions};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::ledger::Ledger;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use std::time::{Duration, Instant};

const CLIENTS: usize = 20;
const PACE: Pace = Pace { batch: 20, every: Duration::from_millis(10) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_go_on_and_publishers_are_told_to_retry() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(server) = brokers::had(RabbitMq::start(RabbitMqOptions::new(folder.path()))) else { return };
    let log = brokers::rabbitmq_log(&server);
    // A small ring: who is behind reads from the broker.
    let settings = Settings::default().set("log", &format!("{log:?}")).set("limits.ring", "\"1MiB\"");
    let gateway = Gateway::with(settings).await;
    let ledger = Ledger::new();
    let url = gateway.url();
    let fleet = Fleet::live(CLIENTS, &tokens::all("fleet"), |_| url.clone()).await;
    for member in &fleet.members[..CLIENTS / 2] {
        member.client.pause("away");
    }
    let publisher = HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger.clone());
    let load = Load::at(PACE, publisher.with_padding(1_000));
    until("a backlog", async || (ledger.confirmed() >= 4_000).then_some(())).await;
    load.stop().await;

    server.memory_alarm(true).expect("an alarm");
    let mut answers = Vec::new();
    for _ in 0..2 {
        let began = Instant::now();
        let refusal = brokers::publish_once(&gateway).await;
        assert_eq!(refusal["remedy"], "retry", "{refusal}");
        answers.push((refusal["code"].clone(), began.elapsed()));
    }
    println!("publishes in the alarm: {answers:?}");
    assert_eq!(answers[1].0, 4102, "who asks again is told at once that the log takes nothing");
    let told = async || fleet.members[CLIENTS - 1..].iter().all(|m| !m.client.state().upstream).then_some(());
    until("clients are told that the log takes nothing", told).await;
    for member in &fleet.members {
        member.client.resume("away");
    }
    let verdict = fleet.judge(&ledger, Duration::from_secs(60)).await;
    println!("in the alarm: {verdict}");
    assert!(verdict.is_perfect(), "{verdict}");

    server.memory_alarm(false).expect("no alarm");
    let mut publisher = HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger.clone());
    publisher.publish(&["plant/0/alarm"]).await;
    let verdict = fleet.judge(&ledger, Duration::from_secs(30)).await;
    assert!(verdict.is_perfect(), "{verdict}");
}
