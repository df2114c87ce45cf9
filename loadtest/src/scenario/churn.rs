//! Whether memory stays where it is while clients come and go.
//!
//! So many clients a second connect, each with a principal and a topic of its own, subscribe, publish one message, wait
//! until it has come back, and leave. What a gateway keeps for a while is bounded: recent messages, their ids, answers about
//! topics. Those bounds are set low, or met before the first client comes; what grows from the second third to the last is a leak.

use crate::client::Client;
use crate::gateway::Gateway;
use crate::report::{Figure, Report};
use crate::scenario::raise_file_limit;
use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Clients that are connected at the same time, at most: on a machine that cannot keep up, the rate falls and says so.
const AT_ONCE: usize = 2_000;
/// How often the memory is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// What memory may grow by from one third to the next, in bytes.
const BUDGET: u64 = 1024 * 1024;
/// Messages of as many topics that come before the first client: two generations of known ids, and more than two of topics. Without
/// them these fill while clients come and go, and the highest memory is that of the minute in which both are nearly full.
const REMEMBERED: u32 = 270_000;
/// Recent messages are kept in little memory, so that they fill it at once.
const SETTINGS: [&str; 2] = ["log=memory:?size=4MiB", "limits.ring=4MiB"];

#[derive(clap::Args)]
pub struct Args {
    /// How long, in minutes
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,

    /// Connects a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,

    /// A further setting of the gateway, KEY=VALUE; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

#[derive(Default)]
struct Count {
    left: AtomicU64,
    failed: AtomicU64,
}

pub async fn run(args: Args, program: &Path) -> Result<Report> {
    raise_file_limit(2 * AT_ONCE as u64)?;
    // Twice, because the gateway may notice later than a client that it has left.
    let limit = 2 * AT_ONCE;
    let limits = ["connections", "connections_per_address"].map(|name| format!("limits.{name}={limit}"));
    let settings: Vec<String> =
        SETTINGS.map(str::to_owned).into_iter().chain(limits).chain(args.settings).collect();
    let gateway = Gateway::start(program, &settings).await?;
    let duration = Duration::from_secs(60 * u64::from(args.minutes));
    let bar = ProgressBar::new(duration.as_secs());
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} s, {msg}")?);

    bar.set_message("what is remembered, is filled");
    fill(&gateway).await?;
    let count = Arc::new(Count::default());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut arrivals = interval(Duration::from_secs(1) / args.rate);
    arrivals.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let mut looked = began;
    let mut rows = Vec::new();
    let mut number = 0;
    while began.elapsed() < duration {
        arrivals.tick().await;
        let place = Arc::clone(&places).acquire_owned().await?;
        let client = visit(gateway.address, number, token(&gateway, number));
        let tally = Arc::clone(&count);
        number += 1;
        tokio::spawn(async move {
            if let Err(error) = client.await
                && tally.failed.fetch_add(1, Ordering::Relaxed) == 0
            {
                eprintln!("a client failed: {error:#}");
            }
            tally.left.fetch_add(1, Ordering::Relaxed);
            drop(place);
        });
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            let resident = gateway.resident_bytes()?;
            let left = count.left.load(Ordering::Relaxed);
            rows.push(vec![began.elapsed().as_secs(), left, resident]);
            bar.set_position(began.elapsed().as_secs());
            bar.set_message(format!("{left} came and left, {} kB", resident / 1024));
        }
    }
    bar.finish_and_clear();
    let failed = count.failed.load(Ordering::Relaxed);
    ensure!(failed == 0, "{failed} of {number} clients failed: the figure would be wrong");
    let third = rows.len() / 3;
    let (before, last) = (highest(&rows[third..2 * third]), highest(&rows[2 * third..]));
    Ok(Report {
        scenario: "churn",
        figures: vec![
            Figure {
                name: "growth of the highest memory from the second third to the last",
                value: last.saturating_sub(before),
                unit: "bytes",
                budget: Some(BUDGET),
            },
            Figure {
                name: "rate",
                value: u64::from(number) / began.elapsed().as_secs().max(1),
                unit: "connects/s",
                budget: None,
            },
        ],
        columns: vec!["seconds", "came and left", "gateway RSS, bytes"],
        rows,
    })
}

fn highest(rows: &[Vec<u64>]) -> u64 {
    rows.iter().map(|row| row[2]).max().unwrap_or_default()
}

fn topic(number: u32) -> String {
    format!("iotsphere/devices/d{number:07}/telemetry/visits")
}

fn token(gateway: &Gateway, number: u32) -> String {
    let topic = topic(number);
    gateway.issuer.grant(&format!("user-{number:07}"), &topic, &[&topic])
}

/// Publishes what the gateway then remembers.
async fn fill(gateway: &Gateway) -> Result<()> {
    let token = gateway.issuer.grant("filler", "load/fill/#", &["load/fill/#"]);
    let mut client = Client::open(gateway.address, 0, &token, "load/fill/#").await?;
    for number in 0..REMEMBERED {
        client.publish(&envelope(&format!("load/fill/{number}"), number)).await?;
    }
    Ok(())
}

/// Comes, subscribes, publishes, waits for its message, and leaves.
async fn visit(gateway: std::net::SocketAddr, number: u32, token: String) -> Result<()> {
    let topic = topic(number);
    let mut client = Client::open(gateway, 0, &token, &topic).await?;
    client.publish(&envelope(&topic, number)).await
}

fn envelope(topic: &str, number: u32) -> String {
    format!(
        r#"{{"metadata":{{"messageId":"visit-{number}","timestamp":"2026-01-01T00:00:00.000Z","topic":"{topic}","source":"loadtest","messageType":"event","version":"1.0"}},"payload":{{"visit":{number}}}}}"#
    )
}
