//! RabbitMQ's and Erlang's programs, and how they find this server and no other.

use super::Ports;
use super::files;
use crate::installation::{self, Installation};
use crate::process;
use crate::server::Server;
use crate::unavailable::Unavailable;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The same for every server: each has a port mapper of its own.
const NODE: &str = "anabranch@localhost";
/// Not `/usr/sbin`: there, Debian has wrappers that become the user rabbitmq and write to /var/lib.
const FOLDERS: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin"];

/// Says what is missing.
pub(super) fn installed() -> Result<(), Unavailable> {
    program("rabbitmq-server").map(drop)
}

/// The path of one of RabbitMQ's programs.
pub(super) fn program(name: &str) -> Result<PathBuf, Unavailable> {
    if let Some(path) = installation::program(Installation::RabbitMq, name)? {
        return Ok(path);
    }
    let found = FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    found.ok_or(Unavailable::Missing { program: "RabbitMQ", get: "sudo apt-get install rabbitmq-server" })
}

/// The path, or the name, of one of Erlang's programs.
fn erlang(name: &str) -> Result<PathBuf, Unavailable> {
    Ok(installation::program(Installation::RabbitMq, name)?.unwrap_or_else(|| name.into()))
}

/// Points a program at this server, and keeps it from the system's.
pub(super) fn environment(command: &mut Command, folder: &Path, ports: Ports) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("RABBITMQ_") || name.starts_with("ERL_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder);
    command.env("HOME", folder.join("home"));
    command.env("ERL_EPMD_PORT", ports.epmd.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
    command.env("ERL_CRASH_DUMP_SECONDS", "0");
    command.env("RABBITMQ_NODENAME", NODE).env("RABBITMQ_DIST_PORT", ports.distribution.to_string());
    command.env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
    command.env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"));
    command.env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("advanced.config"));
    command.env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"));
    command.env("RABBITMQ_MNESIA_BASE", folder.join("data")).env("RABBITMQ_LOG_BASE", folder.join("log"));
    command.env("RABBITMQ_PID_FILE", folder.join("pid"));
    // Bound to processors, as they are by default, schedulers wait for theirs while another is idle: here, the broker shares
    // them with a gateway, a load generator and tests.
    command.env("RABBITMQ_SCHEDULER_BIND_TYPE", "u");
    // With this, the start script becomes the broker, and is not left waiting for it: its process is the broker's.
    command.env("RABBITMQ_ALLOW_INPUT", "true");
    command.env(
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
        "-noinput +S 2:2 +A 8 -kernel inet_dist_use_interface {127,0,0,1}",
    );
}

/// The port mapper, in the foreground: a daemon could not be found again to end it.
pub(super) fn start_epmd(
    epmd: &mut Server,
    folder: &Path,
    ports: Ports,
    detached: bool,
) -> Result<(), Unavailable> {
    let mut command = process::command(erlang("epmd")?, detached);
    command.args(["-address", "127.0.0.1", "-port"]).arg(ports.epmd.to_string());
    epmd.start(&mut command, &files::output(folder))
}

pub(super) fn eval(folder: &Path, ports: Ports, expressions: &str) -> Result<String, Unavailable> {
    let mut command = Command::new(erlang("erl_call")?);
    environment(&mut command, folder, ports);
    command.args(["-r", "-n", NODE, "-timeout", "30", "-fetch_stdout", "-no_result_term", "-e"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let wrong = |error: std::io::Error| Unavailable::failed(format!("erl_call could not be run: {error}"));
    // Its random name comes from the clock's second: two at once would take each other's, and the server refuses one.
    let alone = std::fs::File::create(folder.join("eval.lock")).map_err(wrong)?;
    alone.lock().map_err(wrong)?;
    let mut child = command.spawn().map_err(wrong)?;
    if let Some(mut input) = child.stdin.take() {
        // One that ended early says why below. The mark tells an answer from an error; a syntax error prints nothing.
        let _ = writeln!(
            input,
            "io:format(\"~ts\", [try begin {expressions} end of Value -> [\"=\", io_lib:format(\"~0tp\", [Value])] \
             catch Class:Reason -> io_lib:format(\"~0tp\", [{{Class, Reason}}]) end])."
        );
    }
    let output = child.wait_with_output().map_err(wrong)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if let Some(answer) = printed.strip_prefix('=') {
        return Ok(answer.to_string());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Unavailable::failed(format!("RabbitMQ refused `{expressions}`: {printed} {}", errors.trim())))
}

pub(super) fn ctl(folder: &Path, ports: Ports, args: &[&str]) -> Result<String, Unavailable> {
    let mut command = Command::new(program("rabbitmqctl")?);
    environment(&mut command, folder, ports);
    let output = command.args(args).stdin(Stdio::null()).output();
    let output =
        output.map_err(|error| Unavailable::failed(format!("rabbitmqctl could not be run: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Unavailable::failed(format!("rabbitmqctl {} failed: {}", args.join(" "), said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
