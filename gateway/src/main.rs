//! The program `anabranch`.

use anabranch_gateway::cli::{Cli, Command, Failure, ServeArgs, TokenArgs};
use anabranch_gateway::serve::serve;
use anabranch_gateway::telemetry;
use clap::Parser;
use mimalloc::MiMalloc;
use std::process::ExitCode;
use std::time::SystemTime;

/// The system's allocator keeps the memory of handshakes that are over scattered among connections that stay: at 10,000 of
/// them that is a thousand bytes each.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => run_gateway(&args),
        Command::Token(args) => print_token(&args),
        Command::Publish(args) => block_on(args.run()),
        Command::Subscribe(args) => block_on(args.run()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("anabranch: {failure}");
            failure.exit_code()
        }
    }
}

fn run_gateway(args: &ServeArgs) -> Result<(), Failure> {
    let config = args.config_or_exit();
    if args.check {
        println!("the configuration is good");
        return Ok(());
    }
    telemetry::start();
    block_on(async { serve(config, args.stop_with_stdin).await.map_err(Failure::refused) })
}

fn print_token(args: &TokenArgs) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let minted = args.mint(now).map_err(|error| Failure::usage(error.trim_end()))?;
    if let Some(warning) = minted.warning {
        eprintln!("anabranch: {warning}");
    }
    println!("{}", minted.token);
    Ok(())
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::refused)?;
    let result = runtime.block_on(work);
    // A thread may be writing into a pipe that nobody empties: nobody waits for it.
    runtime.shutdown_background();
    result
}
