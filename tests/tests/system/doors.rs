//! Who gets in at all: half handshakes, deadlines, limits, origins.

use anabranch_protocol::code::Code;
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::http_client::get;
use anabranch_tests::raw_client::{Frame, Heard, RawClient, Upgrade};
use anabranch_tests::tokens;
use anabranch_tests::wait::{until, within};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::interval;

/// Reads until the other side ends the connection.
async fn until_closed(stream: &mut TcpStream) {
    let mut piece = [0; 1024];
    while let Ok(n) = stream.read(&mut piece).await {
        if n == 0 {
            return;
        }
    }
}

#[tokio::test]
async fn who_never_finishes_a_handshake_is_let_go() {
    let gateway = Gateway::start().await;
    let address = gateway.address();
    let beginnings: [&[u8]; 4] =
        [b"", b"G", b"GET /v1/ws HTTP/1.1\r\nHost: x\r\n", b"GET /v1/ws HTTP/1.1\r\nX: "];
    let mut idle = JoinSet::new();
    for number in 0..200 {
        let beginning = beginnings[number % beginnings.len()];
        idle.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.write_all(beginning).await.expect("sent");
            until_closed(&mut stream).await;
        });
    }
    // Slowloris: always one more byte, never the last one.
    for _ in 0..20 {
        idle.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            let mut ticks = interval(Duration::from_millis(100));
            stream.write_all(b"GET /v1/ws HTTP/1.1\r\nX-Slow: ").await.expect("sent");
            while stream.write_all(b"a").await.is_ok() {
                ticks.tick().await;
            }
        });
    }
    // Meanwhile others come and go as ever.
    for _ in 0..20 {
        let hello =
            RawClient::hello(address, &tokens::all("good"), json!([{ "id": 1, "filter": "a" }])).await;
        hello.expect("a welcome").0.expect("caught_up").await;
    }
    within("the end of 220 half handshakes", idle.join_all()).await;
}

#[tokio::test]
async fn who_never_says_hello_is_let_go() {
    let gateway = Gateway::with(Settings::default().set("limits.hello", "\"300ms\"")).await;
    let mut silent = RawClient::open(gateway.address()).await.expect("a socket");
    let mut chatty = RawClient::open(gateway.address()).await.expect("a socket");
    // The beginning of a frame, and no more.
    chatty.send_bytes(&Frame::text("{}").bytes()[..7]).await.expect("sent");
    let end = silent.end().await;
    assert_eq!((end.code(), end.close), (Some(Code::HELLO_TIMEOUT.0), Some(Code::HELLO_TIMEOUT.0)));
    assert_eq!(end.refused.map(|refused| refused["remedy"].clone()), Some("retry".into()));
    assert_eq!(chatty.end().await.code(), Some(Code::HELLO_TIMEOUT.0));
}

#[tokio::test]
async fn the_first_frame_is_hello() {
    let gateway = Gateway::start().await;
    for frame in [json!({ "type": "probe" }), json!({ "type": "subscribe", "id": 1, "filter": "a" })] {
        let mut client = RawClient::open(gateway.address()).await.expect("a socket");
        client.say(&frame).await.expect("sent");
        assert_eq!(client.end().await.code(), Some(Code::UNEXPECTED_FRAME.0));
    }
    // Byte by byte, and in fragments, it is as good as whole.
    let hello = json!({ "type": "hello", "token": tokens::all("slow"), "subscriptions": [] }).to_string();
    let mut client = RawClient::open(gateway.address()).await.expect("a socket");
    client.send_bytewise(&Frame::text(&hello).bytes()).await.expect("sent");
    client.expect("welcome").await;
    let mut client = RawClient::open(gateway.address()).await.expect("a socket");
    for frame in Frame::fragments(&hello, 7) {
        client.send(&frame).await.expect("sent");
    }
    client.expect("welcome").await;
}

#[tokio::test]
async fn an_address_has_a_limit_and_gets_its_place_back() {
    let gateway = Gateway::with(Settings::default().set("limits.connections_per_address", "4")).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let hello = RawClient::hello(gateway.address(), &tokens::all("a"), json!([])).await;
        open.push(hello.expect("a welcome").0);
    }
    assert!(RawClient::open(gateway.address()).await.is_err(), "the fifth is let go");
    open.pop();
    until("a place", async || RawClient::open(gateway.address()).await.ok()).await;
}

#[tokio::test]
async fn a_subject_has_a_limit_and_others_do_not_feel_it() {
    let gateway = Gateway::with(Settings::default().set("limits.connections_per_subject", "3")).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let hello = RawClient::hello(gateway.address(), &tokens::all("greedy"), json!([])).await;
        open.push(hello.expect("a welcome").0);
    }
    let mut fourth = RawClient::open(gateway.address()).await.expect("a socket");
    fourth.say(&json!({ "type": "hello", "token": tokens::all("greedy") })).await.expect("sent");
    let end = fourth.end().await;
    assert_eq!(end.code(), Some(Code::TOO_MANY_CONNECTIONS.0));
    assert_eq!(end.refused.map(|refused| refused["remedy"].clone()), Some("retry".into()));
    RawClient::hello(gateway.address(), &tokens::all("modest"), json!([])).await.expect("a welcome");
    open.pop();
    until("a place", async || {
        let mut client = RawClient::open(gateway.address()).await.ok()?;
        client.say(&json!({ "type": "hello", "token": tokens::all("greedy") })).await.ok()?;
        match client.next().await {
            Heard::Frame(frame) if frame["type"] == "welcome" => Some(()),
            _ => None,
        }
    })
    .await;
}

#[tokio::test]
async fn origins_are_compared_whole() {
    let origins = r#"["https://dash.example.com", "http://localhost:5173"]"#;
    let gateway = Gateway::with(Settings::default().set("origins", origins)).await;
    let table = [
        (None, true),
        (Some("https://dash.example.com"), true),
        (Some("https://dash.example.com:443"), true),
        (Some("HTTPS://DASH.EXAMPLE.COM"), true),
        (Some("http://localhost:5173"), true),
        (Some("http://dash.example.com"), false),
        (Some("https://dash.example.com:8443"), false),
        (Some("https://dash.example.com.evil.test"), false),
        (Some("https://evil-dash.example.com"), false),
        (Some("https://sub.dash.example.com"), false),
        (Some("https://dash.example.com."), false),
        (Some("https://dash.example.com@evil.test"), false),
        (Some("https://evil.test/https://dash.example.com"), false),
        (Some("https://evil.test#https://dash.example.com"), false),
        (Some("https://dash.example.com, https://evil.test"), false),
        (Some("https://xn--dsh-0ua.example.com"), false),
        (Some("https://d\u{430}sh.example.com"), false),
        (Some("http://localhost"), false),
        (Some("http://127.0.0.1:5173"), false),
        (Some("http://localhost:5173.evil.test"), false),
        (Some("null"), false),
        (Some(""), false),
        (Some("file://"), false),
        (Some("chrome-extension://dash.example.com"), false),
    ];
    for (origin, allowed) in table {
        let upgrade = Upgrade { origin: origin.map(str::to_owned), ..Upgrade::default() };
        match upgrade.send(gateway.address()).await.expect("an answer") {
            Ok(_) => assert!(allowed, "{origin:?} was let in"),
            Err(response) => {
                assert!(!allowed, "{origin:?} was refused: {}", response.text());
                assert_eq!((response.status, &response.json()["code"]), (403, &json!(4506)), "{origin:?}");
            }
        }
    }
}

#[tokio::test]
async fn only_websocket_and_our_subprotocol_are_upgraded() {
    let gateway = Gateway::start().await;
    let plain = get(gateway.address(), "/v1/ws").await.expect("an answer");
    assert_eq!((plain.status, &plain.json()["code"]), (426, &json!(4504)));
    let other = Upgrade { subprotocol: Some("mqtt".into()), ..Upgrade::default() };
    let refused = other.send(gateway.address()).await.expect("an answer").expect_err("refused");
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!(4505)));
    assert_eq!(refused.json()["remedy"], "stop");
    let several = Upgrade { subprotocol: Some("mqtt, anabranch.v1.json".into()), ..Upgrade::default() };
    assert!(several.send(gateway.address()).await.expect("an answer").is_ok());
}
