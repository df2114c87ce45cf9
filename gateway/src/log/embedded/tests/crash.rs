//! A power failure after every single operation on the disk, with several outcomes each.

use super::{open, small, survey};
use crate::log::conformance::{Dice, Follower, record_of};
use crate::log::embedded::disk::simulated::Simulated;
use crate::log::embedded::{EmbeddedLog, Sync};
use crate::log::{Log, Start, TailEvent, fingerprint};
use anabranch_protocol::cursor::{LogId, Offset, Position};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream::{BoxStream, StreamExt};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

const OUTCOMES: usize = 4;

/// What the world knows before the power fails.
#[derive(Default)]
struct Ledger {
    id: Option<LogId>,
    attempted: HashSet<Bytes>,
    confirmed: HashMap<Offset, Bytes>,
    /// What a subscriber saw.
    seen: HashMap<Offset, Bytes>,
    last_seen: Option<Position>,
}

impl Ledger {
    fn look(&mut self, tail: &mut BoxStream<'static, TailEvent>) {
        while let Some(Some(event)) = tail.next().now_or_never() {
            if let TailEvent::Records(batch) = event {
                for record in batch.records {
                    self.last_seen = Some(record.position);
                    self.seen.insert(record.position.offset, record.envelope);
                }
            }
        }
    }

    fn known_last(&self) -> Offset {
        self.confirmed.keys().chain(self.seen.keys()).max().copied().unwrap_or(Offset(0))
    }
}

/// Publishes until the power fails, or to the end. Two runs of the log, the first one closed in order.
async fn publish(disk: &Simulated, sync: Sync) -> Ledger {
    let mut ledger = Ledger::default();
    let mut n = 0;
    for _ in 0..2 {
        let Ok(log) = open(disk, small(sync)) else { return ledger };
        ledger.id = Some(log.id());
        let mut tail = log.tail(0, Start::Next);
        for wave in 0..8 {
            let mut waiting = Vec::new();
            for _ in 0..=wave % 3 {
                n += 1;
                let new = record_of("t/x", n, (n * 97 % 900) as usize);
                ledger.attempted.insert(new.envelope.clone());
                waiting.push((log.append(new.clone()), new.envelope));
            }
            for (confirm, envelope) in waiting {
                match confirm.await {
                    Ok(position) => drop(ledger.confirmed.insert(position.offset, envelope)),
                    Err(_) => return ledger,
                }
            }
            ledger.look(&mut tail);
        }
        log.close().await;
    }
    ledger
}

async fn check(log: Arc<EmbeddedLog>, ledger: &Ledger, sync: Sync, what: &str) {
    if !ledger.confirmed.is_empty() {
        assert_eq!(Some(log.id()), ledger.id, "{what}: another log");
    }
    let (records, _) = survey(&*log).await;
    let found: HashMap<_, _> =
        records.iter().map(|record| (record.position.offset, record.envelope.clone())).collect();
    for record in &records {
        assert!(ledger.attempted.contains(&record.envelope), "{what}: invented {record:?}");
        assert_eq!(record.position.fingerprint, Some(fingerprint(&record.envelope)));
        for known in [&ledger.confirmed, &ledger.seen] {
            let known = known.get(&record.position.offset);
            assert!(known.is_none_or(|known| *known == record.envelope), "{what}: another record");
        }
    }
    if sync != Sync::None {
        for offset in ledger.confirmed.keys() {
            assert!(found.contains_key(offset), "{what}: {offset} was confirmed and is lost");
        }
    }
    if sync == Sync::Always {
        for offset in ledger.seen.keys() {
            assert!(found.contains_key(offset), "{what}: {offset} was seen and is lost");
        }
    }
    // A subscriber comes back with what it saw last.
    let mut follower = ledger.last_seen.map(|position| Follower::start(&*log, Start::After(position)));
    let new = log.append(record_of("t/x", 9999, 0)).await.expect("confirmed");
    assert!(new.offset > ledger.known_last(), "{what}: offset {} again", new.offset);
    assert!(records.iter().all(|record| record.position.offset < new.offset), "{what}: offset again");
    if let (Some(follower), Some(seen)) = (&mut follower, ledger.last_seen) {
        follower.until_covered(new.offset).await;
        assert!(follower.resets.is_empty(), "{what}: {:?}", follower.resets);
        // Beyond what the log knows to have given, there may have been more than this subscriber saw.
        let known = log.shared.lock().segments.back().map_or(0, |(segment, _)| segment.before);
        if !found.contains_key(&seen.offset)
            && found.keys().all(|o| *o < seen.offset)
            && seen.offset.0 > known
        {
            assert!(!follower.gaps.is_empty(), "{what}: {} is lost, and nobody is told", seen.offset);
        }
    }
    log.close().await;
}

async fn crash_everywhere(sync: Sync) {
    let mut dice = Dice::new(&format!("crash_everywhere {sync:?}"));
    let whole = Simulated::default();
    let ledger = publish(&whole, sync).await;
    let operations = whole.operations();
    assert!(ledger.confirmed.len() == 30 && operations > 20, "{operations} operations");
    let (mut confirmed, mut crashes) = (0, 0);
    for at in 0..=operations {
        let disk = Simulated::default();
        disk.power_fails_after(at);
        let ledger = publish(&disk, sync).await;
        for outcome in 0..OUTCOMES {
            let what = format!("power failure after operation {at}, outcome {outcome}");
            let found = disk.after_power_failure(&mut dice);
            let log = open(&found, small(sync)).unwrap_or_else(|error| panic!("{what}: {error}"));
            check(log, &ledger, sync, &what).await;
            // And once more, after an orderly close.
            let log = open(&found, small(sync)).unwrap_or_else(|error| panic!("{what}, again: {error}"));
            let (records, _) = survey(&*log).await;
            assert!(records.iter().any(|record| record.envelope == record_of("t/x", 9999, 0).envelope));
            confirmed += ledger.confirmed.len();
            crashes += 1;
        }
    }
    println!(
        "{sync:?}: {crashes} power failures, {confirmed} records confirmed before them; offsets reused 0"
    );
    if sync != Sync::None {
        println!("{sync:?}: confirmed and lost 0");
    }
}

#[tokio::test]
async fn power_failures_with_sync_none_reuse_no_offset() {
    crash_everywhere(Sync::None).await;
}

#[tokio::test]
async fn power_failures_with_sync_interval_lose_nothing_confirmed() {
    crash_everywhere(Sync::Interval).await;
}

#[tokio::test]
async fn power_failures_with_sync_always_lose_nothing_seen() {
    crash_everywhere(Sync::Always).await;
}
