//! What a client holds of state topics, as a dashboard does, and what it should hold.

use super::classes;
use crate::hub::classes::{Class, Value};
use crate::log::Record;
use anabranch_protocol::client_frame::SnapshotMode;
use anabranch_protocol::cursor::{Cursor, Offset, Position};
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::merge_patch::merge_patch;
use anabranch_protocol::server_frame::{About, Snapshot};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// A subscription's state.
pub struct Held {
    mode: SnapshotMode,
    /// Where its snapshot stands, while one is on its way.
    state: Option<Cursor>,
    /// The topics that a whole snapshot has named so far.
    named: Option<BTreeSet<String>>,
    /// Where the newest delivery stood.
    last: Option<Offset>,
    values: BTreeMap<String, String>,
    /// Where the newest delivery of each topic stood.
    newest: BTreeMap<String, Offset>,
    /// Whether the whole snapshot on its way lacks values; and as of where the last one was that has ended so.
    lacks: bool,
    lacked: Option<Offset>,
    /// Whether everything before the start of its events was asked for.
    whole: bool,
    stale: BTreeSet<String>,
}

impl Held {
    pub fn new(mode: SnapshotMode) -> Held {
        Held {
            mode,
            state: None,
            named: None,
            last: None,
            values: BTreeMap::new(),
            newest: BTreeMap::new(),
            lacks: false,
            lacked: None,
            whole: false,
            stale: BTreeSet::new(),
        }
    }

    /// What to ask for. Only the first time is a snapshot wanted whatever there is.
    pub fn ask(&self, again: bool) -> (SnapshotMode, Option<Cow<'static, str>>) {
        let mode = match self.mode {
            SnapshotMode::Always if again => SnapshotMode::IfNew,
            mode => mode,
        };
        (mode, self.state.as_ref().map(|state| state.to_string().into()))
    }

    pub fn begin(&mut self, snapshot: Option<Snapshot>, cursor: &Cursor, fresh: bool) {
        if fresh && self.mode == SnapshotMode::Always {
            assert!(snapshot.as_ref().is_none_or(|s| s.whole), "a whole one was asked for");
        }
        match snapshot {
            Some(Snapshot { whole, state }) => {
                if whole {
                    self.lacks = false;
                    (self.named, self.last, self.whole) = (Some(BTreeSet::new()), None, true);
                }
                self.state = Some(state).filter(|state| state != cursor);
            }
            None => self.state = None,
        }
    }

    /// Whether a message is accounted for: a value by the snapshot's place, anything else by the cursor.
    pub fn accounts_for(&self, position: Position, about: About, cursor: &Cursor) -> bool {
        let place = if about.snapshot { self.state.as_ref().unwrap_or(cursor) } else { cursor };
        place.includes(position)
    }

    pub fn take(&mut self, topic: &str, position: Position, about: About, payload: &str) {
        assert!(self.last.is_none_or(|last| last < position.offset), "out of order or double: {position}");
        self.last = Some(position.offset);
        if let Some(state) = &mut self.state {
            state.advance(position);
        }
        assert_eq!(about.patch, !about.snapshot && classes().is_patch(topic), "{topic} says what it is");
        let Class::State(kind) = classes().class_of(topic) else {
            assert!(!about.snapshot, "{topic} is no state");
            return;
        };
        if let Some(named) = &mut self.named {
            named.insert(topic.into());
        }
        self.newest.insert(topic.into(), position.offset);
        let before = self.values.get(topic).map(String::as_str);
        let value = if kind == Value::Patch && !about.snapshot {
            merge_patch(before, payload).expect("both are JSON")
        } else {
            self.stale.remove(topic);
            payload.into()
        };
        if about.stale {
            self.stale.insert(topic.into());
        }
        if value == "null" {
            self.values.remove(topic)
        } else {
            self.values.insert(topic.into(), value)
        };
    }

    /// Events up to `end` are gone. `values`: state is not.
    pub fn pass(&mut self, end: Position, values: bool, cursor: &Cursor) {
        match &mut self.state {
            Some(state) if !values => _ = state.advance(end),
            None if values && !cursor.includes(end) => self.state = Some(cursor.clone()),
            _ => {}
        }
    }

    pub fn follow(&mut self, to: &Cursor) {
        if let Some(state) = &mut self.state {
            state.advance_to(to);
        }
    }

    /// The gateway does not know all values that a snapshot on its way should have. Of one that is not whole, an app is told nothing:
    /// what that lacks must be told as a gap.
    pub fn lacks(&mut self) {
        self.lacks = true;
    }

    pub fn caught_up(&mut self, cursor: &Cursor) {
        self.state = None;
        let Some(named) = self.named.take() else { return };
        let as_of = cursor.position(0).map_or(Offset(0), |position| position.offset);
        self.lacked = self.lacks.then_some(as_of);
        if !self.lacks {
            self.values.retain(|topic, _| named.contains(topic));
        }
    }

    /// Whether it may have been sent this topic's value from before its events began.
    pub fn may_have(&self, topic: &str) -> bool {
        self.mode != SnapshotMode::None && is_state(topic)
    }

    /// The promise. `all` are the records that the filter matches, ever.
    pub fn check(
        &self,
        all: &[&Record],
        began: Offset,
        filter: &Filter,
        unsure: bool,
        told: &impl Fn(Offset) -> bool,
    ) {
        assert!(unsure || self.lacked.is_none(), "{filter}: nothing was forgotten");
        let mut folded: BTreeMap<&str, (Offset, String, bool)> = BTreeMap::new();
        for record in all.iter().filter(|record| is_state(&record.topic)) {
            let text = std::str::from_utf8(&record.envelope).expect("UTF-8");
            let payload = Envelope::parse(text).expect("an envelope").payload;
            let patch = classes().class_of(&record.topic) == Class::State(Value::Patch);
            let before = folded.get(&*record.topic).map(|(_, value, _)| value.as_str());
            let before = before.filter(|value| *value != "null");
            let value = if patch { merge_patch(before, payload).expect("JSON") } else { payload.into() };
            folded.insert(&record.topic, (record.position.offset, value, patch));
        }
        for (topic, (newest, value, patch)) in &folded {
            let excused = unsure
                && (*patch || self.lacked >= Some(*newest) || told(*newest) || self.stale.contains(*topic));
            // Without a snapshot, what stood before its start is none of its business.
            let concerned = *newest > began || self.whole;
            if !concerned || excused {
                continue;
            }
            let got = self.newest.get(*topic) == Some(newest);
            // A deletion is of no use to who never had the value.
            let never_had = value == "null" && !self.values.contains_key(*topic);
            assert!(
                got || never_had,
                "{filter}: {topic} stands at {newest}, it has {:?}",
                self.newest.get(*topic)
            );
            let holds = self.values.get(*topic).map_or("null", String::as_str);
            if !patch || self.whole {
                assert_eq!(holds, value, "{filter}: {topic}");
            }
        }
    }
}

pub fn is_state(topic: &str) -> bool {
    classes().class_of(topic).is_state()
}
