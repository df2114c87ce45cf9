use super::*;
use crate::log::MessageKey;
use crate::log::memory::{self, MemoryLog};
use anabranch_protocol::cursor::LogId;
use bytes::Bytes;

/// A pump of two partitions, and what it has sent.
struct Pumping {
    pump: Pump,
    sent: Vec<ShardEvent>,
}

impl Pumping {
    fn of(log: LogId) -> Pumping {
        let pump = Pump {
            publisher: Publisher::new(MemoryLog::new(memory::Options::default())),
            canary: Arc::new(Canary::new("n")),
            upstream: Arc::new(Upstream::new(2)),
            head: Cursor::beginning(log),
            fold: Fold::new(Arc::default(), 1_000),
            histories: Histories::new(log, 2),
            tails: SelectAll::new(),
        };
        Pumping { pump, sent: Vec::new() }
    }

    fn reset(&mut self, partition: Partition, log: LogId) {
        self.reset_to(partition, Cursor::beginning(log));
    }

    fn reset_to(&mut self, partition: Partition, head: Cursor) {
        let event = TailEvent::Reset { head, why: ResetReason::Recreated };
        self.pump.handle(partition, event, |e| self.sent.push(e));
    }

    fn record(&mut self, partition: Partition, offset: u64) {
        let record = Record {
            position: Position { partition, offset: Offset(offset), fingerprint: None },
            time: 1,
            topic: "t".into(),
            key: MessageKey::new("t", &format!("{partition}:{offset}")),
            envelope: Bytes::from_static(b"{}"),
        };
        let batch = Batch { records: vec![record], covered_to: Offset(offset), at_end: true };
        self.pump.handle(partition, TailEvent::Records(batch), |e| self.sent.push(e));
    }

    fn resets(&self) -> usize {
        self.sent.iter().filter(|event| matches!(event, ShardEvent::Reset { .. })).count()
    }

    fn blocks(&self) -> usize {
        self.sent.iter().filter(|event| matches!(event, ShardEvent::Block(_) | ShardEvent::State(..))).count()
    }

    fn stands_at(&self, partition: Partition) -> Option<Offset> {
        self.pump.head().position(partition).map(|position| position.offset)
    }
}

#[test]
fn one_history_is_told_once_and_takes_nothing_back() {
    let mut pumping = Pumping::of(LogId(1));
    pumping.record(0, 10);
    pumping.record(1, 20);
    pumping.reset(0, LogId(2));
    pumping.record(0, 3);
    pumping.reset(1, LogId(2));
    pumping.record(1, 4);
    assert_eq!((pumping.resets(), pumping.blocks()), (1, 4));
    assert_eq!((pumping.stands_at(0), pumping.stands_at(1)), (Some(Offset(3)), Some(Offset(4))));
}

#[test]
fn what_a_lagging_tail_says_of_a_history_that_has_ended_is_void() {
    let mut pumping = Pumping::of(LogId(1));
    pumping.reset(0, LogId(2));
    pumping.record(1, 20);
    pumping.reset(0, LogId(3));
    pumping.reset(1, LogId(2));
    pumping.record(1, 21);
    assert_eq!((pumping.resets(), pumping.blocks()), (2, 0));
    assert_eq!((pumping.pump.head().log(), pumping.stands_at(1)), (LogId(3), None));
    pumping.reset(1, LogId(3));
    pumping.record(1, 1);
    assert_eq!((pumping.resets(), pumping.blocks()), (2, 1));
}
