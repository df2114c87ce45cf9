use crate::gateway::{Gateway, Peer};
use anabranch::{Client, Phase, RootCertStore};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

#[tokio::test]
async fn trusts_the_given_roots_and_no_others() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = key.cert.der().clone();
    let secret = PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], secret)
        .expect("a server");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let gateway = Gateway::start().await;
    let url = format!("wss://localhost:{}", gateway.port());

    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let client = Client::builder(&url).tls_roots(roots).build().expect("a client");
    client.connect();
    let stream = acceptor.accept(gateway.tcp().await).await.expect("TLS");
    let mut peer = Peer::upgrade(stream).await;
    peer.expect("hello").await;
    peer.welcome(60_000).await;
    client.wait_live(Duration::from_secs(20)).await.expect("live");
    drop((client, peer));

    let client = Client::builder(&url).build().expect("a client");
    let mut states = client.states();
    client.connect();
    assert!(acceptor.accept(gateway.tcp().await).await.is_err(), "the client trusts anyone");
    while states.next().await.expect("a state").phase != Phase::Offline {}
    assert!(client.last_failure().is_some_and(|f| f.contains("ertificate")), "{:?}", client.last_failure());
}
