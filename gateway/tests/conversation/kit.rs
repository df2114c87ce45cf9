//! A gateway on port 0 with the memory log, and a client that speaks frames by hand.

use anabranch_gateway::auth::{Algorithm, Authenticator, NewToken};
use anabranch_gateway::config::{AuthConfig, KeyConfig, OriginRule, Origins, Secret, TopicsConfig};
use anabranch_gateway::connection::session::Rules;
use anabranch_gateway::gateway::{Gateway, Options};
use anabranch_gateway::hub::registry;
use anabranch_gateway::hub::sizes::Sizes;
use anabranch_gateway::log::memory::{self, MemoryLog};
use anabranch_protocol::server_frame::Limits;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn secret() -> Secret {
    Secret::new(*b"a secret of at least 32 bytes, for tests only")
}

/// A token for `subject` that may read and write these filters.
pub fn token(subject: &str, read: &[&str], write: &[&str]) -> String {
    token_for(subject, read, write, 3600)
}

pub fn token_for(subject: &str, read: &[&str], write: &[&str], seconds: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let owned = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
    NewToken {
        subject: subject.into(),
        issuer: "anabranch".into(),
        audience: "anabranch".into(),
        not_before: now - 10,
        expires: now + seconds,
        read: owned(read),
        write: owned(write),
        ..NewToken::default()
    }
    .sign(&secret())
}

pub struct World {
    pub gateway: Gateway,
    pub log: Arc<MemoryLog>,
}

impl World {
    pub async fn start() -> World {
        World::with(|_| {}, memory::Options::default()).await
    }

    pub async fn with(change: impl FnOnce(&mut Options), log: memory::Options) -> World {
        let log = MemoryLog::new(log);
        let key = KeyConfig { algorithm: Algorithm::Hs256, kid: None, issuer: None, material: secret() };
        let auth = AuthConfig { keys: vec![key], ..AuthConfig::default() };
        let mut options = Options {
            id: "test".into(),
            listen: ([127, 0, 0, 1], 0).into(),
            tls: None,
            shards: 2,
            origins: Origins::new(vec![OriginRule::Same]),
            files: None,
            rules: Rules {
                hello_timeout: 5_000,
                ping_interval: 25_000,
                ping_grace: 10_000,
                limits: Limits {
                    frame_bytes: 300_000,
                    subscriptions: 256,
                    publishes_in_flight: 256,
                    conflate_ms: 60_000,
                },
                sizes: Sizes::new(256 * 1024, Vec::new()),
                classes: Arc::new(TopicsConfig::default().classes()),
            },
            limits: registry::Limits { total: 1000, per_address: 1000, per_subject: 1000 },
            ring_bytes: 1024 * 1024,
            newest_bytes: 1024 * 1024,
            shadows: None,
            checkpoint: None,
            drain_spread: 10_000,
            drain_patience: 5_000,
        };
        change(&mut options);
        let authenticator = Arc::new(Authenticator::new(&auth).unwrap());
        let gateway = Gateway::start(options, log.clone(), authenticator).await.unwrap();
        World { gateway, log }
    }

    pub fn url(&self) -> String {
        format!("ws://{}/v1/ws", self.gateway.address())
    }

    /// A socket that has not said hello yet.
    pub async fn dial(&self) -> Client {
        let mut request = self.url().into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "anabranch.v1.json".parse().unwrap());
        let (socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "anabranch.v1.json");
        Client { socket }
    }

    /// A client that has said hello with these subscriptions (`[{"id":…,"filter":…}]`), and been welcomed.
    pub async fn hello(&self, token: &str, subscriptions: Value) -> (Client, Value) {
        let mut client = self.dial().await;
        client.send(json!({"type": "hello", "token": token, "subscriptions": subscriptions})).await;
        let welcome = client.expect("welcome").await;
        (client, welcome)
    }
}

pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub async fn send(&mut self, frame: Value) {
        self.send_text(frame.to_string()).await;
    }

    pub async fn send_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    /// The next frame, or the close code.
    pub async fn next(&mut self) -> Result<Value, u16> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(text.as_str()).unwrap()),
                    Some(Ok(Message::Close(Some(frame)))) => return Err(u16::from(frame.code)),
                    Some(Ok(Message::Close(None))) | None | Some(Err(_)) => return Err(0),
                    Some(Ok(_)) => {}
                }
            }
        };
        tokio::time::timeout(DEADLINE, next).await.expect("nothing came before the deadline")
    }

    /// The next frame of this type. Pings are answered, marks skipped, and anything else is a failure.
    pub async fn expect(&mut self, kind: &str) -> Value {
        loop {
            let frame =
                self.next().await.unwrap_or_else(|code| panic!("closed with {code}, expected {kind}"));
            match frame["type"].as_str().unwrap() {
                found if found == kind => return frame,
                "ping" => self.send(json!({"type": "pong"})).await,
                "mark" => {}
                _ => panic!("expected {kind}, got {frame}"),
            }
        }
    }

    /// The next frame of this type, past any of another.
    pub async fn expect_past(&mut self, other: &str, kind: &str) -> Value {
        loop {
            let frame =
                self.next().await.unwrap_or_else(|code| panic!("closed with {code}, expected {kind}"));
            match frame["type"].as_str().unwrap() {
                found if found == kind => return frame,
                found if found == other || found == "mark" => {}
                _ => panic!("expected {kind}, got {frame}"),
            }
        }
    }

    /// The close code; frames before it are dropped.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }

    pub async fn publish(&mut self, topic: &str, id: &str, payload: Value) -> Value {
        let envelope = json!({"metadata": {"messageId": id, "topic": topic}, "payload": payload});
        self.send(json!({"type": "publish", "envelope": envelope})).await;
        self.expect("published").await
    }
}
