//! The command line. Each command has a file of its own.

mod connect;
mod failure;
mod publish;
mod serve;
mod stop;
mod subscribe;
mod token;
mod token_source;

pub use failure::Failure;
pub use publish::PublishArgs;
pub use serve::ServeArgs;
pub use stop::stop_asked;
pub use subscribe::SubscribeArgs;
pub use token::{Minted, TokenArgs};

use clap::{Parser, Subcommand};

/// A real-time gateway: reads a log of messages, pushes every one to the WebSockets that asked for it and may see it.
#[derive(Debug, Parser)]
#[command(name = "anabranch", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a gateway
    Serve(ServeArgs),
    /// Make a token for development
    Token(TokenArgs),
    /// Publish messages, and wait until the log has them
    Publish(PublishArgs),
    /// Print the messages that filters match, as they come
    Subscribe(SubscribeArgs),
}

/// The environment, as far as it is text.
fn variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !crate::telemetry::VARIABLES.contains(&name.as_str()))
        .collect()
}

const EXAMPLES: &str = "\
Examples:
  anabranch serve --dev                              try it out, with a token for everything
  openssl rand -hex 32 > dev.key                     a key of your own
  anabranch serve --auth-key-file dev.key            run with it
  anabranch token --key-file dev.key --sub alice --read 'iotsphere/#'
                                                     a token for it
  anabranch subscribe 'hello/#'                      see messages as they come
  anabranch publish hello/world '{\"n\": 1}'         publish one

`anabranch help serve` says more, and so on for each command.";
