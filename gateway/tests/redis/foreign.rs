//! Entries by programs that have never heard of Anabranch, good ones and bad ones.

use crate::kit::{Other, envelope, everything, open, options, server};
use anabranch_gateway::log::conformance::{Follower, append, record};
use anabranch_gateway::log::{AppendError, Budget, Health, Log, Start, TailEvent};
use anabranch_protocol::cursor::Offset;
use serde_json::json;

const TOPIC: &str = "iotsphere/devices/d1/telemetry/temperature";

/// Any shape that makes sense arrives in the platform's envelope, the same on every node.
#[tokio::test]
async fn envelopes_and_bare_payloads_arrive() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let (log, node2) = (open(&options).await, open(&options).await);
    let mut follower = Follower::start(&log, Start::Next);
    follower.until(|follower| !follower.health.is_empty()).await;
    let other = Other::connect(server.port()).await;
    let whole =
        json!({ "metadata": { "messageId": "m-1", "timestamp": "2026-01-31T12:00:00Z", "topic": TOPIC,
        "source": "press", "messageType": "event", "version": "1.0", "line": 7 }, "payload": { "v": 1 } })
        .to_string();
    let topic = ("topic", TOPIC.as_bytes());
    let shapes: [&[(&str, &[u8])]; 7] = [
        &[topic, ("payload", br#"{"v":1}"#)],
        &[topic, ("body", b"21.5")],
        &[topic, ("data", b"null"), ("messageId", b"my-id")],
        &[("messageId", b"mine"), ("payload", br#"["a"]"#), topic, ("colour", b"red")],
        &[topic, ("envelope", whole.as_bytes())],
        &[topic, ("payload", whole.as_bytes())],
        &[("envelope", whole.as_bytes())],
    ];
    for fields in shapes {
        other.add(&options.stream, fields).await;
    }
    follower.until_records(shapes.len()).await;
    let envelopes: Vec<_> = follower.records.iter().map(envelope).collect();
    for (record, envelope) in follower.records.iter().zip(&envelopes) {
        assert_eq!(&*record.topic, TOPIC);
        assert_eq!(envelope["metadata"]["topic"], TOPIC);
        assert!(envelope["metadata"]["messageId"].as_str().is_some_and(|id| !id.is_empty()));
    }
    assert_eq!(envelopes[0]["payload"], json!({ "v": 1 }));
    assert_eq!(envelopes[0]["metadata"]["source"], "redis");
    assert_eq!(envelopes[1]["payload"], 21.5);
    assert_eq!(
        (&envelopes[2]["payload"], &envelopes[2]["metadata"]["messageId"]),
        (&json!(null), &json!("my-id"))
    );
    assert_eq!(envelopes[3]["metadata"]["messageId"], "mine");
    for envelope in &envelopes[4..] {
        assert_eq!(envelope["metadata"]["messageId"], "m-1");
        assert_eq!(
            (&envelope["metadata"]["source"], &envelope["metadata"]["line"]),
            (&json!("press"), &json!(7))
        );
        assert_eq!(envelope["payload"], json!({ "v": 1 }));
    }
    let mut there = Follower::start(&node2, Start::Earliest);
    there.until_records(shapes.len()).await;
    assert_eq!(there.records, follower.records, "every node makes the same text");
    assert_eq!(log.passed_over().quarantined, 0);
}

/// Each bad entry stands between two good ones: they arrive, it is passed over and counted, and nothing is a gap.
#[tokio::test]
async fn what_is_no_message_is_passed_over() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Next);
    follower.until(|follower| !follower.health.is_empty()).await;
    let other = Other::connect(server.port()).await;
    let deep = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
    let huge = [b"\"".to_vec(), vec![b'x'; 10 << 20], b"\"".to_vec()].concat();
    let long = format!("iotsphere/{}", "x".repeat(300));
    let topic = ("topic", TOPIC.as_bytes());
    let bad: &[&[(&str, &[u8])]] = &[
        &[topic, ("payload", b"not json")],
        &[topic, ("payload", b"{\"v\":1} trailing")],
        &[topic, ("payload", b"\"\xff\xfe\"")],
        &[topic, ("payload", &huge)],
        &[topic, ("payload", &deep)],
        &[topic, ("payload", b"")],
        &[topic, ("envelope", br#"{"metadata":7,"payload":1}"#)],
        &[topic],
        &[("payload", b"1")],
        &[("colour", b"red")],
        &[("topic", b""), ("payload", b"1")],
        &[("topic", b"a/+/b"), ("payload", b"1")],
        &[("topic", b"a/#"), ("payload", b"1")],
        &[("topic", b"a/\xff"), ("payload", b"1")],
        &[("topic", b"a/\0"), ("payload", b"1")],
        &[("topic", long.as_bytes()), ("payload", b"1")],
        // A program that says it is a gateway is believed no more than others.
        &[topic, ("envelope", b"not json"), ("by", b"anabranch")],
    ];
    for (n, fields) in bad.iter().enumerate() {
        other.add(&options.stream, &[topic, ("payload", n.to_string().as_bytes())]).await;
        other.add(&options.stream, fields).await;
    }
    other.add(&options.stream, &[topic, ("payload", b"\"last\"")]).await;
    follower.until_records(bad.len() + 1).await;
    let payloads: Vec<_> =
        follower.records.iter().map(|record| envelope(record)["payload"].clone()).collect();
    let expected: Vec<_> = (0..bad.len()).map(|n| json!(n)).chain([json!("last")]).collect();
    assert_eq!(payloads, expected);
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
    assert_eq!(follower.health.len(), 1, "no reconnect was needed: {:?}", follower.health);
    assert_eq!(log.passed_over().quarantined, bad.len() as u64);
    // At the end of the stream it is passed over too.
    other.add(&options.stream, bad[0]).await;
    let event = follower.step().await;
    assert!(matches!(event, TailEvent::Progress(_)), "{event:?}");
    let bounds = log.bounds(0).await.expect("bounds");
    assert_eq!(bounds.last, follower.covered());
}

/// An id that no offset can tell. What stands before it is delivered and read, also by whoever comes later; appends are
/// refused; and the remedy that is told is one.
#[tokio::test]
async fn an_id_beyond_all_offsets_stops_what_follows_and_nothing_else() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let positions = append(&log, 0..10).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    follower.until_records(10).await;
    let other = Other::connect(server.port()).await;
    let (last, chosen) = (positions[9], "9999999999999999-1");
    other.add(&options.stream, &[("topic", TOPIC.as_bytes()), ("payload", b"1")]).await;
    other.run::<String>(&["XADD", &options.stream, chosen, "topic", TOPIC, "payload", "1"]).await;
    let stopped = |follower: &Follower| matches!(follower.health.last(), Some(Health::Retrying(_)));
    follower.until(stopped).await;
    let said = format!("{:?}", follower.health.last());
    for part in [chosen, "XDEL", "XSETID", &options.stream] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    for n in 10..15 {
        match log.append(record(n)).await {
            Err(AppendError::Blocked(why)) => {
                assert!(why.contains(chosen) && why.contains("XSETID"), "{why}")
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(other.run::<u64>(&["XLEN", &options.stream]).await, 12, "what cannot be read is not appended");
    let mut late = Follower::start(&log, Start::After(positions[4]));
    late.until(stopped).await;
    assert_eq!((follower.records.len(), late.records.len()), (11, 6));
    assert_eq!(everything(&log, 0).await.len(), 11);
    let bounds = log.bounds(0).await.expect("bounds");
    assert!(bounds.newest.is_some_and(|newest| newest.offset > last.offset));
    // A node that starts now.
    let node2 = open(&options).await;
    assert!(matches!(node2.append(record(15)).await, Err(AppendError::Blocked(_))));
    assert_eq!(everything(&node2, 0).await.len(), 11);

    // The documentation's script, which every version takes.
    let anew = "local good = redis.call('XRANGE', KEYS[1], '-', '(' .. ARGV[1]) redis.call('DEL', KEYS[1]) \
                for _, entry in ipairs(good) do redis.call('XADD', KEYS[1], entry[1], unpack(entry[2])) end";
    other.run::<()>(&["EVAL", anew, "1", &options.stream, chosen]).await;
    assert_eq!(other.run::<u64>(&["XLEN", &options.stream]).await, 11);
    follower.until(|follower| follower.health.last() == Some(&Health::Connected)).await;
    append(&log, 20..21).await;
    append(&node2, 21..22).await;
    follower.until_records(13).await;
    late.until_records(8).await;
    for follower in [follower, late] {
        assert!(follower.gaps.is_empty() && follower.resets.is_empty(), "{:?}", follower.resets);
    }
}

/// A field `id` is as likely the device's: two messages that share it are two messages.
#[tokio::test]
async fn only_message_id_makes_a_repeat() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    let other = Other::connect(server.port()).await;
    let topic = ("topic", TOPIC.as_bytes());
    for (name, payload) in [("id", b"1"), ("id", b"2"), ("messageId", b"3"), ("messageId", b"4")] {
        other.add(&options.stream, &[topic, (name, b"d1"), ("payload", payload)]).await;
    }
    follower.until_records(4).await;
    let keys: Vec<_> = follower.records.iter().map(|record| record.key).collect();
    assert_ne!(keys[0], keys[1]);
    assert_eq!(keys[2], keys[3], "documented as the message's id");
}

/// What is no message takes of a read's budget as much as it takes of memory, and is counted once, whoever reads it again.
#[tokio::test]
async fn what_is_no_message_is_read_in_portions_and_counted_once() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    let other = Other::connect(server.port()).await;
    let large = vec![b'x'; 100_000];
    for _ in 0..50 {
        other.add(&options.stream, &[("colour", &large)]).await;
    }
    let last = append(&log, 0..1).await[0];
    follower.until_covered(last.offset).await;
    let budget = Budget { records: 1_000, bytes: 1_000_000 };
    let (mut after, mut reads) = (Offset(0), 0);
    while after < last.offset {
        let batch = log.read(0, after, budget).await.expect("readable");
        (after, reads) = (batch.covered_to, reads + 1);
    }
    assert!(reads >= 5, "5 MB in {reads} reads of 1 MB");
    assert_eq!(log.passed_over().quarantined, 50);
}
