//! `cargo xtask`: the only developer tool. The list of commands below is its documentation.

mod brokers;
mod budgets;
mod demo;
mod instructions;
mod native;
mod npm;
mod progress;
mod stamp;
mod test;
mod tool;
mod wasm;
mod workspace;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

/// Builds, shows and tests Anabranch. Needs Rust, Node 20 or later and git; fetches the rest itself.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything and run it: gateway, embedded log, a real device (this machine) and the web demo
    Demo(DemoArgs),
    /// Run every test, the real browser's included; installs what it lacks where it may
    Test(TestArgs),
    /// Build the browser client's core, its npm package and the web demo, where something changed
    Wasm,
    /// Show and gate the browser client's size: the core and the whole first load
    Sizes,
    /// Show and gate all that the browser client costs: the size, and in Chromium time, memory, calls and transactions
    Budgets,
    /// Show and gate what the Rust client weighs: a stripped library with TLS and SQLite, and an idle client's memory
    Native,
    /// Start and stop private RabbitMQ and Redis servers, for tests and for trying things out
    Brokers {
        #[command(subcommand)]
        action: brokers::Action,
    },
    /// Count the instructions of the two hottest paths with callgrind, beside what is expected
    Instructions {
        /// Expect from now on what is found
        #[arg(long)]
        renew: bool,
    },
    /// Check format, lints and file lengths
    Lint,
    /// Build the documentation of the workspace's crates
    Doc {
        /// Open it in the browser
        #[arg(long)]
        open: bool,
    },
}

#[derive(Args)]
struct DemoArgs {
    /// The demo's port on 127.0.0.1; the three after it carry the chaos proxy, its control and the slow link
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Open the demo in the browser
    #[arg(long)]
    open: bool,
    /// Simulated devices beside this machine, at most 5,000
    #[arg(long, default_value_t = 300)]
    fleet: u16,
    /// Forget the messages of earlier runs
    #[arg(long)]
    fresh: bool,
    /// What holds the messages: the gateway's own log, or a private broker (`cargo xtask brokers`)
    #[arg(long, value_enum, default_value_t = demo::DemoLog::File)]
    log: demo::DemoLog,
}

#[derive(Args)]
struct TestArgs {
    /// Only what ends within five minutes: no browser, no kill loops, no minutes of moving clients
    #[arg(long)]
    fast: bool,
    /// Only the steps whose name contains one of these
    #[arg(long, value_name = "STEP", value_delimiter = ',')]
    only: Vec<String>,
    /// Name the steps and stop
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => return test::run(&args),
        Command::Wasm => wasm::build_all(),
        Command::Sizes => budgets::sizes(),
        Command::Budgets => budgets::run(),
        Command::Native => native::check(),
        Command::Brokers { action } => brokers::run(&action),
        Command::Instructions { renew } => instructions::run(renew),
        Command::Lint => return test::lint(),
        Command::Doc { open } => doc(open),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn doc(open: bool) -> anyhow::Result<()> {
    let mut cargo = tool::cargo("doc");
    cargo.args(["--workspace", "--no-deps"]);
    if open {
        cargo.arg("--open");
    }
    tool::run(&mut cargo)
}
