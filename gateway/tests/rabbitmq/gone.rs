//! A stream that is deleted, and made anew.

use crate::kit::{Foreign, open, options, payload, server};
use anabranch_gateway::log::conformance::{Follower, append};
use anabranch_gateway::log::{Log, Start};
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
