//! Segments roll: the broker's own entries are holes, not losses.

use crate::kit::{Foreign, open, options, server};
use anabranch_gateway::log::conformance::Follower;
use anabranch_gateway::log::rabbitmq::Options;
use anabranch_gateway::log::{Log, Start};
use std::time::Instant;

/// In the suite; `ANABRANCH_RECORDS` says otherwise.
const RECORDS: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_are_no_gaps() {
    let Some(server) = server() else { return };
    let records =
        std::env::var("ANABRANCH_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(RECORDS);
    // The broker looks at every segment when one is full: thousands would slow it down.
    let options = Options { segment_bytes: (records as u64).max(64 << 10), ..options(&server) };
    let log = open(&options).await;
    let mut live = Follower::start(&log, Start::Earliest);
    live.step().await;
    let began = Instant::now();
    let published = async {
        let foreign = Foreign::new(&options).await;
        let body = format!("\"{}\"", "x".repeat(200));
        for first in (0..records).step_by(1_000) {
            let mut confirms = Vec::new();
            for _ in first..records.min(first + 1_000) {
                confirms.push(foreign.send("iotsphere.devices.d1.status", body.as_bytes()).await);
            }
            for confirm in confirms {
                confirm.await.expect("a confirm");
            }
        }
    };
    tokio::join!(published, live.until_records(records));
    println!("{records} records live in {:?}", began.elapsed());
    let began = Instant::now();
    let mut late = Follower::start(&log, Start::Earliest);
    late.until_records(records).await;
    let last = log.bounds(0).await.expect("bounds").last;
    let holes = last.0 - 1 - records as u64;
    println!("and again in {:?}; {holes} holes", began.elapsed());
    assert!(holes > 10, "the broker leaves no holes any more");
    for follower in [&live, &late] {
        assert!(follower.gaps.is_empty() && follower.resets.is_empty(), "{:?}", follower.gaps);
    }
}
