//! Pub/Sub: live only, beside the log.

use crate::kit::{Other, everything, open, options, own};
use anabranch_gateway::log::conformance::PATIENCE;
use anabranch_gateway::log::redis::Options;
use anabranch_gateway::log::{Log, Transient};
use anabranch_protocol::filter::Filter;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::timeout;

fn filters(all: &[&str]) -> Vec<Filter> {
    all.iter().map(|text| Filter::new(text).expect("a filter")).collect()
}

async fn payload(stream: &mut BoxStream<'static, Transient>) -> (String, serde_json::Value) {
    let message = timeout(PATIENCE, stream.next()).await.expect("a message").expect("the source goes on");
    let envelope: serde_json::Value = serde_json::from_slice(&message.envelope).expect("JSON");
    assert_eq!(envelope["metadata"]["topic"], *message.topic);
    assert!(envelope["metadata"]["messageId"].is_string());
    (message.topic.to_string(), envelope["payload"].clone())
}

/// Waits until the gateway listens: Redis says how many it has reached.
async fn publish(other: &Other, channel: &str, payload: &str) {
    let reached = async || (other.run::<i64>(&["PUBLISH", channel, payload]).await > 0).then_some(());
    crate::kit::until("somebody listens", reached).await;
}

#[tokio::test]
async fn what_is_published_comes_once_and_is_not_kept() {
    let Some((server, _folder)) = own(&[]) else { return };
    let transient = filters(&["plant/+/presence", "plant/typing/#", "plant/1/presence"]);
    let options = Options { transient, ..options(&server) };
    let log = open(&options).await;
    let mut stream = log.transient().expect("a source");
    let other = Other::connect(server.port()).await;
    publish(&other, "plant/1/presence", "1").await;
    for (channel, payload) in [
        // A pattern of Redis means these, the filters do not.
        ("plant/1/2/presence", "-1"),
        ("plant/typingX", "-1"),
        // No messages.
        ("plant/typing/a", "not json"),
        ("plant/typing/#", "-1"),
        ("plant/typing", "2"),
        ("plant/typing/a/b", r#"{"metadata":{"messageId":"m"},"payload":3}"#),
        ("plant/2/presence", "4"),
    ] {
        other.run::<i64>(&["PUBLISH", channel, payload]).await;
    }
    let mut got = Vec::new();
    for _ in 0..4 {
        got.push(payload(&mut stream).await);
    }
    let expected =
        [("plant/1/presence", 1), ("plant/typing", 2), ("plant/typing/a/b", 3), ("plant/2/presence", 4)];
    assert_eq!(got, expected.map(|(topic, n)| (topic.to_owned(), n.into())));
    // The connection is lost, and found again.
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).expect("killed");
    publish(&other, "plant/typing", "5").await;
    assert_eq!(payload(&mut stream).await, ("plant/typing".into(), 5.into()));
    assert!(everything(&log, 0).await.is_empty(), "nothing is on the log");
    assert!(open(&crate::kit::options(&server)).await.transient().is_none());
}
