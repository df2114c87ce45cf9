//! RabbitMQ takes nothing, low on memory: at which rate is what it has stored still delivered?
//!
//! Clients that are far behind read the same backlog again and again, in the alarm and without it by turns, so that what else
//! the machine does meets both alike.

use crate::broker::{Broker, Kind};
use crate::client::Client;
use crate::gateway::Gateway;
use crate::publisher::Publisher;
use crate::report::{Figure, Report};
use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const FILTER: &str = "iotsphere/load/#";

#[derive(clap::Args)]
pub struct Args {
    /// Messages of the backlog
    #[arg(long, default_value_t = 100_000)]
    backlog: u32,

    /// Clients that read it
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    readers: u32,

    /// How long each turn takes, in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,

    /// Turns in the alarm, each between two without it
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
}

pub async fn run(args: Args, program: &Path) -> Result<Report> {
    eprintln!("starting a private RabbitMQ …");
    let broker = Broker::start(Kind::Rabbitmq)?;
    // The least that a node may keep: everything is read from the broker.
    let settings = [format!("log={}", broker.url()), "limits.ring=1MiB".to_owned()];
    let gateway = Gateway::start(program, &settings).await?;
    publish(&broker, args.backlog).await?;
    let mut rates = Vec::new();
    for turn in 0..=args.turns * 2 {
        broker.memory_alarm(turn % 2 == 1)?;
        rates.push(read(&gateway, &args, turn).await?);
    }
    // Percent of what the two turns beside it had: what else the machine does changes from minute to minute.
    let shares = rates.windows(3).step_by(2).map(|three| 200 * three[1] / (three[0] + three[2]).max(1));
    let share = median(shares.collect());
    let of = |alarm: usize| median(rates.iter().copied().skip(alarm).step_by(2).collect());
    Ok(Report {
        scenario: "alarm",
        figures: vec![
            Figure { name: "deliveries/s without the alarm, median", value: of(0), unit: "", budget: None },
            Figure { name: "deliveries/s in the alarm, median", value: of(1), unit: "", budget: None },
            Figure {
                name: "slower in the alarm than in the turns beside it by, median",
                value: 100u64.saturating_sub(share),
                unit: "%",
                budget: Some(5),
            },
        ],
        columns: vec!["turn", "alarm", "deliveries/s"],
        rows: (0..).zip(&rates).map(|(turn, rate)| vec![turn, turn % 2, *rate]).collect(),
    })
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

async fn publish(broker: &Broker, count: u32) -> Result<()> {
    let mut publisher = Publisher::connect(&broker.address(), 1).await?;
    let padding = "x".repeat(200);
    let numbers: Vec<u32> = (0..count).collect();
    for part in numbers.chunks(500) {
        let message = |number: &u32| {
            let topic = format!("iotsphere/load/d{}", number % 1_000);
            let envelope = format!(
                r#"{{"metadata":{{"messageId":"{number}","timestamp":"2026-01-01T00:00:00Z","topic":"{topic}","source":"loadtest","messageType":"event","version":"1.0"}},"payload":"{padding}"}}"#
            );
            (topic, envelope)
        };
        publisher.publish(&part.iter().map(message).collect::<Vec<_>>()).await?;
    }
    publisher.finish().await
}

/// Deliveries for each second of one turn. A reader that has come to the end begins anew.
async fn read(gateway: &Gateway, args: &Args, turn: u32) -> Result<u64> {
    let count = Arc::new(AtomicU64::new(0));
    let token = gateway.issuer.token(&format!("reader-{turn}"), FILTER);
    let reading = (0..args.readers).map(|number| {
        let (count, token) = (Arc::clone(&count), token.clone());
        async move {
            loop {
                let client = Client::read(gateway.address, number as usize, &token, FILTER).await?;
                let mut left = u64::from(args.backlog);
                let (ended, end) = tokio::sync::oneshot::channel();
                let mut ended = Some(ended);
                let listening = client.listen(|text| {
                    if text.starts_with(r#"{"type":"message""#) {
                        count.fetch_add(1, Ordering::Relaxed);
                        left = left.saturating_sub(1);
                    }
                    if left == 0
                        && let Some(ended) = ended.take()
                    {
                        // Nobody waits when the turn is over.
                        let _ = ended.send(());
                    }
                });
                tokio::select! {
                    error = listening => return Err::<(), _>(error),
                    _ = end => {}
                }
            }
        }
    });
    let began = Instant::now();
    tokio::select! {
        failed = try_join_all(reading) => drop(failed.context("a reader")?),
        () = sleep(Duration::from_secs(args.seconds.into())) => {}
    }
    Ok((count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()) as u64)
}
