//! npm: one workspace at the root (`package.json`, `package-lock.json`), with the client's package and the web demo in it.

use crate::stamp::Stamp;
use crate::{tool, workspace};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// `npm ci`, where the lockfile changed since the last time.
pub fn install() -> Result<()> {
    install_with(|command| {
        println!("npm ci");
        tool::run(command)
    })
}

/// `npm ci` by a runner of the caller's, where the lockfile changed since the last time.
pub fn install_with(run: impl FnOnce(&mut Command) -> Result<()>) -> Result<()> {
    let root = workspace::root();
    let modules = root.join("node_modules");
    let stamp = Stamp::of("npm-ci", &[root.join("package-lock.json")])?;
    if stamp.is_fresh(&[modules]) {
        return Ok(());
    }
    require_node()?;
    let quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
    run(Command::new("npm").current_dir(root).arg("ci").args(quiet))?;
    stamp.write()
}

/// `npm run build` in a package's folder, where the package or one of these inputs changed since the last time.
pub fn build(package: &Path, mut inputs: Vec<PathBuf>) -> Result<()> {
    let name = workspace::shown(package);
    inputs.push(package.to_path_buf());
    inputs.push(workspace::root().join("package-lock.json"));
    let stamp = Stamp::of(&format!("build-{}", name.replace('/', "-")), &inputs)?;
    if stamp.is_fresh(&[package.join("dist")]) {
        return Ok(());
    }
    println!("npm run build in {name}");
    tool::run(&mut script(package, "build"))?;
    stamp.write()
}

/// `npm run SCRIPT` in a package's folder.
pub fn script(package: &Path, name: &str) -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(package).args(["run", "--silent", name]);
    npm
}

/// A program that an npm package brought.
pub fn bin(program: &str) -> PathBuf {
    workspace::root().join("node_modules/.bin").join(program)
}

fn require_node() -> Result<()> {
    let version = tool::output(Command::new("node").arg("--version"))?;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|n| n.parse::<u32>().ok());
    match major {
        Some(20..) => Ok(()),
        _ => bail!("node is {}, and Node.js 20 or later is needed", version.trim()),
    }
}
