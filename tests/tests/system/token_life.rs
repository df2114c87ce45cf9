//! Tokens that end, are renewed in place, and grant less than before.

use anabranch_tests::gateway_process::Gateway;
use anabranch_tests::ledger::{Ledger, Witness};
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::raw_client::{Heard, RawClient};
use anabranch_tests::tokens::{self, Token};
use anabranch_tests::wait::within;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The gateway's leeway for clocks, and a second of a token's life.
const LONGEST: Duration = Duration::from_secs(6 + 2);

#[tokio::test]
async fn delivery_ends_with_the_token_unless_it_is_renewed() {
    let gateway = Gateway::start().await;
    let short = || Token::of("c").read("#").for_seconds(1).sign();
    let subscriptions = json!([{ "id": 1, "filter": "t" }]);
    let hello = async || {
        let hello = RawClient::hello(gateway.address(), &short(), subscriptions.clone()).await;
        let (mut client, welcome) = hello.expect("a welcome");
        client.expect("caught_up").await;
        (client, welcome)
    };
    let ((mut ends, welcome), (mut renews, _)) = (hello().await, hello().await);
    let began = Instant::now();
    assert!(welcome["tokenTtlMs"].as_u64().is_some_and(|ms| ms <= 1_000), "{welcome}");
    renews.say(&json!({ "type": "authenticate", "token": tokens::all("c") })).await.expect("sent");
    let renewed = renews.expect("authenticated").await;
    assert!(renewed["tokenTtlMs"].as_u64().is_some_and(|ms| ms > 3_000_000), "{renewed}");

    let ledger = Ledger::new();
    let stop = Arc::new(AtomicBool::new(false));
    let mut publisher = HttpPublisher::new(gateway.address(), &tokens::all("p"), ledger.clone());
    let publishing = tokio::spawn({
        let stop = stop.clone();
        async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while !stop.load(Ordering::Relaxed) {
                ticks.tick().await;
                publisher.publish(&["t"]).await;
            }
        }
    });
    let end = within("the token's end", ends.end()).await;
    assert_eq!(end.code(), Some(4200), "{end:?}");
    assert_eq!(end.refused.map(|refused| refused["remedy"].clone()), Some("authenticate".into()));
    assert!(began.elapsed() < LONGEST, "it was delivered to for {:?}", began.elapsed());
    // The other one goes on, with everything from before and after.
    stop.store(true, Ordering::Relaxed);
    publishing.await.expect("the publisher");
    let mut witness = Witness::new("t");
    while ledger.judge(&witness).lost_unannounced > 0 {
        match within("a message", renews.hear()).await {
            Heard::Frame(frame) => witness.frame(&frame),
            other => panic!("the renewed connection has ended: {other:?}"),
        }
    }
    let verdict = ledger.judge(&witness);
    println!("over the token's end: {verdict}");
    assert!(verdict.is_perfect(), "{verdict}");
}

#[tokio::test]
async fn a_bad_fresh_token_changes_nothing() {
    let gateway = Gateway::start().await;
    let subscriptions = json!([{ "id": 1, "filter": "t" }]);
    let hello = RawClient::hello(gateway.address(), &tokens::all("c"), subscriptions).await;
    let (mut client, _) = hello.expect("a welcome");
    client.expect("caught_up").await;
    let bad = [
        ("garbage", "x".to_owned(), 4201),
        ("expired", Token::of("c").read("#").ended_seconds_ago(60).sign(), 4200),
        ("another subject", tokens::all("somebody else"), 4201),
    ];
    for (what, token, code) in bad {
        client.say(&json!({ "type": "authenticate", "token": token })).await.expect("sent");
        let Heard::Frame(refused) = client.next().await else { panic!("{what}: the connection has ended") };
        assert_eq!(
            (&refused["type"], &refused["code"]),
            (&json!("refused"), &json!(code)),
            "{what}: {refused}"
        );
    }
    let mut publisher = HttpPublisher::new(gateway.address(), &tokens::all("p"), Ledger::new());
    publisher.publish(&["t"]).await;
    client.expect("message").await;
}

#[tokio::test]
async fn a_narrower_token_ends_what_it_does_not_grant() {
    let gateway = Gateway::start().await;
    let subscriptions =
        json!([{ "id": 1, "filter": "a/#" }, { "id": 2, "filter": "a/b" }, { "id": 3, "filter": "c" }]);
    let hello = RawClient::hello(gateway.address(), &tokens::all("c"), subscriptions).await;
    let (mut client, _) = hello.expect("a welcome");
    client.expect("caught_up").await;
    let narrow = Token::of("c").read("a/b").write("a/b").sign();
    client.say(&json!({ "type": "authenticate", "token": narrow })).await.expect("sent");
    let mut revoked = [client.expect("revoked").await, client.expect("revoked").await];
    revoked.sort_by_key(|frame| frame["subscription"].as_u64());
    assert_eq!([&revoked[0]["subscription"], &revoked[1]["subscription"]], [&json!(1), &json!(3)]);
    for frame in &revoked {
        assert_eq!(frame["code"], 4400);
        assert!(frame["cursor"].is_string());
    }
    let mut publisher = HttpPublisher::new(gateway.address(), &tokens::all("p"), Ledger::new());
    publisher.publish(&["a/x", "c", "a/b"]).await;
    let message = client.expect("message").await;
    assert_eq!(message["envelope"]["metadata"]["topic"], "a/b", "what is no longer granted is not delivered");
    // Nor may it be published to, or subscribed to again.
    client.say(&json!({ "type": "subscribe", "id": 4, "filter": "a/#" })).await.expect("sent");
    let Heard::Frame(refused) = client.next().await else { panic!("the connection has ended") };
    assert_eq!((&refused["code"], &refused["subscription"]), (&json!(4400), &json!(4)));
    let envelope = json!({ "metadata": { "topic": "c" }, "payload": 1 });
    client.say(&json!({ "type": "publish", "envelope": envelope })).await.expect("sent");
    let Heard::Frame(refused) = client.next().await else { panic!("the connection has ended") };
    assert_eq!(refused["code"], 4400, "{refused}");
}
