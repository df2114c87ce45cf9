//! Places in time. The broker dates chunks, to the second, by its own clock.

use super::probe::Probes;
use super::reading::ours;
use super::shared::Shared;
use super::stream::{self, Place, attach};
use crate::log::source::SourceError;
use anabranch_protocol::cursor::{Offset, Partition};
use std::sync::Arc;
use std::time::Duration;

/// How far the clocks of broker and gateways may be apart before a place in time comes out too late, in milliseconds.
const APART_MS: u64 = 5_000;

const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn locate(
    shared: Arc<Shared>,
    probes: Arc<Probes>,
    partition: Partition,
    since: u64,
) -> Result<Offset, SourceError> {
    let newest = probes.newest(None).await?;
    if newest.position.is_some() && newest.time.is_some_and(|time| time.saturating_add(APART_MS) < since) {
        return Ok(newest.offset);
    }
    let seconds = since.saturating_sub(APART_MS) / 1000;
    let lane = shared.lanes.take().await?;
    let mut attached = attach(lane.connection(), shared.stream(partition), Place::Time(seconds), 1).await?;
    let first = attached.next(PATIENCE).await?;
    let first = first.map(|delivery| stream::offset(&delivery)).transpose()?;
    drop(attached);
    lane.give_back();
    let first = match first {
        // A record without a time: everything from the beginning on may be as new.
        None => probes.earliest().await?,
        Some(first) => ours(first).max(Offset(1)),
    };
    Ok(Offset(first.0.saturating_sub(1)))
}
