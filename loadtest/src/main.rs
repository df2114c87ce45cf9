//! The load generator: one scenario for each question about speed or memory, each against a real gateway of its own.
//!
//! | file | what it holds |
//! |---|---|
//! | `gateway.rs` | `anabranch serve` as a child process, and what the kernel says of it |
//! | `client.rs` | a WebSocket client that costs next to nothing |
//! | `broker.rs`, `publisher.rs` | a private broker, and what puts messages on it |
//! | `latency.rs` | how long deliveries took, and what a process used of the CPU |
//! | `token.rs` | a principal for each connection |
//! | `report.rs` | figures as a table or as JSON |
//! | `scenario/` | the scenarios |

mod broker;
mod client;
mod gateway;
mod latency;
mod publisher;
mod report;
mod scenario;
mod token;

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Measures a gateway. Use a release build of it: cargo build --release -p anabranch-gateway
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    scenario: Scenario,

    /// The gateway's program [default: anabranch in target/release]
    #[arg(long, global = true, value_name = "FILE")]
    gateway: Option<PathBuf>,

    /// Print the figures as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Scenario {
    /// What an idle connection with one subscription costs in memory
    Idle(scenario::idle::Args),
    /// Throughput and latency through a real broker
    Through(scenario::through::Args),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let program = gateway::program(args.gateway)?;
    let report = match args.scenario {
        Scenario::Idle(idle) => scenario::idle::run(idle, &program).await?,
        Scenario::Through(through) => scenario::through::run(through, &program).await?,
    };
    report.print(args.json)
}
