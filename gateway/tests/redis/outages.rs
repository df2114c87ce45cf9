//! Servers that die, freeze and fill up.

use crate::kit::{everything, open, open_with, options, own};
use anabranch_gateway::log::conformance::{Follower, append, record, record_of};
use anabranch_gateway::log::verified::Patience;
use anabranch_gateway::log::{AppendError, Health, Log, Start};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Killed five times while 8 publishers write. Each append is confirmed, refused or unknown; what was confirmed is there,
/// what was refused is not, and the tail has everything once and in order.
#[tokio::test]
async fn killed_while_appends_are_outstanding() {
    let Some((mut server, _folder)) = own(&[]) else { return };
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    let mut confirmed = BTreeMap::new();
    let (mut refused, mut unknown) = (Vec::new(), 0);
    let mut n = 0_u64;
    for _ in 0..5 {
        let mut outstanding = Vec::new();
        // Some are answered, and the rest is on its way when the server dies.
        for _ in 0..4_000 {
            outstanding.push((n, log.append(record(n))));
            n += 1;
            if n.is_multiple_of(500) {
                tokio::task::yield_now().await;
            }
        }
        server.kill().expect("killed");
        outstanding.push((n, log.append(record(n))));
        n += 1;
        for (n, answer) in outstanding {
            match answer.await {
                Ok(position) => drop(confirmed.insert(position.offset, n)),
                Err(AppendError::Blocked(_) | AppendError::Full(_)) => refused.push(n),
                Err(AppendError::Unknown(_)) => unknown += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        server.restart().expect("restarted");
        let last = crate::kit::until("the log takes records again", async || {
            n += 1;
            log.append(record(n - 1)).await.ok().map(|position| (position.offset, n - 1))
        })
        .await;
        confirmed.insert(last.0, last.1);
        follower.until_covered(last.0).await;
    }
    let all = everything(&log, 0).await;
    let number = |envelope: &[u8]| -> u64 {
        let envelope: serde_json::Value = serde_json::from_slice(envelope).expect("JSON");
        envelope["payload"]["n"].as_u64().expect("a number")
    };
    let there: BTreeMap<_, _> = all.iter().map(|r| (r.position.offset, number(&r.envelope))).collect();
    for (offset, n) in &confirmed {
        assert_eq!(there.get(offset), Some(n), "a confirmed record is not there");
    }
    let numbers: Vec<u64> = there.values().copied().collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in the order of the calls, and none twice");
    for n in &refused {
        assert!(!numbers.contains(n), "record {n} was refused and is there");
    }
    assert_eq!(follower.records, all, "the tail has everything once");
    assert!(
        follower.gaps.is_empty() && follower.resets.is_empty(),
        "{:?} {:?}",
        follower.gaps,
        follower.resets
    );
    println!(
        "5 kills, {n} appends: {} confirmed, {} refused, {unknown} unknown, {} on the log; confirmed and lost 0",
        confirmed.len(),
        refused.len(),
        all.len()
    );
}

/// A server that accepts everything and answers nothing: noticed, and gone on after it wakes.
#[tokio::test]
async fn a_frozen_server_is_noticed() {
    let Some((server, _folder)) = own(&[]) else { return };
    let options = options(&server);
    let log = open_with(&options, Patience::default()).await;
    append(&log, 0..10).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    follower.until_records(10).await;
    server.freeze().expect("frozen");
    let frozen = Instant::now();
    let outstanding = log.append(record(10));
    follower.until(|follower| matches!(follower.health.last(), Some(Health::Retrying(_)))).await;
    println!("a frozen server is noticed after {:?}", frozen.elapsed());
    let answer = outstanding.await;
    assert!(matches!(answer, Err(AppendError::Unknown(_))), "{answer:?}");
    let refused = log.append(record(11)).await;
    assert!(matches!(refused, Err(AppendError::Blocked(_))), "{refused:?}");
    server.thaw().expect("thawed");
    follower.until(|follower| matches!(follower.health.last(), Some(Health::Connected))).await;
    let position = crate::kit::until("appends", async || log.append(record(12)).await.ok()).await;
    follower.until_covered(position.offset).await;
    let envelopes: Vec<_> = follower.records.iter().skip(10).map(|record| record.envelope.clone()).collect();
    // The one of which nothing was known may have been stored when the server woke.
    assert!(
        envelopes == [record(12).envelope] || envelopes == [record(10).envelope, record(12).envelope],
        "{envelopes:?}"
    );
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

/// Memory is full: publishes are refused with a remedy, reading goes on, and so does writing when there is room again.
#[tokio::test]
async fn a_full_server_refuses_and_delivers() {
    let Some((server, _folder)) = own(&["maxmemory 20mb", "maxmemory-policy noeviction"]) else { return };
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Next);
    follower.until(|follower| !follower.health.is_empty()).await;
    let mut stored = 0;
    let refused = loop {
        match log.append(record_of("a/b", stored, 200_000)).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1_000, "20 MB never fill up");
    };
    let said = format!("{refused:?}");
    assert!(said.contains("Full") && said.contains("maxmemory"), "{said}");
    follower.until_records(stored as usize).await;
    follower.until(|follower| matches!(follower.health.last(), Some(Health::Blocked(_)))).await;
    let late = Follower::start(&log, Start::Earliest).until_records(stored as usize).await.records.len();
    assert_eq!(late, stored as usize);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).expect("more room");
    log.append(record_of("a/b", stored, 0)).await.expect("there is room");
    follower.until(|follower| matches!(follower.health.last(), Some(Health::Connected))).await;
    follower.until_records(stored as usize + 1).await;
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

/// Somebody kills the gateway's connections, again and again.
#[tokio::test]
async fn cut_connections_are_replaced() {
    let Some((server, _folder)) = own(&[]) else { return };
    let options = options(&server);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    let mut stored = 0;
    for n in 0..200 {
        if n % 20 == 10 {
            server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).expect("killed");
        }
        stored += usize::from(log.append(record(n)).await.is_ok());
    }
    let last = crate::kit::until("appends", async || log.append(record(1_000)).await.ok()).await;
    follower.until_covered(last.offset).await;
    assert!(follower.records.len() > stored);
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
    assert_eq!(follower.records, everything(&log, 0).await);
}

/// With `wait`, a publish that no replica has is unknown, not confirmed.
#[tokio::test]
async fn a_publish_waits_for_replicas() {
    let (Some((primary, _one)), Some((replica, _two))) = (own(&[]), own(&[])) else { return };
    let mut options = options(&primary);
    options.wait = 1;
    let log = open(&options).await;
    let alone = log.append(record(0)).await;
    assert!(matches!(&alone, Err(AppendError::Unknown(why)) if why.contains("0 of 1")), "{alone:?}");
    replica.replica_of(&primary).expect("a replica");
    log.append(record(1)).await.expect("confirmed with its replica");
    let length = replica.cli(&["XLEN", &options.stream]).expect("an answer");
    assert_eq!(length, "2");
}
