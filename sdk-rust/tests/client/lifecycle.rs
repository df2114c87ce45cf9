use crate::gateway::{Gateway, next, soon};
use anabranch::{Closed, Code, Event, Phase, WaitError};
use anabranch_protocol::server_frame::ServerFrame;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn closing_says_goodbye_and_ends_everything() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let mut all = client.subscribe("#").open().expect("a filter");
    client.connect();
    let (mut peer, _) = gateway.welcome().await;
    let closing = client.clone();
    let closing = tokio::spawn(async move { closing.close().await });
    peer.expect("goodbye").await;
    assert_eq!(peer.frame().await, None);
    drop(peer);
    soon("the close", closing).await.expect("no panic");
    assert!(matches!(next(&mut all).await, Event::Closed(Closed::Client)));
    assert!(all.next().await.is_none());
    assert!(client.subscribe("a").open().is_err());
    assert_eq!(client.state().phase, Phase::Closed);
    let error = client.wait_live(Duration::from_secs(1)).await.expect_err("closed");
    assert!(matches!(error, WaitError::Closed { .. }));
    client.close().await;
}

#[tokio::test]
async fn the_last_handle_ends_the_client() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let all = client.subscribe("#").open().expect("a filter");
    client.connect();
    let (mut peer, _) = gateway.welcome().await;
    drop(client);
    drop(all);
    while peer.frame().await.is_some() {}
}

#[tokio::test]
async fn a_pause_outlasts_wakes_and_other_reasons() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.connect();
    let (mut peer, _) = gateway.welcome().await;
    client.pause("background");
    client.pause("battery");
    peer.expect("goodbye").await;
    client.wake();
    client.connect();
    client.resume("battery");
    client.wake();
    assert_eq!(client.state().phase, Phase::Paused);
    client.resume("background");
    let _peer = gateway.welcome().await;
}

#[tokio::test]
async fn states_begin_with_the_present_one() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let mut states = client.states();
    assert_eq!(soon("a state", states.next()).await.map(|s| s.phase), Some(Phase::Idle));
    client.connect();
    let _peer = gateway.welcome().await;
    while soon("live", states.next()).await.expect("a state").phase != Phase::Live {}
}

#[tokio::test]
async fn a_wait_that_ends_says_what_went_wrong() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.connect();
    // Accepted and dropped: no upgrade.
    drop(gateway.tcp().await);
    let mut states = client.states();
    while soon("a failure", states.next()).await.expect("a state").phase != Phase::Offline {}
    client.pause("test");
    let error = client.wait_live(Duration::ZERO).await.expect_err("not live");
    let WaitError::TimedOut { last_failure: Some(failure), .. } = &error else { panic!("{error:?}") };
    assert!(error.is_retryable() && error.to_string().contains(failure.as_str()));
}

#[tokio::test]
async fn a_client_told_to_stop_stays_away_until_asked_again() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.connect();
    let mut peer = gateway.accept().await;
    peer.expect("hello").await;
    peer.refuse(Code::UNSUPPORTED_VERSION, None).await;
    peer.close(Code::UNSUPPORTED_VERSION).await;
    let error = client.wait_live(Duration::from_secs(20)).await.expect_err("stopped");
    assert!(matches!(error, WaitError::Closed { code: Some(Code::UNSUPPORTED_VERSION), .. }), "{error:?}");
    client.wake();
    assert_eq!(client.state().phase, Phase::Closed);
    client.connect();
    let _peer = gateway.welcome().await;
}

#[tokio::test]
async fn a_drained_client_leaves_in_its_slot_and_comes_back() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.connect();
    let (mut peer, _) = gateway.welcome().await;
    peer.send(ServerFrame::GoAway { code: Code::GOING_AWAY, reconnect_after_ms: 50 }).await;
    peer.expect("goodbye").await;
    let _peer = gateway.welcome().await;
}

/// Answers the next upgrade with this HTTP response.
async fn answer(gateway: &Gateway, response: &str) {
    let mut stream = gateway.tcp().await;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let byte = soon("a request", stream.read_u8()).await.expect("a byte");
        request.push(byte);
    }
    soon("room", stream.write_all(response.as_bytes())).await.expect("written");
}

#[tokio::test]
async fn a_refused_upgrade_is_obeyed_by_its_code() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.connect();
    let busy = "{\"code\":4100,\"remedy\":\"retry\",\"message\":\"draining\"}";
    let length = busy.len();
    answer(
        &gateway,
        &format!(
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: {length}\r\n\r\n{busy}"
        ),
    )
    .await;
    let body = "{\"code\":4505,\"remedy\":\"stop\",\"message\":\"no common subprotocol\"}";
    let length = body.len();
    answer(&gateway, &format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {length}\r\n\r\n{body}")).await;
    let error = client.wait_live(Duration::from_secs(20)).await.expect_err("stopped");
    assert!(matches!(&error, WaitError::Closed { code: Some(Code::UNSUPPORTED_VERSION), .. }), "{error:?}");
    assert!(error.to_string().contains("no common subprotocol"), "{error}");
}

#[test]
fn the_end_of_the_runtime_is_the_end_of_the_client() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (client, mut all, publish) = runtime.block_on(async {
        let gateway = Gateway::start().await;
        let client = gateway.client();
        let all = client.subscribe("#").open().expect("a filter");
        let publish = client.publish("a").send();
        client.connect();
        let _peer = gateway.welcome().await;
        (client, all, publish)
    });
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        assert!(matches!(next(&mut all).await, Event::Closed(Closed::Client)));
        assert!(soon("an error", publish).await.is_err());
        soon("the close", client.close()).await;
    });
}
