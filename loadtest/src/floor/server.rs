//! The floor's loop: one thread, one epoll, a hash map from topic to subscribers.

use super::Mode;
use super::connection::Connection;
use crate::wire::frame;
use anyhow::{Context, Result};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;

const LISTENER: Token = Token(usize::MAX);

pub struct Server {
    mode: Mode,
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    /// Who subscribed to a topic, or with a last level `+` to all below a prefix: `a/b/`.
    subscribers: HashMap<Vec<u8>, Vec<u32>>,
    /// The frames of this turn, side by side.
    frames: Vec<u8>,
    touched: Vec<u32>,
    dead: Vec<usize>,
    offset: u64,
    buffer: Vec<u8>,
}

impl Server {
    pub fn bind(address: SocketAddr, mode: Mode) -> Result<Server> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into()).with_context(|| format!("cannot listen on {address}"))?;
        socket.listen(4096)?;
        let mut listener = TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Server {
            mode,
            poll,
            listener,
            connections: Slab::new(),
            subscribers: HashMap::new(),
            frames: Vec::new(),
            touched: Vec::new(),
            dead: Vec::new(),
            offset: 0,
            buffer: vec![0; 256 * 1024],
        })
    }

    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    pub fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(id) => {
                        if event.is_readable() {
                            self.read(id);
                        }
                        if event.is_writable() && self.connections.get(id).is_some_and(|c| !c.own.is_empty())
                        {
                            self.flush(id);
                        }
                    }
                }
            }
            for id in std::mem::take(&mut self.touched) {
                self.flush(id as usize);
            }
            self.frames.clear();
            for id in std::mem::take(&mut self.dead) {
                if self.connections.try_remove(id).is_some() {
                    self.subscribers.values_mut().for_each(|list| list.retain(|&other| other as usize != id));
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let entry = self.connections.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut stream, Token(entry.key()), interest)?;
                    entry.insert(Connection::new(stream));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accept"),
            }
        }
    }

    fn read(&mut self, id: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(connection) = self.connections.get_mut(id) {
            let kept = connection.partial.len();
            if buffer.len() < 2 * kept + 4096 {
                buffer.resize(2 * kept + 4096, 0);
            }
            buffer[..kept].copy_from_slice(&connection.partial);
            let read = match connection.stream.read(&mut buffer[kept..]) {
                Ok(0) => return self.end(id, buffer),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.end(id, buffer),
            };
            connection.partial.clear();
            let whole = kept + read < buffer.len();
            let taken = self.take(id, &mut buffer[..kept + read]);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.partial.extend_from_slice(&buffer[taken..kept + read]);
            }
            if whole {
                break;
            }
        }
        self.buffer = buffer;
    }

    fn end(&mut self, id: usize, buffer: Vec<u8>) {
        self.buffer = buffer;
        self.dead.push(id);
    }

    /// Takes in what is complete; returns how many bytes that was.
    fn take(&mut self, id: usize, bytes: &mut [u8]) -> usize {
        let mut taken = 0;
        let connection = &mut self.connections[id];
        if !connection.upgraded {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return 0 };
            taken = end + 4;
            connection.upgraded = true;
            // Whoever asks knows what it asks: the accept key is not computed.
            connection.own.extend_from_slice(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            self.touch(id);
        }
        while let Some((opcode, start, end)) = frame::unmasked(&mut bytes[taken..]) {
            let (head, tail) = (taken + start, taken + end);
            match opcode {
                1 => self.heard(id, &bytes[head..tail]),
                9 => self.say(id, 10, &bytes[head..tail]),
                _ => {}
            }
            taken = tail;
        }
        taken
    }

    fn heard(&mut self, id: usize, text: &[u8]) {
        const PUBLISH: &[u8] = br#"{"type":"publish","envelope":"#;
        if let Some(envelope) = text.strip_prefix(PUBLISH).and_then(|rest| rest.strip_suffix(b"}")) {
            self.publish(id, envelope);
        } else if text.starts_with(br#"{"type":"hello""#) {
            for filter in values(text, br#""filter":""#) {
                let key = filter.strip_suffix(b"+").unwrap_or(filter);
                self.subscribers.entry(key.to_vec()).or_default().push(id as u32);
            }
            self.say(id, 1, br#"{"type":"welcome"}"#);
            self.say(id, 1, br#"{"type":"caught_up"}"#);
        } else if text == br#"{"type":"probe"}"# {
            self.say(id, 1, br#"{"type":"mark"}"#);
        }
    }

    fn say(&mut self, id: usize, opcode: u8, text: &[u8]) {
        let own = &mut self.connections[id].own;
        frame::header(own, opcode, text.len());
        own.extend_from_slice(text);
        self.touch(id);
    }

    fn touch(&mut self, id: usize) {
        if !std::mem::replace(&mut self.connections[id].touched, true) {
            self.touched.push(id as u32);
        }
    }

    fn publish(&mut self, from: usize, envelope: &[u8]) {
        self.offset += 1;
        let Some(topic) = values(envelope, br#""topic":""#).next() else { return };
        let head = format!(r#"{{"type":"message","position":"0:{}:00c0ffee","envelope":"#, self.offset);
        let begin = self.frames.len();
        frame::header(&mut self.frames, 1, head.len() + envelope.len() + 1);
        self.frames.extend_from_slice(head.as_bytes());
        self.frames.extend_from_slice(envelope);
        self.frames.push(b'}');
        let end = self.frames.len();
        let level = topic.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let lists = [self.subscribers.get(topic), self.subscribers.get(&topic[..level])];
        for &id in lists.into_iter().flatten().flatten() {
            let connection = &mut self.connections[id as usize];
            connection.extend(begin, end);
            if self.mode == Mode::Each {
                if connection.flush(&self.frames).is_err() {
                    self.dead.push(id as usize);
                }
            } else if !std::mem::replace(&mut connection.touched, true) {
                self.touched.push(id);
            }
        }
        let id = values(envelope, br#""messageId":""#).next().unwrap_or_default();
        let own = &mut self.connections[from].own;
        let (before, after) = (
            br#"{"type":"published","messageId":""#,
            format!(r#"","position":"0:{}:00c0ffee"}}"#, self.offset),
        );
        frame::header(own, 1, before.len() + id.len() + after.len());
        own.extend_from_slice(before);
        own.extend_from_slice(id);
        own.extend_from_slice(after.as_bytes());
        self.touch(from);
    }

    fn flush(&mut self, id: usize) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.touched = false;
            if connection.flush(&self.frames).is_err() {
                self.dead.push(id);
            }
        }
    }
}

/// The strings that follow each occurrence of `key`, which ends with the opening quote. Without escapes.
fn values<'t>(text: &'t [u8], key: &'static [u8]) -> impl Iterator<Item = &'t [u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let at = memchr::memmem::find(rest, key)? + key.len();
        let len = memchr::memchr(b'"', &rest[at..])?;
        let value = &rest[at..at + len];
        rest = &rest[at + len..];
        Some(value)
    })
}
