//! Messages that no log keeps: from Redis' Pub/Sub to the app, labelled so, to who is there and may see them.

use crate::brokers;
use anabranch::{Client, Event, Phase, Start};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::tokens;
use anabranch_tests::wait::{until, within};

const TOPIC: &str = "plant/1/presence";

#[tokio::test]
async fn presence_comes_live_and_is_not_kept() {
    let Some(server) = brokers::had(anabranch_brokers::shared::redis()) else { return };
    let topic = format!("{TOPIC}/{:016x}", rand::random::<u64>());
    let log = format!("{}&transient={TOPIC}/#", brokers::redis_log(&server));
    let gateway = Gateway::with(Settings::default().set("log", &format!("{log:?}"))).await;
    gateway.says("transient topics are followed").await;
    let client = Client::builder(gateway.url()).token(tokens::all("app")).build().expect("a client");
    let mut all = client.subscribe("plant/#").open().expect("a subscription");
    let mut other = client.subscribe("plant/2/#").open().expect("a subscription");
    client.connect();
    until("live", async || (client.state().phase == Phase::Live).then_some(())).await;
    let reached = server.cli(&["PUBLISH", &topic, r#"{"here":true}"#]).expect("published");
    assert!(reached.parse::<u32>().expect("a number") > 0);
    let message = within("the message", async {
        loop {
            match all.next().await.expect("the subscription goes on") {
                Event::Transient(message) => return message,
                Event::Message(message) => panic!("{message:?}"),
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(message.topic(), topic);
    assert_eq!(message.payload_text(), r#"{"here":true}"#);
    assert!(message.metadata().message_id().is_some());
    // What is on the log goes on as ever, and whoever comes later sees that alone.
    client.publish("plant/2/on").json(&1).expect("JSON").send().await.expect("a confirm");
    let event = within("the message on the log", async {
        loop {
            match other.next().await.expect("the subscription goes on") {
                Event::Message(message) => return message,
                Event::Transient(message) => panic!("{message:?} is not for this filter"),
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(event.topic(), "plant/2/on");
    let mut late = client.subscribe("plant/#").from(Start::Earliest).open().expect("a subscription");
    let first = within("a message", late.next_message()).await.expect("a message");
    assert_eq!(first.topic(), "plant/2/on");
}
