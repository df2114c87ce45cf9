//! The publisher: state and events at a steady rate, each message written down with the place that the log has given it.

use super::model::{About, Model};
use crate::wire::{Template, frame, put};
use anabranch_protocol::client_frame::{ClientFrame, Hello};
use anabranch_protocol::server_frame::ServerFrame;
use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use std::borrow::Cow;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// Publishes that wait for their confirm, at most: fewer than a gateway allows.
const IN_FLIGHT: usize = 200;

/// Messages a second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub state: f64,
    pub events: f64,
}

impl Rates {
    /// How many are due after so long.
    pub fn due(self, past: Duration) -> u64 {
        (past.as_secs_f64() * (self.state + self.events)) as u64
    }

    /// When the message with this number was due, in microseconds.
    fn when(self, number: u64) -> u64 {
        (number as f64 * 1e6 / (self.state + self.events)) as u64
    }

    /// Whether the message with this number is an event: evenly between the others.
    fn is_event(self, number: u64) -> bool {
        let share = self.events / (self.state + self.events);
        ((number + 1) as f64 * share) as u64 > (number as f64 * share) as u64
    }
}

pub struct Feed {
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    model: Model,
    template: Template,
    /// Where the choice of topics stands: the same in each run.
    random: u64,
    topic: String,
}

impl Feed {
    pub fn new(stream: TcpStream, token: &str, topics: u32, payload: usize) -> Result<Feed> {
        let hello = Hello {
            token: Cow::Borrowed(token),
            client_id: Cow::Borrowed("loadtest-feed"),
            sdk: Cow::Borrowed("anabranch-loadtest"),
            cursor: None,
            subscriptions: Vec::new(),
        };
        let mut unsent = Vec::new();
        frame::masked(&mut unsent, 1, ClientFrame::Hello(hello).to_json().as_bytes());
        let mut feed = Feed {
            stream,
            received: Vec::new(),
            unsent,
            model: Model::new(topics),
            template: Template::new(payload),
            random: 0x9e37_79b9_7f4a_7c15,
            topic: String::new(),
        };
        feed.flush()?;
        Ok(feed)
    }

    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    pub fn is_full(&self) -> bool {
        self.model.len() >= self.model.topics() as usize
    }

    pub fn is_confirmed(&self) -> bool {
        self.model.unconfirmed() == 0
    }

    /// First values of topics that have none, as many as may be under way.
    pub fn fill(&mut self, now: u64) -> Result<()> {
        while !self.is_full() && self.model.unconfirmed() < IN_FLIGHT {
            self.say(About::State(self.model.len() as u32), now);
        }
        self.flush()
    }

    /// Publishes those of a run of messages with the numbers `from..to`. What may not be under way yet waits in the socket's
    /// place: never left out, and late at most, which shows in its time.
    pub fn publish(&mut self, rates: Rates, from: u64, to: u64, base: u64) -> Result<()> {
        for number in from..to {
            while self.model.unconfirmed() >= IN_FLIGHT {
                self.flush()?;
                self.wait()?;
            }
            let about = if rates.is_event(number) { About::Event } else { About::State(self.pick()) };
            self.say(about, base + rates.when(number));
        }
        self.flush()
    }

    /// A topic, by xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
    fn pick(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % u64::from(self.model.topics())) as u32
    }

    fn say(&mut self, about: About, micros: u64) {
        let mut digits = *b"00000000";
        self.topic.clear();
        match about {
            About::State(topic) => {
                put(&mut digits, topic.into());
                self.topic.push_str("load/state/");
            }
            About::Event => self.topic.push_str("load/event/"),
        }
        self.topic.extend(digits.map(char::from));
        let number = self.model.add(about);
        let mut text = br#"{"type":"publish","envelope":"#.to_vec();
        self.template.write(&mut text, &self.topic, number, micros);
        text.push(b'}');
        frame::masked(&mut self.unsent, 1, &text);
    }

    /// The socket is readable or writable.
    pub fn ready(&mut self) -> Result<()> {
        self.flush()?;
        self.read()
    }

    /// Waits a moment for a confirm.
    fn wait(&mut self) -> Result<()> {
        std::thread::yield_now();
        self.read()
    }

    fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => _ = self.unsent.drain(..count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("publishing"),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("the gateway has ended the publisher's connection"),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("reading confirms"),
            }
        }
        let mut at = 0;
        while let Some((opcode, start, end)) = frame::whole(&self.received[at..]) {
            let text = std::str::from_utf8(&self.received[at + start..at + end])?;
            ensure!(opcode != 8, "the gateway has closed the publisher's connection: {text}");
            match ServerFrame::from_json(text)? {
                ServerFrame::Published { message_id, position, .. } => {
                    let number = message_id.strip_prefix("load-").and_then(|digits| digits.parse().ok());
                    let known = number.is_some_and(|number| self.model.confirm(number, position.offset.0));
                    ensure!(known, "a confirm of what was not published: {text}");
                }
                ServerFrame::Refused(refused) => bail!("refused: {} {}", refused.code, refused.message),
                ServerFrame::Ping => frame::masked(&mut self.unsent, 1, br#"{"type":"pong"}"#),
                _ => {}
            }
            at += end;
        }
        self.received.drain(..at);
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_stand_evenly_between_the_others() {
        let rates = Rates { state: 90.0, events: 10.0 };
        let events: Vec<u64> = (0..40).filter(|&number| rates.is_event(number)).collect();
        assert_eq!(events, [9, 19, 29, 39]);
        assert_eq!((rates.due(Duration::from_millis(500)), rates.when(50)), (50, 500_000));
    }
}
