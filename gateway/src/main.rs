//! The program `anabranch`.

use anabranch_gateway::cli::{Cli, Command, TokenArgs};
use clap::Parser;
use std::process::ExitCode;
use std::time::SystemTime;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => {
            let _config = args.config_or_exit();
            if args.check {
                println!("the configuration is good");
                return ExitCode::SUCCESS;
            }
            eprintln!("anabranch: this build checks configurations and makes tokens; it does not serve");
            ExitCode::FAILURE
        }
        Command::Token(args) => token(&args),
    }
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
