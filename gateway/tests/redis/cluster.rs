//! Three primaries that share the partitions.

use crate::kit::{everything, had, open, options};
use anabranch_brokers::RedisCluster;
use anabranch_gateway::log::conformance::{Follower, append, record_of};
use anabranch_gateway::log::redis::Options;
use anabranch_gateway::log::{Log, Start, TailEvent};
use futures_util::StreamExt;

fn of(cluster: &RedisCluster, partitions: u16) -> Options {
    let nodes = cluster.nodes.iter().map(|node| ("127.0.0.1".into(), node.port())).collect();
    Options { cluster: true, nodes, partitions, ..options(&cluster.nodes[0]) }
}

/// Six partitions on three servers, one of which dies and comes back.
#[tokio::test]
async fn partitions_live_on_all_nodes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mut cluster) = had(RedisCluster::start(folder.path(), 3)) else { return };
    let options = of(&cluster, 6);
    // One node is enough to find the others.
    let options = Options { nodes: options.nodes[..1].to_vec(), ..options };
    let log = open(&options).await;
    let mut tails: Vec<_> = (0..6).map(|partition| log.tail(partition, Start::Earliest)).collect();
    for n in 0..600 {
        log.append(record_of(&format!("iotsphere/t{n}"), n, 0)).await.expect("confirmed");
    }
    let held = |node: usize| -> usize {
        let keys = cluster.nodes[node].cli(&["KEYS", "*"]).expect("keys");
        keys.lines().filter(|key| key.starts_with(&options.stream)).count()
    };
    let spread = [held(0), held(1), held(2)];
    println!("6 partitions on 3 nodes: {spread:?}");
    assert_eq!(spread.iter().sum::<usize>(), 6);
    assert!(spread.iter().filter(|held| **held > 0).count() > 1, "{spread:?}");
    cluster.nodes[1].kill().expect("killed");
    cluster.nodes[1].restart().expect("restarted");
    for n in 600..700 {
        let topic = format!("iotsphere/t{n}");
        crate::kit::until("the cluster takes records again", async || {
            log.append(record_of(&topic, n, 0)).await.ok()
        })
        .await;
    }
    let mut total = 0;
    for (partition, tail) in tails.iter_mut().enumerate() {
        let all = everything(&log, partition as u16).await;
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
    // A record of which nothing was known when the node died may be there twice.
    assert!(total >= 700, "{total}");
}

/// The stream's slot moves to another node while it is written and read.
#[tokio::test]
async fn a_moved_slot_is_followed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(cluster) = had(RedisCluster::start(folder.path(), 3)) else { return };
    let options = of(&cluster, 1);
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    let mut positions = append(&log, 0..100).await;
    follower.until_records(100).await;
    let cli = |node: usize, words: &[&str]| cluster.nodes[node].cli(words).expect("an answer");
    let slot = cli(0, &["CLUSTER", "KEYSLOT", &options.stream]);
    let ids: Vec<String> = (0..3).map(|node| cli(node, &["CLUSTER", "MYID"])).collect();
    let holds = |node: &usize| cli(*node, &["CLUSTER", "COUNTKEYSINSLOT", &slot]) != "0";
    let from = (0..3).find(holds).expect("a holder");
    let to = (from + 1) % 3;
    cli(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[from]]);
    cli(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[to]]);
    let beside = format!("{{{}}}:anabranch", options.stream);
    let port = cluster.nodes[to].port().to_string();
    cli(from, &["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS", &options.stream, &beside]);
    // The keys are there, the slot still belongs here: whoever asks is sent on (ASK).
    positions.push(appended(&log, 100).await);
    follower.until_covered(positions[100].offset).await;
    for node in [to, from, (from + 2) % 3] {
        cli(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &ids[to]]);
    }
    positions.push(appended(&log, 101).await);
    follower.until_covered(positions[101].offset).await;
    assert!(
        follower.gaps.is_empty() && follower.resets.is_empty(),
        "{:?} {:?}",
        follower.gaps,
        follower.resets
    );
    let all: Vec<_> = everything(&log, 0).await.into_iter().map(|record| record.position).collect();
    assert_eq!(all, positions);
}

async fn appended(log: &dyn Log, n: u64) -> anabranch_protocol::cursor::Position {
    let record = record_of("iotsphere/moved", n, 0);
    crate::kit::until("the append follows", async || log.append(record.clone()).await.ok()).await
}
