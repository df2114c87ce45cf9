//! One log of three streams.

use crate::kit::{Other, everything, open, options, server};
use anabranch_gateway::log::conformance::record_of;
use anabranch_gateway::log::redis::Options;
use anabranch_gateway::log::{Log, Start, TailEvent};
use futures_util::StreamExt;
use std::collections::HashMap;

/// Every topic stays in one partition and in order, every partition is used, and tails have everything.
#[tokio::test]
async fn three_streams_are_one_log() {
    let Some(server) = server() else { return };
    let options = Options { partitions: 3, ..options(&server) };
    let (log, node2) = (open(&options).await, open(&options).await);
    assert_eq!(log.id(), node2.id());
    let mut tails: Vec<_> = (0..3).map(|partition| node2.tail(partition, Start::Earliest)).collect();
    let mut homes: HashMap<String, u16> = HashMap::new();
    for n in 0..600_u64 {
        let topic = format!("iotsphere/devices/d{}/telemetry/pressure", n % 30);
        let node = if n % 2 == 0 { &log } else { &node2 };
        let position = node.append(record_of(&topic, n, 0)).await.expect("confirmed");
        assert_eq!(*homes.entry(topic).or_insert(position.partition), position.partition);
    }
    // Somebody else puts one where it likes.
    let other = Other::connect(server.port()).await;
    other.add(&format!("{}:2", options.stream), &[("topic", b"a/b"), ("payload", b"1")]).await;
    let mut total = 0;
    for (partition, tail) in tails.iter_mut().enumerate() {
        let all = everything(&log, partition as u16).await;
        assert!(all.len() >= 100, "partition {partition} has {} records", all.len());
        assert!(all.iter().all(|record| record.position.partition == partition as u16));
        let mut seen = Vec::new();
        while seen.len() < all.len() {
            match tail.next().await.expect("the tail goes on") {
                TailEvent::Records(batch) => seen.extend(batch.records),
                TailEvent::Health(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, all);
        total += all.len();
    }
    assert_eq!(total, 601);
}

/// One stream of three is deleted: the whole log has a new name, and every tail is told.
#[tokio::test]
async fn a_lost_partition_is_another_history_for_all() {
    let Some(server) = server() else { return };
    let options = Options { partitions: 3, ..options(&server) };
    let log = open(&options).await;
    for n in 0..100 {
        log.append(record_of(&format!("a/b{n}"), n, 0)).await.expect("confirmed");
    }
    let before = log.id();
    let mut tails: Vec<_> = (0..3).map(|partition| log.tail(partition, Start::Earliest)).collect();
    for tail in &mut tails {
        while !matches!(tail.next().await, Some(TailEvent::Records(_))) {}
    }
    let other = Other::connect(server.port()).await;
    other.run::<i64>(&["DEL", &format!("{}:1", options.stream)]).await;
    // Each is asked in turn, and each has to be polled to find out.
    let told = tails.into_iter().map(|mut tail| async move {
        loop {
            match tail.next().await.expect("the tail goes on") {
                TailEvent::Reset { log, .. } => return log,
                _ => continue,
            }
        }
    });
    let names = futures_util::future::join_all(told).await;
    assert!(names.iter().all(|name| *name == log.id() && *name != before), "{names:?}, before {before}");
}
