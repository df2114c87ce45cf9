//! Several nodes on one stream.

use crate::kit::{open, options, server};
use anabranch_gateway::log::conformance::{Follower, append};
use anabranch_gateway::log::{Log, Start};
use futures_util::future::join_all;

#[tokio::test]
async fn nodes_that_start_at_once_agree() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let logs = join_all((0..5).map(|_| open(&options))).await;
    let ids: Vec<_> = logs.iter().map(Log::id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let mut followers: Vec<_> = logs.iter().map(|log| Follower::start(log, Start::Earliest)).collect();
    let appended = join_all(logs.iter().enumerate().map(|(node, log)| async move {
        let first = node as u64 * 100;
        append(log, first..first + 100).await
    }));
    let mut positions: Vec<_> = appended.await.concat();
    positions.sort_by_key(|position| position.offset);
    for follower in &mut followers {
        follower.until_records(positions.len()).await;
        let found: Vec<_> = follower.records.iter().map(|record| record.position).collect();
        assert_eq!(found, positions, "every node sees what every append was told");
    }
    assert!(followers.windows(2).all(|two| two[0].records == two[1].records), "to the last byte");
}
