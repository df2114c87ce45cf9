use crate::kit::{World, token, token_for};
use serde_json::json;

#[tokio::test]
async fn the_first_frame_is_hello_and_its_token_is_good() {
    let world = World::with(|options| options.rules.hello_timeout = 200, Default::default()).await;
    let cases = [
        (r#"{"type":"probe"}"#.to_owned(), 4502),
        ("not json".to_owned(), 4500),
        ("[".repeat(10_000), 4500),
        (r#"{"type":"dance"}"#.to_owned(), 4501),
        (r#"{"type":"hello"}"#.to_owned(), 4500),
        (r#"{"type":"hello","token":"x.y.z","subscriptions":[]}"#.to_owned(), 4201),
        (format!(r#"{{"type":"hello","token":"{}"}}"#, token_for("old", &["#"], &[], 0)), 0),
    ];
    for (text, code) in cases {
        let mut client = world.dial().await;
        client.send_text(text.clone()).await;
        if code == 0 {
            // Within the leeway of 5 s this token is still good.
            client.expect("welcome").await;
            continue;
        }
        let refused = client.expect("refused").await;
        assert_eq!(refused["code"], code, "{text:.60}");
        assert_eq!(client.close_code().await, code, "{text:.60}");
    }
    let mut silent = world.dial().await;
    assert_eq!(silent.expect("refused").await["code"], 4108);
    assert_eq!(silent.close_code().await, 4108);
    let mut binary = world.dial().await;
    binary.send_binary(vec![1, 2, 3]).await;
    assert_eq!(binary.close_code().await, 4500);
}

#[tokio::test]
async fn one_bad_subscription_does_not_cost_the_others() {
    let world = World::with(|options| options.rules.limits.subscriptions = 3, Default::default()).await;
    let token = token("t", &["a/#"], &[]);
    let (mut client, _) = world
        .hello(
            &token,
            json!([
                {"id": 1, "filter": "a/b"}, {"id": 2, "filter": "#"}, {"id": 3, "filter": "a/b+"},
                {"id": 1, "filter": "a/c"}, {"id": 4, "filter": "a/+"}, {"id": 5, "filter": "a/#"},
                {"id": 6, "filter": "a/d"},
            ]),
        )
        .await;
    for (id, code) in [(2, 4400), (3, 4402), (1, 4407), (6, 4406)] {
        let refused = client.expect("refused").await;
        assert_eq!((&refused["subscription"], &refused["code"]), (&json!(id), &json!(code)));
        assert_eq!(refused["remedy"], "drop_item");
    }
    for id in [1, 4, 5] {
        assert_eq!(client.expect("subscribed").await["subscription"], id);
    }
}

#[tokio::test]
async fn a_narrower_token_ends_what_it_no_longer_grants() {
    let world = World::start().await;
    let (mut client, _) = world
        .hello(&token("t", &["#"], &["#"]), json!([{"id": 1, "filter": "a"}, {"id": 2, "filter": "b"}]))
        .await;
    client.expect("subscribed").await;
    client.expect("subscribed").await;
    client.send(json!({"type": "authenticate", "token": token("t", &["b"], &["#"])})).await;
    client.expect("caught_up").await;
    assert!(client.expect("authenticated").await["tokenTtlMs"].as_u64().unwrap() > 3_000_000);
    let revoked = client.expect("revoked").await;
    assert_eq!((&revoked["subscription"], &revoked["code"]), (&json!(1), &json!(4400)));
    let (mut device, _) = world.hello(&token("d", &[], &["#"]), json!([])).await;
    device.publish("a", "1", json!("not for it any more")).await;
    device.publish("b", "2", json!("still")).await;
    assert_eq!(client.expect("message").await["envelope"]["payload"], "still");
    // Another subject's token changes nothing.
    client.send(json!({"type": "authenticate", "token": token("eve", &["#"], &["#"])})).await;
    assert_eq!(client.expect("refused").await["code"], 4201);
}

#[tokio::test]
async fn an_expired_token_ends_the_connection() {
    let world = World::start().await;
    // Ends 2 s after its leeway of 5 s began.
    let now = std::time::SystemTime::now();
    let (mut client, welcome) = world.hello(&token_for("t", &["#"], &[], 1), json!([])).await;
    assert!(welcome["tokenTtlMs"].as_u64().unwrap() <= 1_000);
    assert_eq!(client.close_code().await, 4200);
    let lived = now.elapsed().unwrap().as_secs();
    assert!((4..=8).contains(&lived), "lived for {lived} s");
}

#[tokio::test]
async fn drain_gives_each_client_a_time_of_its_own() {
    let world = World::start().await;
    let token = token("t", &["#"], &["#"]);
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(world.hello(&token, json!([{"id": 1, "filter": "a"}])).await.0);
    }
    let draining = tokio::spawn(world.gateway.drain());
    let mut slots = Vec::new();
    for client in &mut clients {
        loop {
            let frame = client.next().await.unwrap();
            if frame["type"] == "go_away" {
                slots.push(frame["reconnectAfterMs"].as_u64().unwrap());
                break;
            }
        }
        assert_eq!(client.close_code().await, 4100);
    }
    draining.await.unwrap();
    slots.sort_unstable();
    assert_eq!(slots, (1..=10).map(|n| n * 1_000).collect::<Vec<_>>());
}
