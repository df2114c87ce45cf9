use crate::kit::{Client, World, token};
use anabranch_gateway::log::memory::{self, Publishing};
use serde_json::{Value, json};

async fn publish_many(device: &mut Client, topic: &str, range: std::ops::Range<u32>) {
    for n in range {
        device.publish(topic, &format!("{topic}-{n}"), json!(n)).await;
    }
}

/// Reads messages until `caught_up`; returns their payloads.
async fn until_caught_up(client: &mut Client) -> Vec<Value> {
    let mut payloads = Vec::new();
    loop {
        let frame = client.next().await.unwrap();
        match frame["type"].as_str().unwrap() {
            "message" => payloads.push(frame["envelope"]["payload"].clone()),
            "caught_up" => return payloads,
            _ => {}
        }
    }
}

/// Small ring, so that resumes go to the log; `false` for the ring's own answer.
async fn resume_everything(through_log: bool) {
    let world = World::with(
        |options| options.ring_bytes = if through_log { 2_000 } else { 8 << 20 },
        memory::Options::default(),
    )
    .await;
    let token = token("t", &["#"], &["#"]);
    let (mut client, welcome) = world.hello(&token, json!([{"id": 1, "filter": "a/#"}])).await;
    let cursor = welcome["cursor"].clone();
    client.expect("subscribed").await;
    drop(client);
    let (mut device, _) = world.hello(&token, json!([])).await;
    publish_many(&mut device, "a/1", 0..700).await;
    publish_many(&mut device, "b/1", 0..5).await;
    let (mut client, _) = world.hello(&token, json!([{"id": 7, "filter": "a/#", "cursor": cursor}])).await;
    let subscribed = client.expect("subscribed").await;
    assert_eq!((&subscribed["outcome"], &subscribed["cursor"]), (&json!("resumed"), &cursor));
    let payloads = until_caught_up(&mut client).await;
    assert_eq!(payloads, (0..700).map(|n| json!(n)).collect::<Vec<_>>());
    device.publish("a/2", "live", json!("live")).await;
    assert_eq!(client.expect("message").await["envelope"]["payload"], "live");
}

#[tokio::test]
async fn a_resume_gets_everything_once_from_the_ring() {
    resume_everything(false).await;
}

#[tokio::test]
async fn a_resume_gets_everything_once_from_the_log() {
    resume_everything(true).await;
}

#[tokio::test]
async fn a_late_subscription_catches_up_while_the_others_go_on() {
    let world = World::start().await;
    let token = token("t", &["#"], &["#"]);
    let (mut device, _) = world.hello(&token, json!([])).await;
    publish_many(&mut device, "a", 0..10).await;
    let (mut client, _) = world.hello(&token, json!([{"id": 1, "filter": "b"}])).await;
    client.expect("subscribed").await;
    client.expect("caught_up").await;
    publish_many(&mut device, "b", 0..3).await;
    for n in 0..3 {
        assert_eq!(client.expect("message").await["envelope"]["payload"], n);
    }
    client.send(json!({"type": "subscribe", "id": 2, "filter": "+", "from": "earliest"})).await;
    assert_eq!(client.expect("subscribed").await["subscription"], 2);
    // Everything once more for the new one: the client knows by its cursors that the first has had the last three.
    assert_eq!(until_caught_up(&mut client).await.len(), 13);
    publish_many(&mut device, "b", 3..4).await;
    assert_eq!(client.expect("message").await["envelope"]["payload"], 3, "one copy for both");
    client.send(json!({"type": "probe"})).await;
    assert_eq!(client.expect("mark").await["delivered"], 17);
}

#[tokio::test]
async fn what_the_log_has_forgotten_is_told_before_the_next_message() {
    let log = memory::Options { records: 50, ..memory::Options::default() };
    let world = World::with(|options| options.ring_bytes = 2_000, log).await;
    let token = token("t", &["#"], &["#"]);
    let (mut device, _) = world.hello(&token, json!([])).await;
    let first = device.publish("a", "first", json!("first")).await;
    let (_, welcome) = world.hello(&token, json!([])).await;
    let (log, _) = welcome["cursor"].as_str().unwrap().split_once('/').unwrap();
    let cursor = format!("{log}/{}", first["position"].as_str().unwrap());
    publish_many(&mut device, "a", 0..200).await;
    let (mut client, _) = world.hello(&token, json!([{"id": 1, "filter": "a", "cursor": cursor}])).await;
    let subscribed = client.expect("subscribed").await;
    assert_eq!((&subscribed["outcome"], &subscribed["reason"]), (&json!("gap"), &json!("retention")));
    let payloads = until_caught_up(&mut client).await;
    let first = payloads[0].as_u64().unwrap();
    assert!(first > 100, "{first}");
    assert_eq!(payloads, (first..200).map(|n| json!(n)).collect::<Vec<_>>());
    let told: u64 = subscribed["before"].as_str().unwrap().parse().unwrap();
    let after: u64 = subscribed["after"].as_str().unwrap().parse().unwrap();
    assert!(told > after + 100, "the gap spans what is gone: {subscribed}");
}

#[tokio::test]
async fn a_cursor_that_means_nothing_here_is_a_reset_with_its_reason() {
    let world = World::start().await;
    let token = token("t", &["#"], &["#"]);
    let (mut device, _) = world.hello(&token, json!([])).await;
    let published = device.publish("a", "m", json!(1)).await;
    let (_, welcome) = world.hello(&token, json!([])).await;
    let (log, _) = welcome["cursor"].as_str().unwrap().split_once('/').unwrap();
    let position = published["position"].as_str().unwrap();
    let offset: u64 = position.split(':').nth(1).unwrap().parse().unwrap();
    let cases = [
        ("0000000000000000/0:1:00000000".to_owned(), 4300),
        (format!("{log}/9:1:00000000"), 4300),
        (format!("{log}/0:{offset}:00000000"), 4301),
        (format!("{log}/0:{}:00000000", offset + 1_000_000), 4302),
        (format!("{log}/0:{}:00000000", u64::MAX), 4302),
        ("rubbish".to_owned(), 4303),
        (format!("{log}/0:-1"), 4303),
    ];
    for (cursor, code) in cases {
        let (mut client, _) = world.hello(&token, json!([{"id": 1, "filter": "a", "cursor": cursor}])).await;
        let subscribed = client.expect("subscribed").await;
        assert_eq!(
            (&subscribed["outcome"], &subscribed["code"]),
            (&json!("reset"), &json!(code)),
            "{cursor}"
        );
        client.expect("caught_up").await;
        device.publish("a", &format!("after {cursor}"), json!(cursor)).await;
        assert_eq!(client.expect("message").await["envelope"]["payload"], cursor, "and goes on from now");
    }
}

#[tokio::test]
async fn an_answer_that_comes_late_is_not_for_the_next_one_with_that_id() {
    let world = World::start().await;
    let token = token("t", &["#"], &["#"]);
    let (mut device, _) = world.hello(&token, json!([])).await;
    let last = device.publish("a", "first", json!(0)).await;
    let offset: u64 = last["position"].as_str().unwrap().split(':').nth(1).unwrap().parse().unwrap();
    let (mut client, welcome) = world.hello(&token, json!([])).await;
    let (log, _) = welcome["cursor"].as_str().unwrap().split_once('/').unwrap();
    // Ahead of the log: the gateway waits before it says so. Meanwhile the client thinks better of it.
    let ahead = format!("{log}/0:{}", offset + 20);
    client.send(json!({"type": "subscribe", "id": 1, "filter": "a", "cursor": ahead})).await;
    client.send(json!({"type": "unsubscribe", "id": 1})).await;
    client.send(json!({"type": "subscribe", "id": 1, "filter": "a", "from": "earliest"})).await;
    publish_many(&mut device, "a", 1..60).await;
    let mut payloads = Vec::new();
    while payloads.len() < 60 {
        let frame = client.next().await.unwrap();
        match frame["type"].as_str().unwrap() {
            "message" => payloads.push(frame["envelope"]["payload"].clone()),
            "subscribed" => assert_eq!(frame["outcome"], "resumed"),
            _ => {}
        }
    }
    assert_eq!(payloads, (0..60).map(|n| json!(n)).collect::<Vec<_>>());
    // Long enough for the late answer: a cursor that is truly ahead is answered after the same wait.
    let far = format!("{log}/0:{}", offset + 1_000_000);
    client.send(json!({"type": "subscribe", "id": 2, "filter": "b", "cursor": far})).await;
    assert_eq!(
        client.expect_past("caught_up", "subscribed").await["subscription"],
        2,
        "and no second answer for 1"
    );
}

/// The welcome is the first word also where the gateway has something to add: a client that is not welcome yet would not know what to
/// make of it.
#[tokio::test]
async fn who_comes_while_the_log_is_away_is_told_behind_the_welcome() {
    let world = World::start().await;
    let token = token("t", &["#"], &["#"]);
    let (mut witness, _) = world.hello(&token, json!([])).await;
    world.log.lies().publishing(Publishing::Refuses("alarm".into()));
    assert_eq!(witness.expect("upstream").await["up"], false);
    // To one of the other shard too, perhaps.
    for _ in 0..8 {
        let (mut client, _) = world.hello(&token, json!([])).await;
        assert_eq!(client.expect("upstream").await["up"], false);
    }
}
