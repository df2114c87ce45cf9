//! What lies in a server's folder: its configuration, its cookie, its data and its logs.

use super::{Ports, RabbitMqOptions};
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};

/// The broker's own log.
pub(super) fn log(folder: &Path) -> PathBuf {
    folder.join("log/rabbit.log")
}

/// What the programs print before the log is open.
pub(super) fn output(folder: &Path) -> PathBuf {
    folder.join("log/output.log")
}

/// Makes the folder ready for a start, and returns it as an absolute path.
pub(super) fn prepare(options: &RabbitMqOptions, ports: Ports) -> std::io::Result<PathBuf> {
    for part in ["home", "log", "data"] {
        fs::create_dir_all(options.folder.join(part))?;
    }
    let folder = fs::canonicalize(&options.folder)?;
    fs::write(folder.join("rabbitmq.conf"), config(options, ports))?;
    fs::write(folder.join("enabled_plugins"), "[rabbitmq_mqtt,rabbitmq_consistent_hash_exchange].\n")?;
    cookie(&folder.join("home/.erlang.cookie"))?;
    Ok(folder)
}

/// Anonymous devices are the user guest by themselves, in every version; the option that says so has had two names.
fn config(options: &RabbitMqOptions, ports: Ports) -> String {
    let Ports { amqp, mqtt, .. } = ports;
    let more: String = options.config.iter().map(|line| format!("{line}\n")).collect();
    format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         num_acceptors.tcp = 2\n\
         mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}\n\
         mqtt.exchange = iotsphere\n\
         mqtt.vhost = /\n\
         mqtt.allow_anonymous = true\n\
         disk_free_limit.absolute = 50MB\n\
         vm_memory_high_watermark.relative = 0.6\n\
         log.file = rabbit.log\n\
         log.console = false\n\
         {more}"
    )
}

/// The secret that the broker and its tools share.
fn cookie(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let random = RandomState::new();
    fs::write(path, format!("{:016X}{:016X}", random.hash_one(1), random.hash_one(2)))?;
    // Erlang refuses a cookie that others may read.
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(())
}
