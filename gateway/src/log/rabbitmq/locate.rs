//! Places in time. The broker dates chunks, to the second, by its own clock.

use super::fault::Fault;
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

/// How much earlier is looked, in seconds, while what stands at the place kills whoever reads it.
const EARLIER: [u64; 5] = [0, 10, 60, 600, 7_200];

pub(super) async fn locate(
    shared: Arc<Shared>,
    probes: Arc<Probes>,
    partition: Partition,
    since: u64,
) -> Result<Offset, SourceError> {
    // Asked first: whatever is appended later lies behind it.
    let newest = probes.newest(None).await?.offset;
    let seconds = since.saturating_sub(APART_MS) / 1000;
    for earlier in EARLIER {
        let lane = shared.lanes.take().await?;
        let place = Place::Time(seconds.saturating_sub(earlier));
        let first = async {
            let mut attached = attach(lane.connection(), shared.stream(partition), place, 1).await?;
            attached.next(PATIENCE).await
        };
        match first.await {
            // A publisher's own word for a time does not count here, however old: only the broker's does.
            Ok(Some(first)) => {
                let first = ours(stream::offset(&first)?).max(Offset(1));
                lane.give_back();
                return Ok(Offset(first.0 - 1).min(newest));
            }
            // No chunk is as new.
            Ok(None) => return Ok(newest),
            Err(Fault::Killed(_)) => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    Ok(Offset(probes.earliest().await?.0.saturating_sub(1)))
}
