//! A tail's consumer: a connection of its own, acknowledgements in multiples.

use super::fault::Fault;
use super::reading::{Purpose, Reading, theirs};
use super::shared::Shared;
use super::stream::{Attached, Place, attach};
use super::topology;
use crate::log::Health;
use crate::log::source::{Consumption, Delivery, Pace, SourceError, SourceEvent};
use anabranch_protocol::cursor::{Offset, Partition};
use futures_util::future::{FutureExt, ready};
use futures_util::stream::{StreamExt, once, unfold};
use lapin::message::Delivery as Raw;
use lapin::options::BasicAckOptions;
use lapin::{Acker, Connection};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How much one event carries at most; the last record may exceed the bytes.
const RECORDS: usize = 256;
const BYTES: usize = 256 * 1024;

/// The longest that a record stays without acknowledgement once it was handed on. The broker goes silent, without an
/// error, towards a consumer that acknowledges nothing.
const ACKNOWLEDGE: Duration = Duration::from_millis(100);

/// How often a consumer is attached that dies before the broker's word comes that it is: whether it comes is a race with the
/// record that kills. A broker that is ill for a moment does the same, and no record is given up for that.
const ATTEMPTS: usize = 3;

struct Consumer {
    shared: Arc<Shared>,
    partition: Partition,
    /// Closes when this is dropped.
    _connection: Connection,
    attached: Attached,
    reading: Reading,
    pace: Pace,
    health: watch::Receiver<Health>,
    /// The newest delivery that was handed on and is not acknowledged, how many there are, and since when.
    unacknowledged: Option<(Acker, usize, Instant)>,
    /// What came behind the deliveries of the last event.
    end: Option<Option<Fault>>,
}

/// Starts to consume. Declares what is missing, if it may.
pub(super) async fn start(
    shared: Arc<Shared>,
    partition: Partition,
    from: Offset,
    pace: Pace,
) -> Result<Consumption, SourceError> {
    let mut consumer = open(&shared, partition, from, pace).await;
    for _ in 1..ATTEMPTS {
        match consumer {
            Err(Fault::Gone) => {
                shared.sight(partition).forget();
                topology::establish(&shared).await?;
            }
            Err(Fault::Killed(_)) => {}
            _ => break,
        }
        consumer = open(&shared, partition, from, pace).await;
    }
    let consumer = match consumer {
        // As if it had begun and been killed then.
        Err(Fault::Killed(text)) => return Ok(once(ready(Err(SourceError::Killed(text)))).boxed()),
        consumer => consumer?,
    };
    let next = |mut consumer: Consumer| async move { consumer.next().await.map(|event| (event, consumer)) };
    Ok(unfold(consumer, next).boxed())
}

async fn open(
    shared: &Arc<Shared>,
    partition: Partition,
    from: Offset,
    pace: Pace,
) -> Result<Consumer, Fault> {
    let connection = shared.connector.connect("tail").await?;
    let prefetch = if pace == Pace::Single { 1 } else { shared.options.prefetch };
    let attached = attach(&connection, shared.stream(partition), Place::At(theirs(from)), prefetch).await?;
    let mut health = shared.health.subscribe();
    if *health.borrow() != Health::Connected {
        health.mark_changed();
    }
    Ok(Consumer {
        shared: shared.clone(),
        partition,
        _connection: connection,
        attached,
        reading: Reading::new(shared.clone(), partition, Purpose::Tail),
        pace,
        health,
        unacknowledged: None,
        end: None,
    })
}

#[expect(clippy::large_enum_variant, reason = "there is one at a time, and nearly always it is a delivery")]
enum Woken {
    Delivery(Option<Result<Raw, lapin::Error>>),
    Health,
    Acknowledge,
}

impl Consumer {
    async fn next(&mut self) -> Option<Result<SourceEvent, SourceError>> {
        loop {
            match self.end.take() {
                Some(Some(fault)) => {
                    self.end = Some(None);
                    return Some(Err(fault.into()));
                }
                Some(None) => return None,
                None => {}
            }
            if let Err(fault) = self.acknowledge().await {
                self.end = Some(Some(fault));
                continue;
            }
            let due = self.unacknowledged.as_ref().map(|(_, _, since)| *since + ACKNOWLEDGE);
            let woken = tokio::select! {
                biased;
                Ok(()) = self.health.changed() => Woken::Health,
                delivery = self.attached.consumer.next() => Woken::Delivery(delivery),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Woken::Acknowledge,
            };
            match woken {
                Woken::Health => {
                    let health = self.health.borrow_and_update().clone();
                    return Some(Ok(SourceEvent::Health(health)));
                }
                Woken::Acknowledge => {}
                Woken::Delivery(first) => {
                    let deliveries = self.gather(first);
                    if !deliveries.is_empty() {
                        return Some(Ok(SourceEvent::Deliveries(deliveries)));
                    }
                }
            }
        }
    }

    /// What has arrived, as far as it fits into one event.
    fn gather(&mut self, first: Option<Result<Raw, lapin::Error>>) -> Vec<Delivery> {
        let limit = if self.pace == Pace::Single { 1 } else { RECORDS };
        let (mut deliveries, mut bytes, mut taken) = (Vec::new(), 0, 0);
        let mut next = Some(first);
        while let Some(arrived) = next {
            let raw = match arrived {
                Some(Ok(raw)) => raw,
                Some(Err(error)) => {
                    self.end = Some(Some(error.into()));
                    break;
                }
                None => {
                    // The broker cancelled the consumer: the queue was deleted.
                    self.shared.sight(self.partition).forget();
                    self.end = Some(None);
                    break;
                }
            };
            bytes += raw.data.len();
            taken += 1;
            let (count, since) =
                self.unacknowledged.take().map_or((0, Instant::now()), |(_, count, since)| (count, since));
            self.unacknowledged = Some((raw.acker.clone(), count + 1, since));
            match self.reading.take(raw) {
                Ok(delivery) => deliveries.extend(delivery),
                Err(fault) => {
                    self.end = Some(Some(fault));
                    break;
                }
            }
            if taken >= limit || bytes >= BYTES {
                break;
            }
            next = self.attached.consumer.next().now_or_never();
        }
        self.shared.sight(self.partition).tailed();
        deliveries
    }

    /// Acknowledges what was handed on, if that is enough or long enough ago.
    async fn acknowledge(&mut self) -> Result<(), Fault> {
        let enough = usize::from(self.shared.options.prefetch / 4).clamp(1, 250);
        let Some((acker, count, since)) = &self.unacknowledged else { return Ok(()) };
        if self.pace == Pace::Full && *count < enough && since.elapsed() < ACKNOWLEDGE {
            return Ok(());
        }
        acker.ack(BasicAckOptions { multiple: true }).await?;
        self.unacknowledged = None;
        Ok(())
    }
}
