//! Opens sockets.

use anabranch_protocol::{SUBPROTOCOL, limits};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use std::borrow::Cow;
use std::io;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
#[cfg(not(feature = "tls"))]
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, http::Response};
#[cfg(feature = "tls")]
use tokio_tungstenite::{Connector, client_async_tls_with_config};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Name resolution, TCP, TLS and the upgrade together.
const CONNECT: Duration = Duration::from_secs(10);
/// The library's default of 128 KiB would be most of what an idle client costs.
const READ_BUFFER: usize = 16 * 1024;
/// The largest frame that is accepted: an envelope, what stands around it, and room for what a newer gateway adds.
const FRAME: usize = 2 * limits::ENVELOPE_BYTES;

pub(crate) type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How to reach the gateway.
#[derive(Clone)]
pub(crate) struct Dialer {
    url: Uri,
    /// For `wss://`.
    #[cfg(feature = "tls")]
    secure: Connector,
}

/// A socket could not be opened.
#[derive(Debug, Error)]
pub(crate) enum DialError {
    #[error("cannot connect: {0}")]
    Tcp(#[from] io::Error),
    #[error("no connection within 10 s")]
    Timeout,
    #[error("the gateway answered HTTP {status}{}", .detail)]
    Http { status: u16, detail: String, code: Option<u16>, retry_after: Option<Duration> },
    #[error("no WebSocket: {0}")]
    WebSocket(tungstenite::Error),
}

impl Dialer {
    #[cfg(feature = "tls")]
    pub(crate) fn new(url: Uri, secure: Connector) -> Dialer {
        Dialer { url, secure }
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn new(url: Uri) -> Dialer {
        Dialer { url }
    }

    pub(crate) fn dial(&self) -> BoxFuture<'static, Result<WebSocket, DialError>> {
        let dialer = self.clone();
        Box::pin(async move { timeout(CONNECT, dialer.open()).await.map_err(|_| DialError::Timeout)? })
    }

    async fn open(self) -> Result<WebSocket, DialError> {
        let secure = self.url.scheme_str() == Some("wss");
        let host = self.url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = self.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = TcpStream::connect((host, port)).await?;
        // Small frames both ways, each of which someone waits for.
        tcp.set_nodelay(true)?;
        let mut request = self.url.clone().into_client_request().map_err(DialError::WebSocket)?;
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(READ_BUFFER)
            .max_message_size(Some(FRAME))
            .max_frame_size(Some(FRAME));
        #[cfg(feature = "tls")]
        let opened = {
            let connector = if secure { self.secure } else { Connector::Plain };
            client_async_tls_with_config(request, tcp, Some(config), Some(connector)).await
        };
        #[cfg(not(feature = "tls"))]
        let opened = client_async_with_config(request, MaybeTlsStream::Plain(tcp), Some(config)).await;
        match opened {
            Ok((socket, _response)) => Ok(socket),
            Err(tungstenite::Error::Http(response)) => Err(refused(&response)),
            Err(error) => Err(DialError::WebSocket(error)),
        }
    }
}

/// What an HTTP answer says instead of an upgrade: the gateway's own refusal, or whatever stands before it.
fn refused(response: &Response<Option<Vec<u8>>>) -> DialError {
    #[derive(Deserialize)]
    struct Refusal {
        code: u16,
        message: String,
    }
    let seconds = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    let body = response.body().as_deref().unwrap_or_default();
    let refusal: Option<Refusal> = serde_json::from_slice(body).ok();
    let (code, text) = match refusal {
        Some(refusal) => (Some(refusal.code), Cow::Owned(refusal.message)),
        None => (None, String::from_utf8_lossy(body)),
    };
    let mut detail: String = text.trim().chars().take(200).collect();
    if !detail.is_empty() {
        detail.insert_str(0, ": ");
    }
    let retry_after = seconds.map(Duration::from_secs);
    DialError::Http { status: response.status().as_u16(), detail, code, retry_after }
}
