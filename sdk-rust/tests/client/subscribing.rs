use crate::gateway::{Gateway, cursor, next, next_number, number, position};
use anabranch::{Closed, Code, Event, Outcome, Phase, Start, SubscribeError};
use anabranch_protocol::server_frame::{Gap, GapReason, Refused, ServerFrame};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn delivers_in_order_and_moves_the_cursor_when_the_next_is_asked_for() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let mut all = client.subscribe("a/#").from(Start::Earliest).open().expect("a filter");
    client.connect();

    let (mut peer, hello) = gateway.welcome().await;
    assert_eq!(hello["token"], "secret");
    assert_eq!(hello["clientId"], "test");
    assert_eq!(hello["subscriptions"][0]["from"], "earliest");
    let id = hello["subscriptions"][0]["id"].as_u64().expect("an id");
    peer.subscribed(id, 0, Outcome::Resumed).await;
    peer.message(1, "a/x").await;
    peer.message(2, "b").await;
    peer.message(3, "a").await;
    peer.send(ServerFrame::CaughtUp { cursor: cursor(5) }).await;

    assert!(matches!(next(&mut all).await, Event::Subscribed(Outcome::Resumed)));
    assert_eq!(number(&next(&mut all).await), Some(1));
    assert_eq!(all.cursor(), Some(cursor(0)), "the first message is still being handled");
    assert_eq!(number(&next(&mut all).await), Some(3));
    assert_eq!(all.cursor(), Some(cursor(1)));
    assert!(matches!(next(&mut all).await, Event::Live));
    client.wait_live(Duration::from_secs(10)).await.expect("live");
    assert_eq!(client.state().phase, Phase::Live);

    let cached = client.cached("a/+").read().expect("a filter");
    assert_eq!(cached.len(), 1);
    assert_eq!(cached[0].topic(), "a/x");
    assert_eq!(cached[0].position(), position(1));
}

#[tokio::test]
async fn a_cut_connection_is_resumed_from_the_cursor_and_duplicates_are_dropped() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let mut all = client.subscribe("#").open().expect("a filter");
    client.connect();

    let (mut peer, hello) = gateway.welcome().await;
    assert_eq!(hello["subscriptions"][0]["from"], "now");
    let id = hello["subscriptions"][0]["id"].as_u64().expect("an id");
    peer.subscribed(id, 10, Outcome::Live).await;
    peer.message(11, "a").await;
    assert_eq!(next_number(&mut all).await, 11);
    drop(peer);

    let (mut peer, hello) = gateway.welcome().await;
    assert_eq!(hello["subscriptions"][0]["cursor"], cursor(11).to_string());
    peer.subscribed(id, 11, Outcome::Resumed).await;
    peer.message(11, "a").await;
    peer.message(12, "a").await;
    assert_eq!(next_number(&mut all).await, 12);
}

#[tokio::test]
async fn a_gap_is_told_before_the_next_message() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let mut all = client.subscribe("#").from(Start::After(cursor(5))).open().expect("a filter");
    assert_eq!(all.cursor(), Some(cursor(5)));
    client.connect();
    let (mut peer, hello) = gateway.welcome().await;
    let id = hello["subscriptions"][0]["id"].as_u64().expect("an id");
    let gap = Gap {
        partition: 0,
        after: cursor(5).positions()[0].offset,
        before: cursor(90).positions()[0].offset,
        reason: GapReason::Retention,
    };
    peer.subscribed(id, 89, Outcome::Gap(gap.clone())).await;
    peer.message(90, "a").await;
    assert!(matches!(next(&mut all).await, Event::Subscribed(Outcome::Gap(_))));
    assert!(matches!(next(&mut all).await, Event::Gap(told) if told == gap));
    assert_eq!(number(&next(&mut all).await), Some(90));
}

#[tokio::test]
async fn subscriptions_come_and_go_on_a_live_connection() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.connect();
    let (mut peer, hello) = gateway.welcome().await;
    assert_eq!(hello["subscriptions"], serde_json::json!([]));
    client.wait_live(Duration::from_secs(10)).await.expect("live without subscriptions");

    let mut first = client.subscribe("a").open().expect("a filter");
    let id = peer.expect("subscribe").await["id"].as_u64().expect("an id");
    peer.subscribed(id, 0, Outcome::Live).await;
    peer.message(1, "a").await;
    assert_eq!(next_number(&mut first).await, 1);
    drop(first);
    assert_eq!(peer.expect("unsubscribe").await["id"], id);
}

#[tokio::test]
async fn what_the_gateway_refuses_ends_with_the_reason() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let mut denied = client.subscribe("secret/#").open().expect("a filter");
    client.connect();
    let (mut peer, hello) = gateway.welcome().await;
    let id = hello["subscriptions"][0]["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    peer.send(ServerFrame::Refused(Refused {
        code: Code::NOT_ALLOWED,
        message: "no grant".into(),
        retry_after_ms: None,
        subscription: id,
        message_id: None,
    }))
    .await;
    let Event::Closed(Closed::Refused { code, message }) = next(&mut denied).await else {
        panic!("not refused")
    };
    assert_eq!((code, message.as_str()), (Code::NOT_ALLOWED, "no grant"));
    assert!(denied.next().await.is_none());
    assert!(matches!(client.subscribe("a/#/b").open(), Err(SubscribeError::Filter(_))));
}

#[tokio::test]
async fn a_lost_message_shows_in_the_count_and_is_told_as_a_gap() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let mut all = client.subscribe("#").open().expect("a filter");
    client.connect();
    let (mut peer, hello) = gateway.welcome().await;
    let id = hello["subscriptions"][0]["id"].as_u64().expect("an id");
    peer.subscribed(id, 10, Outcome::Live).await;
    peer.message(11, "a").await;
    peer.mark(11).await;
    peer.delivered += 1;
    peer.message(13, "a").await;
    peer.mark(14).await;
    assert_eq!(next_number(&mut all).await, 11);
    assert_eq!(next_number(&mut all).await, 13);
    let Event::Gap(gap) = next(&mut all).await else { panic!("not told") };
    assert_eq!((gap.after.0, gap.before.0, gap.reason), (11, 15, GapReason::Miscount));
}

#[tokio::test]
async fn binary_frames_and_nonsense_cost_the_connection_but_nothing_else() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let mut all = client.subscribe("#").open().expect("a filter");
    client.connect();
    let (mut peer, hello) = gateway.welcome().await;
    let id = hello["subscriptions"][0]["id"].as_u64().expect("an id");
    peer.subscribed(id, 10, Outcome::Live).await;
    for nonsense in [Message::binary(vec![1, 2, 3]), Message::text("{\"type\":"), Message::text("\u{0}")] {
        peer.raw(nonsense).await;
        (peer, _) = gateway.welcome().await;
        peer.subscribed(id, 10, Outcome::Resumed).await;
    }
    peer.message(11, "a").await;
    assert_eq!(next_number(&mut all).await, 11);
}
