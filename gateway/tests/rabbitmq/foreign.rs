//! What programs that have never heard of us put on the exchange.

use crate::kit::{Foreign, open, options, payload, server};
use anabranch_gateway::log::conformance::Follower;
use anabranch_gateway::log::{Budget, Log, Start};
use anabranch_protocol::cursor::Offset;

#[tokio::test]
async fn good_records_arrive_and_bad_ones_are_counted() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let foreign = Foreign::new(&options).await;
    let deep = ["[".repeat(10_000), "]".repeat(10_000)].concat();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("a.b", b"not json".to_vec()),
        ("a.b", b"\"\xff\"".to_vec()),
        ("a.b", br#""\ud800""#.to_vec()),
        ("a.b", b"".to_vec()),
        ("a.b", vec![b' '; 10 << 20]),
        ("a.b", deep.into_bytes()),
        ("a.#", b"1".to_vec()),
        ("a.*.b", b"1".to_vec()),
        ("a/b.c", b"1".to_vec()),
        ("", b"1".to_vec()),
        ("x\0y", b"1".to_vec()),
        ("line\nbreak", b"1".to_vec()),
    ];
    let mut follower = Follower::start(&log, Start::Earliest);
    for (n, (key, body)) in bad.iter().enumerate() {
        foreign.publish("a.b", n.to_string().as_bytes()).await;
        foreign.publish(key, body).await;
    }
    // Odd, and a topic all the same.
    foreign.publish("a..c", br#"{"metadata":{"messageId":"m","topic":"forged"},"payload":[1]}"#).await;
    follower.until_records(bad.len() + 1).await;
    let (last, numbers) = follower.records.split_last().expect("records");
    for (n, record) in numbers.iter().enumerate() {
        assert_eq!((&*record.topic, payload(record)), ("a/b", n.to_string()));
    }
    assert_eq!((&*last.topic, payload(last)), ("a//c", "[1]".to_owned()), "the broker's topic holds");
    assert_eq!(log.passed_over().quarantined, bad.len() as u64);
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
    // Another node makes the same records of them, as far as they are dated: nobody dated these.
    let other = open(&options).await;
    let all = Budget { records: usize::MAX, bytes: usize::MAX };
    let found = other.read(0, Offset(0), all).await.expect("readable").records;
    let same = |a: &anabranch_gateway::log::Record, b: &anabranch_gateway::log::Record| {
        (a.position, &a.topic, a.key) == (b.position, &b.topic, b.key)
    };
    assert!(found.len() == follower.records.len());
    assert!(found.iter().zip(&follower.records).all(|(a, b)| same(a, b)));
}
