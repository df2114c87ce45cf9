//! Real brokers for the tests: the servers that all tests share (`anabranch_brokers::shared`), and the MQTT clients of
//! other people. A test that gets `None` returns: it has been said that it was not run, and why.

use anabranch_brokers::{RabbitMq, Redis, Unavailable, not_run, shared};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The shared RabbitMQ.
pub async fn rabbitmq() -> Option<RabbitMq> {
    had(blocking(shared::rabbitmq).await)
}

/// The shared Redis.
pub async fn redis() -> Option<Redis> {
    had(blocking(shared::redis).await)
}

/// Debian's MQTT clients, `mosquitto_pub` and `mosquitto_sub`.
pub fn mosquitto() -> Option<()> {
    let mut command = Command::new("mosquitto_pub");
    command.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let get = "sudo apt-get install mosquitto-clients";
    had(command.status().map(drop).map_err(|_| Unavailable::Missing { program: "mosquitto_pub", get }))
}

/// A Python that has paho's MQTT client, from PyPI.
pub fn python_with_paho() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let python = workspace.join(target).join("venv/bin/python");
    let mut command = Command::new(&python);
    command.args(["-c", "import paho.mqtt.client"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let there = command.status().is_ok_and(|status| status.success());
    let missing = Unavailable::Missing { program: "PyPI's paho-mqtt", get: "cargo xtask test --only tools" };
    had(if there { Ok(python) } else { Err(missing) })
}

fn had<T>(server: Result<T, Unavailable>) -> Option<T> {
    server.inspect_err(not_run).ok()
}

/// Starting a server takes seconds, which the other tasks of a test do not wait.
async fn blocking<T: Send + 'static>(start: fn() -> T) -> T {
    match tokio::task::spawn_blocking(start).await {
        Ok(started) => started,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
