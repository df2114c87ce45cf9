//! The broker behind TLS.

use crate::kit::{address, options, quick};
use anabranch_brokers::{RabbitMq as Broker, RabbitMqOptions, not_run, ports};
use anabranch_gateway::log::Log;
use anabranch_gateway::log::conformance::record;
use anabranch_gateway::log::open::OpenError;
use anabranch_gateway::log::rabbitmq::{self, Options, Server};
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// A self-signed certificate for `localhost` and its key, as files.
fn certificate(folder: &TempDir, name: &str) -> (PathBuf, PathBuf) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let file = |what: &str| folder.path().join(format!("{name}.{what}.pem"));
    std::fs::write(file("certificate"), key.cert.pem()).expect("a file");
    std::fs::write(file("key"), key.signing_key.serialize_pem()).expect("a file");
    (file("certificate"), file("key"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqps_trusts_the_authority_that_is_named_and_no_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (certificate_file, key_file) = certificate(&folder, "broker");
    let (stranger, _) = certificate(&folder, "stranger");
    let [port] = ports::free().expect("a port");
    let config = vec![
        format!("listeners.ssl.1 = 127.0.0.1:{port}"),
        format!("ssl_options.certfile = {}", certificate_file.display()),
        format!("ssl_options.keyfile = {}", key_file.display()),
        "ssl_options.verify = verify_none".to_owned(),
        "ssl_options.fail_if_no_peer_cert = false".to_owned(),
    ];
    let options_of_broker = RabbitMqOptions { config, ..RabbitMqOptions::new(folder.path().join("broker")) };
    let started = tokio::task::spawn_blocking(|| Broker::start(options_of_broker)).await.expect("no panic");
    let Some(broker) = started.map_err(|why| not_run(&why)).ok() else { return };

    let server = Server { tls: true, host: "localhost".to_owned(), port, ..address(&broker) };
    let trusting = |authorities| Options { server: server.clone(), authorities, ..options(&broker) };
    // The broker listens for TLS a moment after it does for AMQP: asked again, as a gateway does.
    let opening = async {
        loop {
            match rabbitmq::open(trusting(Some(certificate_file.clone())), quick()).await {
                Err(OpenError::Unreachable(_)) => tokio::task::yield_now().await,
                opened => break opened,
            }
        }
    };
    let opened = tokio::time::timeout(Duration::from_secs(30), opening).await.expect("the broker listens");
    let log = opened.expect("a log");
    log.append(record(1)).await.expect("confirmed");
    for authorities in [Some(stranger), None] {
        let why = match rabbitmq::open(trusting(authorities), quick()).await {
            Err(OpenError::Unreachable(why) | OpenError::Wrong(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(why.to_lowercase().contains("certificate"), "{why}");
    }
    let missing = Some(folder.path().join("nowhere.pem"));
    let Err(OpenError::Wrong(why)) = rabbitmq::open(trusting(missing), quick()).await else { panic!() };
    assert!(why.contains("nowhere.pem"), "{why}");
}
