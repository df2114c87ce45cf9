//! Connections to a broker.

use super::fault::Fault;
use super::options::Options;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// How long a broker may take to let us in. A frozen one accepts the socket and says nothing.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a broker says first is waited for so long, when an earlier one said nothing.
const GREETING: Duration = Duration::from_secs(2);

/// Most attempts that are given up and have not ended. The client library goes on with each, in a thread of its own,
/// until the broker answers or the socket breaks.
const MOST_STUCK: usize = 8;

/// Connects, again and again, without piling up attempts at a broker that accepts sockets and says nothing.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) options: Arc<Options>,
    stuck: Arc<AtomicUsize>,
    /// When the broker let us in last.
    entered: Arc<Mutex<Option<Instant>>>,
}

/// An attempt under way; one that is dropped is stuck until it ends.
struct Attempt {
    task: Option<JoinHandle<lapin::Result<Connection>>>,
    stuck: Arc<AtomicUsize>,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(task) = self.task.take().filter(|task| !task.is_finished()) else { return };
        let stuck = self.stuck.clone();
        stuck.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            drop(task.await);
            stuck.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl Connector {
    pub(super) fn new(options: Arc<Options>) -> Connector {
        Connector { options, stuck: Arc::default(), entered: Arc::default() }
    }

    /// Whether the broker has let us in since then, for whatever purpose.
    pub(super) fn entered_since(&self, then: Instant) -> bool {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|entered| entered > then)
    }

    /// Connects. `purpose` is what the broker's operator sees.
    pub(super) async fn connect(&self, purpose: &str) -> Result<Connection, Fault> {
        let options = &*self.options;
        let place = options.place();
        let silent = || Fault::Unreachable(format!("{place} let nobody in within {} s", PATIENCE.as_secs()));
        match self.stuck.load(Ordering::Relaxed) {
            0 => {}
            MOST_STUCK.. => return Err(silent()),
            _ if options.server.tls => {}
            _ => match timeout(GREETING, greeting(options)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(Fault::Unreachable(format!("{place} cannot be reached: {error}")));
                }
                Err(_) => return Err(silent()),
            },
        }
        let tls = trust(options).await?;
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("anabranch {purpose} (process {})", std::process::id()).into());
        let runtime = lapin::runtime::default_runtime()?;
        let connecting = Connection::connect_uri_with_config(uri(options), properties, tls, runtime);
        let mut attempt = Attempt { task: Some(tokio::spawn(connecting)), stuck: self.stuck.clone() };
        let Some(task) = &mut attempt.task else { return Err(silent()) };
        match timeout(PATIENCE, task).await {
            Ok(Ok(Ok(connection))) => {
                *self.entered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(connection)
            }
            Ok(Ok(Err(error))) => Err(match Fault::from(error) {
                Fault::Refused(text) => Fault::Refused(format!("{place} refuses us: {text}")),
                Fault::Unreachable(text) | Fault::Killed(text) => {
                    Fault::Unreachable(format!("{place} cannot be reached: {text}"))
                }
                Fault::Gone => Fault::Gone,
            }),
            Ok(Err(_)) | Err(_) => Err(silent()),
        }
    }
}

/// Waits until the broker says something, on a socket of its own.
async fn greeting(options: &Options) -> std::io::Result<()> {
    let mut socket = TcpStream::connect((options.server.host.as_str(), options.server.port)).await?;
    socket.write_all(b"AMQP\x00\x00\x09\x01").await?;
    socket.read_u8().await.map(drop)
}

fn uri(options: &Options) -> AMQPUri {
    let server = &options.server;
    let heartbeat = options.heartbeat.as_secs().clamp(1, 3600) as u16;
    AMQPUri {
        scheme: if server.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: server.user.clone(),
                password: String::from_utf8_lossy(server.password.reveal()).into_owned(),
            },
            host: server.host.clone(),
            port: server.port,
        },
        vhost: server.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(heartbeat),
            connection_timeout: Some(PATIENCE.as_millis() as u64),
            ..AMQPQueryString::default()
        },
    }
}

async fn trust(options: &Options) -> Result<OwnedTLSConfig, Fault> {
    let Some(file) = &options.authorities else { return Ok(OwnedTLSConfig::default()) };
    let pem = tokio::fs::read_to_string(file).await;
    let pem = pem.map_err(|error| Fault::Refused(format!("{} cannot be read: {error}", file.display())))?;
    Ok(OwnedTLSConfig { cert_chain: Some(pem), ..OwnedTLSConfig::default() })
}
