//! A WebSocket client that costs next to nothing: enough of RFC 6455 for one gateway that keeps to it.

use anabranch_protocol::SUBPROTOCOL;
use anabranch_protocol::client_frame::{ClientFrame, Hello, StartAt, Subscribe};
use anabranch_protocol::server_frame::ServerFrame;
use anyhow::{Context, Result, bail, ensure};
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Connections from one source address: far below the 28,000 ports that Linux has for each, some of which wait out their time.
const PER_ADDRESS: usize = 2_000;
/// How long a connection may take to have caught up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that has been welcomed and has caught up.
pub struct Client {
    stream: TcpStream,
    /// Bytes that are not a whole frame yet.
    received: Vec<u8>,
}

impl Client {
    /// Opens the connection with this number, subscribes to one filter from now on, and waits until it has caught up.
    pub async fn open(gateway: SocketAddr, number: usize, token: &str, filter: &str) -> Result<Client> {
        let opening = async {
            let stream = connect(gateway, number).await?;
            let mut client = Client { stream, received: Vec::new() };
            client.upgrade(gateway).await?;
            client.greet(token, filter).await?;
            Ok(client)
        };
        let opened = timeout(PATIENCE, opening).await;
        opened.with_context(|| format!("connection {number} has not caught up within {PATIENCE:?}"))?
    }

    /// Opens a connection that reads one filter from the oldest record on, and returns when the gateway has agreed.
    pub async fn read(gateway: SocketAddr, number: usize, token: &str, filter: &str) -> Result<Client> {
        let opening = async {
            let stream = connect(gateway, number).await?;
            let mut client = Client { stream, received: Vec::new() };
            client.upgrade(gateway).await?;
            client.hello(token, filter, StartAt::Earliest).await?;
            client.until(|frame| matches!(frame, ServerFrame::Subscribed { .. })).await?;
            Ok(client)
        };
        let opened = timeout(PATIENCE, opening).await;
        opened.with_context(|| format!("reader {number} has no subscription within {PATIENCE:?}"))?
    }

    async fn upgrade(&mut self, gateway: SocketAddr) -> Result<()> {
        let request = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: {gateway}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            self.receive().await?;
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
                ensure!(head.starts_with("HTTP/1.1 101"), "the gateway answered {head}");
                self.received.drain(..end + 4);
                return Ok(());
            }
        }
    }

    async fn greet(&mut self, token: &str, filter: &str) -> Result<()> {
        self.hello(token, filter, StartAt::Now).await?;
        self.until(|frame| matches!(frame, ServerFrame::CaughtUp { .. })).await
    }

    async fn hello(&mut self, token: &str, filter: &str, start: StartAt<'_>) -> Result<()> {
        let hello = Hello {
            token: Cow::Borrowed(token),
            client_id: Cow::Borrowed("loadtest"),
            sdk: Cow::Borrowed("anabranch-loadtest"),
            cursor: None,
            subscriptions: vec![Subscribe {
                id: 1,
                filter: Cow::Borrowed(filter),
                start,
                ..Subscribe::default()
            }],
        };
        self.say(&ClientFrame::Hello(hello)).await
    }

    /// Reads frames up to the first of this kind.
    async fn until(&mut self, wanted: impl Fn(&ServerFrame<'_>) -> bool) -> Result<()> {
        loop {
            let text = self.frame().await?;
            match ServerFrame::from_json(&text)? {
                ServerFrame::Refused(refused) => bail!("refused: {} {}", refused.code, refused.message),
                frame if wanted(&frame) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Publishes an envelope, and returns once it is confirmed and, as this client watches its topic, has come.
    pub async fn publish(&mut self, envelope: &str) -> Result<()> {
        let publishing = async {
            self.say(&ClientFrame::Publish { envelope }).await?;
            let (mut confirmed, mut come) = (false, false);
            while !(confirmed && come) {
                let text = self.frame().await?;
                match ServerFrame::from_json(&text)? {
                    ServerFrame::Refused(refused) => bail!("refused: {} {}", refused.code, refused.message),
                    ServerFrame::Published { .. } => confirmed = true,
                    ServerFrame::Message { .. } => come = true,
                    _ => {}
                }
            }
            Ok(())
        };
        let published = timeout(PATIENCE, publishing).await;
        published.with_context(|| format!("a message has not come back within {PATIENCE:?}"))?
    }

    /// Answers pings until the connection ends, and returns why.
    pub async fn stay(mut self) -> anyhow::Error {
        // An idle client holds no buffer.
        self.received = Vec::new();
        loop {
            let step = async {
                let text = self.frame().await?;
                if let ServerFrame::Ping = ServerFrame::from_json(&text)? {
                    self.say(&ClientFrame::Pong).await?;
                }
                Ok(())
            };
            if let Err(error) = step.await {
                return error;
            }
        }
    }

    /// Hands every text frame to `hear` and answers pings, until the connection ends; returns why.
    pub async fn listen(mut self, mut hear: impl FnMut(&str)) -> anyhow::Error {
        loop {
            let mut taken = 0;
            while let Some((opcode, start, end)) = whole(&self.received[taken..]) {
                let text = std::str::from_utf8(&self.received[taken + start..taken + end]);
                match (opcode, text) {
                    (1, Ok(r#"{"type":"ping"}"#)) => {
                        if let Err(error) = self.stream.write_all(&masked(br#"{"type":"pong"}"#)).await {
                            return error.into();
                        }
                    }
                    (1, Ok(text)) => hear(text),
                    (8, text) => return anyhow::anyhow!("the gateway closed the connection: {text:?}"),
                    _ => {}
                }
                taken += end;
            }
            self.received.drain(..taken);
            if let Err(error) = self.receive().await {
                return error;
            }
        }
    }

    async fn say(&mut self, frame: &ClientFrame<'_>) -> Result<()> {
        self.stream.write_all(&masked(frame.to_json().as_bytes())).await?;
        Ok(())
    }

    /// The next text frame.
    async fn frame(&mut self) -> Result<String> {
        loop {
            if let Some((opcode, start, end)) = whole(&self.received) {
                let payload = self.received[start..end].to_vec();
                self.received.drain(..end);
                match opcode {
                    1 => return Ok(String::from_utf8(payload)?),
                    8 => bail!("the gateway closed the connection: {}", String::from_utf8_lossy(&payload)),
                    _ => continue,
                }
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> Result<()> {
        // Without room asked for, there is no buffer while nothing comes.
        self.stream.readable().await?;
        let mut chunk = [0; 16 * 1024];
        let count = self.stream.read(&mut chunk).await?;
        ensure!(count > 0, "the gateway ended the connection");
        self.received.extend_from_slice(&chunk[..count]);
        Ok(())
    }
}

/// Connects from 127.0.0.1, .2, .3 and so on, so that no address runs out of ports.
async fn connect(gateway: SocketAddr, number: usize) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last =
        u8::try_from(1 + number / PER_ADDRESS).context("more connections than 127.0.0.0/24 has ports")?;
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
    Ok(socket.connect(gateway).await?)
}

/// A text frame as clients send it. The mask is for proxies between us and the gateway, of which there are none.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The first frame if it is complete: its opcode, and where its payload begins and ends.
fn whole(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (opcode, short) = (bytes.first()? & 0x0f, bytes.get(1)? & 0x7f);
    let (start, len) = match short {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        len => (2, u64::from(len)),
    };
    let end = start + usize::try_from(len).ok()?;
    (end <= bytes.len()).then_some((opcode, start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_when_they_are_whole() {
        let mut bytes = vec![0x81, 126, 1, 0];
        bytes.extend_from_slice(&[b'x'; 256]);
        assert_eq!(whole(&bytes[..259]), None);
        assert_eq!(whole(&bytes), Some((1, 4, 260)));
        assert_eq!(whole(&[0x89, 0, 7]), Some((9, 2, 2)));
    }

    #[test]
    fn frames_carry_their_length() {
        for len in [0, 125, 126, 65_535, 65_536] {
            let frame = masked(&vec![7; len]);
            // Four bytes of mask stand before the payload.
            assert_eq!(whole(&frame).map(|(opcode, start, end)| (opcode, end - start)), Some((1, len)));
            assert!(frame.ends_with(&vec![7; len]));
        }
    }
}
