//! `anabranch serve` as a child process, and what the kernel says of it.

use crate::token::Issuer;
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

/// A gateway on a port of its own. It drains and ends when this is dropped.
pub struct Gateway {
    pub address: SocketAddr,
    pub issuer: Issuer,
    child: Child,
    /// It stops when this is closed.
    _stdin: ChildStdin,
    _folder: TempDir,
}

/// Where the gateway's program is: as given, else in `target/release`, whichever profile this program was built in.
pub fn program(given: Option<PathBuf>) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path,
        None => {
            let here = std::env::current_exe().context("where this program is")?;
            let target = here.ancestors().nth(2).context("a folder of build results")?;
            target.join("release").join("anabranch")
        }
    };
    ensure!(
        path.is_file(),
        "there is no {}: build it with `cargo build --release -p anabranch-gateway`, or name one with --gateway",
        path.display()
    );
    Ok(path)
}

impl Gateway {
    /// Starts a gateway with these settings (`limits.connections=10000`), by default on a memory log, and returns when it listens.
    pub async fn start(program: &Path, settings: &[String]) -> Result<Gateway> {
        let folder = tempfile::tempdir()?;
        let key = folder.path().join("key");
        let secret = format!("a key for one run of the load generator, by process {:08}", std::process::id());
        std::fs::write(&key, &secret)?;
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--stop-with-stdin", "--set", "log=memory:"]);
        command.arg("--auth-key-file").arg(&key);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command
            .env("ANABRANCH_LOG_LEVEL", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdin = child.stdin.take().context("its standard input")?;
        let mut lines = BufReader::new(child.stdout.take().context("its standard output")?).lines();
        let line = lines.next_line().await?.unwrap_or_default();
        let Some((_, rest)) = line.split_once("://") else {
            bail!("the gateway did not start; it said: {line:?}")
        };
        let address =
            rest.split(' ').next().unwrap_or_default().parse().context("where the gateway listens")?;
        Ok(Gateway { address, issuer: Issuer::new(secret), child, _stdin: stdin, _folder: folder })
    }

    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the gateway has ended")
    }

    /// Its memory that lies in RAM (`VmRSS`), in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        crate::cpu::resident_bytes(self.pid()?)
    }
}
