//! Real brokers for the system's tests.

use anabranch_brokers::{Redis, Unavailable, not_run};

/// What was started, or nothing where the broker is not installed.
pub fn had<T>(started: Result<T, Unavailable>) -> Option<T> {
    started.inspect_err(not_run).ok()
}

/// The setting `log` for a stream that nobody else uses.
pub fn redis_log(server: &Redis) -> String {
    format!("{}?stream=t{:016x}", server.url(), rand::random::<u64>())
}
