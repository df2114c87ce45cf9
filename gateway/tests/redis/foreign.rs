//! Entries by programs that have never heard of Anabranch, good ones and bad ones.

use crate::kit::{Other, envelope, open, options, server};
use anabranch_gateway::log::conformance::Follower;
use anabranch_gateway::log::{Log, Start, TailEvent};
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
        &[topic, ("data", b"null"), ("id", b"my-id")],
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

/// An id that no offset can tell is an error that names it; nothing is skipped.
#[tokio::test]
async fn an_id_beyond_all_offsets_is_told() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Next);
    follower.until(|follower| !follower.health.is_empty()).await;
    let other = Other::connect(server.port()).await;
    other
        .run::<String>(&["XADD", &options.stream, "9999999999999999-1", "topic", TOPIC, "payload", "1"])
        .await;
    follower.until(|follower| follower.health.len() == 2).await;
    let said = format!("{:?}", follower.health[1]);
    assert!(said.contains("Retrying") && said.contains("9999999999999999-1"), "{said}");
    assert!(follower.records.is_empty());
}
