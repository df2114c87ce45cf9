//! Three clients beside the others, which ask every now and then whether the server still listens: how long a ping, a frame
//! of the protocol and a message of a topic of their own wait while thousands of sockets are written to.
//!
//! Each has a thread and a socket of its own, because the generator reads thousands of sockets in a row itself and would come
//! late. They share its core, so they ask for a priority that lets them read as soon as an answer has come.

use super::Plan;
use crate::cpu;
use crate::latency::Latencies;
use crate::wire::{Template, frame};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long each rests between an answer and the next question. No divisor of what a sweep takes.
const REST: Duration = Duration::from_micros(3_700);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The number of the next message of all probers: a gateway stores no number twice.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// A ping of WebSocket.
    Ping,
    /// A `probe`, which the session answers with a `mark`.
    Probe,
    /// A message of a topic that this client alone watches, from its publish to its delivery.
    Message,
}

/// How long answers took, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Waits {
    pub count: usize,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// What the clients have found.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Probed {
    pub ping: Waits,
    pub probe: Waits,
    pub message: Waits,
    /// Whether they had a priority over the generator. Else part of what they measured is the generator's.
    pub undisturbed: bool,
}

/// One of the clients: it asks until `stop` is dropped.
struct Prober {
    stop: SyncSender<()>,
    /// Its times, and whether it had a priority over the generator.
    thread: JoinHandle<Result<(Latencies, bool)>>,
}

/// The clients, which ask until they are stopped.
pub struct Probers {
    threads: [Prober; 3],
}

impl Probers {
    /// Connects them. `own` is a client that watches `topic` and may publish to it.
    pub fn start(server: SocketAddr, listener: &Plan, own: &Plan, topic: &str) -> Result<Probers> {
        let start = |question, plan: &Plan| -> Result<_> {
            let mut client = Client::open(server, plan, topic)?;
            let (stop, stopped) = sync_channel::<()>(0);
            let thread = std::thread::spawn(move || {
                let priority = outrank_the_generator();
                let mut times = Latencies::default();
                while stopped.recv_timeout(REST) == Err(RecvTimeoutError::Timeout) {
                    times.add(client.ask(question)?.as_micros() as u64);
                }
                Ok((times, priority))
            });
            Ok(Prober { stop, thread })
        };
        let threads = [
            start(Question::Ping, listener)?,
            start(Question::Probe, listener)?,
            start(Question::Message, own)?,
        ];
        Ok(Probers { threads })
    }

    /// Stops them.
    pub fn finish(self) -> Result<Probed> {
        let mut undisturbed = true;
        let [ping, probe, message] = self.threads.map(|Prober { stop, thread }| -> Result<Waits> {
            drop(stop);
            let Ok(asked) = thread.join() else { bail!("a prober has panicked") };
            let (mut times, priority) = asked?;
            undisturbed &= priority;
            let [p50, p99, max] = times.percentiles([50_000, 99_000, 100_000]);
            Ok(Waits { count: times.count(), p50, p99, max })
        });
        Ok(Probed { ping: ping?, probe: probe?, message: message?, undisturbed })
    }
}

/// Lets this thread run as soon as it can, whatever the generator does. Says whether the machine allows that.
///
/// Through a program, because the call itself is `unsafe`.
fn outrank_the_generator() -> bool {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let chrt = Command::new("chrt").args(["--fifo", "--pid", "10", &thread]).stderr(Stdio::null()).status();
    chrt.is_ok_and(|status| status.success())
}

/// A connection that waits for its answers.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    topic: String,
    template: Template,
}

impl Client {
    /// Connects, and waits until it has subscribed.
    fn open(server: SocketAddr, plan: &Plan, topic: &str) -> Result<Client> {
        cpu::pin(cpu::GENERATOR)?;
        let mut stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&plan.request)?;
        let mut client =
            Client { stream, received: Vec::new(), topic: topic.into(), template: Template::new(100) };
        loop {
            client.receive()?;
            if let Some(end) = client.received.windows(4).position(|four| four == b"\r\n\r\n") {
                client.received.drain(..end + 4);
                break;
            }
        }
        client.stream.write_all(&plan.greeting)?;
        let open = if plan.stride == 0 { "welcome" } else { "caught_up" };
        client.until(|opcode, text| opcode == 1 && is(text, open))?;
        Ok(client)
    }

    /// Asks once; how long the answer took.
    fn ask(&mut self, question: Question) -> Result<Duration> {
        let mut out = Vec::new();
        match question {
            Question::Ping => frame::masked(&mut out, 9, b"?"),
            Question::Probe => frame::masked(&mut out, 1, br#"{"type":"probe"}"#),
            Question::Message => {
                let mut text = br#"{"type":"publish","envelope":"#.to_vec();
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                self.template.write(&mut text, &self.topic, number, 0);
                text.push(b'}');
                frame::masked(&mut out, 1, &text);
            }
        }
        let began = Instant::now();
        self.stream.write_all(&out)?;
        self.until(|opcode, text| match question {
            Question::Ping => opcode == 10,
            Question::Probe => opcode == 1 && is(text, "mark"),
            Question::Message => opcode == 1 && is(text, "message"),
        })?;
        Ok(began.elapsed())
    }

    /// Reads up to the first frame of this kind.
    fn until(&mut self, wanted: impl Fn(u8, &[u8]) -> bool) -> Result<()> {
        loop {
            while let Some((opcode, start, end)) = frame::whole(&self.received) {
                let text = &self.received[start..end];
                ensure!(opcode != 8 && !is(text, "refused"), "refused: {}", String::from_utf8_lossy(text));
                let found = wanted(opcode, text);
                if is(text, "ping") {
                    let mut pong = Vec::new();
                    frame::masked(&mut pong, 1, br#"{"type":"pong"}"#);
                    self.stream.write_all(&pong)?;
                }
                self.received.drain(..end);
                if found {
                    return Ok(());
                }
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        let count = self.stream.read(&mut chunk).context("a prober waits for its answer")?;
        ensure!(count > 0, "the server ended a prober's connection");
        self.received.extend_from_slice(&chunk[..count]);
        Ok(())
    }
}

/// Whether a frame has this type.
fn is(text: &[u8], kind: &str) -> bool {
    text.strip_prefix(br#"{"type":""#.as_slice())
        .and_then(|rest| rest.strip_prefix(kind.as_bytes()))
        .is_some_and(|rest| rest.starts_with(b"\""))
}
