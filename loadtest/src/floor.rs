//! `loadtest floor`: the least that any server must do for the same frames, to compare with in the same run.
//!
//! No tokens, no filters beyond a hash map, no log, no cursors, no limits. It reads a publish, wraps the envelope in a
//! frame, and writes it to every subscriber of the topic: with one `send` for each delivery, or *coalescing*: with one
//! vectored write for each subscriber and turn of the loop. What a gateway costs above the second is its own.

mod connection;
mod server;

use anyhow::Result;
use server::Server;
use std::io::Write;
use std::net::SocketAddr;

#[derive(clap::Args)]
pub struct Args {
    /// When it writes
    #[arg(long, value_enum, default_value_t = Mode::Coalesce)]
    mode: Mode,

    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// When the floor writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Once for each delivery
    Each,
    /// Once for each subscriber and turn of the loop
    Coalesce,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Each => "each",
            Mode::Coalesce => "coalesce",
        }
    }
}

/// Serves until it is killed. Says where it listens, as the gateway does.
pub fn run(args: &Args) -> Result<()> {
    let server = Server::bind(args.listen, args.mode)?;
    println!("the floor is listening on http://{} ({})", server.address()?, args.mode.name());
    std::io::stdout().flush()?;
    server.run()
}
