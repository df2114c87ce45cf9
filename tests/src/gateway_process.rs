//! The real `anabranch` binary as a child process, with a folder and a port of its own.

pub mod binary;
mod settings;

pub use settings::Settings;

use crate::http_client;
use crate::raw_client::RawClient;
use crate::tokens;
use crate::wait::{until, within};
use anabranch_protocol::cursor::{Cursor, Position};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// A gateway. Dropping it kills the process and removes its folder; if the test is failing, its last lines are shown.
#[derive(Debug)]
pub struct Gateway {
    folder: TempDir,
    settings: Settings,
    address: SocketAddr,
    child: Child,
    logs: Logs,
}

impl Gateway {
    /// Starts a gateway with the settings of the tests.
    pub async fn start() -> Gateway {
        Gateway::with(Settings::default()).await
    }

    /// Starts a gateway, and returns when it listens.
    pub async fn with(settings: Settings) -> Gateway {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let logs = Logs::default();
        let child = spawn(&folder, &settings, address, &logs);
        let mut gateway = Gateway { folder, settings, address, child, logs };
        gateway.listening(1).await;
        gateway
    }

    /// Where it listens; the same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For SDKs.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Ends it with SIGKILL, as a crash would.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a running gateway");
    }

    /// Asks it with SIGTERM to drain and end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a running gateway");
    }

    fn pid(&self) -> Pid {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        pid.expect("a running gateway")
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        within("the end of the gateway", self.child.wait()).await.expect("a child")
    }

    /// Starts it again, on the same port and folder, and returns when it listens.
    pub async fn start_again(&mut self) {
        let before = self.logs.listening();
        self.child = spawn(&self.folder, &self.settings, self.address, &self.logs);
        self.listening(before + 1).await;
    }

    async fn listening(&mut self, times: usize) {
        let logs = self.logs.clone();
        let listens =
            logs.until(|lines| lines.iter().filter(|line| line.contains("listening")).count() >= times);
        tokio::select! {
            () = within("a line that says listening", listens) => {}
            status = self.child.wait() => panic!("the gateway did not start: {status:?}\n{}", self.logs.tail()),
        }
    }

    /// Everything that it has written so far, line by line; restarts go on in the same list.
    pub fn logs(&self) -> Vec<String> {
        self.logs.lines().clone()
    }

    /// Waits for a line that contains this text.
    pub async fn says(&self, text: &str) {
        within(text, self.logs.until(|lines| lines.iter().any(|line| line.contains(text)))).await;
    }

    /// A metric's value, summed over its labels; `None` if it is not there.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let response = http_client::get(self.address, "/metrics").await.expect("an answer");
        assert_eq!(response.status, 200, "{}", response.text());
        let text = response.text();
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let known = series.split('{').next()?;
            (known == name).then(|| value.parse::<f64>().ok()).flatten()
        });
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// Waits until it has read the log up to here, and says how far: a confirm may overtake the reading, and whoever subscribes before that is sent what was published
    /// before.
    pub async fn has_read(&self, newest: Position) -> Cursor {
        until("the node reads what was confirmed", async || {
            let hello = RawClient::hello(self.address, &tokens::all("reader"), json!([])).await;
            let (_, welcome) = hello.expect("a welcome");
            let cursor: Cursor =
                welcome["cursor"].as_str().and_then(|text| text.parse().ok()).expect("a cursor");
            cursor.includes(newest).then_some(cursor)
        })
        .await
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) {
        until("readiness", async || {
            let response = http_client::get(self.address, "/readyz").await.ok()?;
            (response.status == 200).then_some(())
        })
        .await;
    }

    /// Its memory that lies in RAM, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let id = self.child.id().expect("a running gateway");
        let text = std::fs::read_to_string(format!("/proc/{id}/statm")).expect("statm");
        let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number of pages");
        pages * rustix::param::page_size() as u64
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the gateway's last lines:\n{}", self.logs.tail());
        }
    }
}

fn spawn(folder: &TempDir, settings: &Settings, address: SocketAddr, logs: &Logs) -> Child {
    let config = folder.path().join("anabranch.toml");
    std::fs::write(&config, settings.toml(address, folder.path())).expect("the configuration");
    let mut child = Command::new(binary::path(binary::GATEWAY))
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .current_dir(folder.path())
        .env_clear()
        .env("RUST_BACKTRACE", "1")
        .env("ANABRANCH_LOG_LEVEL", settings.log_filter())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the gateway's binary");
    logs.collect(child.stdout.take().expect("stdout"));
    logs.collect(child.stderr.take().expect("stderr"));
    child
}

/// A port that is free now, and that no outgoing connection takes while the gateway is down: below Linux's range of
/// ephemeral ports. A client that dials a dead port within that range may even connect to itself.
fn free_port() -> u16 {
    for _ in 0..1_000 {
        let port = rand::random_range(15_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// The lines of a process, as they come.
#[derive(Clone, Debug)]
struct Logs {
    lines: Arc<Mutex<Vec<String>>>,
    count: watch::Sender<usize>,
}

impl Default for Logs {
    fn default() -> Self {
        Logs { lines: Arc::default(), count: watch::Sender::new(0) }
    }
}

impl Logs {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn listening(&self) -> usize {
        self.lines().iter().filter(|line| line.contains("listening")).count()
    }

    fn collect(&self, output: impl AsyncRead + Unpin + Send + 'static) {
        let logs = self.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                logs.lines().push(line);
                logs.count.send_modify(|count| *count += 1);
            }
        });
    }

    async fn until(&self, met: impl Fn(&[String]) -> bool) {
        let mut count = self.count.subscribe();
        // The sender is in `self`: it cannot be gone.
        let _ = count.wait_for(|_| met(&self.lines())).await;
    }

    fn tail(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(50)..].join("\n")
    }
}
