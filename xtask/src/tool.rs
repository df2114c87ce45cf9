//! Running other programs: which they are, and what is said when one is missing or fails.

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// `cargo SUBCOMMAND` at the workspace's root, by the cargo that started us.
pub fn cargo(subcommand: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.arg(subcommand).current_dir(workspace::root());
    // `cargo xtask` tells us about the crate xtask; passed on, it would make build scripts that watch these names run again.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Runs a command whose output the developer sees.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| missing(command, &error))?;
    if !status.success() {
        bail!("`{}` failed ({status})", words(command));
    }
    Ok(())
}

/// Runs a command, and returns what it printed on standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| missing(command, &error))?;
    if !output.status.success() {
        bail!(
            "`{}` failed ({})\n{}",
            words(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no UTF-8", words(command)))
}

/// True when the program answers to `--version`.
pub fn exists(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// True when `cargo SUBCOMMAND` is installed.
pub fn cargo_has(subcommand: &str) -> bool {
    exists(&format!("cargo-{subcommand}"))
}

/// The command as one would type it.
pub fn words(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy()));
    words.join(" ")
}

/// Why a program could not be started, and what to install.
pub fn missing(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    if error.kind() != ErrorKind::NotFound {
        return anyhow::anyhow!("`{}` could not be started: {error}", words(command));
    }
    let remedy = match &*program {
        "npm" | "node" => "install Node.js 20 or later",
        "rustup" => "install Rust with rustup (https://rustup.rs)",
        "python3" => "install python3",
        _ => "install it",
    };
    anyhow::anyhow!("`{program}` is not on this machine's PATH: {remedy}")
}
