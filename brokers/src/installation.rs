//! Which programs are started: the system's, or those of another installation.
//!
//! `ANABRANCH_RABBITMQ_BIN` names a folder with `rabbitmq-server`, `rabbitmqctl`, `epmd` and `erl_call`,
//! `ANABRANCH_REDIS_BIN` one with `redis-server` and `redis-cli` (Valkey's, under these names). They are programs, links to
//! them, or scripts that become them by `exec`: a server is killed and frozen by the number of the process that was started,
//! and keeps the working folder, the environment and the paths that it is given.

use crate::unavailable::Unavailable;
use std::path::{Path, PathBuf};

/// Servers that may come from elsewhere.
#[derive(Clone, Copy, Debug)]
pub enum Installation {
    /// With Erlang.
    RabbitMq,
    /// Or Valkey.
    Redis,
}

impl Installation {
    fn variable(self) -> &'static str {
        match self {
            Installation::RabbitMq => "ANABRANCH_RABBITMQ_BIN",
            Installation::Redis => "ANABRANCH_REDIS_BIN",
        }
    }
}

/// The folder that the environment names, if it names one.
pub fn folder(installation: Installation) -> Option<PathBuf> {
    std::env::var_os(installation.variable()).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// What a running server is told apart by: empty for the system's.
pub(crate) fn name(installation: Installation) -> String {
    folder(installation).map(|folder| folder.display().to_string()).unwrap_or_default()
}

/// The path of a program in that folder; `None` if the environment names none.
///
/// # Errors
///
/// The folder is named and has no such program: that is a mistake, and no reason to take the system's.
pub(crate) fn program(installation: Installation, name: &str) -> Result<Option<PathBuf>, Unavailable> {
    let Some(folder) = folder(installation) else { return Ok(None) };
    // Relative to the workspace's root, as a person types it there; tests run in the folders of their crates.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join(name);
    if path.is_file() {
        return Ok(Some(path));
    }
    let variable = installation.variable();
    Err(Unavailable::failed(format!("{variable} names a folder without {name}: {}", path.display())))
}
