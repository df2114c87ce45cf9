//! A fixed amount of work on the two hottest paths, for callgrind to count: `cargo xtask instructions`.
//!
//! Only what happens inside a function called `counted` counts ([`fan_out`], [`publish`]); the kernel's share is not seen.

mod fan_out;
mod publish;

use anabranch_gateway::auth::{Algorithm, Authenticator, NewToken};
use anabranch_gateway::config::{AuthConfig, KeyConfig, Secret};
use anabranch_gateway::connection::session::Rules;
use anabranch_gateway::hub::registry::{Limits as Seats, Registry};
use anabranch_gateway::hub::sizes::Sizes;
use anabranch_gateway::log::memory::{MemoryLog, Options};
use anabranch_gateway::node::{Node, Parts};
use anabranch_protocol::server_frame::Limits;
use std::sync::Arc;

/// The program's own, because it is part of what is counted.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A topic as devices have them, and an id as gateways make them.
const TOPIC: &str = "iotsphere/devices/d1234567/telemetry/temperature";

fn main() {
    let path = std::env::args().nth(1).unwrap_or_default();
    match path.as_str() {
        "fan-out" => fan_out::run(),
        "publish" => publish::run(),
        _ => {
            eprintln!("usage: instructions fan-out|publish");
            std::process::exit(2);
        }
    }
}

/// A node on an empty memory log, whose clocks bring nothing about.
fn node(ring_bytes: usize) -> Arc<Node> {
    let never = 1 << 50;
    let limits =
        Limits { frame_bytes: 1 << 20, subscriptions: 256, publishes_in_flight: 256, conflate_ms: 60_000 };
    let rules = Rules {
        hello_timeout: never,
        ping_interval: never,
        ping_grace: never,
        limits,
        sizes: Sizes::new(1 << 20, Vec::new()),
        classes: Arc::default(),
    };
    let seats = Seats { total: 10_000, per_address: 10_000, per_subject: 10_000 };
    Node::new(Parts {
        id: "instructions".into(),
        log: MemoryLog::new(Options::default()),
        authenticator: Arc::new(authenticator()),
        registry: Registry::new(seats),
        rules,
        shadows: None,
        ring_bytes,
    })
}

fn secret() -> Secret {
    Secret::new(*b"a secret of at least 32 bytes, for measuring only")
}

fn authenticator() -> Authenticator {
    let key = KeyConfig { algorithm: Algorithm::Hs256, kid: None, issuer: None, material: secret() };
    let config = AuthConfig { keys: vec![key], ..AuthConfig::default() };
    Authenticator::new(&config).expect("one good key")
}

/// A token as a device's has it: it reads one device and writes another filter of the same.
fn token() -> String {
    let token = NewToken {
        subject: "device-1234567".into(),
        issuer: AuthConfig::DEFAULT_NAME.into(),
        audience: AuthConfig::DEFAULT_NAME.into(),
        not_before: 1,
        expires: 250_000_000_000,
        read: vec!["iotsphere/devices/d1234567/#".into()],
        write: vec!["iotsphere/devices/d1234567/#".into()],
        ..NewToken::default()
    };
    token.sign(&secret())
}

/// An envelope of about 400 bytes. Numbers have the same length all the way.
fn envelope(number: u64) -> String {
    format!(
        r#"{{"metadata":{{"messageId":"0190a6b2-7c1d-7e3f-8a4b-{number:012}","timestamp":"2026-01-31T12:00:00.000Z","topic":"{TOPIC}","source":"device-1234567","messageType":"event","version":"1.0"}},"payload":{{"value":21.5,"unit":"celsius","samples":[21.4,21.5,21.5,21.6],"note":"{}"}}}}"#,
        "as measured at the inlet; ".repeat(4)
    )
}
