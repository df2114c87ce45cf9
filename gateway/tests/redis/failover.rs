//! A replica that lacks the newest records takes over.

use crate::kit::{Other, open, options, own};
use crate::relay::Relay;
use anabranch_gateway::log::conformance::{Follower, append};
use anabranch_gateway::log::redis::Options;
use anabranch_gateway::log::{Log, Start};

/// The primary confirms and serves records that its replica has not seen, and dies. The replica takes over and gets one
/// more record, so that ids go beyond the lost ones. Every cursor in the lost part is told; those before it go on.
#[tokio::test]
async fn a_lost_tail_is_told_to_every_cursor_in_it() {
    let (Some((mut primary, _one)), Some((replica, _two))) = (own(&[]), own(&[])) else { return };
    let relay = Relay::to(primary.port()).await;
    let options = Options { nodes: vec![("127.0.0.1".into(), relay.port)], ..options(&primary) };
    let log = open(&options).await;
    let mut positions = append(&log, 0..50).await;
    replica.replica_of(&primary).expect("a replica");
    // Cut off from the primary, which goes on.
    replica.cli(&["REPLICAOF", "127.0.0.1", "1"]).expect("cut off");
    positions.extend(append(&log, 50..60).await);
    let mut follower = Follower::start(&log, Start::Earliest);
    follower.until_records(60).await;
    let before = log.id();
    primary.kill().expect("killed");
    replica.cli(&["REPLICAOF", "NO", "ONE"]).expect("promoted");
    let other = Other::connect(replica.port()).await;
    other.add(&options.stream, &[("topic", b"a/b"), ("payload", b"\"hides the loss\"")]).await;
    relay.switch(replica.port());
    follower.until(|follower| !follower.resets.is_empty() && follower.records.len() == 1).await;
    assert_ne!(log.id(), before);
    for (at, resets) in [(49, 0), (50, 1), (55, 1), (59, 1)] {
        let mut follower = Follower::start(&log, Start::After(positions[at]));
        follower.until_covered(follower_end(&log).await).await;
        // What hides the loss stands, and the node knows it by now.
        assert_eq!(follower.records.len(), 1 - resets);
        assert_eq!(follower.resets.len(), resets, "after record {at}: {:?}", follower.resets);
        assert_eq!(follower.gaps, []);
    }
}

async fn follower_end(log: &dyn Log) -> anabranch_protocol::cursor::Offset {
    log.bounds(0).await.expect("bounds").last
}

/// A primary that was made a replica says so to publishers, and to nobody anything else.
#[tokio::test]
async fn a_demoted_primary_refuses_with_a_remedy() {
    let (Some((one, _folder)), Some((two, _other))) = (own(&[]), own(&[])) else { return };
    let options = options(&one);
    let log = open(&options).await;
    append(&log, 0..10).await;
    two.replica_of(&one).expect("a replica");
    two.cli(&["REPLICAOF", "NO", "ONE"]).expect("promoted");
    one.replica_of(&two).expect("demoted");
    let refused = log.append(anabranch_gateway::log::conformance::record(10)).await;
    let said = format!("{refused:?}");
    assert!(said.contains("Blocked") && said.contains("primary") && said.contains("READONLY"), "{said}");
    let mut follower = Follower::start(&log, Start::Earliest);
    follower.until_records(10).await;
}
