//! Exchanges whose records come into ours: `from=`.

use crate::kit::{Foreign, open, options, payload, server};
use anabranch_gateway::log::conformance::Follower;
use anabranch_gateway::log::rabbitmq::{Feed, Options};
use anabranch_gateway::log::{Log, Start};
use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;

#[tokio::test]
async fn what_another_exchange_routes_by_the_binding_comes_too_and_nothing_else() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let theirs = format!("{}-theirs", options.queue);
    let devices = Foreign::new(&Options { exchange: theirs.clone(), ..options.clone() }).await;
    let how = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = devices.channel.exchange_declare(
        theirs.as_str().into(),
        ExchangeKind::Topic,
        how,
        FieldTable::default(),
    );
    declared.await.expect("declared");
    let feed = Feed { exchange: theirs, binding: "iotsphere.#".to_owned() };
    let log = open(&Options { from: vec![feed], ..options.clone() }).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    devices.publish("iotsphere.d1", b"1").await;
    devices.publish("elsewhere.d1", b"2").await;
    devices.publish("iotsphere.d2", b"3").await;
    Foreign::new(&options).await.publish("elsewhere.d1", b"4").await;
    follower.until_records(3).await;
    let found: Vec<_> = follower.records.iter().map(|record| (&*record.topic, payload(record))).collect();
    let expected = [("iotsphere/d1", "1"), ("iotsphere/d2", "3"), ("elsewhere/d1", "4")];
    assert_eq!(found, expected.map(|(topic, payload)| (topic, payload.to_owned())));
    assert!(log.passed_over().quarantined == 0 && follower.gaps.is_empty());
}
