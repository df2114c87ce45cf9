//! Bounded reads: a consumer that stops at a budget, or at the end.

use super::fault::Fault;
use super::probe::{Newest, Probes};
use super::reading::{Purpose, Reading, theirs};
use super::shared::Shared;
use super::stream::{Attached, Place, attach};
use crate::log::Budget;
use crate::log::source::{Delivery, Fetched, Pace, SourceError};
use anabranch_protocol::cursor::{Offset, Partition};
use lapin::Acker;
use lapin::options::BasicAckOptions;
use std::sync::Arc;
use std::time::Duration;

/// What is known to be there comes within this time, or is asked for anew.
const SILENCE: Duration = Duration::from_millis(500);
/// How often silence is forgiven.
const SILENCES: usize = 6;

/// Most records on their way to one read.
const PREFETCH: u16 = 500;

/// Most records of one read, those that are blank included.
const MOST: usize = 20_000;

/// How often a read at the pace of single records begins anew when it is killed before the first one. What the broker
/// sent just before the record that kills it may be lost with the connection, or not.
const ATTEMPTS: usize = 6;

pub(super) async fn fetch(
    shared: Arc<Shared>,
    probes: Arc<Probes>,
    partition: Partition,
    from: Offset,
    budget: Budget,
    pace: Pace,
) -> Result<Fetched, SourceError> {
    let mut fetched = Fetched::default();
    for _ in 0..ATTEMPTS {
        fetched = attempt(&shared, &probes, partition, from, budget, pace).await?;
        let unlucky = fetched.killed && fetched.deliveries.is_empty() && pace == Pace::Single;
        if !unlucky {
            break;
        }
    }
    Ok(fetched)
}

async fn attempt(
    shared: &Arc<Shared>,
    probes: &Probes,
    partition: Partition,
    from: Offset,
    budget: Budget,
    pace: Pace,
) -> Result<Fetched, SourceError> {
    // Up to here something is known to be there; the end is looked for when this is reached.
    let mut target = shared.sight(partition).highest().filter(|highest| *highest >= from);
    let mut asked = false;
    if target.is_none() {
        target = Some(probes.newest(None).await?.offset);
        asked = true;
    }
    let mut page = Page { fetched: Fetched::default(), records: 0, bytes: 0, at: None, budget };
    if target < Some(from) {
        page.fetched.at_end = true;
        return Ok(page.fetched);
    }
    let lane = shared.lanes.take().await?;
    let prefetch = match pace {
        Pace::Single => 1,
        Pace::Full => PREFETCH.min(budget.records.clamp(1, usize::from(u16::MAX)) as u16),
    };
    let stream = shared.stream(partition);
    let attached = attach(lane.connection(), stream, Place::At(theirs(from)), prefetch).await;
    let mut attached = match attached {
        Err(Fault::Killed(_)) => {
            page.fetched.killed = true;
            return Ok(page.fetched);
        }
        attached => attached?,
    };
    let mut reading = Reading::new(shared.clone(), partition, Purpose::Replay);
    let mut unacknowledged = 0;
    let mut silences = 0;
    loop {
        // Whether more stands behind is another read's question: it costs a consumer of its own.
        if page.is_full() {
            break;
        }
        if page.at >= target {
            if asked {
                page.fetched.at_end = true;
                break;
            }
            target = Some(probes.newest(None).await?.offset);
            asked = true;
            continue;
        }
        let raw = match attached.next(SILENCE).await {
            Ok(Some(raw)) => raw,
            Ok(None) => {
                silences += 1;
                if silences == SILENCES {
                    let text = format!("the stream {stream} does not deliver what it has");
                    return Err(SourceError::Unreachable(text));
                }
                // The stream may have been made anew, and be shorter now.
                let Newest { offset, .. } = probes.newest(None).await?;
                (target, asked) = (Some(offset), true);
                if offset < from {
                    page.fetched.at_end = true;
                    break;
                }
                continue;
            }
            Err(Fault::Killed(_)) => {
                page.fetched.killed = true;
                return Ok(page.fetched);
            }
            Err(fault) => return Err(fault.into()),
        };
        let acker = raw.acker.clone();
        if !page.take(&mut reading, raw)? {
            break;
        }
        unacknowledged += 1;
        if unacknowledged * 2 >= usize::from(prefetch) {
            acknowledge(&acker).await?;
            unacknowledged = 0;
        }
    }
    release(attached);
    lane.give_back();
    Ok(page.fetched)
}

async fn acknowledge(acker: &Acker) -> Result<(), Fault> {
    acker.ack(BasicAckOptions { multiple: true }).await?;
    Ok(())
}

/// Its channel closes behind us; what is still on its way to it is dropped there.
fn release(attached: Attached) {
    drop(attached);
}

struct Page {
    fetched: Fetched,
    records: usize,
    bytes: usize,
    /// Everything up to here was delivered.
    at: Option<Offset>,
    budget: Budget,
}

impl Page {
    fn is_full(&self) -> bool {
        self.records >= self.budget.records.max(1) || self.fetched.deliveries.len() >= MOST
    }

    /// Takes one more, if the budget allows.
    fn take(&mut self, reading: &mut Reading, raw: lapin::message::Delivery) -> Result<bool, Fault> {
        let offset = super::reading::ours(super::stream::offset(&raw)?);
        for delivery in reading.take(raw)? {
            if let Delivery::Record(record) = &delivery {
                self.bytes += record.envelope.len();
                if self.bytes > self.budget.bytes && self.records > 0 {
                    return Ok(false);
                }
                self.records += 1;
            }
            self.fetched.deliveries.push(delivery);
        }
        self.at = Some(offset);
        Ok(true)
    }
}
