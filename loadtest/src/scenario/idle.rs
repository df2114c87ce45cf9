//! What an idle connection with one subscription costs in memory.
//!
//! Each connection has a principal and a topic of its own, so that what a gateway keeps for each is counted. What is
//! measured is the gateway's resident memory before the first connection and with all of them open and caught up;
//! the difference includes whatever the handshakes have left behind.

use crate::client::Client;
use crate::gateway::Gateway;
use crate::report::{Figure, Report};
use crate::scenario::raise_file_limit;
use anyhow::{Result, ensure};
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes of resident memory for one connection (design, section 8).
const BUDGET: u64 = 2048;
/// Handshakes under way at once.
const AT_ONCE: usize = 64;
/// Figures are taken at so many points on the way.
const STEPS: usize = 5;
/// The memory counts as settled when it has not moved for so many looks, this far apart.
const LOOKS: usize = 4;
const LOOK: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct Args {
    /// How many connections to open
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// A further setting of the gateway, KEY=VALUE; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

pub async fn run(args: Args, program: &Path) -> Result<Report> {
    let connections = args.connections as usize;
    raise_file_limit(args.connections.into())?;
    let mut settings: Vec<String> =
        ["connections", "connections_per_address"].map(|name| format!("limits.{name}={connections}")).into();
    settings.extend(args.settings);
    let gateway = Gateway::start(program, &settings).await?;
    let before = settled(&gateway).await?;
    let mut rows = vec![vec![0, before, 0]];

    let bar = ProgressBar::new(connections as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} connections, {per_sec}")?);
    let lost = Arc::new(AtomicUsize::new(0));
    for step in 0..STEPS {
        let numbers = connections * step / STEPS..connections * (step + 1) / STEPS;
        let count = numbers.end;
        let mut opening =
            stream::iter(numbers).map(|number| open(&gateway, number)).buffer_unordered(AT_ONCE);
        while let Some(client) = opening.next().await {
            let (client, lost) = (client?, Arc::clone(&lost));
            tokio::spawn(async move {
                let error = client.stay().await;
                if lost.fetch_add(1, Ordering::Relaxed) == 0 {
                    eprintln!("a connection was lost: {error:#}");
                }
            });
            bar.inc(1);
        }
        let now = settled(&gateway).await?;
        rows.push(vec![count as u64, now, now.saturating_sub(before) / count.max(1) as u64]);
    }
    bar.finish_and_clear();
    let lost = lost.load(Ordering::Relaxed);
    ensure!(lost == 0, "{lost} connections were lost: the figure would be wrong");
    let last = rows.last().map_or(0, |row| row[2]);
    Ok(Report {
        scenario: "idle",
        figures: vec![
            Figure { name: "memory of an idle connection", value: last, unit: "bytes", budget: Some(BUDGET) },
            Figure { name: "connections", value: connections as u64, unit: "open", budget: None },
        ],
        columns: vec!["connections", "gateway RSS, bytes", "bytes each"],
        rows,
    })
}

/// Everyone a device, as a dashboard would watch one: 39 bytes of topic.
async fn open(gateway: &Gateway, number: usize) -> Result<Client> {
    let device = format!("iotsphere/devices/d{number:07}");
    let token = gateway.issuer.token(&format!("user-{number:07}"), &format!("{device}/#"));
    Client::open(gateway.address, number, &token, &format!("{device}/shadow/delta")).await
}

/// The gateway's resident memory once it no longer moves.
async fn settled(gateway: &Gateway) -> Result<u64> {
    let mut last = gateway.resident_bytes()?;
    let mut same = 0;
    while same < LOOKS {
        tokio::time::sleep(LOOK).await;
        let now = gateway.resident_bytes()?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}
