//! A record that kills every AMQP consumer: a device's topic of more than 255 bytes.

use crate::kit::{Foreign, open, options, payload, server};
use crate::mqtt;
use anabranch_brokers::RabbitMq as Server;
use anabranch_gateway::log::conformance::Follower;
use anabranch_gateway::log::rabbitmq::Options;
use anabranch_gateway::log::{Budget, GapReason, Health, Log, ReadError, Start};
use anabranch_protocol::cursor::Offset;

/// The exchange of the MQTT plugin, and what is below a topic of our own.
fn devices(server: &Server) -> Options {
    let options = options(server);
    let bindings = vec![format!("{}.#", options.queue)];
    Options { exchange: "iotsphere".to_owned(), bindings, ..options }
}

fn long(options: &Options) -> String {
    format!("{}/{}", options.queue, "x".repeat(300))
}

fn retries(follower: &Follower) -> usize {
    follower.health.iter().filter(|health| matches!(health, Health::Retrying(_))).count()
}

#[tokio::test]
async fn it_is_stepped_over_and_announced() {
    let Some(server) = server() else { return };
    let options = devices(&server);
    let log = open(&options).await;
    let foreign = Foreign::new(&options).await;
    let key = format!("{}.d1", options.queue);
    // Tailed while it arrives; for a while it is the newest record.
    let mut live = Follower::start(&log, Start::Earliest);
    foreign.publish(&key, b"1").await;
    live.until_records(1).await;
    mqtt::publish(server.mqtt_port(), &long(&options), b"2").await;
    live.until(|live| live.gaps.len() == 1 && live.health.last() == Some(&Health::Connected)).await;
    foreign.publish(&key, b"3").await;
    live.until_records(2).await;
    // And later, from the beginning.
    let mut late = Follower::start(&log, Start::Earliest);
    late.until_records(2).await;
    for follower in [&live, &late] {
        let payloads: Vec<_> = follower.records.iter().map(payload).collect();
        assert_eq!(payloads, ["1", "3"]);
        let [gap] = &follower.gaps[..] else { panic!("{:?}", follower.gaps) };
        let poisoned = Offset(follower.records[0].position.offset.0 + 1);
        assert_eq!((gap.after.0 + 1, gap.before.0 - 1), (poisoned.0, poisoned.0), "nothing else is given up");
        assert_eq!(gap.why, GapReason::Poisoned);
        assert!(follower.resets.is_empty());
        assert!(retries(follower) <= 5, "{:?}", follower.health);
    }
    assert!(log.passed_over().poisoned >= 2, "it is counted");
    // A read stops before it, and says what cannot be read.
    let all = Budget { records: usize::MAX, bytes: usize::MAX };
    let before = log.read(0, Offset(0), all).await.expect("readable");
    assert_eq!(before.records.len(), 1);
    let beyond = log.read(0, before.covered_to, all).await;
    let Err(ReadError::Corrupt { before, .. }) = beyond else { panic!("{beyond:?}") };
    let after = log.read(0, Offset(before.0 - 1), all).await.expect("readable");
    assert_eq!(after.records.iter().map(payload).collect::<Vec<_>>(), ["3"]);
}

#[tokio::test]
async fn the_first_record_may_be_the_one() {
    let Some(server) = server() else { return };
    let options = devices(&server);
    let log = open(&options).await;
    let foreign = Foreign::new(&options).await;
    mqtt::publish(server.mqtt_port(), &long(&options), b"1").await;
    let key = format!("{}.d1", options.queue);
    foreign.publish(&key, b"2").await;
    let mut follower = Follower::start(&log, Start::Earliest);
    follower.until_records(1).await;
    assert_eq!(payload(&follower.records[0]), "2");
    let good = follower.records[0].position;
    // Where the log begins is a question that quiet tails ask every second.
    let bounds = log.bounds(0).await.expect("bounds");
    assert_eq!((bounds.oldest, bounds.newest), (good.offset, Some(good)));
    let all = Budget { records: usize::MAX, bytes: usize::MAX };
    let batch = log.read(0, Offset(good.offset.0 - 1), all).await.expect("readable");
    assert_eq!(batch.records.iter().map(|record| record.position).collect::<Vec<_>>(), [good]);
    foreign.publish(&key, b"3").await;
    follower.until_records(2).await;
    assert!(follower.gaps.len() <= 1 && follower.resets.is_empty(), "{:?}", follower.gaps);
}

#[tokio::test]
async fn in_a_crowd_it_takes_few_with_it_and_all_are_accounted_for() {
    let Some(server) = server() else { return };
    let options = devices(&server);
    let log = open(&options).await;
    let foreign = Foreign::new(&options).await;
    let key = format!("{}.d1", options.queue);
    let mut confirms = Vec::new();
    for n in 0..1_000 {
        confirms.push(foreign.send(&key, n.to_string().as_bytes()).await);
        if n == 500 {
            let (port, topic) = (server.mqtt_port(), long(&options));
            tokio::spawn(async move { mqtt::publish(port, &topic, b"poison").await })
                .await
                .expect("published");
        }
    }
    for confirm in confirms {
        confirm.await.expect("a confirm");
    }
    let mut follower = Follower::start(&log, Start::Earliest);
    follower.until(|follower| follower.records.iter().any(|record| payload(record) == "999")).await;
    let lost = 1_000 - follower.records.len();
    let given_up: u64 = follower.gaps.iter().map(|gap| gap.before.0 - gap.after.0 - 1).sum();
    println!("{lost} good records given up, {} reconnects, gaps {:?}", retries(&follower), follower.gaps);
    assert!(follower.gaps.iter().all(|gap| gap.why == GapReason::Poisoned));
    assert_eq!(given_up, lost as u64 + 1, "each is delivered or announced");
    assert!(lost < 10, "{lost} good records are lost with it");
}
