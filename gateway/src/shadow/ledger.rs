//! The fold of a log into shadows: which documents count, which inputs wait, which answers are due. Every node makes it, from
//! every record, in the order of the log; so all nodes agree, whoever wrote what.
//!
//! *The rule.* A document's record counts if its step is higher than that of the last one that counted. Whoever proposes a step has
//! seen the one before it count; so of all proposals for one step the first in the log is taken, and the others are void,
//! wherever they come from: a node that was thought dead, a second try. What a void one had answered stays unanswered, and is
//! answered by a later one: inputs are applied once.
//!
//! A chain begins where nobody knows of one: its first record says up to where its proposer knows nothing, because the log has
//! forgotten it. It counts unless a chain stands behind that. Its first step is a time, so that it is higher than any of a chain that
//! was forgotten, and that somebody may remember.

mod device;
mod pace;
#[cfg(test)]
mod tests;
mod work;

pub use work::{Job, Task};

use super::Limits;
use super::entry::{Applied, Entry};
use super::topics::{Kind, Leaf, Topics};
use crate::hub::newest::Newest;
use crate::log::{MessageKey, Record};
use anabranch_protocol::cursor::{Cursor, Offset, Partition, Position};
use anabranch_protocol::envelope::Envelope;
use device::{Device, Input, Question};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Void records that are remembered, so that those who read the log again skip them too. Each is the end of a race.
const VOID: usize = 65_536;
/// Answers that are remembered.
const EARLY: usize = 1_024;
/// Of each device, questions that wait, at most. Of more, the last ones are answered.
const QUESTIONS: usize = 1_024;

/// All shadows, as of where the log was read.
#[derive(Debug)]
pub struct Ledger {
    topics: Topics,
    limits: Limits,
    name: String,
    proposals: u64,
    devices: HashMap<Box<str>, Device>,
    /// Devices for which something may be to be done, each once.
    queue: VecDeque<Box<str>>,
    /// Devices of which a proposal, or something that is due, is on its way.
    under_way: BTreeSet<Box<str>>,
    arrivals: u64,
    void: BTreeSet<(Partition, Offset)>,
    /// Up to where documents, or deletions, may be unknown here.
    unknown_to: Applied,
    /// Answers that were read lately and that no document was known to give: partitions are read each at its own pace.
    early: VecDeque<MessageKey>,
    documents: usize,
    waiting: usize,
    /// The log's clock, as of the record that was read last, in milliseconds since 1970.
    time: u64,
}

impl Ledger {
    /// `name` is nobody else's: no two proposals have the same message id, or the second would be taken for a copy of the first, which
    /// may be void.
    pub fn new(topics: Topics, limits: Limits, name: String) -> Ledger {
        Ledger {
            topics,
            limits,
            name,
            proposals: 0,
            devices: HashMap::new(),
            queue: VecDeque::new(),
            under_way: BTreeSet::new(),
            arrivals: 0,
            void: BTreeSet::new(),
            unknown_to: Applied::default(),
            early: VecDeque::new(),
            documents: 0,
            waiting: 0,
            time: 0,
        }
    }

    /// Shadows that exist.
    pub fn len(&self) -> usize {
        self.documents
    }

    pub fn is_empty(&self) -> bool {
        self.documents == 0
    }

    /// Inputs that are not answered.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Begins with the values of a checkpoint. Those that stand behind `settled` (by partition) are left out: they are read again
    /// from the log, with what they answer.
    pub fn begin<'v>(
        &mut self,
        values: impl Iterator<Item = &'v std::sync::Arc<Newest>>,
        settled: impl Fn(Partition) -> Offset,
    ) {
        for value in values {
            let position = value.position();
            let Some((_, leaf)) = self.topics.split(value.topic()) else { continue };
            if !leaf.is_state() || position.offset > settled(position.partition) {
                continue;
            }
            let record = Record {
                position,
                time: 0,
                topic: (&**value.topic()).into(),
                key: MessageKey([0; 16]),
                envelope: value.envelope().to_vec().into(),
            };
            self.take(&record);
            if let Some((device, _)) = self.topics.split(value.topic())
                && let Some(device) = self.devices.get_mut(device)
            {
                device.answers.clear();
                device.delta_due = None;
            }
        }
    }

    /// Records of a partition up to an offset are gone, or were never read here.
    pub fn lose(&mut self, partition: Partition, to: Offset) {
        self.unknown_to.advance(partition, to);
    }

    /// Forgets deletions that the log has forgotten, and devices of which nothing is known.
    pub fn forget(&mut self, oldest: impl Fn(Partition) -> Offset) {
        let unknown_to = &mut self.unknown_to;
        self.devices.retain(|_, device| {
            if device.text.is_some() || device.is_open() || device.queued {
                return true;
            }
            // Somebody has asked for a shadow that never was.
            let Some(at) = device.document.at else { return false };
            let goes = at.offset < oldest(at.partition);
            if goes {
                unknown_to.advance(at.partition, at.offset);
            }
            !goes
        });
    }

    /// Has documents written again, and the deltas with them, that stand below an offset: the log is about to forget them. Says
    /// how many.
    pub fn refresh(&mut self, below: impl Fn(Partition) -> Offset) -> usize {
        let is_below = |at: Option<Position>| at.is_some_and(|at| at.offset < below(at.partition));
        let mut count = 0;
        for (name, device) in &mut self.devices {
            let worn = is_below(device.document.at) || (is_below(device.delta.at) && device.has_delta());
            if device.text.is_some() && !device.worn && worn {
                device.worn = true;
                count += 1;
                push(&mut self.queue, name, device);
            }
        }
        count
    }

    /// Takes in a record. Says whether it counts; what does not is for nobody.
    pub fn take(&mut self, record: &Record) -> bool {
        let Some((name, leaf)) = self.topics.split(&record.topic) else { return true };
        if record.time > 0 {
            self.time = record.time;
        }
        match leaf {
            Leaf::Input(kind) => {
                self.input(name, kind, record);
                true
            }
            Leaf::Document => self.chained(name, record, Ledger::document),
            Leaf::Delta => self.chained(name, record, Ledger::delta),
            Leaf::Accepted | Leaf::Rejected => {
                self.answered(name, record.key);
                true
            }
        }
    }

    /// Whether a record that was read is void.
    pub fn is_void(&self, position: Position) -> bool {
        self.void.contains(&(position.partition, position.offset))
    }

    /// Up to which offset of a partition everything is answered, if it was read up to `head`: where a node has to begin that knows
    /// only the documents.
    pub fn settled_to(&self, partition: Partition, head: Offset) -> Offset {
        let open = self.queue.iter().chain(&self.under_way).filter_map(|name| self.devices.get(name));
        let first = open.filter_map(|device| device.first_open(partition)).min();
        first.map_or(head, |first| Offset(first.0.saturating_sub(1)).min(head))
    }

    /// Another history begins, which agrees with this one up to `head`. What the new one lacks is written again: the documents are
    /// here.
    pub fn part(&mut self, head: &Cursor) {
        let last = |partition| head.position(partition).map_or(Offset(0), |position| position.offset);
        self.void.retain(|(partition, offset)| *offset <= last(*partition));
        self.unknown_to.clamp(last);
        for (name, device) in &mut self.devices {
            self.waiting -= device.part(&last);
            push(&mut self.queue, name, device);
        }
        self.under_way.clear();
    }

    fn input(&mut self, name: &str, kind: Kind, record: &Record) {
        let Position { partition, offset, .. } = record.position;
        if self.topics.topic(name, Leaf::Document).is_none() {
            return; // A name so long that the gateway cannot answer.
        }
        let Some((id, payload)) = std::str::from_utf8(&record.envelope).ok().and_then(|text| {
            let envelope = Envelope::parse(text).ok()?;
            Some((envelope.message_id?.into_owned(), envelope.payload.to_owned()))
        }) else {
            return;
        };
        let device = device(&mut self.devices, name);
        if !device.is_news(partition, offset, kind) {
            return;
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        let Record { position, time, .. } = *record;
        match kind {
            Kind::Get => {
                let Some((_, key)) = Question::answer(&self.topics, name, position) else { return };
                device.questions.push_back(Question { arrival, position, time, id, key, sent: false });
                if device.questions.len() > QUESTIONS {
                    device.questions.pop_front();
                }
            }
            _ => {
                self.waiting += 1;
                device.inputs.push_back(Input { arrival, position, time, kind, id, payload });
            }
        }
        push(&mut self.queue, name, device);
    }

    /// A record of a document or a delta: its step decides.
    fn chained(
        &mut self,
        name: &str,
        record: &Record,
        take: fn(&mut Ledger, &str, &Record, Entry, &str) -> Verdict,
    ) -> bool {
        let read = std::str::from_utf8(&record.envelope).ok().and_then(|text| {
            let envelope = Envelope::parse(text).ok()?;
            let (_, entry) = envelope.unknown.iter().find(|(key, _)| key == "shadow")?;
            Some((Entry::read(entry)?, envelope.payload))
        });
        let verdict = match read {
            // None has answered what stands behind it.
            Some((entry, _)) if entry.applied.get(record.position.partition) > record.position.offset => {
                Verdict::Void
            }
            Some((entry, payload)) => take(self, name, record, entry, payload),
            None => Verdict::Void, // Somebody else wrote it.
        };
        if verdict == Verdict::Void {
            metrics::counter!("anabranch_shadow_void_total").increment(1);
            self.void.insert((record.position.partition, record.position.offset));
            if self.void.len() > VOID {
                self.void.pop_first();
            }
        }
        verdict != Verdict::Void
    }

    fn document(&mut self, name: &str, record: &Record, entry: Entry, payload: &str) -> Verdict {
        let device = device(&mut self.devices, name);
        let verdict = device.document.judge(&entry, record.position, record.time);
        if verdict == Verdict::Counts {
            let existed = device.text.is_some();
            self.waiting -=
                device.follow(record.position, entry, payload, &self.topics, name, self.limits.rate);
            device.answers.retain(|answer| !self.early.contains(&answer.key));
            self.documents = self.documents + usize::from(device.text.is_some()) - usize::from(existed);
            push(&mut self.queue, name, device);
            self.under_way.remove(name);
        }
        verdict
    }

    fn delta(&mut self, name: &str, record: &Record, entry: Entry, _: &str) -> Verdict {
        let device = device(&mut self.devices, name);
        let verdict = device.delta.judge(&entry, record.position, record.time);
        if verdict == Verdict::Counts {
            device.delta.count(entry.step, record.position);
            device.delta_due = device.delta_due.filter(|due| *due > entry.step);
        }
        verdict
    }

    fn answered(&mut self, name: &str, key: MessageKey) {
        if self.devices.get_mut(name).is_some_and(|device| device.answered(key)) {
            return;
        }
        self.early.push_back(key);
        if self.early.len() > EARLY {
            self.early.pop_front();
        }
    }
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Counts,
    /// It has counted, or stands before what has.
    Old,
    Void,
}

fn device<'d>(devices: &'d mut HashMap<Box<str>, Device>, name: &str) -> &'d mut Device {
    if !devices.contains_key(name) {
        devices.insert(name.into(), Device::default());
    }
    devices.get_mut(name).expect("it was put there just now")
}

fn push(queue: &mut VecDeque<Box<str>>, name: &str, device: &mut Device) {
    if !std::mem::replace(&mut device.queued, true) {
        queue.push_back(name.into());
    }
}
