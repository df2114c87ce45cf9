//! The broker is killed and restarted during publishing: clients stay connected, are told, and catch up.

use crate::brokers;
use crate::fleet::{Fleet, Load, Pace};
use anabranch_brokers::{RabbitMq, RabbitMqOptions, Redis, RedisOptions, Unavailable};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::ledger::Ledger;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use std::time::{Duration, Instant};

const CLIENTS: usize = 60;
const KILLS: usize = 5;
const PACE: Pace = Pace { batch: 20, every: Duration::from_millis(20) };

/// A broker that can be killed.
pub trait Broker {
    /// With SIGKILL, as a crash.
    fn kill(&mut self) -> Result<(), Unavailable>;
    /// Returns when it answers again.
    fn restart(&mut self) -> Result<(), Unavailable>;
}

impl Broker for Redis {
    fn kill(&mut self) -> Result<(), Unavailable> {
        Redis::kill(self)
    }

    fn restart(&mut self) -> Result<(), Unavailable> {
        Redis::restart(self)
    }
}

impl Broker for RabbitMq {
    fn kill(&mut self) -> Result<(), Unavailable> {
        RabbitMq::kill(self)
    }

    fn restart(&mut self) -> Result<(), Unavailable> {
        RabbitMq::restart(self)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_five_times() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mut server) = brokers::had(Redis::start(RedisOptions::new(folder.path()))) else { return };
    let log = brokers::redis_log(&server);
    killed_five_times(&mut server, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_is_killed_five_times() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mut server) = brokers::had(RabbitMq::start(RabbitMqOptions::new(folder.path()))) else { return };
    let log = brokers::rabbitmq_log(&server);
    killed_five_times(&mut server, &log).await;
}

/// Publishes through a gateway on this log, kills the broker below it again and again, and judges.
pub async fn killed_five_times(broker: &mut impl Broker, log: &str) {
    let gateway = Gateway::with(Settings::default().set("log", &format!("{log:?}"))).await;
    let ledger = Ledger::new();
    let url = gateway.url();
    let fleet = Fleet::live(CLIENTS, &tokens::all("fleet"), |_| url.clone()).await;
    let connected_since: Vec<u64> = fleet.members.iter().map(|member| member.client.state().since).collect();
    let began = Instant::now();
    let load = Load::at(PACE, HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger.clone()));
    let mut catching_up = Vec::new();
    for _ in 0..KILLS {
        let goal = ledger.confirmed() + 1_000;
        until("confirms", async || (ledger.confirmed() >= goal).then_some(())).await;
        broker.kill().expect("killed");
        let told = async || fleet.members.iter().all(|member| !member.client.state().upstream).then_some(());
        until("every client is told that the log is down", told).await;
        broker.restart().expect("restarted");
        let (back, confirmed) = (Instant::now(), ledger.confirmed());
        let told = async || fleet.members.iter().all(|member| member.client.state().upstream).then_some(());
        until("every client is told that the log is back", told).await;
        until("a publish is confirmed", async || (ledger.confirmed() > confirmed).then_some(())).await;
        let verdict = fleet.judge(&ledger, Duration::from_secs(30)).await;
        catching_up.push(back.elapsed().as_secs_f64());
        assert_eq!(verdict.lost_unannounced, 0, "{verdict}");
    }
    let retries = load.stop().await;
    let took = began.elapsed().as_secs_f64();
    let verdict = fleet.judge(&ledger, Duration::from_secs(60)).await;
    let confirmed = ledger.confirmed();
    println!(
        "{CLIENTS} clients, {KILLS} kills of the broker, {confirmed} messages in {took:.1} s, {retries} publishes \
         retried; seconds from the broker's return until all had everything: {catching_up:.2?}\n{verdict}"
    );
    assert!(verdict.is_perfect(), "{verdict}");
    for (member, since) in fleet.members.iter().zip(connected_since) {
        assert_eq!(member.client.state().since, since, "a client was disconnected");
    }
}
