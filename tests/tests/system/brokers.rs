//! Real brokers for the system's tests.

use anabranch_brokers::{RabbitMq, Redis, Unavailable, not_run};

/// What was started, or nothing where the broker is not installed.
pub fn had<T>(started: Result<T, Unavailable>) -> Option<T> {
    started.inspect_err(not_run).ok()
}

/// The setting `log` for a stream that nobody else uses.
pub fn redis_log(server: &Redis) -> String {
    format!("{}?stream=t{:016x}", server.url(), rand::random::<u64>())
}

/// The same on RabbitMQ, with an exchange of its own too.
pub fn rabbitmq_log(server: &RabbitMq) -> String {
    let name = format!("t{:016x}", rand::random::<u64>());
    format!("{}?exchange={name}-exchange&queue={name}", server.url())
}
