//! One log of three streams.

use crate::kit::{Other, everything, open, options, quick, server, try_open};
use anabranch_gateway::log::conformance::{Follower, record_of};
use anabranch_gateway::log::open::OpenError;
use anabranch_gateway::log::redis::Options;
use anabranch_gateway::log::{Health, Log, Start, TailEvent};
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
                TailEvent::Reset { head, .. } => return head.log(),
                _ => continue,
            }
        }
    });
    let names = futures_util::future::join_all(told).await;
    assert!(names.iter().all(|name| *name == log.id() && *name != before), "{names:?}, before {before}");
}

async fn refused(options: &Options) -> String {
    match try_open(options, quick()).await {
        Err(OpenError::Wrong(why)) => why,
        other => panic!("{:?}", other.map(|log| log.id())),
    }
}

/// Nodes with different numbers of partitions would write where the others do not read: the second is refused.
#[tokio::test]
async fn all_nodes_have_the_same_number_of_partitions() {
    let Some(server) = server() else { return };
    for (first, second) in [(1, 3), (3, 1), (3, 6), (6, 3)] {
        let options = Options { partitions: first, ..options(&server) };
        let log = open(&options).await;
        let why = refused(&Options { partitions: second, ..options.clone() }).await;
        for part in [format!("has {first},"), format!("partitions={second}"), options.stream.clone()] {
            assert!(why.contains(&part), "{part} is not in {why}");
        }
        assert_eq!(open(&options).await.id(), log.id(), "the log goes on as it was");
    }
}

/// At the same moment, again and again: never do two numbers go through.
#[tokio::test]
async fn of_two_numbers_at_once_one_holds() {
    let Some(server) = server() else { return };
    for _ in 0..20 {
        let two = Options { partitions: 2, ..options(&server) };
        let one = Options { partitions: 1, ..two.clone() };
        let (one, two) = tokio::join!(try_open(&one, quick()), try_open(&two, quick()));
        assert!(one.is_ok() != two.is_ok(), "one {:?}, two {:?}", one.err(), two.err());
    }
}

/// A log of a version that did not note the number gets it from whoever opens it first.
#[tokio::test]
async fn a_log_without_the_number_takes_it_from_the_first() {
    let Some(server) = server() else { return };
    let other = Other::connect(server.port()).await;
    for (right, wrong) in [(1, 2), (3, 4)] {
        let options = Options { partitions: right, ..options(&server) };
        let id = open(&options).await.id();
        for stream in [options.stream.clone(), format!("{}:0", options.stream)] {
            other.run::<i64>(&["HDEL", &format!("{{{stream}}}:anabranch"), "partitions"]).await;
        }
        assert_eq!(open(&options).await.id(), id);
        let why = refused(&Options { partitions: wrong, ..options }).await;
        assert!(why.contains(&format!("has {right},")), "{why}");
    }
}

/// The log is deleted under a running node and made anew with another number: the node says so and delivers nothing.
#[tokio::test]
async fn a_running_node_notices_another_number() {
    let Some(server) = server() else { return };
    let options = Options { partitions: 2, ..options(&server) };
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    for n in 0..20 {
        log.append(record_of(&format!("a/b{n}"), n, 0)).await.expect("confirmed");
    }
    let before = everything(&log, 0).await;
    follower.until_records(before.len()).await;
    let other = Other::connect(server.port()).await;
    let keys = [":0", ":1", ""].map(|end| format!("{}{end}", options.stream));
    let beside = keys.each_ref().map(|key| format!("{{{key}}}:anabranch"));
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("DEL").arg(&keys).arg(&beside).ignore();
    other.all(&pipe).await;
    let fresh = open(&Options { partitions: 3, ..options.clone() }).await;
    for n in 0..20 {
        fresh.append(record_of(&format!("a/b{n}"), n, 0)).await.expect("confirmed");
    }
    follower.until(|follower| matches!(follower.health.last(), Some(Health::Retrying(_)))).await;
    let said = format!("{:?}", follower.health.last());
    assert!(said.contains("has 3,") && said.contains("partitions=2"), "{said}");
    assert_eq!(follower.records, before, "nothing of the other log");
}
