//! What a ready broker answers on its sockets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(2);

/// Somebody accepts connections.
pub(super) fn listens(port: u16) -> bool {
    connect(port).is_ok()
}

/// AMQP 0.9.1: the broker answers the protocol header with `connection.start` (frame type 1, channel 0, class 10,
/// method 10; specification 2.2.4 and 1.4.2.1).
pub(super) fn amqp(port: u16) -> bool {
    let greet = || -> std::io::Result<bool> {
        let mut stream = connect(port)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut start = [0; 11];
        stream.read_exact(&mut start)?;
        Ok(start[..3] == [1, 0, 0] && start[7..] == [0, 10, 0, 10])
    };
    greet().unwrap_or(false)
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SOON)
}
