//! Publishes at a pace, and measures meanwhile.

use super::{Swarm, Tally};
use crate::cpu::{self, Cpu};
use crate::wire::{Dialect, Template, frame, mqtt, nats};
use anyhow::{Result, ensure};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long the last deliveries may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Publishes of one connection that wait for their confirm, at most: a little less than the gateway's limit.
const IN_FLIGHT: u32 = 250;

/// How fast messages are published.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As fast as subscribers receive them, with so many on their way: what the server can do at most.
    Window(u64),
    /// So many each second, whatever becomes of them.
    Rate(f64),
}

/// What is published, and how long.
pub struct Load<'l> {
    pub pace: Pace,
    /// Message `n` goes to topic `n % topics.len()`, through the publisher of that topic.
    pub topics: &'l [String],
    /// Deliveries that each message makes to those that read at once.
    pub fan: u64,
    pub warm_up: Duration,
    pub time: Duration,
    /// Of how many deliveries the time of one is taken.
    pub sample: u32,
    /// The server's process.
    pub server: u32,
}

/// What one phase has shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    pub messages: u64,
    pub deliveries: u64,
    pub seconds: f64,
    pub deliveries_per_second: f64,
    /// Deliveries in one read of a socket, on average.
    pub deliveries_per_read: f64,
    /// CPU time of the server for each delivery, user and kernel.
    pub server_us_per_delivery: f64,
    /// Shares of one core.
    pub server_busy: f64,
    pub generator_busy: f64,
    /// Microseconds from the moment at which a message was due.
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    pub samples: usize,
    pub lost: u64,
    pub doubled: u64,
    pub gaps: u64,
    /// How late the generator itself was with a publish, at worst, in microseconds.
    pub late: u64,
}

impl Measured {
    /// Whether, of a maximum, it was the generator's.
    pub fn is_generator_bound(&self) -> bool {
        self.generator_busy > 0.95 && self.server_busy < 0.95
    }
}

impl Swarm {
    /// Publishes, first to warm up, then measured, and waits until everything has arrived.
    pub fn load(&mut self, load: &Load<'_>, mut progress: impl FnMut(f64)) -> Result<Measured> {
        ensure!(!self.publishers.is_empty(), "nobody publishes");
        self.tally = Tally::new(load.sample);
        let mut received = 0;
        let began = Instant::now();
        let end = began + load.warm_up + load.time;
        let mut measuring: Option<Start> = None;
        let mut measured = Measured::default();
        let (first, first_owed) = (self.next, self.owed);
        let mut late = 0;
        loop {
            let now = Instant::now();
            if measuring.is_none() && now >= began + load.warm_up {
                received += self.tally.deliveries;
                // Losses count from the beginning, times from here.
                let Tally { lost, doubled, gaps, .. } = self.tally;
                self.tally = Tally { lost, doubled, gaps, ..Tally::new(load.sample) };
                measuring = Some(Start::now(load.server, self.next)?);
                late = 0;
            }
            if now >= end {
                break;
            }
            progress(now.duration_since(began).as_secs_f64());
            let due = match load.pace {
                Pace::Window(window) => {
                    let arrived = received + self.tally.deliveries;
                    let on_their_way = (self.owed - first_owed).saturating_sub(arrived);
                    window.saturating_sub(on_their_way.div_ceil(load.fan))
                }
                Pace::Rate(rate) => {
                    let due = (now.duration_since(began).as_secs_f64() * rate) as u64 + 1;
                    due.saturating_sub(self.next - first)
                }
            };
            for _ in 0..due {
                // A message that has to wait for this is late from when it was due.
                if self.dialect == Dialect::Anabranch && self.is_full(load) {
                    break;
                }
                let micros = match load.pace {
                    Pace::Window(_) => self.micros(),
                    Pace::Rate(rate) => {
                        let at = began + Duration::from_secs_f64((self.next - first) as f64 / rate);
                        late = late.max(now.saturating_duration_since(at).as_micros() as u64);
                        at.duration_since(self.began).as_micros() as u64
                    }
                };
                self.put_next(load, micros);
            }
            if due > 0 {
                self.send()?;
            }
            let timeout = match load.pace {
                Pace::Window(_) => Duration::from_millis(100),
                Pace::Rate(rate) => {
                    let at = began + Duration::from_secs_f64((self.next - first) as f64 / rate);
                    let left = at.min(end).saturating_duration_since(Instant::now());
                    // The kernel counts in whole milliseconds here and would round up: the last one is waited out awake.
                    Duration::from_millis(left.as_millis() as u64)
                }
            };
            self.turn(timeout)?;
            ensure!(self.lost.is_empty(), "{} connections were lost", self.lost.len());
        }
        let start = measuring.expect("a phase is longer than its warm-up");
        // Under a full window what is measured ends here; at a rate, with the last delivery.
        if matches!(load.pace, Pace::Window(_)) {
            start.end(&mut measured, &self.tally)?;
        }
        let gave_up = Instant::now() + PATIENCE;
        while received + self.tally.deliveries < self.owed - first_owed && Instant::now() < gave_up {
            self.turn(Duration::from_millis(50))?;
        }
        if matches!(load.pace, Pace::Rate(_)) {
            start.end(&mut measured, &self.tally)?;
        }
        measured.messages = self.next - start.first;
        let missing = (self.owed - first_owed).saturating_sub(received + self.tally.deliveries);
        measured.lost = self.tally.lost.max(missing);
        measured.doubled = self.tally.doubled;
        measured.gaps = self.tally.gaps;
        measured.late = late;
        [measured.p50, measured.p99, measured.p999, measured.max] =
            self.tally.latencies.percentiles([50_000, 99_000, 99_900, 100_000]);
        measured.samples = self.tally.latencies.count();
        Ok(measured)
    }

    fn publisher_of(&self, load: &Load<'_>) -> usize {
        let topic = (self.next % load.topics.len() as u64) as usize;
        self.publishers[topic % self.publishers.len()]
    }

    /// Whether the next message's publisher has as many under way as a gateway allows.
    fn is_full(&self, load: &Load<'_>) -> bool {
        self.connections[self.publisher_of(load)].unconfirmed >= IN_FLIGHT
    }

    /// Puts the next message into its publisher's outbox.
    fn put_next(&mut self, load: &Load<'_>, micros: u64) {
        let at = (self.next % load.topics.len() as u64) as usize;
        let publisher = self.publisher_of(load);
        self.connections[publisher].unconfirmed += 1;
        self.put(publisher, &load.topics[at], self.next, micros);
        self.next += 1;
        self.owed += load.fan;
    }

    /// Publishes so many messages, each to all receivers, and returns when they are confirmed. Their payload is as always.
    pub fn publish(&mut self, topic: &str, count: u64) -> Result<()> {
        self.tally = Tally::new(1);
        for _ in 0..count {
            self.put(self.publishers[0], topic, self.next, self.micros());
            self.next += 1;
            self.confirmed_but(64)?;
        }
        self.confirmed_but(0)
    }

    /// Publishes messages of another topic, which nobody watches, of this size each. Returns when they are confirmed.
    pub fn fill(&mut self, topic: &str, count: u64, payload: usize) -> Result<()> {
        self.tally = Tally::new(1);
        let usual = std::mem::replace(&mut self.template, Template::new(payload));
        for _ in 0..count {
            self.fillers += 1;
            self.put(self.publishers[0], topic, 99_999_999 - self.fillers, 0);
            self.confirmed_but(16)?;
        }
        self.confirmed_but(0)?;
        self.template = usual;
        Ok(())
    }

    /// Waits until at most so many publishes are unconfirmed.
    fn confirmed_but(&mut self, unconfirmed: u64) -> Result<()> {
        self.unconfirmed += u64::from(unconfirmed > 0);
        self.send()?;
        let began = Instant::now();
        while self.unconfirmed - self.tally.published.min(self.unconfirmed) > unconfirmed {
            self.turn(Duration::from_millis(50))?;
            ensure!(began.elapsed() < PATIENCE, "a publish was not confirmed within {PATIENCE:?}");
        }
        if unconfirmed == 0 {
            self.unconfirmed = 0;
        }
        Ok(())
    }

    /// Appends a message to a publisher's outbox.
    fn put(&mut self, publisher: usize, topic: &str, number: u64, micros: u64) {
        let out = &mut self.connections[publisher].outbox;
        let len = self.template.len(topic.len());
        match self.dialect {
            Dialect::Anabranch => {
                const HEAD: &[u8] = br#"{"type":"publish","envelope":"#;
                frame::masked_header(out, 1, HEAD.len() + len + 1);
                out.extend_from_slice(HEAD);
                self.template.write(out, topic, number, micros);
                out.push(b'}');
            }
            Dialect::Nats => {
                let mut head = Vec::new();
                nats::publish(&mut head, topic, len);
                frame::masked_header(out, 2, head.len() + len + 2);
                out.extend_from_slice(&head);
                self.template.write(out, topic, number, micros);
                out.extend_from_slice(b"\r\n");
            }
            Dialect::Mqtt => {
                let mut head = Vec::new();
                mqtt::publish(&mut head, topic, len);
                frame::masked_header(out, 2, head.len() + len);
                out.extend_from_slice(&head);
                self.template.write(out, topic, number, micros);
            }
            // Nchan takes messages by HTTP, on the same connection one after the other.
            Dialect::Bare => {
                let head =
                    format!("POST /pub?id={topic} HTTP/1.1\r\nHost: load\r\nContent-Length: {len}\r\n\r\n");
                out.extend_from_slice(head.as_bytes());
                self.template.write(out, topic, number, micros);
            }
        }
    }

    fn send(&mut self) -> Result<()> {
        for at in 0..self.publishers.len() {
            self.connections[self.publishers[at]].flush()?;
        }
        Ok(())
    }
}

/// Where a measurement began.
struct Start {
    at: Instant,
    server: Cpu,
    generator: Cpu,
    first: u64,
}

impl Start {
    fn now(server: u32, first: u64) -> Result<Start> {
        Ok(Start {
            at: Instant::now(),
            server: cpu::of(server)?,
            generator: cpu::of(std::process::id())?,
            first,
        })
    }

    fn end(&self, measured: &mut Measured, tally: &Tally) -> Result<()> {
        let seconds = self.at.elapsed().as_secs_f64();
        let server = self.server.until_now()?.as_secs_f64();
        let generator = self.generator.until_now()?.as_secs_f64();
        measured.deliveries = tally.deliveries;
        measured.seconds = seconds;
        measured.deliveries_per_second = tally.deliveries as f64 / seconds;
        measured.deliveries_per_read = tally.deliveries as f64 / (tally.reads as f64).max(1.0);
        measured.server_us_per_delivery = server * 1e6 / (tally.deliveries as f64).max(1.0);
        measured.server_busy = server / seconds;
        measured.generator_busy = generator / seconds;
        Ok(())
    }
}
