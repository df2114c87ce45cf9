//! What a node reads again when it starts: the keys of the last records, and every newest value.

use super::{BLOCK_BYTES, BLOCK_FRAMES};
use crate::hub::newest::Fold;
use crate::hub::publish::{Publisher, WINDOW};
use crate::log::{self, Budget, Log, ReadError};
use crate::shadow::Shadows;
use anabranch_protocol::cursor::{Offset, Position};
use std::time::Duration;

/// Where offsets do not count records, the keys of so long are remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Reads one partition up to its newest record. Notes keys, so that a publisher that retries across a restart is recognised
/// and no value is taken twice; and folds state, all of it, as far as the log reaches back.
pub(super) async fn reread(
    log: &dyn Log,
    publisher: &Publisher,
    newest: Position,
    oldest: Offset,
    fold: &mut Fold,
    shadows: Option<&Shadows>,
) -> Result<(), ReadError> {
    let partition = newest.partition;
    let known = fold.knows_to(partition).unwrap_or(newest.offset);
    let keys = last_keys(log, newest).await?.max(Offset(oldest.0.saturating_sub(1)));
    let mut after = known.min(keys).min(fold.settled_to(partition).unwrap_or(known));
    while after < newest.offset {
        let budget = Budget { records: BLOCK_FRAMES, bytes: BLOCK_BYTES };
        let mut batch = match log.read(partition, after, budget).await {
            Ok(batch) => batch,
            Err(ReadError::Forgotten { oldest: before } | ReadError::Corrupt { before, .. }) => {
                let last = Offset(before.0.saturating_sub(1)).max(Offset(after.0 + 1));
                if last > known {
                    shadows.into_iter().for_each(|shadows| shadows.begin_behind(partition, last));
                    fold.lose(partition, last.min(newest.offset));
                }
                after = last;
                continue;
            }
            Err(other) => return Err(other),
        };
        // What is newer comes by the tail.
        batch.records.retain(|record| {
            record.position.offset <= newest.offset && !publisher.note(record.key, record.position)
        });
        shadows.into_iter().for_each(|shadows| shadows.take(&mut batch.records));
        batch.records.retain(|record| record.position.offset > known);
        fold.take(&batch.records);
        if batch.covered_to <= after {
            break;
        }
        after = batch.covered_to;
    }
    Ok(())
}

/// Where the records begin of which the keys are remembered.
async fn last_keys(log: &dyn Log, newest: Position) -> Result<Offset, ReadError> {
    if log.capabilities().dense {
        return Ok(Offset(newest.offset.0.saturating_sub(WINDOW as u64)));
    }
    let since = log::now().saturating_sub(REMEMBERED.as_millis() as u64);
    log.locate(newest.partition, since).await
}
