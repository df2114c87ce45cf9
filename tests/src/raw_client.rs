//! A WebSocket client that speaks byte by byte, so that it can break every rule.
//!
//! Its own TCP and framing code: a library would not send what is tried here. What it says of its own is correct; the
//! misbehaviour is each test's to ask for.

mod frame;

pub use frame::{Frame, Opcode};

use crate::http_client::{HttpClient, Response};
use crate::wait::within;
use anabranch_protocol::SUBPROTOCOL;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came from the gateway.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A text message: a frame of the protocol.
    Frame(Value),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// A close frame, with its code and reason.
    Close(Option<u16>, String),
    /// The connection is gone.
    Gone,
}

/// An open WebSocket.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    received: Vec<u8>,
}

/// A request to open a WebSocket. The default is a correct one.
#[derive(Clone, Debug)]
pub struct Upgrade {
    pub path: String,
    pub subprotocol: Option<String>,
    pub origin: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

impl Default for Upgrade {
    fn default() -> Self {
        Upgrade {
            path: "/v1/ws".into(),
            subprotocol: Some(SUBPROTOCOL.into()),
            origin: None,
            headers: Vec::new(),
        }
    }
}

/// The sample of RFC 6455, section 1.3: nobody here needs a random one.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a server answers to a `Sec-WebSocket-Key` (RFC 6455, section 4.2.2).
pub fn accept_key(key: &str) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes())
}

impl Upgrade {
    /// Sends it. A refusal is an answer, not an error.
    pub async fn send(&self, address: SocketAddr) -> io::Result<Result<RawClient, Response>> {
        let mut http = HttpClient::connect(address).await?;
        let mut headers = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ];
        headers.extend(self.subprotocol.as_deref().map(|name| ("Sec-WebSocket-Protocol", name)));
        headers.extend(self.origin.as_deref().map(|origin| ("Origin", origin)));
        headers.extend(self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let response = http.request("GET", &self.path, &headers, &[]).await?;
        if response.status != 101 {
            return Ok(Err(response));
        }
        if response.header("sec-websocket-accept") != Some(&accept_key(KEY)) {
            return Err(io::Error::other("a wrong Sec-WebSocket-Accept"));
        }
        let (stream, received) = http.into_parts();
        Ok(Ok(RawClient { stream, received }))
    }
}

impl RawClient {
    /// Opens a WebSocket, correctly.
    pub async fn open(address: SocketAddr) -> io::Result<RawClient> {
        Upgrade::default().send(address).await?.map_err(|response| {
            io::Error::other(format!("refused with {}: {}", response.status, response.text()))
        })
    }

    /// Opens a WebSocket and says hello: the client and its welcome.
    pub async fn hello(
        address: SocketAddr,
        token: &str,
        subscriptions: Value,
    ) -> io::Result<(RawClient, Value)> {
        let mut client = RawClient::open(address).await?;
        client.say(&json!({ "type": "hello", "token": token, "subscriptions": subscriptions })).await?;
        let welcome = client.expect("welcome").await;
        Ok((client, welcome))
    }

    /// Sends a frame of the protocol.
    pub async fn say(&mut self, frame: &Value) -> io::Result<()> {
        self.say_text(&frame.to_string()).await
    }

    /// Sends a text message.
    pub async fn say_text(&mut self, text: &str) -> io::Result<()> {
        self.send(&Frame::text(text)).await
    }

    /// Sends a WebSocket frame.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.send_bytes(&frame.bytes()).await
    }

    /// Sends any bytes.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends any bytes, each as a segment of its own.
    pub async fn send_bytewise(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        for byte in bytes {
            self.stream.write_all(std::slice::from_ref(byte)).await?;
        }
        Ok(())
    }

    /// What comes next from the gateway.
    pub async fn hear(&mut self) -> Heard {
        loop {
            if let Some((frame, used)) = Frame::read(&self.received) {
                self.received.drain(..used);
                return match frame.opcode {
                    Opcode::Text => {
                        Heard::Frame(serde_json::from_slice(&frame.payload).unwrap_or(Value::Null))
                    }
                    Opcode::Ping => Heard::Ping(frame.payload),
                    Opcode::Pong => Heard::Pong(frame.payload),
                    Opcode::Close => {
                        let code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                        let reason =
                            String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
                        Heard::Close(code, reason)
                    }
                    other => panic!("the gateway sends no {other:?} frames"),
                };
            }
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece).await {
                Ok(n) if n > 0 => self.received.extend_from_slice(&piece[..n]),
                _ => return Heard::Gone,
            }
        }
    }

    /// The next frame of the protocol that is not a `ping` or a `mark`. Answers pings.
    pub async fn next(&mut self) -> Heard {
        within("a frame", self.next_frame()).await
    }

    async fn next_frame(&mut self) -> Heard {
        loop {
            match self.hear().await {
                Heard::Frame(frame) if frame["type"] == "ping" => {
                    if self.say(&json!({ "type": "pong" })).await.is_err() {
                        return Heard::Gone;
                    }
                }
                Heard::Frame(frame) if frame["type"] == "mark" => {}
                other => return other,
            }
        }
    }

    /// The next frame of this type; frames of other types are passed over, an end is not.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let expected = async {
            loop {
                match self.next_frame().await {
                    Heard::Frame(frame) if frame["type"] == kind => return frame,
                    Heard::Frame(frame) if frame["type"] == "refused" => {
                        panic!("waiting for {kind}: {frame}")
                    }
                    Heard::Frame(_) | Heard::Ping(_) | Heard::Pong(_) => {}
                    end @ (Heard::Close(..) | Heard::Gone) => panic!("waiting for {kind}: {end:?}"),
                }
            }
        };
        within(kind, expected).await
    }

    /// How the connection ends: the last `refused` that named no item, and the close code. Answers no ping.
    pub async fn end(&mut self) -> End {
        let ended = async {
            let mut end = End::default();
            loop {
                match self.hear().await {
                    Heard::Frame(frame) if frame["type"] == "refused" => end.refused = Some(frame),
                    Heard::Close(code, _) => end.close = code,
                    Heard::Gone => return end,
                    _ => {}
                }
            }
        };
        within("the end of the connection", ended).await
    }

    /// The TCP connection, to stop reading it, or to tear it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// How a connection ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct End {
    pub refused: Option<Value>,
    pub close: Option<u16>,
}

impl End {
    /// The code of the refusal, if there was one, else of the close.
    pub fn code(&self) -> Option<u16> {
        let refused = self.refused.as_ref().and_then(|refused| refused["code"].as_u64());
        refused.map(|code| code as u16).or(self.close)
    }
}
