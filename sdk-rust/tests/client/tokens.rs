use crate::gateway::{Gateway, soon};
use anabranch::{Client, Code, Phase, TokenWhy, WaitError};
use anabranch_protocol::server_frame::ServerFrame;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A client whose provider numbers its tokens and notes why each was wanted.
fn counting(gateway: &Gateway) -> (Client, Arc<Mutex<Vec<TokenWhy>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let provider = move |why| {
        let mut log = log.lock().expect("not poisoned");
        log.push(why);
        let token = format!("token-{}", log.len());
        async move { Ok::<_, io::Error>(token) }
    };
    let client = Client::builder(gateway.url()).token_provider(provider).build().expect("a client");
    (client, asked)
}

#[tokio::test]
async fn a_rejected_token_is_replaced() {
    let gateway = Gateway::start().await;
    let (client, asked) = counting(&gateway);
    client.connect();
    let mut peer = gateway.accept().await;
    assert_eq!(peer.expect("hello").await["token"], "token-1");
    peer.refuse(Code::TOKEN_EXPIRED, None).await;
    peer.close(Code::TOKEN_EXPIRED).await;
    let (_peer, hello) = gateway.welcome().await;
    assert_eq!(hello["token"], "token-2");
    assert_eq!(*asked.lock().expect("not poisoned"), [TokenWhy::First, TokenWhy::Rejected]);
}

#[tokio::test]
async fn a_token_is_refreshed_on_the_connection_before_it_ends() {
    let gateway = Gateway::start().await;
    let (client, asked) = counting(&gateway);
    client.connect();
    let mut peer = gateway.accept().await;
    peer.expect("hello").await;
    peer.welcome(3_000).await;
    assert_eq!(peer.expect("authenticate").await["token"], "token-2");
    peer.send(ServerFrame::Authenticated { token_ttl_ms: 600_000 }).await;
    assert_eq!(*asked.lock().expect("not poisoned"), [TokenWhy::First, TokenWhy::Expiring]);
}

#[tokio::test]
async fn a_token_that_is_never_accepted_ends_in_needs_auth_until_the_app_connects_again() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    client.connect();
    for _ in 0..anabranch_sdk_core::token::REJECTIONS {
        let mut peer = gateway.accept().await;
        peer.expect("hello").await;
        peer.refuse(Code::TOKEN_INVALID, None).await;
        peer.close(Code::TOKEN_INVALID).await;
    }
    let error = client.wait_live(Duration::from_secs(20)).await.expect_err("not live");
    assert!(matches!(&error, WaitError::NeedsAuth { last_failure: Some(_) }), "{error:?}");
    assert!(!error.to_string().contains("secret"), "a token in an error: {error}");
    assert_eq!(client.state().phase, Phase::NeedsAuth);
    client.connect();
    let _peer = gateway.welcome().await;
    client.wait_live(Duration::from_secs(20)).await.expect("live");
}

#[tokio::test]
async fn a_provider_that_fails_or_panics_is_asked_again() {
    let gateway = Gateway::start().await;
    let calls = Arc::new(Mutex::new(0));
    let provider = move |_| {
        let mut calls = calls.lock().expect("not poisoned");
        *calls += 1;
        let call = *calls;
        async move {
            match call {
                1 => Err("the issuer is down"),
                2 => panic!("the provider is broken (this panic belongs to the test)"),
                _ => Ok("fine".to_owned()),
            }
        }
    };
    let client = Client::builder(gateway.url()).token_provider(provider).build().expect("a client");
    client.connect();
    let (_peer, hello) = gateway.welcome().await;
    assert_eq!(hello["token"], "fine");
    soon("live", client.wait_live(Duration::from_secs(20))).await.expect("live");
}
