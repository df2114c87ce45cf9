//! A client's bytes, plain or through TLS.

use anyhow::Result;
use mio::event::Source;
use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

/// A socket that does not wait.
pub enum Stream {
    Plain(TcpStream),
    /// Boxed: rustls keeps about a kilobyte for itself, and a swarm of plain clients has none of it.
    Tls(Box<Tls>),
}

/// TLS over a socket that does not wait.
pub struct Tls {
    socket: TcpStream,
    session: ClientConnection,
    /// Ciphertext that came when the reader's buffer was full.
    late: Vec<u8>,
}

/// Where ciphertext stands for a moment. One for all connections: rustls by itself asks the kernel for 4 KiB at a time.
pub struct Scratch(Box<[u8]>);

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch(vec![0; 256 * 1024].into())
    }
}

impl Stream {
    /// With a configuration, the handshake begins with the first write.
    pub fn new(socket: TcpStream, tls: Option<&Arc<ClientConfig>>) -> Result<Stream> {
        let Some(config) = tls else { return Ok(Stream::Plain(socket)) };
        let session = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
        Ok(Stream::Tls(Box::new(Tls { socket, session, late: Vec::new() })))
    }

    pub fn source(&mut self) -> &mut impl Source {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => &mut tls.socket,
        }
    }

    /// Reads. Less than the buffer holds is all that there was.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8], scratch: &mut Scratch) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(tls) => tls.read(buffer, &mut scratch.0),
        }
    }

    /// Takes some bytes, and sends them as far as the socket takes them.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(tls) => {
                let took = tls.session.writer().write(bytes)?;
                tls.send()?;
                if took == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(took) }
            }
        }
    }

    /// Sends what TLS has of its own to send, or could not send before.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(tls) => tls.send(),
        }
    }
}

impl Tls {
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => {}
                // Not connected yet: it will be writable once it is.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], scratch: &mut [u8]) -> io::Result<usize> {
        let mut filled = self.plain(buffer)?;
        let late = std::mem::take(&mut self.late);
        filled += self.decrypt(&late, &mut buffer[filled..])?;
        while filled < buffer.len() {
            match self.socket.read(scratch) {
                Ok(0) => break,
                Ok(read) => filled += self.decrypt(&scratch[..read], &mut buffer[filled..])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Takes ciphertext in until the buffer is full, and keeps the rest.
    fn decrypt(&mut self, mut ciphertext: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while !ciphertext.is_empty() && filled < buffer.len() {
            self.session.read_tls(&mut ciphertext)?;
            self.session.process_new_packets().map_err(io::Error::other)?;
            filled += self.plain(&mut buffer[filled..])?;
        }
        self.late = ciphertext.to_vec();
        self.send()?;
        Ok(filled)
    }

    /// What has been decrypted.
    fn plain(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.session.reader().read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
