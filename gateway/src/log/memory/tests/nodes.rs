//! Two nodes on one broker: what one finds out, the other must not go on without. The clock is virtual.

use crate::log::conformance::{Follower, append, record, record_of};
use crate::log::memory::{Lies, MemoryLog, Options};
use crate::log::{Log, ResetReason, Start, TailEvent};
use anabranch_protocol::cursor::{LogId, Offset};
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Within so long a node follows the name that another has given.
const BOUND: Duration = Duration::from_secs(11);

/// A node that cannot see that the history has ended: all that it saw was trimmed before it came, and the next history is
/// as long. The other node has seen it, and has given the history another name.
async fn one_renames() -> (Arc<MemoryLog>, Lies, Follower) {
    let blind = MemoryLog::new(Options::default());
    let seeing = blind.beside();
    assert_eq!(blind.id(), seeing.id());
    let lies = blind.lies();
    append(&*blind, 0..10).await;
    let mut other = Follower::start(&*seeing, Start::Earliest);
    other.until_records(10).await;
    lies.truncate(0, Offset(11));
    let mut follower = Follower::start(&*blind, Start::Next);
    follower.until(|follower| !follower.health.is_empty()).await;
    lies.recreate((100..110).map(record).collect());
    let before = blind.id();
    other.until(|follower| !follower.resets.is_empty()).await;
    assert_ne!(seeing.id(), before);
    (blind, lies, follower)
}

#[tokio::test(start_paused = true)]
async fn a_name_that_another_node_has_given_is_followed() {
    let (log, _, mut follower) = one_renames().await;
    let renamed = Instant::now();
    follower.until(|follower| !follower.resets.is_empty()).await;
    assert!(renamed.elapsed() <= BOUND, "found after {:?}", renamed.elapsed());
    assert_eq!(follower.resets, [(log.beside().id(), ResetReason::Renamed)]);
    append(&*log, 10..11).await;
    follower.until_records(11).await;
    assert_eq!(follower.records[0].position.offset, Offset(1), "the next history from its beginning");
    assert_eq!(follower.resets.len(), 1);
}

/// What another history has in common with the one before is not delivered once more: all of it if only the name is another, what
/// stands if an end was lost.
#[tokio::test(start_paused = true)]
async fn what_still_stands_is_no_news_in_another_history() {
    for lost in [0, 1, 40] {
        let log = MemoryLog::new(Options::default());
        let lies = log.lies();
        append(&*log, 0..100).await;
        let mut follower = Follower::start(&*log, Start::Earliest);
        follower.until_records(100).await;
        match lost {
            0 => lies.name(Some(LogId(77))),
            lost => lies.fail_over(0, lost),
        }
        lies.disconnect();
        follower.until(|follower| !follower.resets.is_empty()).await;
        append(&*log, 100..101).await;
        let newest = log.bounds(0).await.expect("bounds").last;
        follower.until_covered(newest).await;
        let stood = 100 - lost as u64;
        let first = follower.offsets()[0].0;
        assert_eq!(first, stood + 1, "{lost} lost: {:?}", follower.offsets());
        assert_eq!(follower.offsets(), (first..=newest.0).map(Offset).collect::<Vec<_>>());
        assert!(follower.gaps.is_empty() && follower.resets.len() == 1);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_reconnect_nothing_is_delivered_under_a_void_name() {
    let (log, lies, mut follower) = one_renames().await;
    lies.disconnect();
    append(&*log, 10..11).await;
    let reconnected = Instant::now();
    follower.until(|follower| !follower.resets.is_empty() || !follower.records.is_empty()).await;
    assert_eq!(follower.records.len(), 0, "a record came before the reset");
    assert!(reconnected.elapsed() < Duration::from_secs(1), "found after {:?}", reconnected.elapsed());
    follower.until_records(11).await;
}

#[tokio::test(start_paused = true)]
async fn one_question_in_a_while_serves_all_tails() {
    let log = MemoryLog::new(Options::default());
    let lies = log.lies();
    let mut tails: Vec<_> = (0..20).map(|_| Follower::start(&*log, Start::Earliest)).collect();
    append(&*log, 0..1).await;
    for tail in &mut tails {
        tail.until_records(1).await;
    }
    let connected = lies.asked_for_the_name();
    assert!(connected <= 2, "asked {connected} times when 20 tails connected at once");
    for n in 1..10_000 {
        append(&*log, n..n + 1).await;
    }
    for tail in &mut tails {
        tail.until_records(10_000).await;
    }
    assert_eq!(lies.asked_for_the_name(), connected, "a record is no reason to ask");
    let idle = futures_util::future::join_all(tails.iter_mut().map(|tail| tail.step()));
    assert!(timeout(Duration::from_secs(19), idle).await.is_err(), "nothing happens");
    let asked = lies.asked_for_the_name() - connected;
    assert_eq!(asked, 1, "so often in 19 s");
}

#[tokio::test(start_paused = true)]
async fn every_tail_follows_once() {
    let (log, lies, mut follower) = one_renames().await;
    lies.disconnect();
    let mut more: Vec<_> = (0..5).map(|_| Follower::start(&*log, Start::Earliest)).collect();
    follower.until_records(10).await;
    for tail in &mut more {
        tail.until_records(10).await;
        assert_eq!(tail.resets, follower.resets);
    }
    append(&*log, 10..20).await;
    for tail in &mut more {
        tail.until_records(20).await;
        assert_eq!(tail.resets.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_history_without_a_name_has_ended() {
    let log = MemoryLog::new(Options::default());
    let before = log.id();
    let mut follower = Follower::start(&*log, Start::Earliest);
    append(&*log, 0..10).await;
    follower.until_records(10).await;
    log.lies().name(None);
    follower.until(|follower| !follower.resets.is_empty()).await;
    assert_eq!(follower.resets, [(log.id(), ResetReason::Recreated)]);
    assert!(log.id() != before && log.id() == log.beside().id());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_has_ended_does_not_come_back() {
    let log = MemoryLog::new(Options::default());
    let (first, lies) = (log.id(), log.lies());
    let mut follower = Follower::start(&*log, Start::Earliest);
    append(&*log, 0..10).await;
    follower.until_records(10).await;
    lies.recreate(Vec::new());
    follower.until(|follower| follower.resets.len() == 1).await;
    let second = log.id();
    // A replica takes over that has not seen the renaming.
    lies.name(Some(first));
    lies.disconnect();
    follower.until(|follower| follower.resets.len() == 2).await;
    assert!(![first, second].contains(&log.id()), "the next name is a new one");
    assert_eq!(log.id(), log.beside().id());
}

/// Two renamings, and a replica that has seen neither: the oldest name is void as well, whether the node asks for the name
/// or gives another.
#[tokio::test(start_paused = true)]
async fn a_name_that_ended_long_ago_does_not_come_back() {
    for ends in [false, true] {
        let log = MemoryLog::new(Options::default());
        let lies = log.lies();
        let mut follower = Follower::start(&*log, Start::Earliest);
        let mut names = vec![log.id()];
        for n in 1..4 {
            append(&*log, 0..10).await;
            follower.until_records(10).await;
            lies.recreate(Vec::new());
            follower.until(|follower| follower.resets.len() == n).await;
            names.push(log.id());
        }
        append(&*log, 0..10).await;
        follower.until_records(10).await;
        lies.name(Some(names[0]));
        if ends {
            lies.recreate(Vec::new());
        } else {
            lies.disconnect();
        }
        follower.until(|follower| follower.resets.len() == 4).await;
        assert!(!names.contains(&log.id()), "the next name is a new one");
        assert_eq!(log.id(), log.beside().id());
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_tell_the_name_is_not_believed_for_ever() {
    let log = MemoryLog::new(Options::default());
    let mut follower = Follower::start(&*log, Start::Earliest);
    append(&*log, 0..10).await;
    follower.until_records(10).await;
    log.lies().withhold_the_name(true);
    for n in 10..20 {
        tokio::time::advance(Duration::from_secs(5)).await;
        append(&*log, n..n + 1).await;
        follower.until(|follower| follower.records.len() as u64 > n || follower.health.len() == 2).await;
    }
    let said = format!("{:?}", follower.health[1]);
    assert!(said.contains("Retrying") && said.contains("name of the history"), "{said}");
    log.lies().withhold_the_name(false);
    follower.until_records(20).await;
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

/// A tail has read a gap and what lies behind it, and has handed out the gap, when the tail of another partition finds that the history has
/// ended. Whoever follows the tails has not seen those records.
#[tokio::test(start_paused = true)]
async fn what_was_not_handed_out_when_the_history_ended_comes_in_the_next() {
    let log = MemoryLog::new(Options { partitions: 2, ..Options::default() });
    let append = async |topic: &str, n| log.append(record_of(topic, n, 0)).await.expect("appended");
    let mut topics = [None, None];
    for n in 0..64 {
        let topic = format!("t/{n}");
        let partition = append(&topic, n).await.partition;
        topics[usize::from(partition)].get_or_insert(topic);
    }
    let topic = topics[1].as_deref().expect("each partition has some");
    let mut other = Follower::start(&*log, Start::Earliest);
    other.until(|follower| !follower.records.is_empty()).await;
    let mut tail = log.tail(1, Start::Earliest);
    while !matches!(tail.next().await, Some(TailEvent::Records(_))) {}
    let mut unread = Vec::new();
    for n in 100..103 {
        unread.push(append(topic, n).await);
    }
    log.lies().truncate(1, unread[1].offset);
    while !matches!(tail.next().await, Some(TailEvent::Gap(_))) {}
    log.lies().name(Some(LogId(77)));
    other.until(|follower| !follower.resets.is_empty()).await;
    let (mut reset, mut seen) = (false, Vec::new());
    while seen.len() < 2 {
        match timeout(BOUND, tail.next()).await.expect("it comes").expect("it goes on") {
            TailEvent::Reset { .. } => reset = true,
            TailEvent::Records(batch) => seen.extend(batch.records.into_iter().map(|record| record.position)),
            _ => {}
        }
        assert!(reset || seen.is_empty(), "of a history that has ended: {seen:?}");
    }
    assert_eq!(seen, unread[1..]);
}
