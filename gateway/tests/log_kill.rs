//! The embedded log's process is killed while it writes, again and again: nothing that was confirmed may be missing,
//! and no offset may be given twice.
//!
//! The child is this very program, told by its environment to write.

use anabranch_gateway::log::embedded::{EmbeddedLog, Options, Sync};
use anabranch_gateway::log::{Budget, Log, MessageKey, NewRecord, ReadError, Record};
use anabranch_protocol::cursor::Offset;
use anabranch_protocol::topic::Topic;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::task::JoinSet;

const KILLS: u64 = 200;
/// Set for the child: the folder of the log, and its round.
const FOLDER: &str = "ANABRANCH_KILL_FOLDER";
const ROUND: &str = "ANABRANCH_KILL_ROUND";
/// Publishers in the child: so many records share a sync.
const PUBLISHERS: u64 = 8;

fn options(folder: &Path) -> Options {
    Options { sync: Sync::Always, segment_bytes: 64 * 1024, ..Options::at(folder) }
}

fn record(round: u64, publisher: u64, n: u64) -> NewRecord {
    let padding = "x".repeat((n * 61 % 700) as usize);
    let topic = Topic::new(&format!("iotsphere/devices/d{publisher}/telemetry/status")).expect("a topic");
    let id = format!("{round}-{publisher}-{n}");
    NewRecord {
        key: MessageKey::new(topic.as_str(), &id),
        envelope: Bytes::from(format!(r#"{{"metadata":{{"messageId":"{id}"}},"payload":"{padding}"}}"#)),
        topic,
    }
}

/// What an envelope written by [`record`] says: round, publisher, number.
fn numbers(envelope: &[u8]) -> (u64, u64, u64) {
    let text = std::str::from_utf8(envelope).expect("text");
    let id = text.split('"').nth(5).expect("a message id");
    let mut numbers = id.split('-').map(|n| n.parse().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    (next(), next(), next())
}

/// The child's life: publish, and print each confirmed offset, until the end comes.
#[test]
fn child_writes_until_it_is_killed() {
    let (Ok(folder), Ok(round)) = (std::env::var(FOLDER), std::env::var(ROUND)) else {
        return; // Not the child.
    };
    let round: u64 = round.parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let log = EmbeddedLog::open(options(Path::new(&folder))).expect("opens after a kill");
        let mut publishers = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let log: Arc<EmbeddedLog> = log.clone();
            publishers.spawn(async move {
                for n in 0.. {
                    let position = log.append(record(round, publisher, n)).await.expect("confirmed");
                    // One write for one line: a kill leaves no half of it that looks whole.
                    let line = format!("confirmed {} {publisher} {n}\n", position.offset);
                    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads");
                }
            });
        }
        publishers.join_next().await;
    });
}

async fn everything(log: &EmbeddedLog) -> Vec<Record> {
    let mut records = Vec::new();
    let mut after = Offset(0);
    loop {
        match log.read(0, after, Budget { records: 10_000, bytes: 8 << 20 }).await {
            Ok(batch) => {
                after = batch.covered_to;
                records.extend(batch.records);
                if batch.at_end {
                    return records;
                }
            }
            Err(ReadError::Forgotten { oldest }) => after = Offset(oldest.0 - 1),
            Err(error) => panic!("after {after}: {error}"),
        }
    }
}

fn random(below: u64) -> u64 {
    getrandom::u64().expect("random numbers") % below
}

#[tokio::test]
async fn two_hundred_kills_lose_nothing_confirmed() {
    let folder = tempfile::tempdir().expect("a folder");
    // Offset, then round, publisher and number, of everything that was ever confirmed.
    let mut confirmed: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
    let mut highest = 0;
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "child_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let wanted = 1 + random(60);
        let mut lines = BufReader::new(child.stdout.take().expect("its output"));
        let (mut line, mut count, mut ended) = (String::new(), 0, false);
        while !ended {
            line.clear();
            ended = lines.read_line(&mut line).expect("readable") == 0;
            // The test harness writes its own words before the first of ours.
            let Some(at) = line.find("confirmed ").filter(|_| line.ends_with('\n')) else { continue };
            let mut words =
                line[at..].split_whitespace().skip(1).map(|n| n.parse::<u64>().expect("a number"));
            let mut next = || words.next().expect("three numbers");
            let (offset, publisher, n) = (next(), next(), next());
            assert!(offset > highest, "round {round}: offset {offset} was given before");
            let other = confirmed.insert(offset, (round, publisher, n));
            assert_eq!(other, None, "round {round}: offset {offset} was given twice");
            count += 1;
            if count == wanted {
                child.kill().expect("killed"); // What it printed before is still read.
            }
        }
        assert!(count >= wanted, "round {round}: the child ended by itself after {count} of {wanted}");
        child.wait().expect("ended");
        // Every other time, so that kills meet a log that was closed in order as well as one that was not.
        if round % 2 == 1 {
            let log = EmbeddedLog::open(options(folder.path())).expect("opens after a kill");
            let records = everything(&log).await;
            verify(&records, &confirmed);
            highest = records.last().map_or(0, |record| record.position.offset.0);
            log.close().await;
        }
        highest = highest.max(confirmed.last_key_value().map_or(0, |(offset, _)| *offset));
    }
    let log = EmbeddedLog::open(options(folder.path())).expect("opens after a kill");
    let records = everything(&log).await;
    let stored = records.len();
    verify(&records, &confirmed);
    println!(
        "{KILLS} kills: {} records confirmed, {stored} stored; confirmed and lost 0; offsets reused 0",
        confirmed.len()
    );
}

fn verify(records: &[Record], confirmed: &BTreeMap<u64, (u64, u64, u64)>) {
    let found: BTreeMap<u64, (u64, u64, u64)> =
        records.iter().map(|record| (record.position.offset.0, numbers(&record.envelope))).collect();
    assert_eq!(found.len(), records.len(), "an offset was given twice");
    let lost: Vec<_> = confirmed.iter().filter(|(offset, what)| found.get(offset) != Some(what)).collect();
    assert!(lost.is_empty(), "{} confirmed records are lost or replaced: {lost:?}", lost.len());
    for (offset, (round, publisher, n)) in &found {
        let record = &records[records.partition_point(|record| record.position.offset.0 < *offset)];
        assert_eq!(record.envelope, self::record(*round, *publisher, *n).envelope, "a record has changed");
    }
}
