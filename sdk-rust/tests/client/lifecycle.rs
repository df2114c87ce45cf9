use crate::gateway::{Gateway, next, soon};
use anabranch::{Closed, Code, Event, Phase, WaitError};
use anabranch_protocol::server_frame::ServerFrame;
use std::time::Duration;

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
