//! What encrypts, where the feature `tls` is on.

use rustls::{ClientConfig, Error, RootCertStore, crypto::ring};
use std::sync::Arc;
use tokio_tungstenite::Connector;

/// Trusts these certificate authorities; without any, Mozilla's.
pub(crate) fn connector(roots: Option<RootCertStore>) -> Result<Connector, Error> {
    let roots = roots.unwrap_or_else(|| webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    // The provider is named, because a program with two of them would make rustls panic when left to choose.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Connector::Rustls(Arc::new(config)))
}
