//! Messages that no log keeps: from Redis' Pub/Sub to the app, labelled so, to who is there and may see them.

use crate::brokers;
use anabranch::{Client, Event, Phase, Start};
use anabranch_tests::gateway_process::{Gateway, Settings, binary};
use anabranch_tests::tokens;
use anabranch_tests::wait::{until, within};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};

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

    let mut command = tokio::process::Command::new(binary::path(binary::GATEWAY));
    command
        .args(["subscribe", "--json", "--count", "1", "plant/#"])
        .kill_on_drop(true)
        .stdout(Stdio::piped());
    let url = format!("{}/v1/ws", gateway.url());
    command.env("ANABRANCH_URL", url).env("ANABRANCH_TOKEN", tokens::all("cli"));
    let mut child = command.spawn().expect("the command");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let mut line = async || {
        let line = within("a line", lines.next_line()).await.expect("its output").expect("it goes on");
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON")
    };
    assert_eq!(line().await["type"], "live");
    server.cli(&["PUBLISH", &topic, r#"{"here":false}"#]).expect("published");
    let shown = line().await;
    assert_eq!((&shown["type"], &shown["envelope"]["payload"]["here"]), (&"transient".into(), &false.into()));
}
