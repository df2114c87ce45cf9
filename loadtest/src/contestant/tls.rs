//! A certificate for one run: the server's files, and a client that trusts it.

use anyhow::Result;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes `certificate.pem` and `key.pem`, and the certificate once more in DER, whose path is returned: what a client trusts.
pub fn certificate(folder: &Path) -> Result<PathBuf> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let der = folder.join("certificate.der");
    std::fs::write(folder.join("certificate.pem"), made.cert.pem())?;
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
    std::fs::write(&der, made.cert.der())?;
    Ok(der)
}

/// The gateway's settings for these files.
pub fn settings(folder: &Path) -> [String; 2] {
    let here = folder.display();
    [format!("tls.certificate={here}/certificate.pem"), format!("tls.key={here}/key.pem")]
}

/// A client's side of it. Each connection makes a handshake of its own.
pub fn certify(folder: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(std::fs::read(certificate(folder)?)?.into())?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
