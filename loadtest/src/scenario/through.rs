//! Messages that a device puts on a broker, until they are with those who watch.
//!
//! ```text
//!   this program ──▶ broker ──▶ gateway ──▶ 1,000 connections of this program
//! ```
//!
//! Each subscriber's filter matches one topic in a hundred, so each message goes to a hundredth of them. The time of a
//! delivery runs from the moment at which the message was due to be published, so that a publisher which falls behind
//! shows as latency and cannot hide it, to the moment at which the subscriber has read the frame.

use crate::broker::{Address, Broker, Kind};
use crate::client::Client;
use crate::gateway::Gateway;
use crate::latency::{Latencies, cpu_time};
use crate::publisher::Publisher;
use crate::report::{Figure, Report};
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// A subscriber sees one topic in so many.
const GROUPS: u32 = 100;
/// Topics in each group.
const DEVICES: u32 = 10;
/// How often what is due is published.
const TICK: Duration = Duration::from_millis(2);
/// How long the last deliveries may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The mean that the platform asks for, in microseconds.
const BUDGET: u64 = 50_000;

#[derive(clap::Args)]
pub struct Args {
    /// Which broker; a private one is started
    #[arg(long, value_enum)]
    broker: Kind,

    /// Messages for each second; several rates are tried one after the other
    #[arg(long, value_delimiter = ',', default_value = "10000")]
    rates: Vec<u32>,

    /// How long each rate is kept up, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,

    /// Connections
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    subscribers: u32,

    /// Connections that publish on RabbitMQ
    #[arg(long, default_value_t = 8)]
    publishers: usize,

    /// Bytes of each payload, about
    #[arg(long, default_value_t = 200)]
    bytes: usize,

    /// Options of the log: prefetch=4000&partitions=2
    #[arg(long, default_value = "", value_name = "OPTIONS")]
    log_options: String,

    /// A further setting of the gateway, KEY=VALUE; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// What the subscribers have received in one round.
#[derive(Default)]
struct Tally {
    round: u32,
    latencies: Latencies,
    /// Deliveries of an earlier round that came too late to count.
    late: u64,
    /// How often each message of the round was delivered.
    counts: Vec<u16>,
    /// What the gateway said that could not be delivered.
    gaps: Vec<String>,
}

pub async fn run(args: Args, program: &Path) -> Result<Report> {
    eprintln!("starting a private {:?} …", args.broker);
    let broker = Broker::start(args.broker)?;
    let mut settings: Vec<String> = vec![format!("log={}?{}", broker.url(), args.log_options)];
    settings.extend(args.settings.iter().cloned());
    let gateway = Gateway::start(program, &settings).await?;
    let began = Instant::now();
    let tally = Arc::new(Mutex::new(Tally::default()));
    let numbers = 0..args.subscribers;
    let mut opening = stream::iter(numbers).map(|number| open(&gateway, number)).buffer_unordered(64);
    while let Some(client) = opening.next().await {
        tokio::spawn(watch(client?, Arc::clone(&tally), began));
    }
    let plan = Plan {
        address: broker.address(),
        publishers: args.publishers,
        seconds: args.seconds,
        bytes: args.bytes,
        began,
    };

    let bar = ProgressBar::new(u64::from(args.seconds) * args.rates.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} s  {msg}")?);
    let mut rows = Vec::new();
    for (round, &rate) in (1..).zip(&args.rates) {
        bar.set_message(format!("{rate} messages/s"));
        *lock(&tally) = Tally { round, ..Tally::default() };
        let pids = [gateway.pid()?, broker.pid()?, std::process::id()];
        let before = pids.map(cpu_time);
        let started = Instant::now();
        let (pace, shown) = (plan.clone(), bar.clone());
        let publishing = move || pace.publish(round, rate, &shown);
        let (count, slowest) = tokio::task::spawn_blocking(publishing).await??;
        let took = started.elapsed();
        // Each group has the same number of subscribers, but for the remainder.
        let expected = deliveries(count, args.subscribers);
        let settled = settle(&tally, expected).await;
        let mut cpu = Vec::new();
        for (pid, before) in pids.into_iter().zip(before) {
            cpu.push(share(cpu_time(pid)?.saturating_sub(before?), started.elapsed()));
        }
        let Tally { mut latencies, counts, gaps, .. } = std::mem::take(&mut *lock(&tally));
        let [p50, p99, p999, max] = latencies.percentiles([50_000, 99_000, 99_900, 100_000]);
        let lost = expected.saturating_sub(latencies.count() as u64);
        let mean = latencies.mean();
        let published = (count as f64 / took.as_secs_f64()).round() as u64;
        if !settled {
            eprintln!("{rate}/s: {lost} deliveries were still missing {PATIENCE:?} after the last publish");
            eprintln!("{}", missing(&counts, count, args.subscribers));
            gaps.iter().take(3).for_each(|gap| eprintln!("the gateway said {} times: {gap}", gaps.len()));
        }
        if slowest > TICK * 25 {
            eprintln!(
                "{rate}/s: the generator itself was {slowest:?} late at worst: read the tail with care"
            );
        }
        let count = latencies.count() as u64;
        let late = slowest.as_micros() as u64;
        let row = [u64::from(rate), published, count, lost, mean, p50, p99, p999, max, late];
        rows.push([&row[..], &cpu].concat());
    }
    bar.finish_and_clear();
    let first = rows.first().context("a rate")?;
    Ok(Report {
        scenario: "through",
        figures: vec![
            Figure {
                name: "mean latency at the first rate",
                value: first[4],
                unit: "µs",
                budget: Some(BUDGET),
            },
            Figure {
                name: "deliveries missing at the first rate",
                value: first[3],
                unit: "",
                budget: Some(0),
            },
        ],
        columns: vec![
            "asked/s",
            "published/s",
            "deliveries",
            "missing",
            "mean µs",
            "p50",
            "p99",
            "p99.9",
            "max",
            "generator late",
            "gateway CPU %",
            "broker CPU %",
            "generator CPU %",
        ],
        rows,
    })
}

async fn open(gateway: &Gateway, number: u32) -> Result<Client> {
    let filter = format!("iotsphere/load/g{}/+", number % GROUPS);
    let token = gateway.issuer.token(&format!("user-{number}"), &filter);
    Client::open(gateway.address, number as usize, &token, &filter).await
}

/// Writes down every delivery of the round.
async fn watch(client: Client, tally: Arc<Mutex<Tally>>, began: Instant) {
    let error = client
        .listen(|text| {
            let Some((round, number, due)) = stamp(text) else {
                if text.starts_with(r#"{"type":"gap""#) || text.contains(r#""outcome":"reset""#) {
                    lock(&tally).gaps.push(text.to_owned());
                }
                return;
            };
            let now = began.elapsed().as_micros() as u64;
            let mut tally = lock(&tally);
            if tally.round == round {
                tally.latencies.add(now.saturating_sub(due));
                if tally.counts.len() <= number {
                    tally.counts.resize(number + 1, 0);
                }
                tally.counts[number] += 1;
            } else {
                tally.late += 1;
            }
        })
        .await;
    eprintln!("a connection was lost: {error:#}");
}

/// How one round is published.
#[derive(Clone)]
struct Plan {
    address: Address,
    publishers: usize,
    seconds: u32,
    bytes: usize,
    /// From when the messages' times count.
    began: Instant,
}

impl Plan {
    /// Publishes one round, in a thread of its own: subscribers that have much to read must not make it late. Returns how
    /// many messages there were, and how late the most belated one was written.
    fn publish(&self, round: u32, rate: u32, bar: &ProgressBar) -> Result<(u64, Duration)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.keep_pace(round, rate, bar))
    }

    async fn keep_pace(&self, round: u32, rate: u32, bar: &ProgressBar) -> Result<(u64, Duration)> {
        ensure!(rate > 0, "a rate of 0 messages/s measures nothing");
        let mut publisher = Publisher::connect(&self.address, self.publishers).await?;
        let total = u64::from(rate) * u64::from(self.seconds);
        let padding = "x".repeat(self.bytes);
        let started = Instant::now();
        let (mut sent, mut slowest) = (0u64, Duration::ZERO);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let done = bar.position();
        while sent < total {
            ticks.tick().await;
            let elapsed = started.elapsed();
            let due = total.min((elapsed.as_secs_f64() * f64::from(rate)) as u64);
            let at = |number: u64| started + Duration::from_secs_f64(number as f64 / f64::from(rate));
            let messages: Vec<_> = (sent..due)
                .map(|number| {
                    let micros = at(number).duration_since(self.began).as_micros() as u64;
                    message(round, number, micros, &padding)
                })
                .collect();
            publisher.publish(&messages).await?;
            if !messages.is_empty() {
                slowest = slowest.max(at(sent).elapsed());
            }
            sent = due;
            bar.set_position(done + elapsed.as_secs().min(self.seconds.into()));
        }
        publisher.finish().await?;
        Ok((total, slowest))
    }
}

fn message(round: u32, number: u64, micros: u64, padding: &str) -> (String, String) {
    let topics = u64::from(GROUPS * DEVICES);
    let (group, device) = (number % u64::from(GROUPS), number % topics / u64::from(GROUPS));
    let topic = format!("iotsphere/load/g{group}/d{device}");
    let envelope = format!(
        r#"{{"metadata":{{"messageId":"{round}-{number}","timestamp":"2026-01-01T00:00:00Z","topic":"{topic}","source":"loadtest","messageType":"event","version":"1.0"}},"payload":{{"p":"{padding}","r":"{round}","n":"{number}","t":"{micros}"}}}}"#
    );
    (topic, envelope)
}

/// The round, the number and the time of a message, from the end of its frame.
fn stamp(frame: &str) -> Option<(u32, usize, u64)> {
    let at = frame.rfind(r#""r":""#)?;
    let rest = frame.get(at + 5..)?;
    let (round, rest) = rest.split_once(r#"","n":""#)?;
    let (number, rest) = rest.split_once(r#"","t":""#)?;
    let (micros, _) = rest.split_once('"')?;
    Some((round.parse().ok()?, number.parse().ok()?, micros.parse().ok()?))
}

/// Which messages did not reach everybody, for whoever looks for the cause.
fn missing(counts: &[u16], messages: u64, subscribers: u32) -> String {
    let due = |number: u64| deliveries(number + 1, subscribers) - deliveries(number, subscribers);
    let mut wholly = Vec::new();
    let mut partly = Vec::new();
    for number in 0..messages {
        match counts.get(number as usize).copied().unwrap_or(0) {
            0 => wholly.push(number),
            some if u64::from(some) < due(number) => partly.push(number),
            _ => {}
        }
    }
    let some =
        |list: &[u64]| format!("{}, of which the first are {:?}", list.len(), &list[..list.len().min(20)]);
    format!("messages that reached nobody: {}; not everybody: {}", some(&wholly), some(&partly))
}

/// How many deliveries so many messages make.
fn deliveries(messages: u64, subscribers: u32) -> u64 {
    let groups = u64::from(GROUPS);
    let watchers =
        |group: u64| u64::from(subscribers) / groups + u64::from(group < u64::from(subscribers) % groups);
    (0..groups)
        .map(|group| (messages / groups + u64::from(group < messages % groups)) * watchers(group))
        .sum()
}

/// Waits for the last deliveries.
async fn settle(tally: &Mutex<Tally>, expected: u64) -> bool {
    let all_there = async {
        let mut ticks = interval(Duration::from_millis(20));
        while (lock(tally).latencies.count() as u64) < expected {
            ticks.tick().await;
        }
    };
    timeout(PATIENCE, all_there).await.is_ok()
}

/// Percent of one core.
fn share(cpu: Duration, of: Duration) -> u64 {
    (100.0 * cpu.as_secs_f64() / of.as_secs_f64()).round() as u64
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_found_at_the_end_of_a_frame() {
        let (topic, envelope) = message(3, 1234, 5_678_901, "padding");
        assert_eq!(topic, "iotsphere/load/g34/d2");
        let frame = format!(r#"{{"type":"message","position":"0:7:00000000","envelope":{envelope}}}"#);
        assert_eq!(stamp(&frame), Some((3, 1234, 5_678_901)));
        assert_eq!(stamp(r#"{"type":"ping"}"#), None);
        anabranch_protocol::envelope::Envelope::parse(&envelope).expect("an envelope");
    }

    #[test]
    fn deliveries_are_counted_group_by_group() {
        assert_eq!(deliveries(1_000, 1_000), 10_000);
        assert_eq!(deliveries(101, 101), 2 * 2 + 99, "the first group has two watchers and two messages");
    }
}
