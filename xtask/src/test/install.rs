//! What the tests need and a fresh machine lacks. Debian's packages are installed where we may: as root, or where sudo
//! asks for no password.

use crate::progress::Log;
use crate::{tool, workspace};
use anabranch_brokers::installation::{self, Installation};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Autobahn's cases with a runner for today's Python, pinned, since its verdicts are what we assert; and a device's MQTT client.
const PYTHON: [&str; 2] = ["kosoku==0.1.0", "paho-mqtt==2.1.0"];

/// Where a Chromium is: `CHROMIUM`, else the first of the usual names on the PATH.
pub fn find_chromium() -> Option<PathBuf> {
    if let Some(path) = env::var_os("CHROMIUM") {
        return Some(path.into()).filter(|path: &PathBuf| path.is_file());
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    names.into_iter().find_map(on_path)
}

pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Chromium, for the browser story. Where it cannot be installed, that step says so, and the others run.
pub fn chromium(log: &Log) -> Result<()> {
    if find_chromium().is_none()
        && let Err(error) = apt(log, &["chromium", "fonts-dejavu-core"])
    {
        log.line(&format!("{error:#}"));
    }
    Ok(())
}

/// RabbitMQ, Redis and an MQTT client. Where they cannot be installed, the tests that need them say so.
pub fn brokers(log: &Log) {
    let elsewhere = |which| installation::folder(which).is_some();
    let rabbitmq = elsewhere(Installation::RabbitMq)
        || Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists()
        || Path::new("/opt/rabbitmq/sbin/rabbitmq-server").exists();
    let wanted = [
        (rabbitmq, "rabbitmq-server"),
        (elsewhere(Installation::Redis) || on_path("redis-server").is_some(), "redis-server"),
        (on_path("mosquitto_pub").is_some(), "mosquitto-clients"),
    ];
    let missing: Vec<&str> = wanted.iter().filter(|(there, _)| !there).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return;
    }
    if let Err(error) = apt(log, &missing) {
        log.line(&format!("{error:#}"));
    }
}

/// Valgrind, which counts instructions. Where it cannot be installed, that step says so.
pub fn valgrind(log: &Log) {
    let there = on_path("valgrind").is_some() || !cfg!(all(target_os = "linux", target_arch = "x86_64"));
    if !there && let Err(error) = apt(log, &["valgrind"]) {
        log.line(&format!("{error:#}"));
    }
}

/// A Python environment of our own under `target/`, with what is pinned above.
pub fn venv(log: &Log) -> Result<()> {
    let stamp = venv_dir().join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == PYTHON.join(" ")) {
        return Ok(());
    }
    let create = || log.run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv_dir()));
    // Debian's python3 comes without the module's other half.
    if create().is_err() {
        apt(log, &["python3-venv"])?;
        create().context("python3 cannot make a virtual environment")?;
    }
    log.run(
        Command::new(venv_bin("pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(PYTHON),
    )?;
    fs::write(&stamp, PYTHON.join(" ")).with_context(|| format!("cannot write {}", stamp.display()))
}

pub fn venv_bin(program: &str) -> PathBuf {
    venv_dir().join("bin").join(program)
}

fn venv_dir() -> PathBuf {
    workspace::target().join("venv")
}

/// Installs some of Debian's packages, or says how to.
fn apt(log: &Log, packages: &[&str]) -> Result<()> {
    let package = packages.join(" ");
    let manual = format!("install it by hand: sudo apt-get install {package}");
    if !tool::exists("apt-get") {
        bail!("{package} is missing, and this system has no apt-get; install it by its own means");
    }
    let root = tool::output(Command::new("id").arg("-u"))?.trim() == "0";
    let sudo = !root && log.run(Command::new("sudo").args(["-n", "true"])).is_ok();
    if !root && !sudo {
        bail!("{package} is missing, and installing it needs a password; {manual}");
    }
    let run = |words: &[&str]| {
        let mut command = Command::new(if sudo { "sudo" } else { "env" });
        if sudo {
            command.args(["-n", "env"]);
        }
        log.run(command.arg("DEBIAN_FRONTEND=noninteractive").args(words))
    };
    run(&["apt-get", "-q", "update"]).with_context(|| manual.clone())?;
    run(&[&["sh", "-c", INSTALL, "install"], packages].concat()).context(manual)
}

/// Installs the packages that it is given, and starts no service of theirs: a server of the system is the last thing
/// that somebody who runs tests has asked for. Debian asks `policy-rc.d` before each start (101 forbids it; see
/// invoke-rc.d(8)); one that is there already is left as it is. Services that the packages bring are not started at the
/// next boot either.
const INSTALL: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
fi
apt-get -q install -y --no-install-recommends "$@"
if [ -d /run/systemd/system ]; then
    for package; do
        case $package in
        *-server) systemctl disable --quiet "$package" || true ;;
        esac
    done
fi
"#;
