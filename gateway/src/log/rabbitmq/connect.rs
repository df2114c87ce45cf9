//! Connections to a broker.

use super::fault::Fault;
use super::options::Options;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties};
use std::time::Duration;
use tokio::time::timeout;

/// How long a broker may take to let us in. A frozen one accepts the socket and says nothing.
const PATIENCE: Duration = Duration::from_secs(4);

/// Connects. `purpose` is what the broker's operator sees.
pub(super) async fn connect(options: &Options, purpose: &str) -> Result<Connection, Fault> {
    let place = options.place();
    let tls = trust(options).await?;
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("anabranch {purpose} (process {})", std::process::id()).into());
    let runtime = lapin::runtime::default_runtime()?;
    let connecting = Connection::connect_uri_with_config(uri(options), properties, tls, runtime);
    match timeout(PATIENCE, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(match Fault::from(error) {
            Fault::Refused(text) => Fault::Refused(format!("{place} refuses us: {text}")),
            Fault::Unreachable(text) | Fault::Killed(text) => {
                Fault::Unreachable(format!("{place} cannot be reached: {text}"))
            }
            Fault::Gone => Fault::Gone,
        }),
        Err(_) => Err(Fault::Unreachable(format!("{place} let nobody in within {} s", PATIENCE.as_secs()))),
    }
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
