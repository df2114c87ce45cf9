//! What a client's cursor is worth: exactly one of resumed, gap or reset, never a guess.
//!
//! The ring answers at once if it reaches back far enough ([`from_ring`]). Otherwise the log is read at the cursor,
//! inclusive: the very record that the client saw last must be there, by offset and fingerprint ([`from_log`]).

use crate::hub::ring::{Lookup, Ring};
use crate::log::{Budget, Log, ReadError};
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, LogId, Offset, Partition, Position};
use anabranch_protocol::server_frame::{Gap, GapReason, Outcome};

/// Where delivery begins, and what the client is told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Delivery begins after this cursor.
    pub cursor: Cursor,
    pub outcome: Outcome,
    /// The client's own cursor, if it is one of this history. Before `cursor`, if there is a gap.
    pub given: Option<Cursor>,
    /// How often this node was found not to have come to `cursor` yet.
    pub waits: u32,
}

impl Verdict {
    pub fn new(cursor: Cursor, outcome: Outcome) -> Verdict {
        Verdict { cursor, outcome, given: None, waits: 0 }
    }

    /// The client came with a cursor of this history.
    fn with(self, given: Cursor) -> Verdict {
        Verdict { given: Some(given), ..self }
    }

    /// Another history: from now on.
    pub fn reset(code: Code, head: &Cursor) -> Verdict {
        Verdict::new(head.clone(), Outcome::Reset(code))
    }
}

/// What can be known without the log; `None` if it must be asked.
pub fn from_ring(cursor: &Cursor, ring: &Ring, log: LogId, partitions: Partition) -> Option<Verdict> {
    if cursor.log() != log || cursor.positions().iter().any(|p| p.partition >= partitions) {
        return Some(Verdict::reset(Code::CURSOR_OTHER_LOG, ring.head()));
    }
    let oldest = ring.cursor_before(ring.oldest());
    for partition in 0..partitions {
        match cursor.position(partition).map(|position| ring.find(position)) {
            Some(Lookup::At(_)) => {}
            Some(Lookup::Diverged) => return Some(Verdict::reset(Code::CURSOR_DIVERGED, ring.head())),
            Some(Lookup::Older | Lookup::Newer) => return None,
            // From the beginning: the ring must hold all that there ever was.
            None if oldest.position(partition).is_none() => {}
            None => return None,
        }
    }
    Some(Verdict::new(cursor.clone(), Outcome::Resumed).with(cursor.clone()))
}

/// What the log says. `head` is what this node has read: the place to go on from after a reset.
///
/// Errs only if the log cannot be read at present.
pub async fn from_log(cursor: Cursor, head: Cursor, log: &dyn Log) -> Result<Verdict, ReadError> {
    let mut begin = cursor.clone();
    let mut outcome = Outcome::Resumed;
    for partition in 0..log.capabilities().partitions {
        let finding = match cursor.position(partition) {
            None => at_beginning(partition, log).await?,
            Some(position) => at_position(position, log).await?,
        };
        match finding {
            Finding::There => {}
            Finding::Lost { gap, position } if outcome == Outcome::Resumed => {
                begin.set(position);
                outcome = Outcome::Gap(gap);
            }
            // An outcome names one gap. The others are found, and told, when the reading comes to them.
            Finding::Lost { .. } => {}
            Finding::Reset(code) => return Ok(Verdict::reset(code, &head)),
        }
    }
    Ok(Verdict::new(begin, outcome).with(cursor))
}

enum Finding {
    There,
    Lost { gap: Gap, position: Position },
    Reset(Code),
}

fn lost(partition: Partition, after: Offset, before: Offset, reason: GapReason) -> Finding {
    let position = Position { partition, offset: Offset(before.0.saturating_sub(1)), fingerprint: None };
    Finding::Lost { gap: Gap { partition, after, before, reason }, position }
}

async fn at_beginning(partition: Partition, log: &dyn Log) -> Result<Finding, ReadError> {
    match log.read(partition, Offset(0), ONE).await {
        Err(ReadError::Forgotten { oldest }) => Ok(lost(partition, Offset(0), oldest, GapReason::Retention)),
        Err(ReadError::Corrupt { after: Offset(0), before }) => {
            Ok(lost(partition, Offset(0), before, GapReason::Corrupt))
        }
        Err(ReadError::Corrupt { .. }) | Ok(_) => Ok(Finding::There),
        Err(other) => Err(other),
    }
}

const ONE: Budget = Budget { records: 1, bytes: 1 };

async fn at_position(position: Position, log: &dyn Log) -> Result<Finding, ReadError> {
    let Position { partition, offset, fingerprint } = position;
    let Some(before) = offset.0.checked_sub(1) else { return at_beginning(partition, log).await };
    match log.read(partition, Offset(before), ONE).await {
        Ok(batch) => match (batch.records.first(), fingerprint) {
            (Some(record), Some(claimed)) if record.position.offset == offset => {
                let same = record.position.fingerprint == Some(claimed);
                Ok(if same { Finding::There } else { Finding::Reset(Code::CURSOR_DIVERGED) })
            }
            (Some(_), None) => Ok(Finding::There),
            // No record where the client saw one.
            (Some(_), Some(_)) => Ok(Finding::Reset(Code::CURSOR_DIVERGED)),
            (None, claimed) if batch.covered_to >= offset => match claimed {
                None => Ok(Finding::There),
                Some(_) => Ok(Finding::Reset(Code::CURSOR_DIVERGED)),
            },
            (None, _) => Ok(Finding::Reset(Code::CURSOR_AHEAD)),
        },
        // The record itself is forgotten, and can no longer be compared; nothing after it is, perhaps.
        Err(ReadError::Forgotten { oldest }) if oldest.0 <= offset.0 + 1 => Ok(Finding::There),
        Err(ReadError::Forgotten { oldest }) => Ok(lost(partition, offset, oldest, GapReason::Retention)),
        Err(ReadError::Corrupt { before, .. }) if before.0 <= offset.0 + 1 => Ok(Finding::There),
        Err(ReadError::Corrupt { after, before }) if after < offset => {
            Ok(lost(partition, offset, before, GapReason::Corrupt))
        }
        Err(ReadError::Corrupt { .. }) => Ok(Finding::There),
        Err(other) => Err(other),
    }
}

/// Where to begin for everything that the log has, or for what it took since a time. `head` is what this node has read.
pub async fn from_start(since: Option<u64>, head: &Cursor, log: &dyn Log) -> Result<Verdict, ReadError> {
    let mut cursor = Cursor::beginning(head.log());
    for partition in 0..log.capabilities().partitions {
        let position = |offset| Position { partition, offset, fingerprint: None };
        let begin = match since {
            // Never behind what this node has read: it cannot vouch for that place, and may never come to it. Behind the last record
            // lies a hole, perhaps, or a time in which nothing came.
            Some(since) => {
                let offset = log.locate(partition, since).await?;
                head.position(partition)
                    .map(|head| if head.offset <= offset { head } else { position(offset) })
            }
            None => Some(position(Offset(log.bounds(partition).await?.oldest.0.saturating_sub(1)))),
        };
        begin.into_iter().filter(|begin| begin.offset > Offset(0)).for_each(|begin| cursor.set(begin));
    }
    Ok(Verdict::new(cursor, Outcome::Resumed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::conformance::record;
    use crate::log::memory::{self, MemoryLog};

    /// A snapshot waits until the node has come to where its subscription begins; and a failover may take back what it has not read.
    #[tokio::test]
    async fn a_time_since_what_this_node_has_read_last_begins_there() {
        let log = MemoryLog::new(memory::Options::default());
        let mut head = Cursor::beginning(log.id());
        head.set(log.append(record(1)).await.expect("appended"));
        for _ in 0..2 {
            let verdict = from_start(Some(u64::MAX), &head, &*log).await.expect("known");
            assert_eq!(verdict.cursor, head);
            log.append(record(2)).await.expect("appended");
            log.lies().skip_offsets(0, 5);
        }
        let all = from_start(Some(0), &head, &*log).await.expect("known");
        assert_eq!(all.cursor, Cursor::beginning(log.id()));
    }
}
