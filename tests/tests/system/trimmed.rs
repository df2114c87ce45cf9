//! The log forgets what clients who are away have not seen: each is told one gap with its range, and nobody else any.

use crate::brokers::Queue;
use crate::fleet::{Fleet, Load, Pace};
use anabranch_gateway::log::Log;
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::ledger::Ledger;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use std::time::Duration;

const CLIENTS: usize = 20;
const PACE: Pace = Pace { batch: 20, every: Duration::from_millis(10) };

/// Lets `trim` forget the oldest part while every second client is away. `opened` is the same log.
pub async fn each_is_told_one_gap(log: &str, opened: &dyn Log, trim: impl FnOnce()) {
    // A small ring: what the log forgets must not be there either.
    let settings = Settings::default().set("log", &format!("{log:?}")).set("limits.ring", "\"1MiB\"");
    let gateway = Gateway::with(settings).await;
    let ledger = Ledger::new();
    let url = gateway.url();
    let fleet = Fleet::live(CLIENTS, &tokens::all("fleet"), |_| url.clone()).await;
    let load = async |messages: usize| {
        let publisher = HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger.clone());
        let goal = ledger.confirmed() + messages;
        let load = Load::at(PACE, publisher.with_padding(1_000));
        until("messages", async || (ledger.confirmed() >= goal).then_some(())).await;
        load.stop().await;
    };
    load(100).await;
    assert!(fleet.judge(&ledger, Duration::from_secs(30)).await.is_perfect());
    let away = || fleet.members.iter().step_by(2);
    away().for_each(|member| member.client.pause("away"));
    load(5_000).await;

    let oldest = async || opened.bounds(0).await.expect("bounds").oldest;
    let before = oldest().await;
    trim();
    let forgotten = until("the log forgets", async || Some(oldest().await).filter(|now| *now > before)).await;
    println!("the oldest record was {before}, and is {forgotten}");
    away().for_each(|member| member.client.resume("away"));
    for (number, member) in fleet.members.iter().enumerate() {
        let complete = async || (ledger.judge(&member.witness()).lost_unannounced == 0).then_some(());
        until("everything, or the gap", complete).await;
        let verdict = ledger.judge(&member.witness());
        assert!(verdict.keeps_the_promise(), "{number}: {verdict}");
        let witness = member.witness();
        match (number % 2, witness.gaps()) {
            (0, [gap]) => {
                assert_eq!(
                    gap.before, forgotten,
                    "{number}: up to what can be read, and no further: {gap:?}"
                );
                assert!(verdict.lost_announced > 0, "{number}: {verdict}");
            }
            (1, []) => assert_eq!(verdict.lost_announced, 0, "{number}: {verdict}"),
            (_, gaps) => panic!("{number}: {gaps:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_rabbitmq() {
    let Some(server) = anabranch_tests::brokers::rabbitmq().await else { return };
    let (queue, log) = Queue::fresh(&server);
    let opened = queue.open().await;
    each_is_told_one_gap(&log, &opened, || queue.keep(128 << 10)).await;
}
