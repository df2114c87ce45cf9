//! A gateway played by the test. Every wait has a deadline; nothing here decides anything.

use anabranch::{Client, Code, Cursor, Event, Outcome, Position, Subscription};
use anabranch_protocol::SUBPROTOCOL;
use anabranch_protocol::server_frame::{Limits, Refused, ServerFrame, Welcome};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

pub const LOG: &str = "7f3a9c21d0e1b2c4";

/// Fails the test if it takes longer than anything here may take.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub fn cursor(offset: u64) -> Cursor {
    format!("{LOG}/0:{offset}").parse().expect("a cursor")
}

pub fn position(offset: u64) -> Position {
    format!("0:{offset}").parse().expect("a position")
}

pub fn envelope(topic: &str, number: u64) -> String {
    json!({ "metadata": { "messageId": format!("m{number}"), "topic": topic }, "payload": { "n": number } })
        .to_string()
}

/// The number in a message's payload.
pub fn number(event: &Event) -> Option<u64> {
    match event {
        Event::Message(message) => message.json::<Value>().ok()?["n"].as_u64(),
        _ => None,
    }
}

pub async fn next(subscription: &mut Subscription) -> Event {
    soon("an event", subscription.next()).await.expect("the subscription goes on")
}

/// The next event that is a message; its number.
pub async fn next_number(subscription: &mut Subscription) -> u64 {
    let message = soon("a message", subscription.next_message()).await.expect("the subscription goes on");
    number(&Event::Message(message)).expect("a number")
}

pub struct Gateway {
    listener: TcpListener,
}

impl Gateway {
    pub async fn start() -> Gateway {
        Gateway { listener: TcpListener::bind("127.0.0.1:0").await.expect("a port") }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.listener.local_addr().expect("an address"))
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }

    pub fn client(&self) -> Client {
        Client::builder(self.url()).token("secret").client_id("test").build().expect("a client")
    }

    pub async fn tcp(&self) -> TcpStream {
        soon("a connection", self.listener.accept()).await.expect("accepted").0
    }

    pub async fn accept(&self) -> Peer<TcpStream> {
        Peer::upgrade(self.tcp().await).await
    }

    /// Accepts, reads the hello, welcomes.
    pub async fn welcome(&self) -> (Peer<TcpStream>, Value) {
        let mut peer = self.accept().await;
        let hello = peer.expect("hello").await;
        peer.welcome(60_000).await;
        (peer, hello)
    }
}

pub struct Peer<S> {
    socket: WebSocketStream<S>,
    pub delivered: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub async fn upgrade(stream: S) -> Peer<S> {
        #[allow(clippy::result_large_err, reason = "the signature is the library's")]
        let choose = |request: &Request, mut response: Response| {
            assert_eq!(request.uri().path(), "/v1/ws");
            assert_eq!(request.headers()[header::SEC_WEBSOCKET_PROTOCOL], SUBPROTOCOL);
            let chosen = HeaderValue::from_static(SUBPROTOCOL);
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
            Ok(response)
        };
        let socket = soon("the upgrade", accept_hdr_async(stream, choose)).await.expect("a WebSocket");
        Peer { socket, delivered: 0 }
    }

    /// The next text frame as JSON; `None` at the end.
    pub async fn frame(&mut self) -> Option<Value> {
        loop {
            match soon("a frame", self.socket.next()).await?.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).expect("a JSON frame")),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// The next frame, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.frame().await.unwrap_or_else(|| panic!("the client left instead of {kind}"));
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    pub async fn raw(&mut self, message: Message) {
        soon("room to send", self.socket.send(message)).await.expect("sent");
    }

    pub async fn send(&mut self, frame: ServerFrame<'_>) {
        self.raw(Message::text(frame.to_json())).await;
    }

    pub async fn welcome(&mut self, token_ttl_ms: u64) {
        self.send(ServerFrame::Welcome(Welcome {
            session: "s".into(),
            cursor: cursor(0),
            ping_interval_ms: 30_000,
            ping_grace_ms: 10_000,
            token_ttl_ms,
            server_time_ms: 0,
            limits: Limits {
                frame_bytes: 300_000,
                subscriptions: 256,
                publishes_in_flight: 16,
                conflate_ms: 60_000,
            },
        }))
        .await;
    }

    pub async fn subscribed(&mut self, subscription: u64, after: u64, outcome: Outcome) {
        let subscription = u32::try_from(subscription).expect("an id");
        self.send(ServerFrame::Subscribed { subscription, cursor: cursor(after), outcome, snapshot: None })
            .await;
    }

    pub async fn message(&mut self, offset: u64, topic: &str) {
        self.delivered += 1;
        let envelope = envelope(topic, offset);
        self.send(ServerFrame::Message {
            position: position(offset),
            about: Default::default(),
            envelope: &envelope,
        })
        .await;
    }

    pub async fn mark(&mut self, offset: u64) {
        let delivered = self.delivered;
        self.send(ServerFrame::Mark { cursor: cursor(offset), delivered }).await;
    }

    pub async fn refuse(&mut self, code: Code, retry_after_ms: Option<u64>) {
        let message = code.advice().into();
        let refused = Refused { code, message, retry_after_ms, subscription: None, message_id: None };
        self.send(ServerFrame::Refused(refused)).await;
    }

    pub async fn close(mut self, code: Code) {
        let frame = CloseFrame { code: code.0.into(), reason: "".into() };
        // The client may be gone already.
        let _ = self.socket.close(Some(frame)).await;
        while let Some(Ok(_)) = soon("the close", self.socket.next()).await {}
    }
}
