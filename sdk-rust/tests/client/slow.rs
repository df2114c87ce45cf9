use crate::gateway::{Gateway, Peer, cursor, next_number, soon};
use anabranch::Outcome;
use serde_json::Value;
use tokio::net::TcpStream;

/// More than the queue and the kernel's buffers hold together.
const MANY: u64 = 200_000;

/// Sends to a subscription whose app takes nothing until the client says something; its frame, and the last offset.
async fn overwhelm(peer: &mut Peer<TcpStream>, topic: &str) -> (Value, u64) {
    let mut offset = 0;
    loop {
        offset += 1;
        assert!(offset < MANY, "the client takes everything that its app does not");
        tokio::select! {
            biased;
            frame = peer.frame() => return (frame.expect("the client stays"), offset),
            () = tokio::task::yield_now() => {}
        }
        peer.message(offset, topic).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_does_not_read_is_parked_and_misses_nothing() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let mut slow = client.subscribe("slow").open().expect("a filter");
    client.connect();
    let (mut peer, hello) = gateway.welcome().await;
    let id = hello["subscriptions"][0]["id"].as_u64().expect("an id");
    peer.subscribed(id, 0, Outcome::Live).await;

    let (frame, offset) = overwhelm(&mut peer, "slow").await;
    assert_eq!((frame["type"].as_str(), frame["id"].as_u64()), (Some("unsubscribe"), Some(id)));

    // The parked subscription does not keep others from publishing.
    let publish = tokio::spawn(client.publish("a").message_id("m").send());
    peer.expect("publish").await;
    let position = crate::gateway::position(1);
    peer.send(anabranch_protocol::server_frame::ServerFrame::Published {
        message_id: "m".into(),
        position,
        duplicate: false,
    })
    .await;
    soon("the confirm", publish).await.expect("no panic").expect("published");

    // The app takes up reading: the client goes on from where it stopped.
    let mut seen = 0;
    let resume = loop {
        // Both at once: the app may have emptied the queue before the client has said that there is room again.
        tokio::select! {
            biased;
            frame = peer.frame() => break frame.expect("the client stays"),
            number = next_number(&mut slow) => {
                assert_eq!(number, seen + 1);
                seen = number;
            }
        }
    };
    assert_eq!(resume["type"], "subscribe");
    let from: anabranch::Cursor = resume["cursor"].as_str().expect("a cursor").parse().expect("a cursor");
    let from = from.positions()[0].offset.0;
    assert!(from >= seen && from < offset, "{seen} {from} {offset}");
    let id = resume["id"].as_u64().expect("an id");
    peer.subscribed(id, from, Outcome::Resumed).await;
    for offset in from + 1..from + 100 {
        peer.message(offset, "slow").await;
    }
    while seen < from + 99 {
        let number = next_number(&mut slow).await;
        assert_eq!(number, seen + 1);
        seen = number;
    }
    assert_eq!(slow.cursor(), Some(cursor(seen - 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_subscription_that_is_dropped_holds_up_nobody() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let slow = client.subscribe("slow").open().expect("a filter");
    let mut other = client.subscribe("other").open().expect("a filter");
    client.connect();
    let (mut peer, hello) = gateway.welcome().await;
    for subscription in hello["subscriptions"].as_array().expect("a list") {
        peer.subscribed(subscription["id"].as_u64().expect("an id"), 0, Outcome::Live).await;
    }
    let (frame, offset) = overwhelm(&mut peer, "slow").await;
    assert_eq!(frame["type"], "unsubscribe", "parked");
    drop(slow);
    peer.message(offset + 1, "other").await;
    assert_eq!(next_number(&mut other).await, offset + 1);
}
