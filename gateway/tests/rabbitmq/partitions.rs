//! Several streams behind a consistent-hash exchange.

use crate::kit::{open, options, server};
use anabranch_gateway::log::conformance::record_of;
use anabranch_gateway::log::rabbitmq::Options;
use anabranch_gateway::log::{Budget, Log};
use anabranch_protocol::cursor::Offset;
use std::collections::HashMap;

#[tokio::test]
async fn a_topic_stays_in_its_partition() {
    let Some(server) = server() else { return };
    let options = Options { partitions: 3, ..options(&server) };
    let log = open(&options).await;
    assert_eq!(log.capabilities().partitions, 3);
    let mut confirms = Vec::new();
    for n in 0..300 {
        let record = record_of(&format!("iotsphere/devices/d{}/status", n % 30), n, 0);
        confirms.push((record.clone(), log.append(record)));
    }
    let mut places = HashMap::new();
    let mut expected: [Vec<_>; 3] = Default::default();
    for (record, confirm) in confirms {
        let position = confirm.await.expect("confirmed");
        let place = *places.entry(record.topic.as_str().to_owned()).or_insert(position.partition);
        assert_eq!(position.partition, place, "{}", record.topic.as_str());
        expected[usize::from(place)].push((position, record.envelope));
    }
    assert!(expected.iter().all(|records| !records.is_empty()), "no partition is idle");
    let all = Budget { records: usize::MAX, bytes: usize::MAX };
    for (partition, expected) in expected.iter().enumerate() {
        let batch = log.read(partition as u16, Offset(0), all).await.expect("readable");
        let found: Vec<_> = batch.records.into_iter().map(|r| (r.position, r.envelope)).collect();
        assert_eq!(&found, expected, "in order, and nothing else");
    }
}
