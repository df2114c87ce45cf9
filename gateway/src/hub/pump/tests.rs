use super::*;
use crate::hub::block::Kind;
use crate::log::MessageKey;
use crate::log::conformance::record;
use crate::log::memory::{self, MemoryLog};
use anabranch_protocol::cursor::LogId;
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::future::poll_fn;
use std::time::Duration;

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
            shadows: None,
            head: Cursor::beginning(log),
            fold: Fold::new(Arc::default(), 1_000),
            keeper: Keeper::new(None).0,
            histories: Histories::new(log, 2),
            tails: SelectAll::new(),
            figures: Readings::default(),
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
        self.record_of(partition, offset, &format!("{partition}:{offset}"));
    }

    fn record_of(&mut self, partition: Partition, offset: u64, message_id: &str) {
        let record = Record {
            position: Position { partition, offset: Offset(offset), fingerprint: None },
            time: 1,
            topic: "t".into(),
            key: MessageKey::new("t", message_id),
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

mod restart {
    use super::*;
    use crate::hub::classes::{Class, Classes, Value};
    use crate::log::NewRecord;
    use anabranch_protocol::filter::Filter;
    use anabranch_protocol::topic::Topic;
    use std::path::Path;

    fn classes() -> Arc<Classes> {
        let row = (Filter::new("s/#").expect("a filter"), Class::State(Value::Whole));
        Arc::new(Classes::new([row]).expect("one row"))
    }

    async fn append(log: &MemoryLog, topic: &str, number: u64) {
        let envelope = format!(r#"{{"metadata":{{"topic":"{topic}"}},"payload":{number}}}"#);
        let topic = Topic::new(topic).expect("a topic");
        let key = MessageKey::new(topic.as_str(), &number.to_string());
        log.append(NewRecord { topic, key, envelope: envelope.into() }).await.expect("appended");
    }

    async fn attach(log: Arc<MemoryLog>, file: Option<&Path>) -> Pump {
        let (canary, upstream) = (Arc::new(Canary::new("n")), Arc::new(Upstream::new(1)));
        let (keeper, _) = Keeper::new(file.map(Path::to_owned));
        let fold = Fold::new(classes(), 1 << 20);
        Pump::attach(log.clone(), Publisher::new(log), canary, upstream, None, fold, keeper)
            .await
            .expect("attached")
    }

    /// Topic, payload, and whether a newer one may have been lost.
    fn held(pump: &Pump) -> Vec<(String, String, bool)> {
        let mut held: Vec<_> = pump
            .values()
            .iter()
            .map(|value| {
                let text = std::str::from_utf8(value.envelope()).expect("UTF-8");
                let payload =
                    anabranch_protocol::envelope::Envelope::parse(text).expect("an envelope").payload;
                (value.topic().to_string(), payload.to_owned(), value.is_stale())
            })
            .collect();
        held.sort();
        held
    }

    fn expected(list: &[(&str, &str, bool)]) -> Vec<(String, String, bool)> {
        list.iter().map(|(topic, payload, stale)| (topic.to_string(), payload.to_string(), *stale)).collect()
    }

    #[tokio::test]
    async fn a_start_finds_every_newest_value_that_the_log_has() {
        let log = MemoryLog::new(memory::Options { records: 4, ..memory::Options::default() });
        for (topic, number) in [("s/a", 1), ("s/b", 2), ("s/a", 3), ("e", 4)] {
            append(&log, topic, number).await;
        }
        let pump = attach(log.clone(), None).await;
        assert_eq!(held(&pump), expected(&[("s/a", "3", false), ("s/b", "2", false)]));
        assert_eq!(pump.values().unsure_to(0), Offset(0));
        append(&log, "s/c", 5).await;
        append(&log, "s/c", 6).await;
        let pump = attach(log, None).await;
        assert_eq!(held(&pump), expected(&[("s/a", "3", false), ("s/c", "6", false)]));
        assert_eq!(pump.values().unsure_to(0), Offset(2), "what there was before nobody knows");
    }

    #[tokio::test]
    async fn a_checkpoint_knows_what_the_log_has_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("newest");
        let log = MemoryLog::new(memory::Options { records: 4, ..memory::Options::default() });
        append(&log, "s/a", 1).await;
        append(&log, "s/b", 2).await;
        let pump = attach(log.clone(), Some(&file)).await;
        Checkpoint::new(pump.head().clone(), &classes(), pump.values()).save(&file).expect("written");
        for number in 3..6 {
            append(&log, "s/b", number).await;
        }
        let pump = attach(log.clone(), Some(&file)).await;
        assert_eq!(held(&pump), expected(&[("s/a", "1", false), ("s/b", "5", false)]));
        assert_eq!(pump.values().unsure_to(0), Offset(0), "nothing is missing between the two");
        for number in 6..20 {
            append(&log, "s/b", number).await;
        }
        let pump = attach(log, Some(&file)).await;
        assert_eq!(held(&pump), expected(&[("s/a", "1", true), ("s/b", "19", false)]));
        let other = MemoryLog::new(memory::Options::default());
        append(&other, "s/c", 1).await;
        let pump = attach(other, Some(&file)).await;
        assert_eq!(held(&pump), expected(&[("s/c", "1", false)]), "of another log");
    }
}

#[test]
fn what_is_read_is_counted_and_what_is_left_out_of_it() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let mut pumping = metrics::with_local_recorder(&recorder, || Pumping::of(LogId(1)));
    for (offset, message_id) in [(1, "a"), (2, "b"), (3, "a")] {
        pumping.record_of(0, offset, message_id);
    }
    assert_eq!(pumping.blocks(), 2);
    let told = recorder.handle().render();
    for line in ["anabranch_records_total 3", "anabranch_duplicates_total 1"] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

/// The log has never had a record when the node attaches; those that come first are forgotten before the node has read them.
#[tokio::test(start_paused = true)]
async fn what_an_empty_log_takes_and_forgets_unread_is_told() {
    let log = MemoryLog::new(memory::Options::default());
    let publisher = Publisher::new(log.clone());
    let (canary, upstream) = (Arc::new(Canary::new("n")), Arc::new(Upstream::new(1)));
    let (fold, keeper) = (Fold::new(Arc::default(), 1_000), Keeper::new(None).0);
    let attaching = Pump::attach(log.clone(), publisher, canary, upstream, None, fold, keeper);
    let mut pump = attaching.await.expect("attached");
    for number in 1..5 {
        log.append(record(number)).await.expect("appended");
    }
    log.lies().truncate(0, Offset(4));
    let mut sent = Vec::new();
    let pumping =
        async { while poll_fn(|cx| pump.poll_step(cx, |event| sent.push(event))).await.is_continue() {} };
    tokio::time::timeout(Duration::from_secs(5), pumping).await.expect_err("it goes on for ever");
    let blocks = sent.iter().filter_map(|event| match event {
        ShardEvent::Block(block) | ShardEvent::State(block, _) => {
            Some((block.kind(), block.position(0).offset))
        }
        _ => None,
    });
    let blocks: Vec<(Kind, Offset)> = blocks.collect();
    assert_eq!(blocks, [(Kind::Gap, Offset(3)), (Kind::Messages, Offset(4))]);
}
