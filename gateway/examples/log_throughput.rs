//! How fast the embedded log is on this machine: `cargo run --release --example log_throughput -- none 300 8`
//!
//! Arguments: sync (none, interval, always), bytes of payload, publishers, seconds. Each publisher keeps 256 records
//! on their way.

use anabranch_gateway::log::embedded::{EmbeddedLog, Options, Sync};
use anabranch_gateway::log::{Budget, Log, MessageKey, NewRecord, Start, TailEvent};
use anabranch_protocol::cursor::Offset;
use anabranch_protocol::topic::Topic;
use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

const WINDOW: usize = 256;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let sync = match arguments.next().as_deref() {
        None | Some("none") => Sync::None,
        Some("interval") => Sync::Interval,
        Some("always") => Sync::Always,
        Some(other) => panic!("{other} is neither none, interval nor always"),
    };
    let mut number = |default| arguments.next().map_or(default, |n| n.parse().expect("a number"));
    let (bytes, publishers, seconds) = (number(300), number(8), number(5));

    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { sync, retention_bytes: 8 << 30, ..Options::at(folder.path()) };
    let log = EmbeddedLog::open(options).expect("opens");
    let tail = tokio::spawn(follow(log.clone()));
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..publishers).map(|n| tokio::spawn(publish(log.clone(), n, bytes, end))).collect();
    let mut appended = 0;
    for task in tasks {
        appended += task.await.expect("publishes");
    }
    report("append, confirmed", appended, bytes, begin.elapsed());
    log.close().await;
    let (records, events) = tail.await.expect("follows");
    println!("tail, meanwhile: {records} records in {events} events");

    let log = EmbeddedLog::open(Options::at(folder.path())).expect("opens again");
    let begin = Instant::now();
    let (mut read, mut after) = (0, Offset(0));
    loop {
        let batch = log.read(0, after, Budget { records: 4096, bytes: 1 << 20 }).await.expect("readable");
        read += batch.records.len() as u64;
        after = batch.covered_to;
        if batch.at_end {
            break;
        }
    }
    report("read from files", read, bytes, begin.elapsed());
}

async fn publish(log: Arc<EmbeddedLog>, publisher: u64, bytes: u64, end: Instant) -> u64 {
    let topic =
        Topic::new(&format!("iotsphere/devices/d{publisher}/telemetry/temperature")).expect("a topic");
    let record = NewRecord {
        key: MessageKey::new(topic.as_str(), "m"),
        topic,
        envelope: Bytes::from("x".repeat(bytes as usize)),
    };
    let mut waiting = FuturesOrdered::new();
    let mut confirmed = 0;
    while Instant::now() < end {
        while waiting.len() < WINDOW {
            waiting.push_back(log.append(record.clone()));
        }
        waiting.next().await.expect("one").expect("confirmed");
        confirmed += 1;
    }
    while let Some(result) = waiting.next().await {
        result.expect("confirmed");
        confirmed += 1;
    }
    confirmed
}

async fn follow(log: Arc<EmbeddedLog>) -> (u64, u64) {
    let mut tail = log.tail(0, Start::Earliest);
    let (mut records, mut events) = (0, 0);
    while let Some(event) = tail.next().await {
        if let TailEvent::Records(batch) = event {
            records += batch.records.len() as u64;
            events += 1;
        }
    }
    (records, events)
}

fn report(what: &str, records: u64, bytes: u64, took: Duration) {
    let rate = records as f64 / took.as_secs_f64();
    println!("{what}: {records} records of {bytes} B, {rate:.0}/s, {:.0} MB/s", rate * bytes as f64 / 1e6);
}
