//! Disks that are full, fail to write, fail to keep, or fail to read.

use super::{open, small, survey};
use crate::log::conformance::{Dice, Follower, append, record};
use crate::log::embedded::disk::simulated::{Faults, Simulated};
use crate::log::embedded::{EmbeddedLog, Options, Sync};
use crate::log::{AppendError, Budget, Health, Log, ReadError, Start};
use anabranch_protocol::cursor::{Offset, Position};
use std::sync::Arc;

/// Roomy files, so that faults meet a write and not the begin of a file.
fn roomy(sync: Sync) -> Options {
    Options { segment_bytes: 1 << 20, ..small(sync) }
}

/// A log with ten records, and a tail that has seen them.
async fn ten(disk: &Simulated, sync: Sync) -> (Arc<EmbeddedLog>, Vec<Position>, Follower) {
    let log = open(disk, roomy(sync)).expect("opens");
    let positions = append(&*log, 0..10).await;
    let mut follower = Follower::start(&*log, Start::Earliest);
    follower.until_records(10).await;
    (log, positions, follower)
}

fn blocked(follower: &Follower) -> bool {
    matches!(follower.health.last(), Some(Health::Blocked(_)))
}

fn connected(follower: &Follower) -> bool {
    follower.health.last() == Some(&Health::Connected)
}

/// After the fault: appends work again by themselves, everything confirmed is there now and after a power failure,
/// and no offset was given twice.
async fn goes_on(
    disk: &Simulated,
    log: Arc<EmbeddedLog>,
    mut confirmed: Vec<Position>,
    mut follower: Follower,
    sync: Sync,
) {
    disk.faults(Faults::default());
    follower.until(connected).await;
    confirmed.extend(append(&*log, 100..120).await);
    assert!(confirmed.is_sorted_by(|a, b| a.offset < b.offset), "an offset was given twice");
    follower.until_covered(confirmed[confirmed.len() - 1].offset).await;
    assert!(follower.gaps.is_empty() && follower.resets.is_empty(), "{:?}", follower.gaps);
    let all = |records: &[crate::log::Record]| {
        confirmed.iter().all(|position| records.iter().any(|record| record.position == *position))
    };
    assert!(all(&follower.records), "the tail has missed some");
    assert!(all(&survey(&*log).await.0), "a read has missed some");
    if sync != Sync::None {
        let mut dice = Dice::new("goes_on");
        for _ in 0..10 {
            let log = open(&disk.after_power_failure(&mut dice), roomy(sync)).expect("opens");
            assert!(all(&survey(&*log).await.0), "confirmed, then lost");
        }
    }
    log.close().await;
    let log = open(disk, roomy(sync)).expect("opens");
    assert!(all(&survey(&*log).await.0));
}

#[tokio::test]
async fn a_full_disk_stops_appends_and_nothing_else() {
    for sync in [Sync::None, Sync::Interval, Sync::Always] {
        let disk = Simulated::default();
        let (log, mut confirmed, mut follower) = ten(&disk, sync).await;
        disk.faults(Faults { room: Some(disk.used() + 1000), ..Faults::default() });
        let mut n = 10;
        let error = loop {
            match log.append(record(n)).await {
                Ok(position) => confirmed.push(position),
                Err(error) => break error,
            }
            n += 1;
        };
        assert!(matches!(error, AppendError::Full(_)), "{error}");
        assert!(confirmed.len() > 10, "there was room for some");
        follower.until(blocked).await;
        assert!(matches!(log.append(record(n)).await, Err(AppendError::Full(_))));
        let read =
            log.read(0, Offset(0), Budget { records: 100, bytes: usize::MAX }).await.expect("reads work");
        assert_eq!(read.records.len(), confirmed.len());
        let mut live = Follower::start(&*log, Start::Earliest);
        live.until_records(confirmed.len()).await;
        // What was refused is not stored: it would have the offset of a confirmed one.
        goes_on(&disk, log, confirmed, follower, sync).await;
    }
}

#[tokio::test]
async fn a_disk_without_room_for_the_next_file_stops_appends_too() {
    let disk = Simulated::default();
    let log = open(&disk, small(Sync::Always)).expect("opens");
    let mut confirmed = append(&*log, 0..10).await;
    let mut follower = Follower::start(&*log, Start::Earliest);
    disk.faults(Faults { room: Some(disk.used() + 4096), ..Faults::default() });
    let mut n = 10;
    while let Ok(position) = log.append(record(n)).await {
        confirmed.push(position);
        n += 1;
    }
    follower.until_records(confirmed.len()).await;
    follower.until(blocked).await;
    goes_on(&disk, log, confirmed, follower, Sync::Always).await;
}

#[tokio::test]
async fn a_failed_write_is_refused_and_leaves_nothing() {
    for sync in [Sync::None, Sync::Interval, Sync::Always] {
        let disk = Simulated::default();
        let (log, confirmed, mut follower) = ten(&disk, sync).await;
        disk.faults(Faults { writes_fail: true, ..Faults::default() });
        assert!(matches!(log.append(record(10)).await, Err(AppendError::Blocked(_))));
        follower.until(blocked).await;
        goes_on(&disk, log, confirmed, follower, sync).await;
    }
}

#[tokio::test]
async fn a_failed_write_that_cannot_be_undone_is_unknown() {
    for sync in [Sync::None, Sync::Interval, Sync::Always] {
        let disk = Simulated::default();
        let (log, confirmed, mut follower) = ten(&disk, sync).await;
        disk.faults(Faults { writes_fail: true, truncation_fails: true, ..Faults::default() });
        assert!(matches!(log.append(record(10)).await, Err(AppendError::Unknown(_))));
        follower.until(blocked).await;
        goes_on(&disk, log, confirmed, follower, sync).await;
    }
}

#[tokio::test]
async fn a_failed_sync_confirms_nothing_and_is_never_believed_again() {
    for failing_syncs in [1, 2, 5] {
        let disk = Simulated::default();
        let (log, confirmed, mut follower) = ten(&disk, Sync::Always).await;
        disk.faults(Faults { failing_syncs, ..Faults::default() });
        let batch: Vec<_> = (10..15).map(|n| log.append(record(n))).collect();
        let first = batch.into_iter().next().expect("five").await;
        assert!(matches!(first, Err(AppendError::Unknown(_))), "{first:?}");
        follower.until(blocked).await;
        assert_eq!(follower.records.len(), 10, "nobody saw what was not kept");
        goes_on(&disk, log, confirmed, follower, Sync::Always).await;
    }
}

#[tokio::test]
async fn after_a_failed_sync_what_was_seen_and_lost_is_told() {
    let disk = Simulated::default();
    let (log, confirmed, mut follower) = ten(&disk, Sync::Interval).await;
    disk.faults(Faults { failing_syncs: 1, ..Faults::default() });
    let unknown = log.append(record(10)).await;
    assert!(matches!(unknown, Err(AppendError::Unknown(_))), "{unknown:?}");
    follower.until_records(11).await;
    let seen = follower.records[10].position;
    follower.until(|follower| follower.health.iter().filter(|h| **h == Health::Connected).count() == 2).await;
    let later = append(&*log, 11..13).await;
    let mut dice = Dice::new("after_a_failed_sync_what_was_seen_and_lost_is_told");
    let log = open(&disk.after_power_failure(&mut dice), roomy(Sync::Interval)).expect("opens");
    let (records, lost) = survey(&*log).await;
    for position in confirmed.iter().chain(&later) {
        assert!(records.iter().any(|record| record.position == *position), "confirmed, then lost");
    }
    // The disk never got it, whatever later syncs said.
    assert_eq!(lost, [(seen.offset.0 - 1, seen.offset.0 + 1)]);
}

#[tokio::test]
async fn a_full_disk_can_be_opened_and_read() {
    let disk = Simulated::default();
    let (log, confirmed, _) = ten(&disk, Sync::Always).await;
    let full = disk.copy();
    full.faults(Faults { room: Some(full.used()), ..Faults::default() });
    drop(log);
    let log = open(&full, roomy(Sync::Always)).expect("opens");
    let mut follower = Follower::start(&*log, Start::Earliest);
    follower.until_records(10).await;
    assert!(blocked(&follower));
    assert!(matches!(log.append(record(10)).await, Err(AppendError::Full(_))));
    goes_on(&full, log, confirmed, follower, Sync::Always).await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_is_said_and_waited_for() {
    let disk = Simulated::default();
    let (log, confirmed, _) = ten(&disk, Sync::Always).await;
    disk.faults(Faults { reads_fail: true, ..Faults::default() });
    let read = log.read(0, Offset(0), Budget { records: 1, bytes: 1 }).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
    let mut follower = Follower::start(&*log, Start::Earliest);
    follower.until(|follower| matches!(follower.health.last(), Some(Health::Retrying(_)))).await;
    goes_on(&disk, log, confirmed, follower, Sync::Always).await;
}

#[tokio::test]
async fn a_queue_that_is_full_refuses() {
    let disk = Simulated::default();
    let options = Options { queue_bytes: 2000, ..roomy(Sync::Always) };
    let log = open(&disk, options).expect("opens");
    let confirms: Vec<_> = (0..10_000).map(|n| log.append(record(n))).collect();
    let mut refused = 0;
    let mut positions = Vec::new();
    for confirm in confirms {
        match confirm.await {
            Ok(position) => positions.push(position),
            Err(AppendError::Blocked(why)) => {
                assert!(why.contains("queue_bytes"), "{why}");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0, "10,000 records in one go fit into 2,000 bytes");
    assert_eq!(survey(&*log).await.0.len(), positions.len());
}
