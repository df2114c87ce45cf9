//! Forgetting by size and by age, with readers in between, and clocks that go back.

use super::{open, small, survey};
use crate::log::conformance::{Dice, Follower, append, record};
use crate::log::embedded::disk::simulated::Simulated;
use crate::log::embedded::{EmbeddedLog, Options, Sync};
use crate::log::{Budget, GapReason, Log, ReadError, Start};
use anabranch_protocol::cursor::Offset;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[tokio::test]
async fn the_oldest_files_go_and_tails_are_told() {
    let disk = Simulated::default();
    let options = Options { retention_bytes: 20_000, ..small(Sync::None) };
    let log = open(&disk, options.clone()).expect("opens");
    let mut follower = Follower::start(&*log, Start::Next);
    let mut positions = append(&*log, 0..5).await;
    follower.until_records(5).await;
    positions.extend(append(&*log, 5..1000).await);
    assert!(disk.used() <= 20_000 + 2 * 4096, "{} bytes are kept", disk.used());
    let bounds = log.bounds(0).await.expect("bounds");
    follower.until_covered(positions[999].offset).await;
    assert_eq!(follower.gaps.len(), 1, "{:?}", follower.gaps);
    assert_eq!(follower.gaps[0].why, GapReason::Forgotten);
    let (records, lost) = survey(&*log).await;
    assert_eq!(lost, [(0, bounds.oldest.0)]);
    assert_eq!(records[0].position.offset, bounds.oldest);
    log.close().await;
    let log = open(&disk, options).expect("opens");
    let again = log.bounds(0).await.expect("bounds");
    assert_eq!((again.newest, again.last), (bounds.newest, bounds.last));
    assert!(again.oldest >= bounds.oldest, "what was forgotten is back");
}

#[tokio::test]
async fn records_grow_old_even_if_nobody_writes() {
    static NOW: AtomicU64 = AtomicU64::new(1_800_000_000_000);
    let disk = Simulated::default();
    let options = Options { retention_seconds: Some(1), ..small(Sync::None) };
    let log = EmbeddedLog::open_on(options, Arc::new(disk.clone()), || NOW.load(Ordering::Relaxed));
    let log = log.expect("opens");
    let positions = append(&*log, 0..100).await;
    let mut follower = Follower::start(&*log, Start::After(positions[0]));
    assert_eq!(log.bounds(0).await.expect("bounds").oldest, Offset(1), "nothing is old");
    NOW.fetch_add(10_000, Ordering::Relaxed);
    // Told to whoever was there, as soon as there is a next message.
    let mut changes = log.shared.changes.subscribe();
    while log.bounds(0).await.expect("bounds").newest.is_some() {
        changes.changed().await.expect("the log goes on");
    }
    let bounds = log.bounds(0).await.expect("bounds");
    assert_eq!((bounds.oldest, bounds.last), (Offset(101), Offset(100)));
    let new = log.append(record(100)).await.expect("confirmed");
    assert_eq!(new.offset, Offset(101));
    follower.until_covered(new.offset).await;
    assert_eq!(follower.gaps[0].before, Offset(101));
}

#[tokio::test]
async fn a_clock_set_back_forgets_nothing_and_locates_earlier() {
    static NOW: AtomicU64 = AtomicU64::new(1_800_000_000_000);
    let disk = Simulated::default();
    let options = Options { retention_seconds: Some(3600), ..small(Sync::None) };
    let log = EmbeddedLog::open_on(options, Arc::new(disk.clone()), || NOW.load(Ordering::Relaxed));
    let log = log.expect("opens");
    let mut dice = Dice::new("a_clock_set_back_forgets_nothing_and_locates_earlier");
    for n in 0..300 {
        match dice.below(10) {
            0 => NOW.fetch_sub(dice.below(60_000), Ordering::Relaxed),
            _ => NOW.fetch_add(dice.below(5_000), Ordering::Relaxed),
        };
        log.append(record(n)).await.expect("confirmed");
    }
    for from in [0, 1] {
        let (records, lost) = survey(&*log).await;
        assert_eq!((records.len(), lost.len()), (300, 0));
        assert!(records.is_sorted_by(|a, b| a.position.offset < b.position.offset));
        for record in &records {
            let place = log.locate(0, record.time + from).await.expect("a place");
            let late = records
                .iter()
                .find(|other| other.time >= record.time + from && other.position.offset <= place);
            assert!(late.is_none(), "{late:?} lies before {place}, asked for {}", record.time + from);
        }
    }
    let after_all = log.locate(0, u64::MAX).await.expect("a place");
    assert_eq!(after_all, Offset(300));
}

/// Each offset is delivered or told as gone, whatever the race. The writer forgets on its own thread.
#[tokio::test]
async fn retention_races_tails_and_reads() {
    for recent_bytes in [0, 10_000] {
        let disk = Simulated::default();
        let options = Options { retention_bytes: 9000, recent_bytes, ..small(Sync::None) };
        let log = open(&disk, options).expect("opens");
        const RECORDS: u64 = 4_000;
        let tails = (0..3).map(|_| {
            let mut follower = Follower::start(&*log, Start::Earliest);
            tokio::spawn(async move {
                follower.until_covered(Offset(RECORDS)).await;
                let gaps: u64 = follower.gaps.iter().map(|gap| gap.before.0 - gap.after.0 - 1).sum();
                assert_eq!(follower.records.len() as u64 + gaps, RECORDS);
                assert!(follower.gaps.iter().all(|gap| gap.why == GapReason::Forgotten));
                assert!(follower.resets.is_empty());
                follower.gaps.len()
            })
        });
        let tails: Vec<_> = tails.collect();
        let reader = tokio::spawn({
            let log = log.clone();
            async move {
                let (mut after, mut read, mut forgotten) = (Offset(0), 0, 0);
                while after < Offset(RECORDS) {
                    match log.read(0, after, Budget { records: 10, bytes: usize::MAX }).await {
                        Ok(batch) => {
                            read += batch.records.len() as u64;
                            assert_eq!(batch.covered_to.0 - after.0, batch.records.len() as u64);
                            after = batch.covered_to;
                            tokio::task::yield_now().await;
                        }
                        Err(ReadError::Forgotten { oldest }) => {
                            assert!(oldest.0 > after.0 + 1);
                            forgotten += oldest.0 - after.0 - 1;
                            after = Offset(oldest.0 - 1);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                assert_eq!(read + forgotten, RECORDS);
            }
        });
        for n in 0..RECORDS / 4 {
            append(&*log, n * 4..n * 4 + 4).await;
        }
        reader.await.expect("no panic");
        let mut gaps = 0;
        for tail in tails {
            gaps += tail.await.expect("no panic");
        }
        println!("{gaps} gaps told to 3 tails");
    }
}
