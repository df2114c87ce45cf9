//! Reading, bounds, and places in time.

use super::append::everything;
use super::{Harness, append};
use crate::log::{Budget, ReadError, Start, TailEvent};
use anabranch_protocol::cursor::Offset;
use futures_util::stream::StreamExt;

const ALL: Budget = Budget { records: usize::MAX, bytes: usize::MAX };

pub(super) async fn an_empty_log_is_empty(harness: &mut dyn Harness) {
    let log = harness.log();
    let batch = log.read(0, Offset(0), ALL).await.expect("readable");
    assert!(batch.records.is_empty() && batch.at_end);
    assert_eq!(batch.covered_to, Offset(0));
    let bounds = log.bounds(0).await.expect("bounds");
    assert_eq!((bounds.newest, bounds.last), (None, Offset(0)));
    assert_eq!(bounds.oldest, Offset(1), "a cursor before the first record has missed nothing");
    assert_eq!(log.locate(0, 0).await, Ok(Offset(0)));
}

pub(super) async fn a_read_stops_at_its_budget(harness: &mut dyn Harness) {
    let log = harness.log();
    append(&*log, 0..50).await;
    let three = log.read(0, Offset(0), Budget { records: 3, bytes: usize::MAX }).await.expect("readable");
    assert_eq!(three.records.len(), 3);
    assert!(!three.at_end);
    let size = three.records[0].envelope.len();
    let bytes = Budget { records: usize::MAX, bytes: size * 10 };
    let ten = log.read(0, Offset(0), bytes).await.expect("readable");
    assert!((5..=10).contains(&ten.records.len()), "{} records in {} bytes", ten.records.len(), bytes.bytes);
    for budget in [Budget { records: 0, bytes: 0 }, Budget { records: 1, bytes: 1 }] {
        let one = log.read(0, Offset(0), budget).await.expect("readable");
        assert_eq!(one.records.len(), 1, "a read makes progress");
        assert_eq!(one.covered_to, one.records[0].position.offset);
    }
}

pub(super) async fn pages_join_without_seam(harness: &mut dyn Harness) {
    let log = harness.log();
    let positions = append(&*log, 0..1000).await;
    for budget in [1, 2, 7, 64, 999, 1000, 1001] {
        let budget = Budget { records: budget, bytes: usize::MAX };
        let mut after = Offset(0);
        let mut found = Vec::new();
        loop {
            let batch = log.read(0, after, budget).await.expect("readable");
            assert!(batch.records.len() <= budget.records);
            assert!(batch.covered_to > after || batch.at_end, "a read makes progress");
            found.extend(batch.records.iter().map(|record| record.position));
            after = batch.covered_to;
            if batch.at_end {
                break;
            }
        }
        assert_eq!(found, positions, "by pages of {}", budget.records);
    }
}

pub(super) async fn a_read_begins_anywhere(harness: &mut dyn Harness) {
    let log = harness.log();
    let positions = append(&*log, 0..300).await;
    let one = Budget { records: 1, bytes: usize::MAX };
    for at in (0..positions.len() - 1).step_by(13) {
        let batch = log.read(0, positions[at].offset, one).await.expect("readable");
        assert_eq!(batch.records[0].position, positions[at + 1]);
        // This is how a client's cursor is verified.
        let batch = log.read(0, Offset(positions[at].offset.0 - 1), one).await.expect("readable");
        assert_eq!(batch.records[0].position, positions[at]);
    }
}

pub(super) async fn a_read_beyond_the_end_says_where_the_end_is(harness: &mut dyn Harness) {
    let log = harness.log();
    let last = append(&*log, 0..10).await[9].offset;
    let batch = log.read(0, last, ALL).await.expect("readable");
    assert!(batch.records.is_empty() && batch.at_end);
    assert_eq!(batch.covered_to, last);
    let batch = log.read(0, Offset(last.0 + 5), ALL).await.expect("readable");
    assert!(batch.records.is_empty() && batch.at_end);
    assert_eq!(batch.covered_to, last, "offsets that were never given are not covered");
    let batch = log.read(0, Offset(u64::MAX), ALL).await.expect("readable");
    assert_eq!(batch.covered_to, last);
}

pub(super) async fn bounds_name_the_newest_record(harness: &mut dyn Harness) {
    let log = harness.log();
    for round in 0..3 {
        let last = *append(&*log, round * 10..round * 10 + 10).await.last().expect("ten");
        let bounds = log.bounds(0).await.expect("bounds");
        assert_eq!(bounds.newest, Some(last));
        assert_eq!(bounds.last, last.offset);
        assert_eq!(bounds.oldest, Offset(1));
    }
}

pub(super) async fn unknown_partitions_are_refused(harness: &mut dyn Harness) {
    let log = harness.log();
    let unknown = log.capabilities().partitions;
    assert_eq!(log.read(unknown, Offset(0), ALL).await, Err(ReadError::NoPartition(unknown)));
    assert_eq!(log.bounds(unknown).await, Err(ReadError::NoPartition(unknown)));
    assert_eq!(log.locate(unknown, 0).await, Err(ReadError::NoPartition(unknown)));
    let event = log.tail(unknown, Start::Earliest).next().await;
    assert!(matches!(event, None | Some(TailEvent::Health(_))), "{event:?}");
}

pub(super) async fn locate_errs_towards_earlier(harness: &mut dyn Harness) {
    let log = harness.log();
    append(&*log, 0..500).await;
    let records = everything(&*log).await;
    let times: Vec<u64> = records.iter().map(|record| record.time).collect();
    for since in [0, times[0], times[250], times[499], times[499] + 1, u64::MAX] {
        let place = log.locate(0, since).await.expect("a place");
        assert!(place <= records[499].position.offset);
        for record in &records {
            assert!(record.time < since || record.position.offset > place, "{record:?} lies before {place}");
        }
    }
}
