//! Servers, logs of one's own on them, and a program that has never heard of Anabranch.

use anabranch_brokers::{Redis, RedisOptions, Unavailable, not_run, shared};
use anabranch_gateway::log::conformance::PATIENCE;
use anabranch_gateway::log::open::OpenError;
use anabranch_gateway::log::redis::{self as log, Options, RedisSource};
use anabranch_gateway::log::verified::{Patience, Verified};
use anabranch_gateway::log::{Log, Record};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, ToRedisArgs};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// What was started, or nothing where Redis is not installed.
pub fn had<T>(started: Result<T, Unavailable>) -> Option<T> {
    started.inspect_err(not_run).ok()
}

/// A server of the test's own, with more lines of configuration.
pub fn own(lines: &[&str]) -> Option<(Redis, TempDir)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = lines.iter().fold(RedisOptions::new(folder.path()), |options, line| options.line(*line));
    had(Redis::start(options)).map(|server| (server, folder))
}

/// The server that all tests share.
pub fn server() -> Option<Redis> {
    had(shared::redis())
}

/// Doubts and retries sooner than in earnest.
pub fn quick() -> Patience {
    Patience {
        quiet: Duration::from_millis(100),
        stalled: Duration::from_millis(200),
        backoff: Duration::from_millis(20),
        backoff_max: Duration::from_millis(200),
    }
}

/// A stream that nobody else uses, kept whole.
pub fn options(server: &Redis) -> Options {
    // The server outlives this run, so a number that counts would come again.
    let stream = format!("t{:016x}", getrandom::u64().expect("random numbers"));
    Options { stream, max_length: None, ..Options::new("127.0.0.1", server.port()) }
}

/// The log of these options.
pub async fn open(options: &Options) -> Verified<RedisSource> {
    open_with(options, quick()).await
}

/// The same, with another patience.
pub async fn open_with(options: &Options, patience: Patience) -> Verified<RedisSource> {
    try_open(options, patience).await.unwrap_or_else(|error| panic!("{error}"))
}

/// One attempt to open.
pub async fn try_open(options: &Options, patience: Patience) -> Result<Verified<RedisSource>, OpenError> {
    log::open(options.clone(), patience).await
}

/// Some other program's connection.
#[derive(Clone)]
pub struct Other(MultiplexedConnection);

impl Other {
    pub async fn connect(port: u16) -> Other {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a client");
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
        Other(client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection"))
    }

    /// Runs a command, word by word.
    pub async fn run<T: FromRedisValue>(&self, words: &[impl ToRedisArgs]) -> T {
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut self.0.clone()).await.expect("an answer")
    }

    /// `XADD` with the server's id.
    pub async fn add(&self, stream: &str, fields: &[(&str, &[u8])]) -> String {
        let mut command = redis::cmd("XADD");
        command.arg(stream).arg("*");
        command.arg(fields);
        command.query_async(&mut self.0.clone()).await.expect("an id")
    }

    /// Runs many commands in one go.
    pub async fn all(&self, pipe: &redis::Pipeline) {
        pipe.exec_async(&mut self.0.clone()).await.expect("answers");
    }
}

/// The record's envelope.
pub fn envelope(record: &Record) -> serde_json::Value {
    serde_json::from_slice(&record.envelope).expect("JSON")
}

/// Waits for what a condition says, asked again and again.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            // What is asked for is the server's to do, and it tells nobody: only another question finds out.
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE * 2, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {:?}", PATIENCE * 2))
}

/// What a log holds, read page by page from the beginning.
pub async fn everything(log: &dyn Log, partition: u16) -> Vec<Record> {
    use anabranch_gateway::log::Budget;
    use anabranch_protocol::cursor::Offset;
    let mut after = Offset(log.bounds(partition).await.expect("bounds").oldest.0 - 1);
    let mut all = Vec::new();
    loop {
        let budget = Budget { records: 10_000, bytes: 64 << 20 };
        let batch = log.read(partition, after, budget).await.expect("readable");
        after = batch.covered_to;
        all.extend(batch.records);
        if batch.at_end {
            return all;
        }
    }
}
