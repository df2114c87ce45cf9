//! From records to newest values: classified, and for topics of patches folded into documents.

use super::{Checkpoint, Newest, Values};
use crate::hub::classes::{Class, Classes, Known, Value};
use crate::log::Record;
use anabranch_protocol::cursor::{Cursor, Offset, Partition};
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::json::Scanner;
use anabranch_protocol::limits;
use anabranch_protocol::merge_patch::merge_patch;
use std::sync::Arc;

/// Bytes of an envelope around its metadata and payload.
const AROUND: usize = r#"{"metadata":,"payload":}"#.len();

/// The node's newest values, as the pump makes them. Shards begin with a copy and are told of each new one.
#[derive(Debug)]
pub struct Fold {
    known: Known,
    values: Values,
    max_bytes: usize,
    /// Where the values are from with which it began.
    began: Option<Cursor>,
    /// Where who answers inputs begins to read, by partition.
    settled: Vec<(Partition, Offset)>,
}

impl Fold {
    /// Nothing is known yet. Keeps at most about `max_bytes`.
    pub fn new(classes: Arc<Classes>, max_bytes: usize) -> Fold {
        Fold {
            known: Known::new(classes),
            values: Values::new(max_bytes),
            max_bytes,
            began: None,
            settled: Vec::new(),
        }
    }

    /// Begins with the values of a checkpoint.
    pub fn begin(&mut self, checkpoint: Checkpoint) {
        self.began = Some(checkpoint.cursor.clone());
        self.settled = checkpoint.settled().to_vec();
        self.values = checkpoint.into_values(self.max_bytes);
    }

    /// Up to which offset of a partition everything is folded at the start; `None` if there is nothing to fold.
    pub fn knows_to(&self, partition: Partition) -> Option<Offset> {
        let began = self.began.as_ref().and_then(|cursor| cursor.position(partition));
        self.known.classes().have_state().then(|| began.map_or(Offset(0), |position| position.offset))
    }

    /// Up to which offset of a partition everything was answered by the checkpoint with which this began; `None` if it is not known.
    pub fn settled_to(&self, partition: Partition) -> Option<Offset> {
        self.settled.iter().find(|(of, _)| *of == partition).map(|(_, offset)| *offset)
    }

    pub fn classes(&self) -> &Classes {
        self.known.classes()
    }

    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The new values that these records make, in their order, one for each state topic.
    pub fn take(&mut self, records: &[Record]) -> Vec<Arc<Newest>> {
        let mut new = Vec::new();
        for record in records {
            if let Class::State(kind) = self.known.class_of(&record.topic)
                && let Some(value) = self.fold(record, kind)
            {
                self.values.put(Arc::clone(&value));
                new.push(value);
            }
        }
        new
    }

    /// Records up to an offset are gone: the values that may be older than those, marked so.
    pub fn lose(&mut self, partition: Partition, to: Offset) -> Vec<Arc<Newest>> {
        let stale = self.values.lose(partition, to);
        let marked: Vec<_> = stale.iter().map(|value| Arc::new(value.to_stale())).collect();
        marked.iter().for_each(|value| self.values.put(Arc::clone(value)));
        marked
    }

    /// Another history begins, which agrees with this one up to `head`.
    pub fn part(&mut self, head: &Cursor) {
        self.values.part(head);
    }

    fn fold(&self, record: &Record, kind: Value) -> Option<Arc<Newest>> {
        let before = self.values.get(&record.topic);
        let topic = before.map_or_else(|| Arc::from(&*record.topic), |before| Arc::clone(before.topic()));
        let position = record.position;
        let whole = |deleted| Newest::new(Arc::clone(&topic), position, &record.envelope, deleted, false);
        let value = match kind {
            Value::Whole => whole(is_deletion(&record.envelope)),
            Value::Patch => {
                let text = std::str::from_utf8(&record.envelope).ok()?;
                let (metadata, patch) = parts(text)?;
                let base = before.filter(|before| !before.is_deleted());
                let document =
                    base.and_then(|base| Some(parts(std::str::from_utf8(base.envelope()).ok()?)?.1));
                let folded = merge_patch(document, patch).ok()?;
                // A document that would be larger than an envelope may be stays as it was, and says that it is not the newest:
                // patches of 256 KiB each must not grow without end.
                let bytes = metadata.len() + folded.len() + AROUND;
                let too_large = document.filter(|_| bytes > limits::ENVELOPE_BYTES);
                if too_large.is_some() {
                    metrics::counter!("anabranch_documents_too_large_total").increment(1);
                    tracing::warn!(
                        topic = &*record.topic,
                        bytes,
                        "a document would outgrow an envelope: the patch is left out"
                    );
                }
                let folded = too_large.map_or(folded, str::to_owned);
                let envelope = format!(r#"{{"metadata":{metadata},"payload":{folded}}}"#);
                // Without a document to begin with, where one may have been lost, it is what is known, and no more.
                let unsure = before.is_none() && self.values.unsure_to(position.partition) > Offset(0);
                let replaced = folded == "null" || !patch.starts_with('{');
                let stale = too_large.is_some()
                    || (!replaced && (unsure || base.is_some_and(|base| base.is_stale())));
                Newest::new(topic, position, envelope.as_bytes(), folded == "null", stale)
            }
        };
        Some(Arc::new(value))
    }
}

/// Whether an envelope's payload is `null`. Envelopes as gateways write them need no second look.
fn is_deletion(envelope: &[u8]) -> bool {
    envelope.ends_with(br#""payload":null}"#)
        || (!envelope.starts_with(br#"{"metadata":"#)
            && std::str::from_utf8(envelope)
                .is_ok_and(|text| Envelope::parse(text).is_ok_and(|envelope| envelope.payload == "null")))
}

/// The texts of an envelope's metadata and payload.
fn parts(envelope: &str) -> Option<(&str, &str)> {
    let mut scanner = Scanner::new(envelope);
    let (mut metadata, mut payload) = (None, None);
    scanner.enter_object().ok()?;
    while let Some(key) = scanner.next_key().ok()? {
        let value = scanner.raw().ok()?;
        match &*key {
            "metadata" => metadata = Some(value),
            "payload" => payload = Some(value),
            _ => {}
        }
    }
    metadata.zip(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::MessageKey;
    use anabranch_protocol::cursor::Position;
    use anabranch_protocol::filter::Filter;

    fn folding() -> Fold {
        let row = |text: &str, class| (Filter::new(text).expect(text), class);
        let rows = [row("s/+", Class::State(Value::Whole)), row("p/+", Class::State(Value::Patch))];
        Fold::new(Arc::new(Classes::new(rows).expect("no conflict")), 1 << 20)
    }

    fn record(offset: u64, topic: &str, payload: &str) -> Record {
        let envelope = format!(r#"{{"metadata":{{"topic":"{topic}","n":{offset}}},"payload":{payload}}}"#);
        Record {
            position: Position { partition: 0, offset: Offset(offset), fingerprint: None },
            time: 1,
            topic: topic.into(),
            key: MessageKey::new(topic, &offset.to_string()),
            envelope: envelope.into(),
        }
    }

    fn text(value: &Newest) -> &str {
        std::str::from_utf8(value.envelope()).expect("UTF-8")
    }

    #[test]
    fn only_state_makes_values_and_null_deletes() {
        let mut fold = folding();
        let new = fold.take(&[record(1, "e/1", "1"), record(2, "s/1", "2"), record(3, "s/2", "null")]);
        let told: Vec<_> = new.iter().map(|value| (&**value.topic(), value.is_deleted())).collect();
        assert_eq!(told, [("s/1", false), ("s/2", true)]);
        assert_eq!(text(&new[0]), r#"{"metadata":{"topic":"s/1","n":2},"payload":2}"#);
        assert!(Arc::ptr_eq(fold.take(&[record(4, "s/1", "3")])[0].topic(), new[0].topic()), "one name");
    }

    #[test]
    fn deletion_is_the_payload_null_and_nothing_that_looks_like_it() {
        for (envelope, deleted) in [
            (r#"{"metadata":{},"payload":null}"#, true),
            (r#"{"payload": null ,"metadata":{"topic":"a"}}"#, true),
            (r#"{"metadata":{},"payload":{"payload":null}}"#, false),
            (r#"{"metadata":{},"payload":"\"payload\":null}"}"#, false),
            (r#"{"payload":1,"metadata":{"topic":"a","payload":null}}"#, false),
        ] {
            assert_eq!(is_deletion(envelope.as_bytes()), deleted, "{envelope}");
        }
    }

    #[test]
    fn patches_fold_and_what_was_deleted_does_not_come_back() {
        let mut fold = folding();
        let mut documents = Vec::new();
        let patches = [r#"{"a":{"x":1}}"#, r#"{"a":null,"b":2}"#, r#"{"a":{"y":2}}"#, "null", r#"{"c":3}"#];
        for (number, patch) in (1..).zip(patches) {
            let new = fold.take(&[record(number, "p/1", patch)]);
            documents.push(parts(text(&new[0])).expect("an envelope").1.to_owned());
        }
        let expected = [r#"{"a":{"x":1}}"#, r#"{"b":2}"#, r#"{"b":2,"a":{"y":2}}"#, "null", r#"{"c":3}"#];
        assert_eq!(documents, expected);
    }

    #[test]
    fn a_document_does_not_outgrow_an_envelope_and_says_that_it_is_not_the_newest() {
        let mut fold = folding();
        let large = |name: &str| format!(r#"{{"{name}":"{}"}}"#, "x".repeat(limits::ENVELOPE_BYTES / 2));
        fold.take(&[record(1, "p/1", &large("a"))]);
        let new = fold.take(&[record(2, "p/1", &large("b"))]);
        let payload = |value: &Newest| parts(text(value)).expect("an envelope").1.to_owned();
        assert!(new[0].is_stale() && payload(&new[0]) == large("a"), "as it was");
        assert_eq!(new[0].position().offset, Offset(2), "and known up to here");
        let smaller = fold.take(&[record(3, "p/1", r#"{"a":1}"#)]);
        assert!(smaller[0].is_stale() && payload(&smaller[0]) == r#"{"a":1}"#, "b is still missing");
        assert!(!fold.take(&[record(4, "p/1", "null")])[0].is_stale(), "replaced altogether");
    }

    #[test]
    fn what_may_be_older_than_what_was_lost_says_so() {
        let mut fold = folding();
        fold.take(&[record(1, "s/1", "1"), record(2, "p/1", r#"{"a":1}"#)]);
        let marked = fold.lose(0, Offset(5));
        assert_eq!(marked.len(), 2);
        assert!(marked.iter().all(|value| value.is_stale()));
        let new = fold.take(&[
            record(6, "s/1", "2"),
            record(7, "p/1", r#"{"b":1}"#),
            record(8, "p/2", r#"{"b":1}"#),
        ]);
        let stale: Vec<bool> = new.iter().map(|value| value.is_stale()).collect();
        assert_eq!(stale, [false, true, true], "a whole value is new, a document still has an old base");
        assert!(!fold.take(&[record(9, "p/1", "7")])[0].is_stale(), "replaced altogether");
    }
}
