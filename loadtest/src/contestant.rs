//! Servers that carry the same messages, each started for one run, bound to one core.

mod peers;
pub mod tls;

use crate::cpu;
use crate::floor::Mode;
use crate::gateway::Gateway;
use crate::swarm::{Plan, Probers};
use crate::token::Issuer;
use crate::wire::{Dialect, Template};
use anyhow::{Context, Result, bail};
use rustls::ClientConfig;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Contestant {
    /// This project's gateway, with one shard, on a memory log
    Gateway,
    /// The same with two shards, on the one core
    #[value(name = "gateway-2")]
    Gateway2,
    /// The same with one shard, through TLS
    GatewayTls,
    /// The floor, one write for each subscriber and turn
    Floor,
    /// The floor, one write for each delivery
    FloorEach,
    /// uWebSockets.js on Node.js
    Uws,
    /// nats-server over WebSocket
    Nats,
    /// nginx with Nchan
    Nchan,
    /// Mosquitto over WebSocket
    Mosquitto,
}

/// A contestant that runs. It ends when this is dropped.
pub struct Running {
    pub address: SocketAddr,
    pub dialect: Dialect,
    pid: u32,
    issuer: Option<Issuer>,
    tls: Option<Arc<ClientConfig>>,
    _server: Server,
    _folder: Option<TempDir>,
}

enum Server {
    Gateway { _gateway: Box<Gateway> },
    Process(Child),
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Server::Process(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where programs are that are not on the PATH.
pub struct Programs {
    pub gateway: PathBuf,
    /// A folder with `node_modules/` in which uWebSockets.js is.
    pub uws: Option<PathBuf>,
    /// Further settings of the gateway, KEY=VALUE.
    pub settings: Vec<String>,
}

impl Contestant {
    /// Who is compared when nobody is named: the gateway in other clothes only where asked for.
    pub const ALL: [Contestant; 7] = [
        Contestant::Gateway,
        Contestant::Floor,
        Contestant::FloorEach,
        Contestant::Uws,
        Contestant::Nats,
        Contestant::Nchan,
        Contestant::Mosquitto,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Contestant::Gateway => "gateway",
            Contestant::Gateway2 => "gateway-2",
            Contestant::GatewayTls => "gateway-tls",
            Contestant::Floor => "floor",
            Contestant::FloorEach => "floor-each",
            Contestant::Uws => "uws",
            Contestant::Nats => "nats",
            Contestant::Nchan => "nchan",
            Contestant::Mosquitto => "mosquitto",
        }
    }

    /// Why it cannot take part on this machine, if so.
    pub fn missing(self, programs: &Programs) -> Option<String> {
        let needs = |program: &str, package: &str| {
            peers::on_path(program).is_none().then(|| format!("no {program} (Debian: {package})"))
        };
        match self {
            Contestant::Gateway | Contestant::Gateway2 | Contestant::GatewayTls => None,
            Contestant::Floor | Contestant::FloorEach => None,
            Contestant::Uws => match &programs.uws {
                None => Some("no --uws FOLDER (npm: @trufflesuite/uws-js-unofficial)".into()),
                Some(_) => needs("node", "nodejs"),
            },
            Contestant::Nats => needs("nats-server", "nats-server"),
            Contestant::Nchan => needs("nginx", "nginx-light, libnginx-mod-nchan"),
            Contestant::Mosquitto => needs("mosquitto", "mosquitto"),
        }
    }

    /// Starts it on the servers' core.
    pub async fn start(self, programs: &Programs, connections: usize) -> Result<Running> {
        cpu::pin(cpu::SERVER)?;
        let running = self.start_here(programs, connections).await;
        cpu::pin(cpu::GENERATOR)?;
        running.with_context(|| format!("starting {}", self.name()))
    }

    async fn start_here(self, programs: &Programs, connections: usize) -> Result<Running> {
        let (command, folder) = match self {
            Contestant::Gateway | Contestant::Gateway2 | Contestant::GatewayTls => {
                let shards = if self == Contestant::Gateway2 { 2 } else { 1 };
                let mut settings = vec![format!("shards={shards}")];
                let (mut folder, mut tls) = (None, None);
                if self == Contestant::GatewayTls {
                    let certificates = tempfile::tempdir()?;
                    tls = Some(tls::certify(certificates.path())?);
                    settings.extend(tls::settings(certificates.path()));
                    folder = Some(certificates);
                }
                settings.extend(
                    ["connections", "connections_per_address"]
                        .map(|name| format!("limits.{name}={}", connections + 100)),
                );
                settings.extend(programs.settings.iter().cloned());
                let gateway = Gateway::start(&programs.gateway, &settings).await?;
                if self == Contestant::Gateway2 {
                    cpu::share(gateway.pid()?)?;
                }
                return Ok(Running {
                    address: gateway.address,
                    dialect: Dialect::Anabranch,
                    pid: gateway.pid()?,
                    issuer: Some(gateway.issuer.clone()),
                    tls,
                    _server: Server::Gateway { _gateway: Box::new(gateway) },
                    _folder: folder,
                });
            }
            Contestant::Floor | Contestant::FloorEach => {
                let mode = if self == Contestant::Floor { Mode::Coalesce } else { Mode::Each };
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["floor", "--mode", mode.name()]);
                (command, None)
            }
            Contestant::Uws => (peers::uws(programs.uws.as_deref().unwrap_or(Path::new(".")))?, None),
            Contestant::Nats | Contestant::Nchan | Contestant::Mosquitto => {
                return self.start_package(connections);
            }
        };
        let (child, address) = spawn_and_ask(command)?;
        Ok(Running {
            address,
            dialect: Dialect::Anabranch,
            pid: child.id(),
            issuer: None,
            tls: None,
            _server: Server::Process(child),
            _folder: folder,
        })
    }

    /// Starts a peer that does not say where it listens: on a port that was free a moment ago.
    fn start_package(self, connections: usize) -> Result<Running> {
        let folder = tempfile::tempdir()?;
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (mut command, dialect) = match self {
            Contestant::Nats => (peers::nats(folder.path(), address)?, Dialect::Nats),
            Contestant::Nchan => (peers::nchan(folder.path(), address, connections)?, Dialect::Bare),
            _ => (peers::mosquitto(folder.path(), address)?, Dialect::Mqtt),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Server::Process(child);
        peers::wait_for(address)?;
        let Server::Process(child) = &server else { bail!("not a process") };
        let pid = child.id();
        Ok(Running { address, dialect, pid, issuer: None, tls: None, _server: server, _folder: Some(folder) })
    }
}

/// Starts a server that says on its first line where it listens: `http://ADDRESS:PORT `.
fn spawn_and_ask(mut command: Command) -> Result<(Child, SocketAddr)> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("{command:?}"))?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its standard output")?).read_line(&mut line)?;
    let address = line.split_once("http://").and_then(|(_, rest)| rest.split_whitespace().next());
    match address.and_then(|address| address.parse().ok()) {
        Some(address) => Ok((child, address)),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            bail!("the server did not say where it listens, but {line:?}")
        }
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A client that watches one filter. `topic` is one that it will see.
    pub fn subscriber(&self, number: usize, filter: &str, topic: &str, template: &Template) -> Plan {
        match self.dialect {
            Dialect::Anabranch => {
                Plan::anabranch(self.address, &self.token(number, filter, &[]), Some(filter), None)
                    .through(self.tls.as_ref())
            }
            dialect => {
                let len = template.len(topic.len());
                Plan::peer(self.address, dialect, number, Some(filter), topic, len)
            }
        }
    }

    /// A client that comes back with a cursor.
    pub fn resumes(&self, number: usize, filter: &str, cursor: &str) -> Plan {
        Plan::anabranch(self.address, &self.token(number, filter, &[]), Some(filter), Some(cursor))
            .through(self.tls.as_ref())
    }

    /// Clients that ask while others are served: whether it listens, and how long messages of a topic of theirs take. None
    /// where the probers do not know its protocol.
    pub fn probers(&self) -> Option<Result<Probers>> {
        const TOPIC: &str = "load/probers/own";
        (self.dialect == Dialect::Anabranch && self.tls.is_none()).then(|| {
            let token = self.token(3_000_000, TOPIC, &["load/#"]);
            let own = Plan::anabranch(self.address, &token, Some(TOPIC), None);
            Probers::start(self.address, &self.publisher(1_000_000), &own, TOPIC)
        })
    }

    /// A client that publishes.
    pub fn publisher(&self, number: usize) -> Plan {
        match self.dialect {
            Dialect::Anabranch => {
                let token = self.token(1_000_000 + number, "load/none", &["load/#"]);
                Plan::anabranch(self.address, &token, None, None)
            }
            dialect => Plan::peer(self.address, dialect, 1_000_000 + number, None, "", 0),
        }
        .receives(0, 0)
        .through(self.tls.as_ref())
    }

    /// The token of a principal who may read one filter and write to others.
    pub fn token(&self, number: usize, read: &str, write: &[&str]) -> String {
        let subject = format!("user-{number:07}");
        self.issuer.as_ref().map_or_else(String::new, |issuer| issuer.grant(&subject, read, write))
    }
}
