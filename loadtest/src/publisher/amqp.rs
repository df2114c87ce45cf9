//! As much of AMQP 0.9.1 as it takes to publish: no confirms, no properties, one write for all messages that are due.
//!
//! A client library hands each message to a thread of its own and waits until it is written, which costs more than
//! everything else that the generator does, and makes it late. Figures of sections: AMQP 0-9-1, 2.2.4, 2.3.5 and 4.2.

use anyhow::{Context, Result, bail, ensure};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xce;

/// Class and method.
type Name = (u16, u16);
const START: Name = (10, 10);
const START_OK: Name = (10, 11);
const TUNE: Name = (10, 30);
const TUNE_OK: Name = (10, 31);
const OPEN: Name = (10, 40);
const OPEN_OK: Name = (10, 41);
const CHANNEL_OPEN: Name = (20, 10);
const CHANNEL_OPEN_OK: Name = (20, 11);
const CHANNEL_CLOSE: Name = (20, 40);
const CHANNEL_CLOSE_OK: Name = (20, 41);
const PUBLISH: Name = (60, 40);

/// A connection of the user `guest` with one channel.
pub struct Amqp {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Amqp {
    pub async fn connect(port: u16) -> Result<Amqp> {
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        stream.set_nodelay(true)?;
        let mut amqp = Amqp { stream, buffer: b"AMQP\x00\x00\x09\x01".to_vec() };
        amqp.flush().await?;
        amqp.expect(START).await?;
        amqp.method(0, START_OK, |out| {
            out.extend([0; 4]); // No properties of the client.
            short(out, "PLAIN");
            long(out, b"\0guest\0guest");
            short(out, "en_US");
        });
        amqp.flush().await?;
        let limits = amqp.expect(TUNE).await?;
        // Channels and frame size as offered; and no heartbeats.
        let limits = limits.get(..6).context("connection.tune is too short")?;
        amqp.method(0, TUNE_OK, |out| {
            out.extend(limits);
            out.extend([0; 2]);
        });
        amqp.method(0, OPEN, |out| {
            short(out, "/");
            out.extend([0; 2]);
        });
        amqp.flush().await?;
        amqp.expect(OPEN_OK).await?;
        amqp.method(1, CHANNEL_OPEN, |out| out.push(0));
        amqp.flush().await?;
        amqp.expect(CHANNEL_OPEN_OK).await?;
        Ok(amqp)
    }

    /// Adds a message to what the next [`flush`](Amqp::flush) writes.
    pub fn publish(&mut self, exchange: &str, key: &str, body: &[u8]) {
        self.method(1, PUBLISH, |out| {
            out.extend([0; 2]);
            short(out, exchange);
            short(out, key);
            out.push(0); // Neither mandatory nor immediate.
        });
        self.frame(HEADER, 1, |out| {
            out.extend(PUBLISH.0.to_be_bytes());
            out.extend([0; 2]);
            out.extend((body.len() as u64).to_be_bytes());
            out.extend([0; 2]);
        });
        self.frame(BODY, 1, |out| out.extend_from_slice(body));
    }

    /// Writes what was added, and waits for as long as the broker takes nothing.
    pub async fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&self.buffer).await.context("the broker ended the connection")?;
        self.buffer.clear();
        Ok(())
    }

    /// Whoever publishes without confirms hears from the broker only when it complains.
    pub fn check(&self) -> Result<()> {
        let mut said = [0; 512];
        match self.stream.try_read(&mut said) {
            Ok(count) => bail!("the broker complains: {}", String::from_utf8_lossy(&said[..count])),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when the broker has taken everything: a connection that just ends may take its last messages with it.
    pub async fn finish(mut self) -> Result<()> {
        self.method(1, CHANNEL_CLOSE, |out| {
            out.extend(200u16.to_be_bytes());
            short(out, "");
            out.extend([0; 4]); // No method is to blame.
        });
        self.flush().await?;
        self.expect(CHANNEL_CLOSE_OK).await.map(drop)
    }

    /// The arguments of the next method, which must be this one.
    async fn expect(&mut self, name: Name) -> Result<Vec<u8>> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await.context("the broker ended the connection")?;
        let len = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        ensure!(head[0] == METHOD && (4..1 << 20).contains(&len), "the broker sent no method");
        let mut frame = vec![0; len + 1];
        self.stream.read_exact(&mut frame).await?;
        let found = (u16::from_be_bytes([frame[0], frame[1]]), u16::from_be_bytes([frame[2], frame[3]]));
        let text = String::from_utf8_lossy(&frame[4..len]);
        ensure!(found == name, "the broker answered {found:?} and not {name:?}: {text}");
        Ok(frame[4..len].to_vec())
    }

    fn method(&mut self, channel: u16, name: Name, arguments: impl FnOnce(&mut Vec<u8>)) {
        self.frame(METHOD, channel, |out| {
            out.extend(name.0.to_be_bytes());
            out.extend(name.1.to_be_bytes());
            arguments(out);
        });
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut self.buffer;
        out.push(kind);
        out.extend(channel.to_be_bytes());
        let at = out.len();
        out.extend([0; 4]);
        payload(out);
        let len = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&len.to_be_bytes());
        out.push(END);
    }
}

/// Text of at most 255 bytes.
fn short(out: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(255)];
    out.push(text.len() as u8);
    out.extend(text);
}

fn long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_be_bytes());
    out.extend(bytes);
}
