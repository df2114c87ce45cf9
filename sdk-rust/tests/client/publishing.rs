use crate::gateway::{Gateway, position, soon};
use anabranch::{Code, MessageType, PublishError};
use anabranch_protocol::server_frame::{Refused, ServerFrame};
use serde_json::json;

#[tokio::test]
async fn a_publish_waits_for_the_confirm() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.connect();
    let (mut peer, _) = gateway.welcome().await;
    let publish = client
        .publish("a/b")
        .json(&json!({ "on": true }))
        .expect("JSON")
        .correlation_id("c")
        .message_type(MessageType::Command)
        .message_id("m");
    let sent = tokio::spawn(publish.send());
    let envelope = peer.expect("publish").await["envelope"].clone();
    assert_eq!(envelope["payload"], json!({ "on": true }));
    let metadata = &envelope["metadata"];
    assert_eq!(metadata["topic"], "a/b");
    assert_eq!(metadata["messageId"], "m");
    assert_eq!(metadata["correlationId"], "c");
    assert_eq!(metadata["messageType"], "command");
    assert_eq!(metadata["source"], "test");
    assert!(metadata["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')));
    let frame = ServerFrame::Published { message_id: "m".into(), position: position(7), duplicate: false };
    peer.send(frame).await;
    let published = soon("the confirm", sent).await.expect("no panic").expect("published");
    assert_eq!((published.message_id.as_str(), published.position), ("m", position(7)));
}

#[tokio::test]
async fn unconfirmed_publishes_are_sent_again_in_order_under_the_same_ids() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let mut sent = Vec::new();
    client.connect();
    let (mut peer, _) = gateway.welcome().await;
    for number in 0..3 {
        sent.push(tokio::spawn(client.publish("a").json(&number).expect("JSON").send()));
        // One after the other, so that their order is known.
        peer.expect("publish").await;
    }
    drop(peer);
    let (mut peer, _) = gateway.welcome().await;
    for number in 0..3 {
        let envelope = peer.expect("publish").await["envelope"].clone();
        assert_eq!(envelope["payload"], number);
        let message_id = envelope["metadata"]["messageId"].as_str().expect("an id").to_owned();
        peer.send(ServerFrame::Published {
            message_id: message_id.into(),
            position: position(number),
            duplicate: number == 0,
        })
        .await;
    }
    for (number, sent) in sent.into_iter().enumerate() {
        let published = soon("the confirm", sent).await.expect("no panic").expect("published");
        assert_eq!(published.duplicate, number == 0);
    }
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_one_that_may_pass_is_retried() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.connect();
    let (mut peer, _) = gateway.welcome().await;
    let sent = tokio::spawn(client.publish("a").payload_text("1").message_id("m").send());
    let refused = |code: Code, after| Refused {
        code,
        message: "because".into(),
        retry_after_ms: after,
        subscription: None,
        message_id: Some("m".into()),
    };
    peer.expect("publish").await;
    peer.send(ServerFrame::Refused(refused(Code::UPSTREAM_DOWN, Some(10)))).await;
    peer.expect("publish").await;
    peer.send(ServerFrame::Refused(refused(Code::NOT_ALLOWED, None))).await;
    let error = soon("the refusal", sent).await.expect("no panic").expect_err("refused");
    assert_eq!(error.code(), Code::NOT_ALLOWED);
    assert!(!error.is_retryable() && !error.could_have_happened());
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_here() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    assert!(matches!(client.publish("a/+").send().await, Err(PublishError::Topic(_))));
    for payload in ["", "1,2", "{\"a\":1},\"metadata\":{}", "nul"] {
        let error = client.publish("a").payload_text(payload).send().await.expect_err("not JSON");
        assert_eq!(error.code(), Code::BAD_ENVELOPE, "{payload}");
    }
    let large = format!("\"{}\"", "x".repeat(256 * 1024));
    let error = client.publish("a").payload_text(large).send().await.expect_err("too large");
    assert_eq!(error.code(), Code::TOO_LARGE);
}

#[tokio::test]
async fn closing_tells_those_who_wait_that_it_may_have_happened() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.connect();
    let (mut peer, _) = gateway.welcome().await;
    let sent = tokio::spawn(client.publish("a").send());
    peer.expect("publish").await;
    let closing = tokio::spawn(async move { client.close().await });
    let error = soon("the end", sent).await.expect("no panic").expect_err("unconfirmed");
    assert!(error.could_have_happened() && error.is_retryable());
    peer.expect("goodbye").await;
    drop(peer);
    soon("the close", closing).await.expect("no panic");
}
