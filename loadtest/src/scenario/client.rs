//! What an idle client of the Rust SDK costs its app in memory, and what each subscription adds.
//!
//! Measured is an app that has nothing but clients (`xtask/src/native/app.rs`), by itself; here it is given a gateway and judged. The first client brings
//! the code with it, whose pages are read from the program's file when they are first needed; further ones cost what a client keeps.

use crate::contestant::tls;
use crate::gateway::Gateway;
use crate::report::{Figure, Report};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Bytes for a client, and for a subscription: what we aim at, and what we accept.
const CLIENT: Budget = Budget { target: 3 << 19, gate: 4 << 20 };
const SUBSCRIPTION: Budget = Budget { target: 4 << 10, gate: 16 << 10 };

struct Budget {
    target: u64,
    gate: u64,
}

#[derive(clap::Args)]
pub struct Args {
    /// The app, which `cargo xtask native` builds
    #[arg(long, value_name = "FILE")]
    app: PathBuf,

    /// How many subscriptions are added to the first client's own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=255))]
    subscriptions: u32,

    /// How many further clients are opened after that
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=900))]
    clients: u32,

    /// Without TLS and without a store: `ws://`, and everything in memory
    #[arg(long)]
    plain: bool,
}

/// Prints the figures, and fails if one is over its gate.
pub async fn run(args: Args, program: &Path, json: Option<&Path>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut app = Command::new(&args.app);
    let gateway = if args.plain {
        Gateway::start(program, &[]).await?
    } else {
        app.env("CERTIFICATE", tls::certificate(folder.path())?);
        Gateway::start(program, &tls::settings(folder.path())).await?
    };
    let (scheme, port) = (if args.plain { "ws" } else { "wss" }, gateway.address.port());
    let all = "iotsphere/#";
    let output = app
        .env("URL", format!("{scheme}://localhost:{port}"))
        .env("TOKEN", gateway.issuer.grant("app", all, &[all]))
        .env("SUBSCRIPTIONS", args.subscriptions.to_string())
        .env("CLIENTS", args.clients.to_string())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("starting {}", args.app.display()))?;
    ensure!(output.status.success(), "the app failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let numbers = |line: &str| line.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>();
    let rows = text.lines().map(numbers).collect::<Result<Vec<_>, _>>()?;
    let report = judged(rows, &args)?;
    report.print(json)?;
    for (figure, gate) in report.figures.iter().zip([CLIENT.gate, SUBSCRIPTION.gate]) {
        ensure!(figure.value <= gate, "{}: {} bytes are over the gate of {gate}", figure.name, figure.value);
    }
    Ok(())
}

fn judged(rows: Vec<Vec<u64>>, args: &Args) -> Result<Report> {
    let resident: Vec<u64> = rows.iter().filter_map(|row| row.get(2).copied()).collect();
    let [none, one, subscribed, many] = resident[..] else { anyhow::bail!("the app said {rows:?}") };
    let each = |more: u64, less: u64, count: u32| more.saturating_sub(less) / u64::from(count);
    let figure = |name, value, budget| Figure { name, value, unit: "bytes", budget };
    Ok(Report {
        scenario: "client",
        figures: vec![
            figure("memory of the first idle client", each(one, none, 1), Some(CLIENT.target)),
            figure(
                "memory of each subscription",
                each(subscribed, one, args.subscriptions),
                Some(SUBSCRIPTION.target),
            ),
            figure("memory of each further client", each(many, subscribed, args.clients), None),
        ],
        columns: vec!["clients", "subscriptions", "resident, bytes", "of it in no file"],
        rows,
    })
}
