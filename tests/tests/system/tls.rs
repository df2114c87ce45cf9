//! TLS at the gateway's own door.

use anabranch::{Client, Event, Phase, RootCertStore};
use anabranch_tests::gateway_process::{Gateway, Settings, binary};
use anabranch_tests::tokens;
use anabranch_tests::wait::{until, within};
use rcgen::{CertifiedKey, KeyPair};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn certified(folder: &Path) -> (CertifiedKey<KeyPair>, Settings) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, secret) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, key.cert.pem()).expect("a file");
    std::fs::write(&secret, key.signing_key.serialize_pem()).expect("a file");
    let settings = Settings::default()
        .set("tls.certificate", &format!("{certificate:?}"))
        .set("tls.key", &format!("{secret:?}"));
    (key, settings)
}

fn url(gateway: &Gateway) -> String {
    format!("wss://localhost:{}", gateway.address().port())
}

#[tokio::test]
async fn a_client_that_trusts_the_certificate_sends_and_receives_and_another_stays_away() {
    let folder = TempDir::new().expect("a folder");
    let (key, settings) = certified(folder.path());
    let gateway = Gateway::with(settings).await;
    assert!(gateway.logs().iter().any(|line| line.contains("listening on https://")), "{:?}", gateway.logs());

    let mut roots = RootCertStore::empty();
    roots.add(key.cert.der().clone()).expect("a root");
    let client = Client::builder(url(&gateway)).token(tokens::all("trusting")).tls_roots(roots);
    let client = client.build().expect("a client");
    let mut messages = client.subscribe("t/#").open().expect("a subscription");
    client.connect();
    client.wait_live(Duration::from_secs(20)).await.expect("live");
    // Larger than a TLS record, so that a frame is put together from several.
    let text = "x".repeat(100_000);
    let sent = client.publish("t/a").json(&text).expect("JSON").send();
    within("a confirm", sent).await.expect("published");
    let received = loop {
        match within("a message", messages.next()).await.expect("an open subscription") {
            Event::Message(message) => break message.payload_text().to_owned(),
            _ => continue,
        }
    };
    assert_eq!(received, format!("\"{text}\""));

    let stranger = Client::builder(url(&gateway)).token(tokens::all("stranger")).build().expect("a client");
    stranger.connect();
    let refused = until("a failure", async || stranger.last_failure()).await;
    assert!(refused.contains("ertificate"), "{refused}");
    assert_ne!(stranger.state().phase, Phase::Live);
}

#[tokio::test]
async fn half_a_handshake_and_plain_text_are_cut_off_and_hurt_nobody() {
    let folder = TempDir::new().expect("a folder");
    let (key, settings) = certified(folder.path());
    // Room for one more than the two that keep it waiting.
    let gateway = Gateway::with(settings.set("limits.connections_per_address", "3")).await;
    let mut silent = TcpStream::connect(gateway.address()).await.expect("a connection");
    let mut half = TcpStream::connect(gateway.address()).await.expect("a connection");
    // The head of a record that announces 512 bytes of ClientHello, and no more.
    half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.expect("written");
    let mut plain = TcpStream::connect(gateway.address()).await.expect("a connection");
    plain.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    let _ = within("the end of plain text", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "no plain answer at an encrypted door");

    let mut roots = RootCertStore::empty();
    roots.add(key.cert.der().clone()).expect("a root");
    let client = Client::builder(url(&gateway)).token(tokens::all("c")).tls_roots(roots);
    let client = client.build().expect("a client");
    client.connect();
    client.wait_live(Duration::from_secs(20)).await.expect("the third seat is free again");

    for (what, stream) in [("silence", &mut silent), ("half a handshake", &mut half)] {
        let mut rest = Vec::new();
        // Either end will do: closed in order, or reset because something was unread.
        let _ = within(what, stream.read_to_end(&mut rest)).await;
    }
    assert_eq!(client.state().phase, Phase::Live);
}

#[test]
fn a_key_of_another_certificate_is_an_error_that_names_the_file() {
    let folder = TempDir::new().expect("a folder");
    certified(folder.path());
    let other = KeyPair::generate().expect("a key").serialize_pem();
    std::fs::write(folder.path().join("key.pem"), other).expect("a file");
    let serve = Command::new(binary::path(binary::GATEWAY))
        .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
        .args(["--set", "tls.certificate=cert.pem", "--set", "tls.key=key.pem"])
        .current_dir(folder.path())
        .env_clear()
        .output()
        .expect("the gateway's binary");
    let said = String::from_utf8_lossy(&serve.stderr);
    assert!(!serve.status.success());
    assert!(said.contains("cert.pem") && said.contains("cannot be used"), "{said}");
}
