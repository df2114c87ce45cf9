//! The load generator: one scenario for each question about speed or memory, each against a real gateway of its own.
//!
//! | file | what it holds |
//! |---|---|
//! | `swarm.rs` | the generator: thousands of lean clients in one thread |
//! | `watch.rs` | clients that follow the protocol in full, and know what they should have |
//! | `wire.rs` | the message, and the bytes that it is on each contestant's wire |
//! | `floor.rs` | the least that any server must do, to compare with |
//! | `contestant.rs` | servers that carry the same messages: our gateway, the floor, peers |
//! | `compare.rs` | the same scenario on several of them, in turns |
//! | `cpu.rs` | CPU time and memory of a process, and the core it runs on |
//! | `gateway.rs` | `anabranch serve` as a child process, and what the kernel says of it |
//! | `client.rs` | a WebSocket client that costs next to nothing |
//! | `broker.rs`, `publisher.rs` | a private broker, and what puts messages on it |
//! | `latency.rs` | how long deliveries took, and what a process used of the CPU |
//! | `token.rs` | a principal for each connection |
//! | `report.rs` | figures as a table or as JSON |
//! | `scenario/` | the scenarios |

mod broker;
mod client;
mod compare;
mod contestant;
mod cpu;
mod floor;
mod gateway;
mod latency;
mod publisher;
mod report;
mod scenario;
mod swarm;
mod token;
mod watch;
mod wire;

use clap::{Parser, Subcommand};
use scenario::fan_out::Shape;
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

    /// Print the figures as JSON, or write them to a file
    #[arg(long, global = true, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Scenario {
    /// At which rate RabbitMQ's backlog is read while a memory alarm stops all publishers
    Alarm(scenario::alarm::Args),
    /// Whether memory stays where it is while clients come, publish and leave
    Churn(scenario::churn::Args),
    /// What an idle client of the Rust SDK, and each of its subscriptions, cost the app in memory; fails over a gate
    Client(scenario::client::Args),
    /// What an idle connection with one subscription costs in memory
    Idle(scenario::idle::Args),
    /// Throughput and latency through a real broker
    Through(scenario::through::Args),
    /// One topic, 1,000 subscribers
    FanOut(scenario::fan_out::Args),
    /// One topic, 10,000 subscribers
    Wide(scenario::fan_out::Args),
    /// 5,000 connections, each with its own topic, and 100 that watch fifty of them each
    Devices(scenario::fan_out::Args),
    /// Some read slowly and a few stop: what the others notice, and what it costs
    Slow(scenario::slow::Args),
    /// The same with state topics, which conflate: does everyone end on the exact final state
    SlowState(scenario::slow_state::Args),
    /// 100,000 state topics by one wildcard while they change: is it whole, and what does it cost
    Snapshot(scenario::snapshot::Args),
    /// All lose their connection at once and resume
    Storm(scenario::storm::Args),
    /// A scenario on our gateway, the floor and those peers that are installed, in turns
    Compare(compare::Args),
    /// A bare server of the same frames: the least that any server must do
    Floor(floor::Args),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Scenario::Floor(floor) = &args.scenario {
        return floor::run(floor);
    }
    let program = gateway::program(args.gateway)?;
    let json = args.json.as_deref();
    let report = match args.scenario {
        Scenario::Alarm(alarm) => scenario::alarm::run(alarm, &program).await?,
        Scenario::Churn(churn) => scenario::churn::run(churn, &program).await?,
        Scenario::Client(client) => return scenario::client::run(client, &program, json).await,
        Scenario::Idle(idle) => scenario::idle::run(idle, &program).await?,
        Scenario::Through(through) => scenario::through::run(through, &program).await?,
        Scenario::FanOut(args) => return compare::alone(Shape::FanOut, args, program, json).await,
        Scenario::Wide(args) => return compare::alone(Shape::Wide, args, program, json).await,
        Scenario::Devices(args) => return compare::alone(Shape::Devices, args, program, json).await,
        Scenario::Slow(slow) => scenario::slow::run(slow, program).await?,
        Scenario::SlowState(slow) => scenario::slow_state::run(slow, program).await?,
        Scenario::Snapshot(snapshot) => scenario::snapshot::run(snapshot, program).await?,
        Scenario::Storm(storm) => scenario::storm::run(storm, program).await?,
        Scenario::Compare(compare) => return compare::run(compare, program, json).await,
        Scenario::Floor(floor) => return floor::run(&floor),
    };
    report.print(json)
}
