//! The device agent: this machine as an Anabranch device. It publishes its own metrics as telemetry, obeys what is desired in
//! its shadow, and reports what it does there.
//!
//! | file | what it holds |
//! |---|---|
//! | `identity.rs` | which device this is, and its topics |
//! | `metric.rs`, `metrics.rs` | what the machine measures, by name and by reading |
//! | `shadow.rs` | what is desired against what it does: pure |
//! | `outbox.rs` | what is on its way to the gateway, bounded |
//! | `commands.rs` | what it can be told to do: measure now, list the top processes |
//! | `agent.rs` | the loop that joins them |

mod agent;
mod commands;
mod identity;
mod metric;
mod metrics;
mod outbox;
mod shadow;

use anabranch::Client;
use clap::Parser;
use identity::DeviceId;
use metrics::Sampler;
use shadow::{Settings, Shadow};
use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

/// Publishes this machine's metrics through an Anabranch gateway, and obeys what is desired in its shadow.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The gateway
    #[arg(long, env = "ANABRANCH_URL", default_value = "ws://127.0.0.1:8080")]
    url: String,
    /// A file with the token. It is read again whenever a token is needed, so it may be replaced while the agent runs
    #[arg(long, env = "ANABRANCH_TOKEN_FILE")]
    token_file: PathBuf,
    /// The device's id, one level of its topics [default: this machine's name]
    #[arg(long, env = "ANABRANCH_DEVICE_ID", value_parser = DeviceId::new)]
    device_id: Option<DeviceId>,
    /// How often to measure until the desired shadow says otherwise, ms
    #[arg(long, env = "ANABRANCH_INTERVAL_MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval_ms: u64,
    /// A file in which the device writes down which commands it has begun and answered, so that a restart does none twice, and takes up
    /// what came meanwhile
    #[arg(long, env = "ANABRANCH_COMMAND_JOURNAL", value_name = "FILE")]
    command_journal: Option<PathBuf>,
    /// Also stop when standard input ends: for a parent process that holds its other end
    #[arg(long)]
    stop_with_stdin: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let device = args
        .device_id
        .unwrap_or_else(|| DeviceId::from_host(&sysinfo::System::host_name().unwrap_or_default()));
    let sampler = || Sampler::new().map_err(|error| format!("this system cannot be measured: {error}"));
    let (sampler, for_commands) = (sampler()?, sampler()?);
    // A file that is missing now is a mistake of the command line; one that is missing later may come back.
    read_token(&args.token_file)?;
    let token_file = args.token_file;
    let client = Client::builder(args.url.as_str())
        .token_provider(move |_| {
            let token = read_token(&token_file);
            async move { token }
        })
        .client_id(format!("device-agent-{}", device.as_str()))
        .build()?;
    tracing::info!(device = device.as_str(), url = args.url, "the device starts");
    let shadow = Shadow::new(Settings::new(args.interval_ms), sampler.unsupported());
    let stop = stop(args.stop_with_stdin);
    let commands = commands::serve(&client, &device, for_commands, args.command_journal);
    let agent = agent::run(&client, &device, sampler, shadow, stop);
    tokio::pin!(agent);
    let result = tokio::select! {
        result = &mut agent => result,
        // Without commands it goes on.
        () = commands => agent.await,
    };
    client.close().await;
    result
}

fn read_token(file: &Path) -> Result<String, String> {
    let token = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read the token in {}: {error}", file.display()))?;
    match token.trim() {
        "" => Err(format!("{} is empty, and should hold a token", file.display())),
        token => Ok(token.to_string()),
    }
}

/// Ends when the agent should: Ctrl-C, SIGTERM, or the end of standard input.
async fn stop(with_stdin: bool) {
    let stdin_ends = async {
        if !with_stdin {
            return std::future::pending().await;
        }
        // A thread of its own: tokio's would keep the process alive until the read returns.
        let (ended, waiting) = oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = ended.send(());
        });
        let _ = waiting.await;
    };
    tokio::select! {
        () = stdin_ends => {}
        () = signalled() => {}
    }
}

#[cfg(unix)]
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without a handler the system's own ends the process just as well.
        _ => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn signalled() {
    let _ = tokio::signal::ctrl_c().await;
}
