//! The program's log lines: to standard error, as text for people or as JSON for machines.

use crate::log::LIBRARY;
use tracing_subscriber::EnvFilter;

/// The variables that are read here, and are no settings: mistakes in the settings are reported through what they set up.
pub const VARIABLES: [&str; 2] = ["ANABRANCH_LOG_LEVEL", "ANABRANCH_LOG_FORMAT"];

/// Starts logging. `ANABRANCH_LOG_LEVEL` takes levels as tracing's filters do (`info`, `anabranch_gateway=debug`), and
/// `ANABRANCH_LOG_FORMAT=json` writes one object a line. Both forms escape control characters of foreign text.
pub fn start() {
    let filter = EnvFilter::try_from_env("ANABRANCH_LOG_LEVEL").unwrap_or_else(|_| EnvFilter::new("info"));
    // What goes wrong with a broker is told in our words, once; its library tells it again at each attempt.
    let filter = match format!("{LIBRARY}=off").parse() {
        Ok(quiet) if !filter.to_string().contains(LIBRARY) => filter.add_directive(quiet),
        _ => filter,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match std::env::var("ANABRANCH_LOG_FORMAT").as_deref() {
        Ok("json") => lines.json().try_init(),
        _ => lines.with_target(false).try_init(),
    };
    if let Err(error) = started {
        eprintln!("anabranch: log lines go elsewhere: {error}");
    }
}
