//! Tailing.

use super::{Follower, Harness, PATIENCE, append, record};
use crate::log::{Health, ResetReason, Start, TailEvent};
use anabranch_protocol::cursor::{Fingerprint, Offset, Position};
use futures_util::FutureExt;
use futures_util::stream::StreamExt;
use tokio::time::timeout;

fn offsets(positions: &[Position]) -> Vec<Offset> {
    positions.iter().map(|position| position.offset).collect()
}

pub(super) async fn a_tail_begins_with_its_health(harness: &mut dyn Harness) {
    let log = harness.log();
    append(&*log, 0..3).await;
    for start in [Start::Next, Start::Earliest] {
        let mut follower = Follower::start(&*log, start);
        assert_eq!(follower.step().await, TailEvent::Health(Health::Connected));
    }
}

pub(super) async fn next_is_what_follows_the_call(harness: &mut dyn Harness) {
    let log = harness.log();
    let mut empty = Follower::start(&*log, Start::Next);
    let first = append(&*log, 0..5).await;
    let mut follower = Follower::start(&*log, Start::Next);
    // Nothing was polled so far.
    let second = append(&*log, 5..10).await;
    follower.until_records(5).await;
    assert_eq!(follower.offsets(), offsets(&second));
    empty.until_records(10).await;
    assert_eq!(empty.offsets(), offsets(&[first, second].concat()));
}

pub(super) async fn earliest_is_everything(harness: &mut dyn Harness) {
    let log = harness.log();
    let old = append(&*log, 0..100).await;
    let mut follower = Follower::start(&*log, Start::Earliest);
    follower.until_records(100).await;
    assert_eq!(follower.offsets(), offsets(&old));
    let new = append(&*log, 100..200).await;
    follower.until_records(200).await;
    assert_eq!(follower.offsets(), offsets(&[old, new].concat()));
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

pub(super) async fn after_a_position_is_what_follows_it(harness: &mut dyn Harness) {
    let log = harness.log();
    let positions = append(&*log, 0..100).await;
    for at in [0, 1, 50, 98] {
        let mut follower = Follower::start(&*log, Start::After(positions[at]));
        follower.until_covered(positions[99].offset).await;
        assert_eq!(follower.offsets(), offsets(&positions[at + 1..]));
        assert!(follower.gaps.is_empty() && follower.resets.is_empty());
    }
    let mut at_end = Follower::start(&*log, Start::After(positions[99]));
    let new = append(&*log, 100..101).await;
    at_end.until_records(1).await;
    assert_eq!(at_end.offsets(), offsets(&new));
}

pub(super) async fn after_an_offset_without_fingerprint(harness: &mut dyn Harness) {
    let log = harness.log();
    let positions = append(&*log, 0..20).await;
    let from = Position { fingerprint: None, ..positions[9] };
    let mut follower = Follower::start(&*log, Start::After(from));
    follower.until_covered(positions[19].offset).await;
    assert_eq!(follower.offsets(), offsets(&positions[10..]));
    let beginning = Position { partition: 0, offset: Offset(0), fingerprint: None };
    let mut follower = Follower::start(&*log, Start::After(beginning));
    follower.until_covered(positions[19].offset).await;
    assert_eq!(follower.offsets(), offsets(&positions));
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

pub(super) async fn another_record_there_is_a_reset(harness: &mut dyn Harness) {
    let log = harness.log();
    let positions = append(&*log, 0..20).await;
    let Some(Fingerprint(right)) = positions[9].fingerprint else { panic!("appended without fingerprint") };
    let wrong = Position { fingerprint: Some(Fingerprint(!right)), ..positions[9] };
    let mut follower = Follower::start(&*log, Start::After(wrong));
    follower.until(|follower| !follower.resets.is_empty() && follower.records.len() == 20).await;
    assert_eq!(follower.resets, [(log.id(), ResetReason::Diverged)]);
    assert_eq!(follower.offsets(), offsets(&positions), "records follow from the beginning");
}

pub(super) async fn a_position_beyond_the_end_is_a_reset(harness: &mut dyn Harness) {
    let log = harness.log();
    let positions = append(&*log, 0..20).await;
    let ahead = Position { offset: Offset(positions[19].offset.0 + 1000), ..positions[19] };
    let mut follower = Follower::start(&*log, Start::After(ahead));
    follower.until(|follower| !follower.resets.is_empty() && follower.records.len() == 20).await;
    assert_eq!(follower.resets, [(log.id(), ResetReason::Ahead)]);
    assert_eq!(follower.offsets(), offsets(&positions));
}

pub(super) async fn tails_do_not_disturb_each_other(harness: &mut dyn Harness) {
    let log = harness.log();
    let mut one = Follower::start(&*log, Start::Earliest);
    let positions = append(&*log, 0..100).await;
    one.until_records(50).await;
    let mut two = Follower::start(&*log, Start::Earliest);
    two.until_records(100).await;
    drop(two);
    let more = append(&*log, 100..150).await;
    one.until_records(150).await;
    assert_eq!(one.offsets(), offsets(&[positions, more].concat()));
}

pub(super) async fn a_slow_tail_gets_everything(harness: &mut dyn Harness) {
    let log = harness.log();
    let mut slow = Follower::start(&*log, Start::Next);
    let mut positions = append(&*log, 0..1).await;
    slow.until_records(1).await;
    positions.extend(append(&*log, 1..5_000).await);
    slow.until_records(5_000).await;
    assert_eq!(slow.offsets(), offsets(&positions));
    assert!(slow.gaps.is_empty() && slow.resets.is_empty());
}

pub(super) async fn a_dropped_wait_loses_nothing(harness: &mut dyn Harness) {
    let log = harness.log();
    let mut tail = log.tail(0, Start::Next);
    let mut found = Vec::new();
    let mut positions = Vec::new();
    let note = |event: Option<TailEvent>, found: &mut Vec<Offset>| {
        if let Some(TailEvent::Records(batch)) = event {
            found.extend(batch.records.iter().map(|record| record.position.offset));
        }
    };
    for n in 0..200 {
        // Polled once and dropped, wherever that is.
        if let Some(event) = tail.next().now_or_never() {
            note(event, &mut found);
        }
        positions.push(log.append(record(n)).await.expect("confirmed"));
        if let Some(event) = tail.next().now_or_never() {
            note(event, &mut found);
        }
    }
    while found.len() < positions.len() {
        note(timeout(PATIENCE, tail.next()).await.expect("the rest comes"), &mut found);
    }
    assert_eq!(found, offsets(&positions));
}
