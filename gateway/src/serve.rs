//! From a configuration to a gateway that runs until it is asked to stop.

use crate::auth::Authenticator;
use crate::cli::stop_asked;
use crate::config::{Config, TlsConfig};
use crate::connection::session::Rules;
use crate::gateway::{Gateway, Options, StartError, listen};
use crate::http::lobby::Lobby;
use crate::hub::registry::{self, Registry};
use crate::hub::sizes::Sizes;
use crate::log::ReadError;
use crate::log::open::{self, OpenError, Opened};
use crate::log::verified::Patience;
use crate::shadow::Topics;
use anabranch_protocol::limits;
use anabranch_protocol::server_frame::Limits;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Why a gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{0}")]
    Log(#[from] OpenError),
    #[error("{0}")]
    Auth(#[from] crate::auth::SetupError),
    #[error("the certificate or key cannot be used ({file}): {message}")]
    Tls { file: PathBuf, message: String },
    #[error("{0}")]
    Start(#[from] StartError),
}

/// Runs a gateway until it is asked to stop, then drains it.
pub async fn serve(config: Config, with_stdin: bool) -> Result<(), ServeError> {
    let authenticator = Arc::new(Authenticator::new(&config.auth)?);
    let tls = config.tls.as_ref().map(tls).transpose()?;
    let scheme = if tls.is_some() { "s" } else { "" };
    let mut stop = std::pin::pin!(stop_asked(with_stdin));
    let (gateway, log) = tokio::select! {
        started = start(&config, tls, authenticator) => started?,
        () = &mut stop => return Ok(()),
    };
    announce(&config, &gateway, scheme);
    stop.await;
    gateway.drain().await;
    log.close().await;
    Ok(())
}

/// Says where it listens and what to do next. On standard output: it is the program's result, not its log.
fn announce(config: &Config, gateway: &Gateway, s: &str) {
    let address = gateway.address();
    println!(
        "anabranch is listening on http{s}://{address} ({})",
        gateway.node().log.capabilities().description
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if let Some(token) = config.dev_token(now) {
        println!();
        println!("  a token that may read and write everything, good for this process only:");
        println!("  export ANABRANCH_URL=ws{s}://{address}/v1/ws ANABRANCH_TOKEN={token}");
        println!();
        println!("  then, in another terminal:  anabranch subscribe 'hello/#'");
        println!("  and in a third:             anabranch publish hello/world '{{\"n\": 1}}'");
    }
}

fn options(config: &Config, tls: Option<Arc<ServerConfig>>) -> Options {
    let ms = |duration: Duration| duration.as_millis() as u64;
    let limits = &config.limits;
    Options {
        // Random: in containers every process has the same number, and a node must know its own canary.
        id: format!("{:016x}", getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))),
        listen: config.listen,
        tls,
        shards: config.shards,
        origins: config.origins.clone(),
        files: config.static_files.clone(),
        rules: Rules {
            hello_timeout: ms(limits.hello),
            ping_interval: ms(config.heartbeat.interval),
            ping_grace: ms(config.heartbeat.grace),
            limits: Limits {
                frame_bytes: (limits.envelope + limits::CLIENT_FRAME_BYTES - limits::ENVELOPE_BYTES) as u64,
                subscriptions: limits.subscriptions as u64,
                publishes_in_flight: limits.publishes_in_flight as u64,
                conflate_ms: anabranch_protocol::limits::CONFLATE_MS as u64,
            },
            sizes: Sizes::new(limits.envelope, config.topics.sizes.clone()),
            classes: Arc::new(config.topics.classes()),
        },
        limits: seats(config),
        ring_bytes: limits.ring,
        newest_bytes: limits.newest,
        shadows: config
            .shadows
            .enabled
            .then(|| (Topics::below(&config.topics.root), config.shadows.limits.clone())),
        checkpoint: config.topics.checkpoint.clone(),
        drain_spread: ms(config.drain.spread),
        drain_patience: ms(config.drain.patience),
    }
}

/// Opens the log and starts on it. A broker that does not answer yet is waited for: whatever starts a whole platform
/// starts its parts in any order. Meanwhile the lobby is open, on the port that the gateway gets then.
pub(crate) async fn start(
    config: &Config,
    tls: Option<Arc<ServerConfig>>,
    authenticator: Arc<Authenticator>,
) -> Result<(Gateway, Opened), ServeError> {
    let patience = Patience::default();
    let mut pause = patience.backoff;
    let mut listen = config.listen;
    let mut lobby: Option<Lobby> = None;
    loop {
        let why = match open::open(&config.log).await {
            Ok(log) => {
                let options = Options { listen, ..options(config, tls.clone()) };
                match Gateway::attach(options, Arc::clone(&log.log), Arc::clone(&authenticator)).await {
                    Ok(attached) => {
                        if let Some(lobby) = lobby {
                            lobby.close().await;
                        }
                        return Ok((attached.open()?, log));
                    }
                    // It was there a moment ago.
                    Err(StartError::Log(ReadError::Unavailable(why))) => {
                        log.close().await;
                        why
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Err(OpenError::Unreachable(why)) => why,
            Err(error) => return Err(error.into()),
        };
        tracing::warn!("waiting for the log: {why}");
        match &lobby {
            Some(lobby) => lobby.tell(why),
            None => lobby = Some(open_lobby(&mut listen, config, tls.clone(), why)?),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(patience.backoff_max);
    }
}

fn open_lobby(
    address: &mut SocketAddr,
    config: &Config,
    tls: Option<Arc<ServerConfig>>,
    why: String,
) -> Result<Lobby, StartError> {
    let asked = *address;
    let cannot = |error| StartError::Listen { address: asked, error };
    let listener = listen(asked, 1).map_err(cannot)?.remove(0);
    *address = listener.local_addr().map_err(cannot)?;
    let listener = TcpListener::from_std(listener).map_err(cannot)?;
    tracing::info!(%address, "listening, with nothing to serve before the log is reached");
    Ok(Lobby::open(listener, tls.map(TlsAcceptor::from), Registry::new(seats(config)), why))
}

fn seats(config: &Config) -> registry::Limits {
    let limits = &config.limits;
    registry::Limits {
        total: limits.connections,
        per_address: limits.connections_per_address,
        per_subject: limits.connections_per_subject,
    }
}

/// TLS 1.2 and 1.3 with ring, HTTP/1.1 only: WebSocket needs no more.
fn tls(config: &TlsConfig) -> Result<Arc<ServerConfig>, ServeError> {
    let wrong = |file: &PathBuf, message: String| ServeError::Tls { file: file.clone(), message };
    let chain = CertificateDer::pem_file_iter(&config.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(&config.certificate, error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_file(&config.key).map_err(|error| wrong(&config.key, error.to_string()))?;
    let mut server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong(&config.certificate, error.to_string()))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}
