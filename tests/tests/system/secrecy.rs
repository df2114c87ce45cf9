//! No token, and no key, in any log or metric, whatever goes wrong.

use anabranch::{Client, Phase};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::http_client::{get, request};
use anabranch_tests::raw_client::{RawClient, Upgrade};
use anabranch_tests::tokens::{self, SECRET, Token};
use anabranch_tests::wait::until;
use serde_json::json;

#[tokio::test]
async fn no_token_is_in_any_log() {
    let mut gateway = Gateway::with(Settings::default().logging("trace")).await;
    let address = gateway.address();
    let good = tokens::all("good");
    let expired = Token::of("late").read("#").ended_seconds_ago(60).sign();
    let forged = Token::of("forger").read("#").sign_with("another key of at least 32 bytes, too");
    let narrow = Token::of("good").read("a").sign();
    let garbage = "garbage-that-somebody-took-for-a-token".to_owned();
    let in_url = Token::of("url").read("#").sign();

    let hello = RawClient::hello(address, &good, json!([{ "id": 1, "filter": "#" }])).await;
    let (mut client, _) = hello.expect("a welcome");
    client.expect("caught_up").await;
    client.say(&json!({ "type": "authenticate", "token": narrow })).await.expect("sent");
    client.expect("revoked").await;
    for bad in [&expired, &forged, &garbage] {
        client.say(&json!({ "type": "authenticate", "token": bad })).await.expect("sent");
        let mut greeting = RawClient::open(address).await.expect("a socket");
        greeting.say(&json!({ "type": "hello", "token": bad })).await.expect("sent");
        greeting.end().await;
        let authorization = format!("Bearer {bad}");
        let headers = [("Authorization", authorization.as_str())];
        request(address, "POST", "/v1/publish", &headers, b"{}").await.expect("an answer");
    }
    // Frames that are broken around a token, and tokens where they do not belong.
    for frame in [
        format!(r#"{{"type":"hello","token":"{good}""#),
        format!(r#"{{"type":"hello","token":"{good}","token":"{good}"}}"#),
        format!(r#"{{"type":"{good}"}}"#),
        format!(r#"{{"type":"subscribe","id":1,"filter":"{good}"}}"#),
    ] {
        let mut broken = RawClient::open(address).await.expect("a socket");
        broken.say_text(&frame).await.expect("sent");
        broken.end().await;
    }
    let upgrade = Upgrade { path: format!("/v1/ws?token={in_url}"), ..Upgrade::default() };
    drop(upgrade.send(address).await);
    get(address, &format!("/livez?access_token={in_url}")).await.expect("an answer");
    get(address, &format!("/{in_url}")).await.expect("an answer");
    let authorization = format!("Bearer {good}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let body = br#"{"metadata":{"topic":"a"},"payload":1}"#;
    request(address, "POST", "/v1/publish", &headers, body).await.expect("an answer");
    let sdk = Client::builder(gateway.url()).token(good.clone()).build().expect("a client");
    sdk.connect();
    until("a live SDK", async || (sdk.state().phase == Phase::Live).then_some(())).await;
    sdk.close().await;

    let metrics = get(address, "/metrics").await.expect("an answer").text();
    drop(client);
    gateway.terminate();
    gateway.ended().await;
    let logs = gateway.logs();
    assert!(logs.iter().any(|line| line.contains("good")), "at trace level, connections are told: {logs:?}");
    for (name, secret) in [
        ("the key", SECRET),
        ("the good token", &good),
        ("the expired one", &expired),
        ("the forged one", &forged),
        ("the narrow one", &narrow),
        ("the garbage", &garbage),
        ("the one in a URL", &in_url),
    ] {
        // The signature alone would do for a thief.
        let part = secret.rsplit('.').next().unwrap_or(secret);
        let found: Vec<&String> = logs.iter().filter(|line| line.contains(part)).collect();
        assert!(found.is_empty(), "{name} is in the log: {found:?}");
        assert!(!metrics.contains(part), "{name} is in the metrics");
    }
    println!("{} lines at trace level, no secret in any", logs.len());
}
