//! The broker dies, or freezes.

use crate::kit::{open, options, own_server};
use anabranch_gateway::log::conformance::{Follower, append, record};
use anabranch_gateway::log::rabbitmq::Options;
use anabranch_gateway::log::{AppendError, Health, Log, Start};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_loses_nothing_that_was_confirmed() {
    let Some((_folder, mut server)) = own_server().await else { return };
    let log = open(&options(&server)).await;
    let id = log.id();
    let mut live = Follower::start(&log, Start::Earliest);
    let mut confirmed = BTreeMap::new();
    let mut unknown = 0;
    for round in 0..2 {
        let first = round * 10_000;
        confirmed.extend(
            append(&log, first..first + 500).await.into_iter().zip(first..).map(|(p, n)| (p.offset, n)),
        );
        let mut outstanding: Vec<_> =
            (first + 500..first + 3_500).map(|n| (n, log.append(record(n)))).collect();
        for (n, append) in outstanding.drain(..500) {
            confirmed.insert(append.await.expect("confirmed").offset, n);
        }
        server.kill().expect("killed");
        let begun = Instant::now();
        let outcomes = join_all(outstanding.into_iter().map(|(n, append)| async move { (n, append.await) }));
        for (n, outcome) in outcomes.await {
            match outcome {
                Ok(position) => _ = confirmed.insert(position.offset, n),
                Err(AppendError::Unknown(_) | AppendError::Blocked(_)) => unknown += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        println!("every append was answered {:?} after the kill", begun.elapsed());
        live.until(|live| matches!(live.health.last(), Some(Health::Retrying(_)))).await;
        server = tokio::task::spawn_blocking(move || {
            server.restart().expect("restarted");
            server
        })
        .await
        .expect("no panic");
        let begun = Instant::now();
        live.until(|live| live.health.last() == Some(&Health::Connected)).await;
        println!("connected again {:?} after the broker was ready", begun.elapsed());
    }
    let last = append(&log, 99_999..100_000).await[0].offset;
    live.until_covered(last).await;
    let found: BTreeMap<_, _> = live.records.iter().map(|found| (found.position.offset, found)).collect();
    for (offset, n) in &confirmed {
        assert_eq!(found[offset].envelope, record(*n).envelope, "at the offset that the append was told");
    }
    println!("{} confirmed, {unknown} of unknown outcome, {} stored", confirmed.len(), found.len());
    assert!(unknown > 0, "the kill came too late to prove anything");
    assert!(live.gaps.is_empty() && live.resets.is_empty());
    assert_eq!(log.id(), id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_noticed() {
    let Some((_folder, server)) = own_server().await else { return };
    let log = open(&Options { heartbeat: Duration::from_secs(1), ..options(&server) }).await;
    let mut live = Follower::start(&log, Start::Earliest);
    append(&log, 0..10).await;
    live.until_records(10).await;
    server.freeze().expect("frozen");
    let begun = Instant::now();
    live.until(|live| matches!(live.health.last(), Some(Health::Retrying(_)))).await;
    println!("noticed after {:?}", begun.elapsed());
    let refused = log.append(record(10)).await;
    assert!(matches!(refused, Err(AppendError::Unknown(_) | AppendError::Blocked(_))), "{refused:?}");
    server.thaw().expect("thawed");
    live.until(|live| live.health.last() == Some(&Health::Connected)).await;
    let last = append(&log, 11..12).await[0].offset;
    live.until_covered(last).await;
    assert!(live.gaps.is_empty() && live.resets.is_empty());
}
