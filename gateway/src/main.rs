//! The program `anabranch`.

use anabranch_gateway::cli::{Cli, Command, TokenArgs};
use anabranch_gateway::serve::serve;
use anabranch_gateway::telemetry;
use clap::Parser;
use std::process::ExitCode;
use std::time::SystemTime;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => {
            let config = args.config_or_exit();
            if args.check {
                println!("the configuration is good");
                return ExitCode::SUCCESS;
            }
            telemetry::start();
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return fail(&error),
            };
            match runtime.block_on(serve(config, args.stop_with_stdin)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            }
        }
        Command::Token(args) => token(&args),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("anabranch: {error}");
    ExitCode::FAILURE
}

fn token(args: &TokenArgs) -> ExitCode {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match args.mint(now) {
        Ok(minted) => {
            if let Some(warning) = minted.warning {
                eprintln!("anabranch: {warning}");
            }
            println!("{}", minted.token);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("anabranch: {}", error.trim_end());
            ExitCode::from(2)
        }
    }
}
