//! What is forgotten is told. Cases pass without a look at logs that cannot be made to forget on demand.

use super::append::everything;
use super::{Follower, Harness, append};
use crate::log::{Budget, GapReason, ReadError, Start};
use anabranch_protocol::cursor::Offset;

const ALL: Budget = Budget { records: usize::MAX, bytes: usize::MAX };
const RECORDS: u64 = 2_000;

pub(super) async fn a_forgotten_offset_cannot_be_read_after(harness: &mut dyn Harness) {
    let log = harness.log();
    let positions = append(&*log, 0..RECORDS).await;
    if !harness.forget().await {
        return;
    }
    let bounds = log.bounds(0).await.expect("bounds");
    assert!(bounds.oldest > positions[0].offset, "something is forgotten");
    // A log may have put something of its own behind, as ours on RabbitMQ does when the broker is slow to say what it has.
    assert!(
        bounds.newest.map(|newest| newest.offset) >= positions.last().map(|last| last.offset),
        "{bounds:?}"
    );
    let oldest = bounds.oldest;
    let lost = positions.iter().filter(|position| position.offset < oldest);
    for position in lost.step_by(37) {
        let after = Offset(position.offset.0 - 1);
        assert_eq!(log.read(0, after, ALL).await, Err(ReadError::Forgotten { oldest }));
    }
    let kept: Vec<_> = positions.iter().filter(|position| position.offset >= oldest).copied().collect();
    let found: Vec<_> = everything(&*log).await.into_iter().map(|record| record.position).collect();
    assert_eq!(found, kept);
}

pub(super) async fn nothing_is_lost_at_the_edge(harness: &mut dyn Harness) {
    let log = harness.log();
    let positions = append(&*log, 0..RECORDS).await;
    if !harness.forget().await {
        return;
    }
    let oldest = log.bounds(0).await.expect("bounds").oldest;
    let first_kept = positions.iter().position(|position| position.offset >= oldest).expect("some are kept");
    let batch = log.read(0, Offset(oldest.0 - 1), ALL).await.expect("readable");
    assert_eq!(batch.records[0].position, positions[first_kept]);
    // The record before is gone, and with it the proof of this history; but nothing after it is.
    let mut follower = Follower::start(&*log, Start::After(positions[first_kept - 1]));
    follower.until_covered(positions[positions.len() - 1].offset).await;
    assert_eq!(follower.records.len(), positions.len() - first_kept);
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

pub(super) async fn a_slow_tail_is_told_the_gap(harness: &mut dyn Harness) {
    let log = harness.log();
    let mut slow = Follower::start(&*log, Start::Earliest);
    let mut positions = append(&*log, 0..3).await;
    slow.until_records(3).await;
    positions.extend(append(&*log, 3..RECORDS).await);
    if !harness.forget().await {
        return;
    }
    positions.extend(append(&*log, RECORDS..RECORDS + 10).await);
    slow.until_covered(positions[positions.len() - 1].offset).await;
    accounts(&slow, &positions.iter().map(|p| p.offset).collect::<Vec<_>>());
    // What it may have had in its hands already, it may deliver; the rest must be a gap.
    if slow.records.len() < positions.len() {
        assert_eq!(slow.gaps.len(), 1, "one gap is told once: {:?}", slow.gaps);
        assert_eq!(slow.gaps[0].why, GapReason::Forgotten);
    }
    assert!(slow.resets.is_empty());
}

pub(super) async fn a_tail_after_a_forgotten_record_is_told_the_gap(harness: &mut dyn Harness) {
    let log = harness.log();
    let positions = append(&*log, 0..RECORDS).await;
    if !harness.forget().await {
        return;
    }
    let mut follower = Follower::start(&*log, Start::After(positions[0]));
    follower.until_covered(positions[positions.len() - 1].offset).await;
    assert_eq!(follower.gaps.len(), 1, "{:?}", follower.gaps);
    assert_eq!(follower.gaps[0].why, GapReason::Forgotten);
    assert_eq!(follower.gaps[0].after, positions[0].offset);
    assert!(follower.resets.is_empty());
    accounts(&follower, &positions[1..].iter().map(|p| p.offset).collect::<Vec<_>>());
    let mut earliest = Follower::start(&*log, Start::Earliest);
    earliest.until_covered(positions[positions.len() - 1].offset).await;
    assert!(earliest.gaps.is_empty(), "from the earliest on, nothing is missing");
}

/// Each offset is delivered, or inside a gap, and none is both.
fn accounts(follower: &Follower, offsets: &[Offset]) {
    let delivered = follower.offsets();
    for offset in offsets {
        let in_gap = follower.gaps.iter().any(|gap| gap.after < *offset && *offset < gap.before);
        assert!(delivered.contains(offset) != in_gap, "{offset}: delivered {}", !in_gap);
    }
}
