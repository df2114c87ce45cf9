//! A stream that is deleted, and made anew.

use crate::kit::{Foreign, append_when_possible, open, options, payload, server};
use anabranch_gateway::log::conformance::{Follower, append, record};
use anabranch_gateway::log::rabbitmq::Options;
use anabranch_gateway::log::{AppendError, Log, Start};
use anabranch_protocol::cursor::LogId;
use futures_util::future::join_all;
use std::time::Instant;

#[tokio::test]
async fn a_deleted_stream_is_made_anew_and_every_node_resets() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let (one, two) = (open(&options).await, open(&options).await);
    assert_eq!(one.id(), two.id());
    let before = one.id();
    let foreign = Foreign::new(&options).await;
    let mut followers = [Follower::start(&one, Start::Earliest), Follower::start(&two, Start::Earliest)];
    append(&one, 0..50).await;
    for follower in &mut followers {
        follower.until_records(50).await;
    }
    foreign.delete(&options.queue).await;
    let begun = Instant::now();
    for follower in &mut followers {
        follower.until(|follower| !follower.resets.is_empty()).await;
    }
    println!("told after {:?}", begun.elapsed());
    append(&two, 50..60).await;
    for follower in &mut followers {
        follower.until_records(10).await;
        assert_eq!(follower.resets.len(), 1, "{:?}", follower.resets);
    }
    assert_ne!(one.id(), before);
    assert_eq!(one.id(), two.id(), "all nodes have the same name for it");
    assert_eq!(followers[0].resets, followers[1].resets);
    let three = open(&options).await;
    assert_eq!(three.id(), one.id(), "and a new one, too");
}

#[tokio::test]
async fn a_stream_that_somebody_else_made_anew_is_a_reset() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    let before = log.id();
    let foreign = Foreign::new(&options).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    append(&log, 0..50).await;
    follower.until_records(50).await;
    foreign.delete(&options.queue).await;
    // Perhaps faster than we are; the records are others, and more than before.
    let other = open(&options).await;
    for n in 0..100 {
        foreign.publish("a", n.to_string().as_bytes()).await;
    }
    follower.until(|follower| !follower.resets.is_empty() && follower.records.len() == 100).await;
    let payloads: Vec<_> = follower.records.iter().map(payload).collect();
    assert_eq!(payloads, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_ne!(log.id(), before);
    drop(other);
}

/// However young it is: clients may have its cursors already.
#[tokio::test]
async fn a_young_stream_that_is_deleted_does_not_come_back_under_its_name() {
    let Some(server) = server() else { return };
    for partitions in [1, 3] {
        let options = Options { partitions, ..options(&server) };
        let one = open(&options).await;
        let before = one.id();
        let foreign = Foreign::new(&options).await;
        let last = if partitions == 1 { options.queue.clone() } else { format!("{}-2", options.queue) };
        foreign.delete(&last).await;
        // Nobody tails, so nobody has noticed; this node makes it anew.
        let two = open(&options).await;
        assert_ne!(two.id(), before, "partitions: {partitions}");
        let mut follower = Follower::start(&one, Start::Earliest);
        follower.until(|follower| !follower.resets.is_empty()).await;
        assert_eq!(one.id(), two.id(), "the tail of a partition that was not deleted is told too");
    }
}

#[tokio::test]
async fn nodes_that_find_it_deleted_at_once_agree() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let logs = join_all((0..3).map(|_| open(&options))).await;
    let foreign = Foreign::new(&options).await;
    for round in 0..3 {
        let before = logs[0].id();
        let mut followers: Vec<_> = logs.iter().map(|log| Follower::start(log, Start::Earliest)).collect();
        append(&logs[0], 0..1).await;
        for follower in &mut followers {
            follower.until_records(1).await;
        }
        foreign.delete(&options.queue).await;
        let newcomers = join_all((0..2).map(|_| open(&options))).await;
        for follower in &mut followers {
            follower.until(|follower| !follower.resets.is_empty()).await;
        }
        let ids: Vec<_> = logs.iter().chain(&newcomers).map(Log::id).collect();
        assert!(
            ids.iter().all(|id| *id == ids[0] && *id != before),
            "round {round}: {ids:?}, was {before:?}"
        );
        assert!(followers.iter().all(|follower| follower.resets.len() == 1));
    }
}

/// As a node leaves it that dies on the way.
#[tokio::test]
async fn a_history_that_nobody_was_told_is_completed_under_its_name() {
    let Some(server) = server() else { return };
    for also_streams in [false, true] {
        let options = options(&server);
        let foreign = Foreign::new(&options).await;
        foreign.stream(&format!("{}.history", options.queue)).await;
        if also_streams {
            foreign.stream_as(&options.queue, options.segment_bytes).await;
        }
        let link = r#"{"void":"0","id":"abc","time":1,"partitions":1}"#;
        foreign.publish_to(&format!("{}.history", options.queue), link.as_bytes()).await;
        let logs = join_all((0..2).map(|_| open(&options))).await;
        assert!(logs.iter().all(|log| log.id() == LogId(0xabc)), "{also_streams}: {:?}", logs[0].id());
        // Now it is made, so whatever goes missing was deleted.
        foreign.delete(&options.queue).await;
        assert_ne!(open(&options).await.id(), LogId(0xabc));
    }
}

#[tokio::test]
async fn a_publish_to_a_stream_that_was_deleted_may_be_tried_again() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let log = open(&options).await;
    append(&log, 0..1).await;
    Foreign::new(&options).await.delete(&options.queue).await;
    // Whoever hears first of the deletion makes it anew: a reader's end, or a record that is given back.
    let outcomes = join_all((1..20).map(|n| log.append(record(n)))).await;
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(_) | Err(AppendError::Blocked(_))), "{outcome:?}");
    }
    append_when_possible(&log, 20).await;
}
