//! What outlives the process. Cases pass without a look at logs that promise nothing.

use super::append::everything;
use super::{Follower, Harness, append};
use crate::log::Start;

pub(super) async fn records_and_id_survive(harness: &mut dyn Harness) {
    let log = harness.log();
    assert!(!log.capabilities().survives_power_loss || log.capabilities().survives_restart);
    append(&*log, 0..500).await;
    let (id, before) = (log.id(), everything(&*log).await);
    let bounds = log.bounds(0).await.expect("bounds");
    drop(log);
    if !harness.reopen().await {
        return;
    }
    let log = harness.log();
    assert!(log.capabilities().survives_restart);
    assert_eq!(log.id(), id);
    assert_eq!(everything(&*log).await, before);
    assert_eq!(log.bounds(0).await.expect("bounds"), bounds);
}

pub(super) async fn offsets_go_on(harness: &mut dyn Harness) {
    let mut positions = Vec::new();
    for round in 0..5 {
        let log = harness.log();
        positions.extend(append(&*log, round * 20..round * 20 + 20).await);
        let found: Vec<_> = everything(&*log).await.into_iter().map(|record| record.position).collect();
        assert_eq!(found, positions);
        drop(log);
        if !harness.reopen().await {
            return;
        }
    }
    assert!(positions.is_sorted_by(|a, b| a.offset < b.offset), "an offset was given twice");
}

pub(super) async fn a_tail_resumes_in_the_reopened_log(harness: &mut dyn Harness) {
    let log = harness.log();
    let positions = append(&*log, 0..50).await;
    let mut follower = Follower::start(&*log, Start::Earliest);
    follower.until_records(50).await;
    drop(log);
    if !harness.reopen().await {
        return;
    }
    assert!(follower.ended().await, "the old log's tail ends with it");
    let log = harness.log();
    let mut resumed = Follower::start(&*log, Start::After(positions[24]));
    let more = append(&*log, 50..60).await;
    resumed.until_records(35).await;
    let expected: Vec<_> = positions[25..].iter().chain(&more).map(|position| position.offset).collect();
    assert_eq!(resumed.offsets(), expected);
    assert!(resumed.gaps.is_empty() && resumed.resets.is_empty());
}
