//! The stream is flushed, deleted, replaced: a reset is told, and nothing stalls. How soon is printed: within 3 s, on a
//! machine that is not overloaded.

use crate::kit::{Other, open, open_with, options, own, server};
use anabranch_gateway::log::conformance::{Follower, append, record_of};
use anabranch_gateway::log::redis::{Options, die_before_naming};
use anabranch_gateway::log::verified::Patience;
use anabranch_gateway::log::{Log, ResetReason, Start, TailEvent};
use futures_util::StreamExt;
use tokio::time::Instant;

/// FLUSHALL, and nobody writes afterwards.
#[tokio::test]
async fn a_flush_is_told() {
    let Some((server, _folder)) = own(&[]) else { return };
    let options = options(&server);
    let (log, node2) = (open_with(&options, Patience::default()).await, open(&options).await);
    append(&log, 0..100).await;
    let before = log.id();
    let mut one = Follower::start(&log, Start::Earliest);
    let mut two = Follower::start(&node2, Start::Earliest);
    one.until_records(100).await;
    two.until_records(100).await;
    server.cli(&["FLUSHALL"]).expect("flushed");
    let flushed = Instant::now();
    one.until(|follower| !follower.resets.is_empty()).await;
    let took = flushed.elapsed();
    two.until(|follower| !follower.resets.is_empty()).await;
    println!("FLUSHALL told after {took:?}");
    assert_eq!(one.resets[0], (log.id(), ResetReason::Recreated));
    assert_ne!(log.id(), before);
    assert_eq!(log.id(), node2.id(), "all nodes call the new history by one name");
    let new = append(&log, 100..110).await;
    one.until_records(10).await;
    two.until_records(10).await;
    assert_eq!(two.offsets(), new.iter().map(|position| position.offset).collect::<Vec<_>>());
    // A node that starts later finds the same name.
    assert_eq!(open(&options).await.id(), log.id());
}

/// FLUSHALL while somebody writes: ids go on rising, on the same connection, as if nothing had been.
#[tokio::test]
async fn a_flush_under_writing_is_told() {
    let Some((server, _folder)) = own(&[]) else { return };
    let options = options(&server);
    let log = open_with(&options, Patience::default()).await;
    append(&log, 0..100).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    follower.until_records(100).await;
    let other = Other::connect(server.port()).await;
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("FLUSHALL").ignore();
    pipe.cmd("XADD").arg(&options.stream).arg("*").arg("topic").arg("a/b").arg("payload").arg("1").ignore();
    other.all(&pipe).await;
    let flushed = Instant::now();
    follower.until(|follower| !follower.resets.is_empty() && follower.records.len() == 1).await;
    let took = flushed.elapsed();
    println!("FLUSHALL under writing told after {took:?}");
    assert_eq!(&*follower.records[0].topic, "a/b", "the new history from its beginning");
}

/// The stream alone is deleted, and made anew with lower ids.
#[tokio::test]
async fn a_stream_with_lower_ids_is_told() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open_with(&options, Patience::default()).await;
    let positions = append(&log, 0..100).await;
    let mut follower = Follower::start(&log, Start::After(positions[49]));
    follower.until_records(50).await;
    let other = Other::connect(server.port()).await;
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("DEL").arg(&options.stream).ignore();
    pipe.cmd("XADD").arg(&options.stream).arg("5-1").arg("topic").arg("a/b").arg("payload").arg("1").ignore();
    other.all(&pipe).await;
    let deleted = Instant::now();
    follower.until(|follower| !follower.resets.is_empty() && follower.records.len() == 1).await;
    let took = deleted.elapsed();
    println!("DEL and lower ids told after {took:?}");
    assert_eq!(follower.resets.len(), 1);
}

/// The stream goes while no gateway looks: the log has another name afterwards, though ids may go on.
#[tokio::test]
async fn a_deletion_that_nobody_saw_is_another_history() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    append(&log, 0..10).await;
    let before = log.id();
    log.close();
    drop(log);
    let log = open(&options).await;
    assert_eq!(log.id(), before);
    log.close();
    drop(log);
    let other = Other::connect(server.port()).await;
    other.run::<i64>(&["DEL", &options.stream]).await;
    let log = open(&options).await;
    assert_ne!(log.id(), before);
    assert_eq!(open(&options).await.id(), log.id(), "and all nodes agree on it");
}

/// The same, and the first node that comes afterwards dies when it has made the stream anew and not yet renamed the log.
#[tokio::test]
async fn a_deletion_that_only_a_dead_node_saw_is_another_history() {
    let Some(server) = server() else { return };
    let options = Options { partitions: 2, ..options(&server) };
    let before = open(&options).await.id();
    assert_eq!(open(&options).await.id(), before, "nothing has happened");
    let other = Other::connect(server.port()).await;
    for partition in [1, 0] {
        let named = open(&options).await.id();
        other.run::<i64>(&["DEL", &format!("{}:{partition}", options.stream)]).await;
        for _ in 0..2 {
            die_before_naming(options.clone()).await.expect("made");
        }
        let log = open(&options).await;
        assert_ne!(log.id(), named, "partition {partition} was deleted");
        assert_eq!(open(&options).await.id(), log.id(), "once");
        die_before_naming(options.clone()).await.expect("nothing to make");
        assert_eq!(open(&options).await.id(), log.id(), "whoever dies and made nothing has changed nothing");
    }
}

/// Two renamings, and a replica that has seen neither takes over: the first name is void all the same.
#[tokio::test]
async fn a_name_that_ended_long_ago_does_not_come_back() {
    let Some((server, _folder)) = own(&[]) else { return };
    let options = options(&server);
    let (log, other) = (open(&options).await, Other::connect(server.port()).await);
    let mut follower = Follower::start(&log, Start::Earliest);
    let mut names = vec![log.id()];
    for n in 1..3 {
        append(&log, 0..10).await;
        follower.until_records(10).await;
        other.run::<i64>(&["DEL", &options.stream]).await;
        follower.until(|follower| follower.resets.len() == n).await;
        names.push(log.id());
    }
    append(&log, 0..10).await;
    follower.until_records(10).await;
    let beside = format!("{{{}}}:anabranch", options.stream);
    let lost = names[0].to_string();
    assert_eq!(other.run::<i64>(&["HSET", &beside, "id", &lost]).await, 0, "there was a name");
    other.run::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    follower.until(|follower| follower.resets.len() == 3).await;
    assert!(!names.contains(&log.id()), "the next name is a new one");
    assert_eq!(other.run::<String>(&["HGET", &beside, "id"]).await, log.id().to_string());
}

/// Another stream is renamed to ours: the ids go on, the records are others.
#[tokio::test]
async fn a_replaced_stream_is_told() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let positions = append(&log, 0..100).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    follower.until_records(100).await;
    let other = Other::connect(server.port()).await;
    let twin = format!("{}-twin", options.stream);
    for n in 0..5 {
        other.add(&twin, &[("topic", b"a/b"), ("payload", n.to_string().as_bytes())]).await;
    }
    other.run::<String>(&["RENAME", &twin, &options.stream]).await;
    follower.until(|follower| !follower.resets.is_empty() && follower.records.len() == 5).await;
    assert_eq!(follower.resets.len(), 1);
    // Whoever comes back with a cursor of the old history is told too.
    let mut late = Follower::start(&log, Start::After(positions[50]));
    late.until(|follower| !follower.resets.is_empty()).await;
}

/// Another node has renamed the history, and nothing that this one follows has changed: it follows the name.
#[tokio::test]
async fn a_name_that_another_node_has_given_is_followed() {
    let Some(server) = server() else { return };
    let options = Options { partitions: 3, ..options(&server) };
    let (log, node2) = (open(&options).await, open(&options).await);
    // This node looks at partition 0 alone, and the other at 1.
    let mut follower = Follower::start(&log, Start::Earliest);
    follower.until(|follower| !follower.health.is_empty()).await;
    for n in 0..30 {
        log.append(record_of(&format!("a/b{n}"), n, 0)).await.expect("confirmed");
    }
    let mut tail = node2.tail(1, Start::Earliest);
    while !matches!(tail.next().await, Some(TailEvent::Records(_))) {}
    let before = log.id();
    let other = Other::connect(server.port()).await;
    other.run::<i64>(&["DEL", &format!("{}:1", options.stream)]).await;
    while !matches!(tail.next().await, Some(TailEvent::Reset { .. })) {}
    let renamed = Instant::now();
    follower.until(|follower| !follower.resets.is_empty()).await;
    println!("a name that another node gave is followed after {:?}", renamed.elapsed());
    assert_eq!(follower.resets, [(node2.id(), ResetReason::Renamed)]);
    assert!(log.id() == node2.id() && log.id() != before);
}
