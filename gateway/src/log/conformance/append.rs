//! Appending.

use super::{Harness, append, record, record_of};
use crate::log::{AppendError, Budget, Log, Record, fingerprint};
use anabranch_protocol::cursor::Offset;
use futures_util::future::join_all;

const ALL: Budget = Budget { records: usize::MAX, bytes: usize::MAX };

/// Every record, read page by page.
pub(super) async fn everything(log: &dyn Log) -> Vec<Record> {
    let mut records = Vec::new();
    let mut after = Offset(log.bounds(0).await.expect("bounds").oldest.0 - 1);
    loop {
        let batch = log.read(0, after, ALL).await.expect("readable");
        after = batch.covered_to;
        records.extend(batch.records);
        if batch.at_end {
            return records;
        }
    }
}

pub(super) async fn appended_records_are_read_back(harness: &mut dyn Harness) {
    let log = harness.log();
    let new: Vec<_> = (0..100).map(record).collect();
    let mut positions = Vec::new();
    for new in &new {
        positions.push(log.append(new.clone()).await.expect("confirmed"));
    }
    let records = everything(&*log).await;
    assert_eq!(records.len(), new.len());
    for ((record, new), position) in records.iter().zip(&new).zip(positions) {
        assert_eq!(record.position, position);
        assert_eq!(record.position.fingerprint, Some(fingerprint(&new.envelope)));
        assert_eq!(&*record.topic, new.topic.as_str());
        assert_eq!(record.key, new.key);
        assert_eq!(record.envelope, new.envelope);
        assert!(record.time > 1_700_000_000_000, "milliseconds since 1970");
    }
    assert!(records.windows(2).all(|two| two[0].position.offset < two[1].position.offset));
    assert!(records[0].position.offset > Offset(0), "0 stands before the first record");
}

pub(super) async fn offsets_follow_the_order_of_calls(harness: &mut dyn Harness) {
    let log = harness.log();
    let mut confirms: Vec<_> = (0..200).map(|n| log.append(record(n))).collect();
    // Polled in the wrong order, on purpose.
    confirms.reverse();
    let mut positions = join_all(confirms).await;
    positions.reverse();
    let offsets: Vec<_> = positions.into_iter().map(|p| p.expect("confirmed").offset).collect();
    assert!(offsets.is_sorted_by(|a, b| a < b), "{offsets:?}");
}

pub(super) async fn a_dropped_append_is_done(harness: &mut dyn Harness) {
    let log = harness.log();
    drop(log.append(record(0)));
    log.append(record(1)).await.expect("confirmed");
    let envelopes: Vec<_> = everything(&*log).await.into_iter().map(|r| r.envelope).collect();
    assert_eq!(envelopes, [record(0).envelope, record(1).envelope]);
}

pub(super) async fn concurrent_appends_get_their_own_offsets(harness: &mut dyn Harness) {
    let log = harness.log();
    let tasks = (0..20u64).map(|task| {
        let log = log.clone();
        tokio::spawn(async move { append(&*log, task * 100..task * 100 + 100).await })
    });
    let mut offsets: Vec<_> = join_all(tasks)
        .await
        .into_iter()
        .flat_map(|task| task.expect("no panic"))
        .map(|p| p.offset)
        .collect();
    offsets.sort();
    let found: Vec<_> = everything(&*log).await.into_iter().map(|record| record.position.offset).collect();
    assert_eq!(found, offsets);
    assert!(offsets.is_sorted_by(|a, b| a < b), "an offset was given twice");
}

pub(super) async fn envelopes_of_every_size_are_kept(harness: &mut dyn Harness) {
    let log = harness.log();
    let max = log.capabilities().max_record;
    let least = record_of("t", 0, 0).envelope.len();
    let sizes = [0, 1, 2, 3, 7, 63, 64, 255, 256, 1_000, 4_050, 8_192, 65_535, 65_536, max - least];
    let new: Vec<_> = sizes.iter().map(|&padding| record_of("t", 0, padding.min(max - least))).collect();
    for new in &new {
        log.append(new.clone()).await.expect("confirmed");
    }
    let records = everything(&*log).await;
    assert_eq!(records.len(), new.len());
    for (record, new) in records.iter().zip(&new) {
        assert!(record.envelope == new.envelope, "{} bytes differ", new.envelope.len());
    }
}

pub(super) async fn too_large_is_refused(harness: &mut dyn Harness) {
    let log = harness.log();
    let max = log.capabilities().max_record;
    let new = record_of("t", 0, max);
    let size = new.envelope.len();
    assert_eq!(log.append(new).await, Err(AppendError::TooLarge { size, max }));
    log.append(record(1)).await.expect("the log goes on");
    assert_eq!(everything(&*log).await.len(), 1);
}
