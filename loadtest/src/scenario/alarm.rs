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
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,

    /// Turns without the alarm, and as many in it
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
}

pub async fn run(args: Args, program: &Path) -> Result<Report> {
    eprintln!("starting a private RabbitMQ …");
    let broker = Broker::start(Kind::Rabbitmq)?;
    // The least that a node may keep: everything is read from the broker.
    let settings = [format!("log={}", broker.url()), "limits.ring=1MiB".to_owned()];
    let gateway = Gateway::start(program, &settings).await?;
    publish(&broker, args.backlog).await?;
    let mut rows = Vec::new();
    let mut sums = [0, 0];
    for turn in 0..args.turns * 2 {
        let alarm = turn % 2 == 1;
        broker.memory_alarm(alarm)?;
        let rate = read(&gateway, &args, turn).await?;
        sums[usize::from(alarm)] += rate;
        rows.push(vec![u64::from(turn), u64::from(alarm), rate]);
    }
    broker.memory_alarm(false)?;
    let [without, within] = sums.map(|sum| sum / u64::from(args.turns));
    let lost = 100u64.saturating_sub(within * 100 / without.max(1));
    Ok(Report {
        scenario: "alarm",
        figures: vec![
            Figure { name: "deliveries/s without the alarm", value: without, unit: "", budget: None },
            Figure { name: "deliveries/s in the alarm", value: within, unit: "", budget: None },
            Figure { name: "slower in the alarm by", value: lost, unit: "%", budget: Some(5) },
        ],
        columns: vec!["turn", "alarm", "deliveries/s"],
        rows,
    })
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
