//! Many readers at once.

use crate::kit::{open, options, server};
use anabranch_gateway::log::conformance::append;
use anabranch_gateway::log::{Budget, Log};
use anabranch_protocol::cursor::Offset;
use futures_util::future::join_all;

/// More than there are connections for reads, each to the end of the log, on a node that has seen nothing of it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_at_different_places_do_not_wait_for_each_other() {
    let Some(server) = server() else { return };
    let options = options(&server);
    append(&open(&options).await, 0..300).await;
    let late = open(&options).await;
    let all = Budget { records: usize::MAX, bytes: usize::MAX };
    for round in 0..3 {
        let reads = (0..12).map(|n| late.read(0, Offset(n * 20), all));
        for (n, read) in (0..).zip(join_all(reads).await) {
            let batch = read.unwrap_or_else(|error| panic!("round {round}, reader {n}: {error}"));
            let first = batch.records.first().map(|record| record.position.offset);
            assert!(batch.at_end && first.is_some_and(|first| first.0 <= n * 20 + 2), "{first:?}");
        }
    }
}
