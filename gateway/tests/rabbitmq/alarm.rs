//! The broker blocks publishers: what is there is still delivered.

use crate::kit::{append_when_possible, open, options, own_server};
use anabranch_gateway::log::conformance::{Follower, append, record};
use anabranch_gateway::log::{AppendError, Health, Log, Start};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_refuses_publishers_and_stops_no_reader() {
    let Some((_folder, server)) = own_server().await else { return };
    let log = open(&options(&server)).await;
    let mut live = Follower::start(&log, Start::Earliest);
    append(&log, 0..5_000).await;
    live.until_records(5_000).await;
    server.memory_alarm(true).expect("an alarm");
    // The first one finds out: the broker says nothing before somebody publishes.
    let begun = Instant::now();
    let first = log.append(record(5_000)).await;
    println!("first append in the alarm: {first:?} after {:?}", begun.elapsed());
    assert!(matches!(&first, Err(AppendError::Unknown(why)) if why.contains("low on memory")), "{first:?}");
    let second = log.append(record(5_001)).await;
    assert!(matches!(&second, Err(AppendError::Blocked(why)) if why.contains("vm_memory")), "{second:?}");
    live.until(|live| matches!(live.health.last(), Some(Health::Blocked(_)))).await;
    let mut late = Follower::start(&log, Start::Earliest);
    late.until_records(5_000).await;
    log.bounds(0).await.expect("bounds");
    server.memory_alarm(false).expect("no alarm");
    live.until(|live| live.health.last() == Some(&Health::Connected)).await;
    let after = append_when_possible(&log, 5_002).await.offset;
    live.until_covered(after).await;
    assert!(live.gaps.is_empty() && live.resets.is_empty());
    // Two, or three if what was on its way in the alarm was stored after it.
    assert!((5_001..=5_002).contains(&live.records.len()), "{}", live.records.len());
}
