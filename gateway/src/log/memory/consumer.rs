//! A consumer of the broker in miniature: as silent about what it skips as the real ones.

use super::broker::{Broker, State};
use crate::log::source::{Consumption, Delivery, Fetched, Pace, SourceError, SourceEvent};
use crate::log::{Budget, Health};
use anabranch_protocol::cursor::{Offset, Partition};
use futures_util::stream::{StreamExt, unfold};

/// How much one event carries at most.
const FULL: Budget = Budget { records: 256, bytes: 256 * 1024 };

impl Fetched {
    /// With a consumer that takes many at once, good records die together with the poisoned one after them.
    pub(super) fn at_pace(mut self, pace: Pace) -> Fetched {
        if self.killed && pace == Pace::Full {
            self.deliveries.clear();
        }
        self
    }
}

struct Consumer {
    broker: Broker,
    partition: Partition,
    pace: Pace,
    next: Offset,
    connection: u64,
    health: Health,
    /// How many of the shelf's repeats this consumer has had.
    repeats: usize,
    ended: bool,
}

/// `state` is the broker's, locked: what happens after this call is seen by the consumer.
pub(super) fn start(
    broker: Broker,
    state: &State,
    partition: Partition,
    from: Offset,
    pace: Pace,
) -> Consumption {
    let consumer = Consumer {
        broker,
        partition,
        pace,
        next: from,
        connection: state.connection,
        health: Health::Connected,
        repeats: state.partitions.get(usize::from(partition)).map_or(0, |shelf| shelf.again.len()),
        ended: false,
    };
    unfold(consumer, |mut consumer| async move { consumer.next().await.map(|event| (event, consumer)) })
        .boxed()
}

impl Consumer {
    async fn next(&mut self) -> Option<Result<SourceEvent, SourceError>> {
        loop {
            if self.ended {
                return None;
            }
            let changed = self.broker.changed();
            match self.step() {
                Step::Say(event) => return Some(event),
                Step::End => return None,
                Step::Wait => changed.await,
            }
        }
    }

    fn step(&mut self) -> Step {
        let state = self.broker.lock();
        if state.connection != self.connection {
            self.ended = true;
            if state.gone {
                return Step::End;
            }
            return Step::Say(Err(SourceError::Unreachable("the connection was reset".into())));
        }
        if state.health != self.health {
            self.health = state.health.clone();
            return Step::Say(Ok(SourceEvent::Health(self.health.clone())));
        }
        if state.stalled {
            return Step::Wait;
        }
        let Some(shelf) = state.partitions.get(usize::from(self.partition)) else { return Step::Wait };
        if let Some(record) = shelf.again.get(self.repeats) {
            self.repeats += 1;
            if record.position.offset < self.next {
                return Step::Say(Ok(SourceEvent::Deliveries(vec![Delivery::Record(record.clone())])));
            }
        }
        let budget = if self.pace == Pace::Single { Budget { records: 1, ..FULL } } else { FULL };
        let fetched = shelf.take(self.next, budget).at_pace(self.pace);
        if let Some(last) = fetched.deliveries.last() {
            self.next = Offset(last.offset().0 + 1);
            return Step::Say(Ok(SourceEvent::Deliveries(fetched.deliveries)));
        }
        if fetched.killed {
            self.ended = true;
            return Step::Say(Err(SourceError::Killed("541 INTERNAL_ERROR".into())));
        }
        Step::Wait
    }
}

enum Step {
    Say(Result<SourceEvent, SourceError>),
    Wait,
    End,
}
