//! As much of MQTT 3.1.1 as a device needs to publish once.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn text(packet: &mut Vec<u8>, text: &str) {
    packet.extend((text.len() as u16).to_be_bytes());
    packet.extend(text.as_bytes());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut rest = body.len();
    loop {
        let low = (rest % 128) as u8;
        rest /= 128;
        packet.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// Publishes with quality of service 1, and returns when the broker has it.
pub async fn publish(port: u16, topic: &str, payload: &[u8]) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let mut connect = Vec::new();
    text(&mut connect, "MQTT");
    connect.extend([4, 0b1100_0010, 0, 60]);
    for field in [&format!("device-{}", rand_id()), "guest", "guest"] {
        text(&mut connect, field);
    }
    socket.write_all(&packet(0x10, &connect)).await.expect("sent");
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, [0x20, 2, 0, 0], "the broker accepts");
    let mut publish = Vec::new();
    text(&mut publish, topic);
    publish.extend([0, 1]);
    publish.extend(payload);
    socket.write_all(&packet(0x32, &publish)).await.expect("sent");
    socket.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, [0x40, 2, 0, 1], "the broker has it");
}

fn rand_id() -> u64 {
    getrandom::u64().expect("random numbers")
}
