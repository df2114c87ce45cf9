//! Segments roll: the broker's own entries are holes, not losses.

use crate::kit::{open, options, server};
use anabranch_gateway::log::conformance::{Follower, append};
use anabranch_gateway::log::rabbitmq::Options;
use anabranch_gateway::log::{Log, Start};

const RECORDS: u64 = 20_000;

#[tokio::test]
async fn holes_are_no_gaps() {
    let Some(server) = server() else { return };
    let options = Options { segment_bytes: 64 << 10, ..options(&server) };
    let log = open(&options).await;
    let mut live = Follower::start(&log, Start::Earliest);
    let appended = async {
        let mut last = None;
        for first in (0..RECORDS).step_by(1_000) {
            last = append(&log, first..first + 1_000).await.pop();
        }
        last.expect("records").offset
    };
    let (last, _) = tokio::join!(appended, live.until_records(RECORDS as usize));
    let mut late = Follower::start(&log, Start::Earliest);
    late.until_records(RECORDS as usize).await;
    let holes = last.0 - RECORDS;
    println!("{RECORDS} records, {holes} holes");
    assert!(holes > 10, "the broker leaves no holes any more");
    for follower in [&live, &late] {
        assert!(follower.gaps.is_empty() && follower.resets.is_empty(), "{:?}", follower.gaps);
    }
    assert_eq!(log.bounds(0).await.expect("bounds").last, last);
}
