//! What is trimmed is told once, with its range, and only to whom it concerns.

use crate::kit::{Other, open, options, server};
use anabranch_gateway::log::conformance::{Follower, append, record};
use anabranch_gateway::log::redis::Options;
use anabranch_gateway::log::{Budget, GapReason, Log, ReadError, Start};
use anabranch_protocol::cursor::{Offset, Position};
use std::time::Duration;

const ALL: Budget = Budget { records: usize::MAX, bytes: usize::MAX };

/// Somebody else trims; three cursors stand before, at and behind the edge.
#[tokio::test]
async fn a_cursor_before_the_edge_gets_one_gap() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let positions = append(&log, 0..3_000).await;
    let other = Other::connect(server.port()).await;
    let kept = 1_000;
    other.run::<i64>(&["XTRIM", &options.stream, "MAXLEN", "1000"]).await;
    let first_kept = positions.len() - kept;
    for (at, gaps) in [(10, 1), (first_kept - 2, 1), (first_kept, 0), (positions.len() - 1, 0)] {
        let mut follower = Follower::start(&log, Start::After(positions[at]));
        let new = append(&log, at as u64..at as u64 + 1).await;
        follower.until_covered(new[0].offset).await;
        assert_eq!(follower.gaps.len(), gaps, "after {at}: {:?}", follower.gaps);
        if let Some(gap) = follower.gaps.first() {
            assert_eq!((gap.after, gap.before), (positions[at].offset, positions[first_kept].offset));
            assert_eq!(gap.why, GapReason::Forgotten);
        }
        assert!(follower.resets.is_empty());
    }
    let before = Offset(positions[10].offset.0);
    assert_eq!(
        log.read(0, before, ALL).await,
        Err(ReadError::Forgotten { oldest: positions[first_kept].offset })
    );
}

/// The gateway trims by itself, whoever writes, and the last record that went is no gap for whoever has seen it.
#[tokio::test]
async fn the_gateway_trims_and_knows_the_edge() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Next);
    follower.until(|follower| !follower.health.is_empty()).await;
    let other = Other::connect(server.port()).await;
    let mut pipe = redis::pipe();
    for n in 0..2_000 {
        pipe.cmd("XADD").arg(&options.stream).arg("*").arg("topic").arg("a/b").arg("payload").arg(n).ignore();
    }
    other.all(&pipe).await;
    follower.until_records(2_000).await;
    // Another node forgets.
    let tend_every = Duration::from_millis(50);
    let strict = open(&Options { max_length: Some(500), tend_every, ..options.clone() }).await;
    crate::kit::until("the stream is trimmed", async || {
        (other.run::<u64>(&["XLEN", &options.stream]).await == 500).then_some(())
    })
    .await;
    drop(strict);
    let seen: Vec<Position> = follower.records.iter().map(|record| record.position).collect();
    assert!(follower.gaps.is_empty(), "a tail that keeps up misses nothing: {:?}", follower.gaps);
    let edge = log.bounds(0).await.expect("bounds").oldest;
    for (at, gaps) in [(1_498, 1), (1_499, 0), (1_500, 0)] {
        let mut follower = Follower::start(&log, Start::After(seen[at]));
        follower.until_covered(seen[1_999].offset).await;
        assert_eq!(follower.gaps.len(), gaps, "after {at}, with the edge at {edge}: {:?}", follower.gaps);
        assert!(follower.resets.is_empty());
    }
}

/// Everything is too old and goes. A quiet tail, and whoever comes back, have missed nothing.
#[tokio::test]
async fn all_that_is_too_old_goes_and_nothing_is_missed() {
    let Some(server) = server() else { return };
    let age = Duration::from_millis(200);
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Next);
    follower.until(|follower| !follower.health.is_empty()).await;
    let positions = append(&log, 0..250).await;
    follower.until_records(250).await;
    // Another node forgets, until it has forgotten all.
    let tend_every = Duration::from_millis(20);
    let strict = open(&Options { max_age: Some(age), tend_every, ..options.clone() }).await;
    let other = Other::connect(server.port()).await;
    crate::kit::until("the stream is empty", async || {
        (other.run::<u64>(&["XLEN", &options.stream]).await == 0).then_some(())
    })
    .await;
    drop(strict);
    let bounds = log.bounds(0).await.expect("bounds");
    assert_eq!((bounds.newest, bounds.last), (None, positions[249].offset));
    let mut back = Follower::start(&log, Start::After(positions[249]));
    let mut late = Follower::start(&log, Start::After(positions[100]));
    let new = append(&log, 250..251).await[0];
    for follower in [&mut follower, &mut back, &mut late] {
        follower.until_covered(new.offset).await;
        assert!(follower.resets.is_empty());
    }
    assert!(follower.gaps.is_empty() && back.gaps.is_empty(), "{:?} {:?}", follower.gaps, back.gaps);
    assert_eq!(late.gaps.len(), 1, "{:?}", late.gaps);
}

/// A million entries with holes of every kind between them, and never a gap: on the tail, nor when read in pages.
#[tokio::test]
async fn a_million_records_with_holes_have_no_gap() {
    const RECORDS: u64 = 1_000_000;
    let Some((server, _folder)) = crate::kit::own(&["appendonly no"]) else { return };
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Next);
    follower.until(|follower| !follower.health.is_empty()).await;
    let other = Other::connect(server.port()).await;
    let stream = options.stream.clone();
    let writing = tokio::spawn(async move {
        let (mut ms, mut sequence) = (1_700_000_000_000_u64, 0);
        let mut dice = anabranch_gateway::log::conformance::Dice::new("holes");
        for bunch in 0..RECORDS / 1_000 {
            let mut pipe = redis::pipe();
            for n in bunch * 1_000..(bunch + 1) * 1_000 {
                (ms, sequence) = match dice.below(4) {
                    0 => (ms, sequence + 1),
                    1 => (ms, sequence + 1 + dice.below(1_000)),
                    2 => (ms + 1, dice.below(3)),
                    _ => (ms + dice.below(100_000) + 1, dice.below(1_000)),
                };
                let id = format!("{ms}-{sequence}");
                pipe.cmd("XADD").arg(&stream).arg(id).arg("topic").arg("a/b").arg("payload").arg(n).ignore();
            }
            other.all(&pipe).await;
        }
    });
    while follower.records.len() < RECORDS as usize {
        follower.step().await;
    }
    writing.await.expect("everything was written");
    assert_eq!(follower.gaps, []);
    assert!(follower.resets.is_empty() && follower.health.len() == 1, "{:?}", follower.health);
    let mut after = Offset(0);
    let mut read = 0;
    loop {
        let batch = log.read(0, after, Budget { records: 777, bytes: 1 << 20 }).await.expect("no gap");
        for record in &batch.records {
            assert_eq!(record.position, follower.records[read].position);
            read += 1;
        }
        after = batch.covered_to;
        if batch.at_end {
            break;
        }
    }
    assert_eq!(read, RECORDS as usize);
    println!("{RECORDS} records with holes: 0 gaps on the tail, 0 in pages");
}

/// The order of appends from here, and what others write between, is the stream's.
#[tokio::test]
async fn a_gateway_and_others_write_to_one_stream() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    let other = Other::connect(server.port()).await;
    for n in 0..200 {
        log.append(record(n)).await.expect("confirmed");
        other.add(&options.stream, &[("topic", b"a/b"), ("payload", n.to_string().as_bytes())]).await;
    }
    follower.until_records(400).await;
    for (n, two) in follower.records.chunks(2).enumerate() {
        assert_eq!(two[0].envelope, record(n as u64).envelope);
        assert_eq!(&*two[1].topic, "a/b");
    }
    assert!(follower.gaps.is_empty());
}
