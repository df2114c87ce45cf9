//! What real brokers do and do not say, on demand.

use super::broker::{Broker, Publishing};
use crate::log::{Health, NewRecord, Record};
use anabranch_protocol::cursor::{LogId, Offset, Partition, Position};
use std::sync::Arc;

/// Makes the broker below a memory log lie. Each lie is told to nobody: the log has to find out.
#[derive(Clone, Debug)]
pub struct Lies {
    broker: Arc<Broker>,
}

impl Lies {
    pub(super) fn new(broker: Arc<Broker>) -> Lies {
        Lies { broker }
    }

    /// The next record gets an offset higher by `count` than it would: a legal hole.
    pub fn skip_offsets(&self, partition: Partition, count: u64) {
        self.broker.change(|state| state.partitions[usize::from(partition)].next.0 += count);
    }

    /// Removes every record below `offset`, as retention does: readers jump.
    pub fn truncate(&self, partition: Partition, offset: Offset) {
        self.broker.change(|state| {
            let shelf = &mut state.partitions[usize::from(partition)];
            while shelf.records.front().is_some_and(|oldest| oldest.record.position.offset < offset) {
                shelf.forget_oldest();
            }
        });
    }

    /// Deletes the stream and makes it anew, with these records from offset 1 on. Consumers hang where they are.
    pub fn recreate(&self, records: Vec<NewRecord>) {
        self.broker.change(|state| {
            for shelf in &mut state.partitions {
                while shelf.forget_oldest() {}
                shelf.next = Offset(1);
                shelf.again.clear();
            }
            for record in records {
                self.broker.store(state, record);
            }
        });
    }

    /// As [`recreate`](Lies::recreate), but the broker ends its consumers, as RabbitMQ does.
    pub fn recreate_and_cancel(&self, records: Vec<NewRecord>) {
        self.recreate(records);
        self.broker.change(|state| {
            state.gone = true;
            state.connection += 1;
        });
    }

    /// A replica takes over that has not got the newest `lost` records; the connection breaks. Their offsets will be
    /// given again.
    pub fn fail_over(&self, partition: Partition, lost: usize) {
        self.broker.change(|state| {
            let shelf = &mut state.partitions[usize::from(partition)];
            for _ in 0..lost {
                if let Some(newest) = shelf.records.pop_back() {
                    shelf.bytes -= newest.record.envelope.len();
                    shelf.next = newest.record.position.offset;
                }
            }
            state.gone = false;
            state.connection += 1;
        });
    }

    /// Whether consumers get nothing although records are there, with the connection up.
    pub fn stall(&self, stalled: bool) {
        self.broker.change(|state| state.stalled = stalled);
    }

    /// Breaks every consumer's connection. Nothing is lost.
    pub fn disconnect(&self) {
        self.broker.change(|state| {
            state.gone = false;
            state.connection += 1;
        });
    }

    /// Whether the broker cannot be reached: consumers break, every request fails.
    pub fn unreachable(&self, unreachable: bool) {
        self.broker.change(|state| {
            state.unreachable = unreachable;
            state.gone = false;
            state.connection += 1;
        });
    }

    /// From now on the record at `offset` kills every consumer that reaches it.
    pub fn poison(&self, partition: Partition, offset: Offset) {
        self.broker.change(|state| {
            let shelf = &mut state.partitions[usize::from(partition)];
            let at = shelf.index_of(offset);
            if let Some(stored) = shelf.records.get_mut(at) {
                stored.poisoned = true;
            }
        });
    }

    /// No record kills consumers any more.
    pub fn heal(&self, partition: Partition) {
        self.broker.change(|state| {
            let shelf = &mut state.partitions[usize::from(partition)];
            shelf.records.iter_mut().for_each(|stored| stored.poisoned = false);
        });
    }

    /// What happens to appends. Those that hang are done, in order, once it works again.
    pub fn publishing(&self, publishing: Publishing) {
        self.broker.change(|state| {
            state.health = match &publishing {
                Publishing::Refuses(why) => Health::Blocked(why.clone()),
                Publishing::Works | Publishing::Hangs => Health::Connected,
            };
            state.publishing = publishing;
            if state.publishing == Publishing::Works {
                for (record, confirm) in std::mem::take(&mut state.hanging) {
                    let position = self.broker.store(state, record);
                    // The publisher may have stopped waiting: the record is stored all the same.
                    drop(confirm.send(Ok(position)));
                }
            }
        });
    }

    /// The next `count` appends are stored, and reported as of unknown outcome.
    pub fn lose_confirms(&self, count: usize) {
        self.broker.change(|state| state.lose_confirms = count);
    }

    /// Delivers the record at `offset` once more to every consumer that is past it.
    pub fn redeliver(&self, partition: Partition, offset: Offset) {
        self.broker.change(|state| {
            let shelf = &mut state.partitions[usize::from(partition)];
            let at = shelf.index_of(offset);
            if let Some(stored) = shelf.records.get(at).cloned() {
                shelf.again.push(stored.record);
            }
        });
    }

    /// Puts another record at `offset`, and delivers it to consumers that are past it.
    pub fn rewrite(&self, partition: Partition, offset: Offset, record: NewRecord) {
        self.broker.change(|state| {
            let shelf = &mut state.partitions[usize::from(partition)];
            let at = shelf.index_of(offset);
            if let Some(stored) = shelf.records.get_mut(at) {
                stored.record.position.fingerprint = Some(crate::log::fingerprint(&record.envelope));
                stored.record.envelope = record.envelope;
                let record = stored.record.clone();
                shelf.again.push(record);
            }
        });
    }

    /// Sets the time at which the log took a record, in milliseconds since 1970: clocks are set back.
    pub fn date(&self, position: Position, time: u64) {
        self.broker.change(|state| {
            let shelf = &mut state.partitions[usize::from(position.partition)];
            let at = shelf.index_of(position.offset);
            if let Some(stored) = shelf.records.get_mut(at) {
                stored.record.time = time;
            }
        });
    }

    /// What the broker calls the history from now on: nothing after a flush, an older name after a failover.
    pub fn name(&self, name: Option<LogId>) {
        self.broker.change(|state| state.name = name);
    }

    /// Whether the broker answers everything but the question for the name.
    pub fn withhold_the_name(&self, withheld: bool) {
        self.broker.change(|state| state.name_withheld = withheld);
    }

    /// What the broker holds behind an offset.
    pub fn records(&self, partition: Partition, after: Offset) -> Vec<Record> {
        let state = self.broker.lock();
        let shelf = &state.partitions[usize::from(partition)];
        let from = shelf.index_of(Offset(after.0 + 1));
        shelf.records.range(from..).map(|stored| stored.record.clone()).collect()
    }

    /// Where the next record of a partition will stand.
    pub fn next(&self, partition: Partition) -> Offset {
        self.broker.lock().partitions[usize::from(partition)].next
    }

    /// What the broker calls the history.
    pub fn history(&self) -> Option<LogId> {
        self.broker.lock().name
    }

    /// How often anybody has read.
    pub fn fetches(&self) -> u64 {
        self.broker.lock().fetches
    }

    /// How often anybody has asked for the name.
    pub fn asked_for_the_name(&self) -> u64 {
        self.broker.lock().asked
    }

    /// What the broker says about itself: blocked, for instance.
    pub fn health(&self, health: Health) {
        self.broker.change(|state| state.health = health);
    }
}
