//! What the gateway offers over HTTP: the WebSocket's handshake, publishing, its health, and static files.
//!
//! Connections are accepted here and not by `axum::serve`, which has no time limit for a handshake ([`accept`]).

pub mod accept;
pub mod lobby;
mod publish;
mod status;
mod upgrade;

use crate::config::Origins;
use crate::node::Node;
use axum::Router;
use axum::routing::{get, post};
use std::path::PathBuf;
use std::sync::Arc;
use tower_http::services::ServeDir;

/// What the handlers share.
#[derive(Clone)]
pub struct Service {
    pub node: Arc<Node>,
    pub origins: Arc<Origins>,
    pub metrics: crate::metrics::Exporter,
}

/// The routes. Files are served from `files` for every path that is not ours.
pub fn router(service: Service, files: Option<PathBuf>) -> Router {
    let router = Router::new()
        .route("/v1/ws", get(upgrade::handshake))
        .route("/v1/publish", post(publish::publish))
        .route("/livez", get(status::live))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(status::metrics))
        .method_not_allowed_fallback(status::wrong_method)
        .with_state(service);
    match files {
        Some(folder) => router.fallback_service(ServeDir::new(folder)),
        None => router,
    }
}
