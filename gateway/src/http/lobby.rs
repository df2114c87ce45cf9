//! Before the log is reached for the first time there is nothing to serve, and yet the process lives: whoever asks is
//! told so, instead of finding no one.

use super::accept::Door;
use super::status;
use crate::hub::registry::Registry;
use anabranch_protocol::code::Code;
use anabranch_protocol::json::ObjectWriter;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Answers in the gateway's stead until it is closed or dropped.
pub struct Lobby {
    why: watch::Sender<String>,
    _closing: watch::Sender<bool>,
    door: JoinSet<()>,
}

impl Lobby {
    /// Opens on a listener. `why` is the operator's: it is shown by `/readyz` alone.
    pub fn open(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        registry: Arc<Registry>,
        why: String,
    ) -> Lobby {
        let (why, told) = watch::channel(why);
        let router = Router::new()
            .route("/livez", get(status::live))
            .route("/readyz", get(ready))
            .fallback(not_yet)
            .with_state(told);
        let (_closing, closed) = watch::channel(false);
        let mut door = JoinSet::new();
        door.spawn(Door { listener, tls, router, registry, shard: None }.run(closed));
        Lobby { why, _closing, door }
    }

    /// Closes the listener and every connection. When it returns, the address is free.
    pub async fn close(mut self) {
        self.door.shutdown().await;
    }

    /// Another reason, after another attempt.
    pub fn tell(&self, why: String) {
        self.why.send_replace(why);
    }
}

async fn ready(State(why): State<watch::Receiver<String>>) -> Response {
    let mut text = String::new();
    let mut object = ObjectWriter::begin(&mut text);
    object.boolean("ready", false).boolean("draining", false).string("why", &why.borrow());
    object.end();
    (StatusCode::SERVICE_UNAVAILABLE, [status::JSON], text).into_response()
}

async fn not_yet() -> Response {
    let message = "this node has not reached its log yet; try again, or another node";
    status::refusal(StatusCode::SERVICE_UNAVAILABLE, Code::UPSTREAM_DOWN, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::registry::Limits;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nHost: lobby\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn the_newest_reason_is_shown_until_the_address_is_free() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let registry = Registry::new(Limits { total: 9, per_address: 9, per_subject: 9 });
        let lobby = Lobby::open(listener, None, registry, "the first reason".to_owned());
        assert!(get(address, "/readyz").await.contains("the first reason"));
        lobby.tell("the second reason".to_owned());
        let ready = get(address, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("the second reason"), "{ready}");
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 "));
        let other = get(address, "/v1/publish").await;
        assert!(other.starts_with("HTTP/1.1 503 ") && !other.contains("reason"), "{other}");
        lobby.close().await;
        TcpListener::bind(address).await.expect("the address is free");
    }
}
