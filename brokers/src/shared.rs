//! One server for all tests of a run, whichever process they run in: nextest runs each test in one of its own.
//!
//! The first caller starts it in `target/brokers/`, in a session of its own, and writes down where it is; the others
//! find it there, and check that it answers. It stays until [`stop`] (`cargo xtask brokers down`; `cargo xtask test`
//! stops at its end what it has started).

use crate::rabbitmq::{RabbitMq, RabbitMqOptions};
use crate::redis::{Redis, RedisOptions};
use crate::unavailable::Unavailable;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The shared RabbitMQ; or the one whose URL `ANABRANCH_RABBITMQ` gives.
pub fn rabbitmq() -> Result<RabbitMq, Unavailable> {
    if let Ok(url) = std::env::var("ANABRANCH_RABBITMQ") {
        return Ok(RabbitMq::foreign(url));
    }
    let _lock = lock("rabbitmq")?;
    if let Some(server) = RabbitMq::attach(&folder("rabbitmq")) {
        if server.is_alive() && server.is_ready() && server.is_wanted() {
            return Ok(server);
        }
        server.stop()?;
    }
    RabbitMq::start_as(RabbitMqOptions::new(fresh("rabbitmq")?), true)
}

/// The shared Redis; or the one whose URL `ANABRANCH_REDIS` gives.
pub fn redis() -> Result<Redis, Unavailable> {
    if let Ok(url) = std::env::var("ANABRANCH_REDIS") {
        return Ok(Redis::foreign(url));
    }
    let _lock = lock("redis")?;
    if let Some(server) = Redis::attach(&folder("redis")) {
        if server.is_alive() && server.is_ready() && server.is_wanted() {
            return Ok(server);
        }
        server.stop()?;
    }
    Redis::start_as(RedisOptions::new(fresh("redis")?), true)
}

/// The shared RabbitMQ, if one runs.
pub fn running_rabbitmq() -> Option<RabbitMq> {
    RabbitMq::attach(&folder("rabbitmq")).filter(RabbitMq::is_alive)
}

/// The shared Redis, if one runs.
pub fn running_redis() -> Option<Redis> {
    Redis::attach(&folder("redis")).filter(Redis::is_alive)
}

/// Ends the shared servers that run, and returns the names of those that did.
pub fn stop() -> Result<Vec<&'static str>, Unavailable> {
    let mut stopped = Vec::new();
    if let Some(server) = running_rabbitmq() {
        server.stop()?;
        stopped.push("RabbitMQ");
    }
    if let Some(server) = running_redis() {
        server.stop()?;
        stopped.push("Redis");
    }
    Ok(stopped)
}

/// Where the shared servers live: `target/brokers/`.
pub fn root() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace.join(target).join("brokers")
}

fn folder(name: &str) -> PathBuf {
    root().join(name)
}

/// The folder without what an earlier server left there: nothing of it is wanted, and reading it takes time.
fn fresh(name: &str) -> Result<PathBuf, Unavailable> {
    let folder = folder(name);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Unavailable::failed(format!("{}: {error}", folder.display())))
        }
        _ => Ok(folder),
    }
}

/// Held while a server is looked for or started; the system takes it back from a process that dies.
fn lock(name: &str) -> Result<File, Unavailable> {
    let path = root().join(format!("{name}.lock"));
    let locked = || -> std::io::Result<File> {
        fs::create_dir_all(root())?;
        let file = File::create(&path)?;
        file.lock()?;
        Ok(file)
    };
    locked().map_err(|error| Unavailable::failed(format!("{}: {error}", path.display())))
}
