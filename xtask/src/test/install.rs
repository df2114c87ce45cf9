//! What the tests need and a fresh machine lacks. Debian's packages are installed where we may: as root, or where sudo
//! asks for no password.

use crate::progress::Log;
use crate::{tool, workspace};
use anyhow::{Context, Result, bail};
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Autobahn's cases with a runner for today's Python; pinned, since its verdicts are what we assert.
const KOSOKU: &str = "kosoku==0.1.0";

/// Where a Chromium is: `CHROMIUM`, else the first of the usual names on the PATH.
pub fn find_chromium() -> Option<PathBuf> {
    if let Some(path) = env::var_os("CHROMIUM") {
        return Some(path.into()).filter(|path: &PathBuf| path.is_file());
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    names.iter().flat_map(|name| folders.iter().map(move |dir| dir.join(name))).find(|file| file.is_file())
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

/// A Python environment of our own under `target/`, with what is pinned above.
pub fn venv(log: &Log) -> Result<()> {
    if venv_bin("kosoku").exists() {
        return Ok(());
    }
    let create = || log.run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv_dir()));
    // Debian's python3 comes without the module's other half.
    if create().is_err() {
        apt(log, &["python3-venv"])?;
        create().context("python3 cannot make a virtual environment")?;
    }
    log.run(Command::new(venv_bin("pip")).args(["install", "--quiet", "--disable-pip-version-check", KOSOKU]))
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
    let apt = |args: &[&str]| {
        let mut command = Command::new(if sudo { "sudo" } else { "env" });
        if sudo {
            command.args(["-n", "env"]);
        }
        log.run(command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]).args(args))
    };
    apt(&["update"]).with_context(|| manual.clone())?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat()).context(manual)
}
