//! An echo server that speaks WebSocket through the gateway's own socket room, for conformance suites.
//!
//! Only the handshake is its own: suites such as Autobahn know nothing of subprotocols and tokens. Its first line says
//! where it listens; it ends when its standard input does.

#![forbid(unsafe_code)]

use anabranch_gateway::socket::header::{Opcode, write_close, write_frame};
use anabranch_gateway::socket::inbound::{Inbound, Message};
use anabranch_tests::raw_client::accept_key;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Above the largest message of the suites (16 MiB), so that size is no reason to refuse one.
const MAX: usize = 32 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("echo listens on {}", listener.local_addr()?);
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                // A suite breaks connections on purpose: how one ends is its own affair.
                tokio::spawn(async move { drop(serve(stream).await) });
            }
            read = input.read(&mut ignored) => if read? == 0 { return Ok(()) },
        }
    }
}

async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = handshake(&mut stream).await?;
    let mut inbound = Inbound::default();
    let mut used = buffer.len();
    loop {
        let mut out = Vec::new();
        let mut closed = None;
        let fed = inbound.feed(&mut buffer[..used], MAX, |message| {
            match message {
                Message::Text(text) => write_frame(&mut out, Opcode::Text, text.as_bytes()),
                Message::Binary(bytes) => write_frame(&mut out, Opcode::Binary, bytes),
                Message::Ping(bytes) => write_frame(&mut out, Opcode::Pong, bytes),
                Message::Pong => {}
                Message::Close(code) => closed = Some(code.unwrap_or(1000)),
            }
            true
        });
        if let Err(violation) = fed {
            closed = Some(violation.close);
        }
        if let Some(code) = closed {
            write_close(&mut out, code, "");
        }
        stream.write_all(&out).await?;
        if closed.is_some() {
            stream.shutdown().await?;
            // What is on its way is read, or the system would answer it with a reset that overtakes the close.
            while stream.read(&mut buffer).await? > 0 {}
            return Ok(());
        }
        buffer.resize(64 * 1024, 0);
        used = stream.read(&mut buffer).await?;
        if used == 0 {
            return Ok(());
        }
    }
}

/// Answers the HTTP request; returns what came after it.
async fn handshake(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    let end = loop {
        if let Some(at) = received.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut received).await? == 0 || received.len() > 64 * 1024 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let key = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let key = key.ok_or_else(|| io::Error::other("not a WebSocket handshake"))?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(&key)
    );
    stream.write_all(answer.as_bytes()).await?;
    received.drain(..end);
    Ok(received)
}
