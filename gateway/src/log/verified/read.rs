//! One honest read from a source that may skip, clamp and die.

use super::{Shared, within};
use crate::log::source::{Delivery, Fetched, Pace, Source, SourceError};
use crate::log::{Batch, Budget, ReadError};
use anabranch_protocol::cursor::{Offset, Partition};
use std::sync::Arc;

/// The error of a read, for an error of the source.
pub(super) fn error(error: SourceError) -> ReadError {
    match error {
        SourceError::NoPartition(partition) => ReadError::NoPartition(partition),
        other => ReadError::Unavailable(other.to_string()),
    }
}

pub(super) async fn read<S: Source>(
    shared: Arc<Shared<S>>,
    partition: Partition,
    after: Offset,
    budget: Budget,
) -> Result<Batch, ReadError> {
    shared.check(partition)?;
    let source = &shared.source;
    let from = Offset(after.0.saturating_add(1));
    let mut fetched = within(source.fetch(partition, from, budget, Pace::Full)).await.map_err(error)?;
    if fetched.killed {
        // With a consumer that takes many at once, good records die together with the poisoned one.
        fetched = within(source.fetch(partition, from, budget, Pace::Single)).await.map_err(error)?;
    }
    if fetched.killed && fetched.deliveries.is_empty() {
        return Err(ReadError::Corrupt { after, before: Offset(after.0.saturating_add(2)) });
    }
    if fetched.deliveries.is_empty() {
        return empty(&shared, partition, after).await;
    }
    let jumps = jumps(after, &fetched);
    if jumps > 0 {
        let earliest = within(source.earliest(partition)).await.map_err(error)?;
        cut(&mut fetched, after, earliest)?;
    }
    Ok(batch(fetched))
}

/// Nothing came: the log ends at `after`, or before it, or everything after it is forgotten.
async fn empty<S: Source>(
    shared: &Shared<S>,
    partition: Partition,
    after: Offset,
) -> Result<Batch, ReadError> {
    let latest = within(shared.source.latest(partition)).await.map_err(error)?;
    let oldest = within(shared.source.earliest(partition)).await.map_err(error)?;
    if oldest.0 > after.0.saturating_add(1) {
        return Err(ReadError::Forgotten { oldest });
    }
    let last = latest.map_or(Offset(oldest.0.saturating_sub(1)), |latest| latest.offset);
    if last > after {
        // Appended since, or not delivered: not the end in any case.
        return Ok(Batch { records: Vec::new(), covered_to: after, at_end: false });
    }
    Ok(Batch { records: Vec::new(), covered_to: last, at_end: true })
}

fn jumps(after: Offset, fetched: &Fetched) -> usize {
    let mut expected = after.0.saturating_add(1);
    let mut jumps = 0;
    for delivery in &fetched.deliveries {
        jumps += usize::from(delivery.offset().0 != expected);
        expected = delivery.offset().0.saturating_add(1);
    }
    jumps
}

/// Cuts before the first jump that `earliest` does not explain as a hole: the next read tells what is lost there.
fn cut(fetched: &mut Fetched, after: Offset, earliest: Offset) -> Result<(), ReadError> {
    let mut expected = after.0.saturating_add(1);
    let mut keep = 0;
    for delivery in &fetched.deliveries {
        let offset = delivery.offset().0;
        if offset != expected && earliest.0 > expected {
            break;
        }
        expected = offset.saturating_add(1);
        keep += 1;
    }
    if keep == 0 {
        return Err(ReadError::Forgotten { oldest: earliest });
    }
    if keep < fetched.deliveries.len() {
        fetched.deliveries.truncate(keep);
        fetched.at_end = false;
    }
    Ok(())
}

fn batch(fetched: Fetched) -> Batch {
    let mut batch = Batch { records: Vec::new(), covered_to: Offset(0), at_end: fetched.at_end };
    for delivery in fetched.deliveries {
        batch.covered_to = delivery.offset();
        if let Delivery::Record(record) = delivery {
            batch.records.push(record);
        }
    }
    batch
}
