//! Torn tails, lost files, and files that do not belong there.

use super::{open, small, survey};
use crate::log::conformance::{Follower, append, record};
use crate::log::embedded::disk::Disk;
use crate::log::embedded::disk::simulated::Simulated;
use crate::log::embedded::frame;
use crate::log::embedded::segment::base_of;
use crate::log::embedded::{EmbeddedLog, OpenError, Options, Sync};
use crate::log::{AppendError, Gap, GapReason, Log, ReadError, Start};
use anabranch_protocol::cursor::{Offset, Position};

fn segments(disk: &Simulated) -> Vec<String> {
    let mut names = disk.names().expect("names");
    names.retain(|name| base_of(name).is_some());
    names
}

/// A log with `count` records, and a copy of its disk as it is found after a crash, and after a close.
async fn written(count: u64) -> (Vec<Position>, Simulated, Simulated) {
    let disk = Simulated::default();
    let log = open(&disk, small(Sync::None)).expect("opens");
    let positions = append(&*log, 0..count).await;
    let crashed = disk.copy();
    log.close().await;
    (positions, crashed, disk)
}

#[tokio::test]
async fn a_tail_torn_at_every_byte_is_cut() {
    let (positions, crashed, _) = written(5).await;
    let name = &segments(&crashed)[0];
    let length = crashed.open(name).and_then(|file| file.len()).expect("a length") as usize;
    let size = frame::size(&record(4));
    for kept in 0..size {
        for zeros in [false, true] {
            let disk = crashed.copy();
            disk.tamper(name, |content| {
                content.truncate(length - size + kept);
                if zeros {
                    content.resize(length, 0); // The length was on the disk, the rest was not.
                }
            });
            let what = format!("{kept} of {size} bytes, then zeros: {zeros}");
            let log = open(&disk, small(Sync::None)).unwrap_or_else(|error| panic!("{what}: {error}"));
            let (records, lost) = survey(&*log).await;
            assert_eq!(records.iter().map(|r| r.position).collect::<Vec<_>>(), positions[..4], "{what}");
            assert!(lost.is_empty(), "{what}: {lost:?}");
            let mut follower = Follower::start(&*log, Start::After(positions[4]));
            let new = log.append(record(5)).await.expect("confirmed");
            assert!(new.offset > positions[4].offset, "{what}: offset {} again", new.offset);
            follower.until_covered(new.offset).await;
            assert_eq!(follower.gaps.len(), 1, "{what}: who has seen the torn record is told");
            log.close().await;
        }
    }
}

#[tokio::test]
async fn a_shortened_log_is_told_from_a_torn_one_after_a_clean_close() {
    let (positions, _, closed) = written(5).await;
    let name = &segments(&closed)[0];
    let size = frame::size(&record(4));
    closed.tamper(name, |content| content.truncate(content.len() - size - 3));
    let log = open(&closed, small(Sync::None)).expect("opens");
    for _ in 0..2 {
        let (records, lost) = survey(&*log).await;
        assert_eq!(records.len(), 3);
        assert_eq!(lost, [(3, 6)], "4 and 5 are known to have been there");
    }
    let new = log.append(record(5)).await.expect("confirmed").offset;
    assert!(new > positions[4].offset);
    log.close().await;
    let log = open(&closed, small(Sync::None)).expect("opens again");
    let (records, lost) = survey(&*log).await;
    assert_eq!((records.len(), lost), (4, vec![(3, 6)]), "it is still told after the next start");
    let after = Offset(4);
    let read = log.read(0, after, crate::log::Budget { records: 1, bytes: 1 }).await;
    assert_eq!(read, Err(ReadError::Corrupt { after, before: Offset(6) }));
    let mut follower = Follower::start(&*log, Start::After(positions[1]));
    follower.until_covered(new).await;
    let gap = Gap { after: Offset(3), before: Offset(6), why: GapReason::Corrupt };
    assert_eq!((follower.gaps.as_slice(), follower.records.len()), ([gap].as_slice(), 2));
}

#[tokio::test]
async fn a_missing_file_is_a_told_gap() {
    for open_already in [false, true] {
        let (positions, _, closed) = written(60).await;
        let names = segments(&closed);
        assert!(names.len() >= 3, "{names:?}");
        let base = |n: usize| base_of(&names[n]).expect("a base");
        let (from, to) = (base(1), base(2));
        let running = open_already.then(|| open(&closed, small(Sync::None)).expect("opens"));
        closed.remove(&names[1]).expect("removed");
        let log = running.unwrap_or_else(|| open(&closed, small(Sync::None)).expect("opens"));
        let (records, lost) = survey(&*log).await;
        assert_eq!(lost, [(from - 1, to)]);
        assert_eq!(records.len() as u64, 60 - (to - from));
        let mut follower = Follower::start(&*log, Start::Earliest);
        follower.until_covered(positions[59].offset).await;
        let (after, before) = (Offset(from - 1), Offset(to));
        assert_eq!(follower.gaps, [Gap { after, before, why: GapReason::Corrupt }]);
    }
}

#[tokio::test]
async fn a_missing_oldest_file_is_forgotten() {
    let (positions, _, closed) = written(60).await;
    let names = segments(&closed);
    closed.remove(&names[0]).expect("removed");
    let log = open(&closed, small(Sync::None)).expect("opens");
    let oldest = Offset(base_of(&names[1]).expect("a base"));
    assert_eq!(log.bounds(0).await.expect("bounds").oldest, oldest);
    let mut follower = Follower::start(&*log, Start::After(positions[0]));
    follower.until_covered(positions[59].offset).await;
    assert_eq!(follower.gaps.len(), 1);
    assert_eq!(follower.gaps[0].why, GapReason::Forgotten);
}

#[tokio::test]
async fn a_shortened_older_file_is_a_told_gap() {
    let (positions, _, closed) = written(60).await;
    let names = segments(&closed);
    let next = base_of(&names[2]).expect("a base");
    closed.tamper(&names[1], |content| content.truncate(content.len() / 2));
    let log = open(&closed, small(Sync::None)).expect("opens");
    let (records, lost) = survey(&*log).await;
    let [(after, before)] = lost[..] else { panic!("{lost:?}") };
    assert_eq!(before, next);
    assert_eq!(records.len() as u64 + (before - after - 1), 60);
    let found: Vec<_> = records.iter().map(|record| record.position).collect();
    assert!(found.iter().all(|position| positions.contains(position)));
}

#[tokio::test]
async fn files_of_another_log_are_refused() {
    let (_, _, one) = written(60).await;
    let (_, _, other) = written(60).await;
    let name = &segments(&one)[1];
    let mut foreign = Vec::new();
    other.tamper(name, |content| foreign = content.clone());
    one.tamper(name, |content| *content = foreign);
    let error = open(&one, small(Sync::None)).expect_err("refused");
    assert!(matches!(&error, OpenError::Damaged { what, .. } if what.contains(name)), "{error}");
}

#[tokio::test]
async fn a_damaged_id_is_known_from_the_segments() {
    for content in [&b""[..], b"nonsense\n", b"0123456789abcdef\n"] {
        let (_, _, closed) = written(5).await;
        let log = open(&closed, small(Sync::None)).expect("opens");
        let id = log.id();
        log.close().await;
        closed.tamper("id", |old| *old = content.to_vec());
        for _ in 0..2 {
            let log = open(&closed, small(Sync::None)).expect("opens");
            assert_eq!(log.id(), id);
            assert_eq!(survey(&*log).await.0.len(), 5);
            log.close().await;
        }
    }
}

#[tokio::test]
async fn many_crashes_without_a_write_leave_no_files_behind() {
    let (_, crashed, _) = written(5).await;
    let mut disk = crashed;
    for _ in 0..50 {
        let log = open(&disk, small(Sync::None)).expect("opens");
        assert_eq!(survey(&*log).await.0.len(), 5);
        disk = disk.copy();
    }
    assert!(segments(&disk).len() <= 3, "{:?}", segments(&disk));
    let log = open(&disk, small(Sync::None)).expect("opens");
    let bounds = log.bounds(0).await.expect("bounds");
    assert!(log.append(record(5)).await.expect("confirmed").offset.0 > 50 * (1 << 20));
    assert_eq!(bounds.oldest, Offset(1));
    assert!(survey(&*log).await.1.is_empty(), "leaps are no losses");
}

#[tokio::test]
async fn an_empty_log_that_crashes_has_lost_nothing() {
    let disk = Simulated::default();
    let first = open(&disk, small(Sync::Always)).expect("opens");
    let crashed = disk.copy();
    let log = open(&crashed, small(Sync::Always)).expect("opens");
    assert_eq!(log.id(), first.id());
    log.append(record(0)).await.expect("confirmed");
    let (records, lost) = survey(&*log).await;
    assert_eq!((records.len(), lost), (1, Vec::new()));
}

#[tokio::test]
async fn a_second_process_is_refused_with_the_folder_in_the_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = EmbeddedLog::open(Options::at(folder.path())).expect("opens");
    let error = EmbeddedLog::open(Options::at(folder.path())).expect_err("refused");
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    log.close().await;
    EmbeddedLog::open(Options::at(folder.path())).expect("opens once the first is closed");
}

#[tokio::test]
async fn a_closed_log_refuses_and_ends() {
    let disk = Simulated::default();
    let log = open(&disk, small(Sync::Interval)).expect("opens");
    let mut follower = Follower::start(&*log, Start::Next);
    let waiting = log.append(record(0));
    log.close().await;
    waiting.await.expect("what was queued before is done");
    follower.until_records(0).await;
    assert!(follower.ended().await);
    assert_eq!(log.append(record(1)).await, Err(AppendError::Closed));
    assert!(log.bounds(0).await.is_err());
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    type Change = fn(&mut Options);
    let cases: [(&str, Change); 3] = [
        ("segment_bytes", |options| options.segment_bytes = 100),
        ("sync_interval_ms", |options| options.sync_interval_ms = 0),
        ("max_record", |options| options.max_record = 1 << 30),
    ];
    for (name, change) in cases {
        let mut options = small(Sync::None);
        change(&mut options);
        let error = open(&Simulated::default(), options).expect_err("refused").to_string();
        assert!(error.contains(name), "{error}");
    }
}
