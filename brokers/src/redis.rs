//! A private Redis.

mod cluster;
mod files;

pub use cluster::RedisCluster;

use crate::installation::{self, Installation};
use crate::ports;
use crate::process::{self, Process};
use crate::rabbitmq::port_in;
use crate::server::Server;
use crate::state::State;
use crate::unavailable::Unavailable;
use crate::wait::until;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const START: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(2);

/// How to start a server.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// Its folder: made when missing; what an earlier server left there is taken up again.
    pub folder: PathBuf,
    /// More lines for `redis.conf`, after ours: the later of two lines counts.
    pub config: Vec<String>,
    /// Serve TLS alone, with a certificate for 127.0.0.1 and localhost by an authority of its own: [`Redis::authority`].
    pub tls: bool,
}

impl RedisOptions {
    /// The usual server, in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> RedisOptions {
        RedisOptions { folder: folder.into(), config: Vec::new(), tls: false }
    }

    /// With one more line for `redis.conf`.
    pub fn line(mut self, line: impl Into<String>) -> RedisOptions {
        self.config.push(line.into());
        self
    }
}

/// A Redis on 127.0.0.1 that keeps what it is told in an append-only file, written before each answer: a kill
/// loses nothing.
///
/// One that was started here ends when this is dropped; one that [`crate::shared`] found goes on.
#[derive(Debug)]
pub struct Redis {
    folder: PathBuf,
    port: u16,
    tls: bool,
    /// Given by `ANABRANCH_REDIS`: a server of which we know nothing but this.
    foreign: Option<String>,
    server: Server,
    detached: bool,
}

impl Redis {
    /// Starts a server of the caller's own, and returns when it answers.
    pub fn start(options: RedisOptions) -> Result<Redis, Unavailable> {
        Redis::start_as(options, false)
    }

    pub(crate) fn start_as(options: RedisOptions, detached: bool) -> Result<Redis, Unavailable> {
        installed()?;
        let [port, bus] = ports::free().map_err(|error| Unavailable::failed(error.to_string()))?;
        let folder = files::prepare(&options, port, bus)?;
        let tls = options.tls;
        let mut started = Redis { folder, port, tls, foreign: None, server: Server::default(), detached };
        if let Err(error) = started.restart() {
            started.end()?;
            return Err(error);
        }
        Ok(started)
    }

    /// A server at an address that somebody else looks after: it has a [`Redis::url`], and the port in it.
    pub(crate) fn foreign(url: String) -> Redis {
        let (folder, port) = (PathBuf::new(), port_in(&url, 6379));
        Redis { folder, port, tls: false, foreign: Some(url), server: Server::default(), detached: true }
    }

    /// The server that runs in a folder, started by whichever process.
    pub(crate) fn attach(folder: &Path) -> Option<Redis> {
        let state = State::read(folder)?;
        let server = Process::from_text(&state.get::<String>("server")?)?;
        let (port, tls) = (state.get("port")?, state.get("tls")?);
        let folder = folder.to_path_buf();
        Some(Redis { folder, port, tls, foreign: None, server: Server::attached(server), detached: true })
    }

    /// It was started from the programs that the environment names now.
    pub(crate) fn is_wanted(&self) -> bool {
        let installation = State::read(&self.folder).and_then(|state| state.get::<String>("installation"));
        installation.unwrap_or_default() == installation::name(Installation::Redis)
    }

    /// For Redis clients.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        self.foreign.clone().unwrap_or_else(|| format!("{scheme}://127.0.0.1:{}/", self.port))
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate (PEM) that a client of a TLS server has to trust.
    pub fn authority(&self) -> PathBuf {
        files::authority(&self.folder)
    }

    /// The process of the server; None between [`Redis::kill`] and [`Redis::restart`].
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// True while the server's process exists.
    pub fn is_alive(&self) -> bool {
        self.server.is_alive()
    }

    /// Where all that it writes lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs `redis-cli`, and returns what it printed, without the last line break. An error reply is an error here.
    pub fn cli(&self, args: &[&str]) -> Result<String, Unavailable> {
        let mut command = Command::new(program("redis-cli")?);
        // -e: an error reply ends with a status that tells.
        command.args(["-e", "-u"]).arg(self.url());
        if self.tls {
            command.arg("--cacert").arg(self.authority());
        }
        let output = command.args(args).stdin(Stdio::null()).output();
        let output =
            output.map_err(|error| Unavailable::failed(format!("redis-cli could not be run: {error}")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_string();
        if !output.status.success() {
            let said = format!("{} {}", text(&output.stdout), text(&output.stderr));
            return Err(Unavailable::failed(format!("redis-cli {}: {}", args.join(" "), said.trim())));
        }
        Ok(text(&output.stdout))
    }

    /// Makes this server a replica of another, and returns when it has caught up.
    pub fn replica_of(&self, primary: &Redis) -> Result<(), Unavailable> {
        self.cli(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()])?;
        until("the replica's link", START, || {
            let up = self.cli(&["INFO", "replication"])?.contains("master_link_status:up");
            Ok(up.then_some(()))
        })
    }

    /// Ends the server with SIGKILL, as a crash would, and returns when it is gone.
    pub fn kill(&mut self) -> Result<(), Unavailable> {
        self.server.kill()
    }

    /// Stops the server in its tracks, with its sockets open, until [`Redis::thaw`].
    pub fn freeze(&self) -> Result<(), Unavailable> {
        self.server.freeze()
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<(), Unavailable> {
        self.server.thaw()
    }

    /// Starts it again after a kill, with the data and the port it had, and returns when it answers.
    pub fn restart(&mut self) -> Result<(), Unavailable> {
        if self.foreign.is_some() {
            return Err(Unavailable::failed("this server is somebody else's"));
        }
        self.kill()?;
        let mut command = process::command(program("redis-server")?, self.detached);
        command.arg(self.folder.join("redis.conf")).current_dir(&self.folder);
        self.server.start(&mut command, &files::log(&self.folder))?;
        // At once: whoever looks next can end it if this process does not live to see it ready.
        let state = State::default().set("port", self.port).set("tls", self.tls);
        let state = state.set("installation", installation::name(Installation::Redis));
        let written = state.set("server", self.server.to_text()).write(&self.folder);
        written.map_err(|error| Unavailable::failed(error.to_string()))?;
        self.wait_ready(START).map_err(|error| error.with_log(files::log(&self.folder)))
    }

    /// Waits until the server has loaded its data and answers.
    pub fn wait_ready(&self, patience: Duration) -> Result<(), Unavailable> {
        until("Redis ready", patience, || {
            if !self.is_alive() {
                return Err(Unavailable::failed("Redis ended while starting"));
            }
            Ok(self.is_ready().then_some(()))
        })
    }

    /// Ready right now. A server that asks for a password answers too.
    pub fn is_ready(&self) -> bool {
        if self.tls {
            return self.cli(&["PING"]).is_ok_and(|answer| answer == "PONG");
        }
        // Not by redis-cli, which waits for a frozen server for ever.
        let ping = || -> std::io::Result<Vec<u8>> {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
            let mut stream = TcpStream::connect_timeout(&address, SOON)?;
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = vec![0; 7];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        };
        ping().is_ok_and(|answer| answer == b"+PONG\r\n" || answer == b"-NOAUTH")
    }

    /// Ends the server; its folder stays.
    pub fn stop(mut self) -> Result<(), Unavailable> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Unavailable> {
        self.kill()?;
        State::remove(&self.folder);
        Ok(())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if !self.detached {
            // Nobody is left to tell; and a process that would not end was sent SIGKILL.
            let _ = self.end();
        }
    }
}

fn installed() -> Result<(), Unavailable> {
    let mut command = Command::new(program("redis-server")?);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(_) => Ok(()),
        Err(_) => Err(Unavailable::Missing { program: "Redis", get: "sudo apt-get install redis-server" }),
    }
}

/// The path, or the name, of one of Redis' programs.
fn program(name: &str) -> Result<PathBuf, Unavailable> {
    Ok(installation::program(Installation::Redis, name)?.unwrap_or_else(|| name.into()))
}
