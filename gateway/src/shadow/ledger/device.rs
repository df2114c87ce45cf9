//! What is known of one device's shadow.

use super::Verdict;
use crate::log::MessageKey;
use crate::shadow::document::Document;
use crate::shadow::entry::{Applied, Entry};
use crate::shadow::topics::{Kind, Leaf, Topics};
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Offset, Partition, Position};
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Device {
    /// Where its chain of documents stands.
    pub document: Chain,
    /// Where its deltas stand.
    pub delta: Chain,
    /// Of the last one, if there is none now.
    pub incarnation: u64,
    /// As of the incarnation.
    pub version: u64,
    /// The document as it was published; `None` if there is none.
    pub text: Option<Box<str>>,
    /// Up to which offsets its inputs are answered.
    pub applied: Applied,
    /// Inputs that no document has answered, as they came.
    pub inputs: VecDeque<Input>,
    /// Who wants to be told what the shadow is.
    pub questions: VecDeque<Input>,
    /// Answers that have not been seen in the log.
    pub answers: VecDeque<Answer>,
    /// The step since which the delta is another one than the one that was published.
    pub delta_due: Option<u64>,
    /// Whether this node has appended it.
    pub delta_sent: bool,
    /// The log is about to forget the document or the delta.
    pub worn: bool,
    /// When this node proposed the next step, on its own clock.
    pub proposed: Option<u64>,
    /// When its updates would be due if they came evenly, by the log's clock, in microseconds.
    pub pace: u64,
    /// Whether it stands in the queue.
    pub queued: bool,
}

/// Something that a client asked for.
#[derive(Debug)]
pub(super) struct Input {
    /// Counts what came, whatever the partition.
    pub arrival: u64,
    pub position: Position,
    pub time: u64,
    pub kind: Kind,
    pub id: String,
    pub payload: String,
    /// Whether this node has appended the answer.
    pub sent: bool,
}

/// An answer to an input.
#[derive(Debug)]
pub(super) struct Answer {
    pub key: MessageKey,
    /// Its own `messageId`.
    pub id: String,
    /// The input's.
    pub to: String,
    /// Where the document stands that gave it.
    pub of: Position,
    pub incarnation: u64,
    pub version: u64,
    pub deleted: bool,
    pub refused: Option<(Code, String)>,
    pub sent: bool,
}

/// The last record of a topic that counted.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub step: u64,
    pub at: Option<Position>,
    /// It stood in a history that has ended: whatever comes next counts.
    pub lost: bool,
}

impl Chain {
    pub fn judge(&self, entry: &Entry, position: Position) -> Verdict {
        let Some(at) = self.at else { return Verdict::Counts };
        if at.partition == position.partition && position.offset <= at.offset {
            return Verdict::Old;
        }
        let goes_on = match &entry.begins {
            // Who began it could not know of this one, which the log has forgotten.
            Some(unknown) => unknown.get(at.partition) >= at.offset,
            None => entry.step > self.step,
        };
        if goes_on || self.lost { Verdict::Counts } else { Verdict::Void }
    }

    pub fn count(&mut self, step: u64, position: Position) {
        *self = Chain { step, at: Some(position), lost: false };
    }

    fn part(&mut self, last: &impl Fn(Partition) -> Offset) -> bool {
        let gone = self.at.is_some_and(|at| at.offset > last(at.partition));
        if gone {
            self.lost = true;
            self.at = self.at.map(|at| Position { offset: last(at.partition), fingerprint: None, ..at });
        }
        gone
    }
}

impl Device {
    /// Whether an input was neither answered nor read before.
    pub fn is_news(&self, partition: Partition, offset: Offset, kind: Kind) -> bool {
        let waiting = if kind == Kind::Get { &self.questions } else { &self.inputs };
        let read = waiting.iter().rev().find(|input| input.position.partition == partition);
        (kind == Kind::Get || offset > self.applied.get(partition))
            && read.is_none_or(|read| read.position.offset < offset)
    }

    /// A document counts. Says how many inputs it has answered.
    pub fn follow(
        &mut self,
        at: Position,
        entry: Entry,
        payload: &str,
        topics: &Topics,
        name: &str,
    ) -> usize {
        self.document.count(entry.step, at);
        (self.incarnation, self.version) = (entry.incarnation, entry.version);
        self.text = (payload != "null").then(|| payload.into());
        self.applied = entry.applied;
        let before = self.inputs.len();
        let applied = &self.applied;
        self.inputs.retain(|input| input.position.offset > applied.get(input.position.partition));
        self.proposed = None;
        self.worn = false;
        if entry.delta && self.delta.step < entry.step {
            self.delta_due = Some(entry.step);
            self.delta_sent = false;
        }
        for (number, settled) in entry.settled.into_iter().enumerate() {
            let leaf = if settled.refused.is_some() { Leaf::Rejected } else { Leaf::Accepted };
            let Some(topic) = topics.topic(name, leaf) else { continue };
            let id = format!("{}.{}.{number}", entry.incarnation, entry.step);
            self.answers.push_back(Answer {
                key: MessageKey::new(topic.as_str(), &id),
                id,
                to: settled.id,
                of: at,
                incarnation: entry.incarnation,
                version: settled.version,
                deleted: self.text.is_none() && settled.version == entry.version,
                refused: settled.refused,
                sent: false,
            });
        }
        before - self.inputs.len()
    }

    /// Whether what is desired differs from what is reported.
    pub fn has_delta(&self) -> bool {
        self.text.as_deref().and_then(Document::read).is_some_and(|document| document.delta().is_some())
    }

    /// An answer stands in the log. Says whether it was waited for.
    pub fn answered(&mut self, key: MessageKey) -> bool {
        let before = self.answers.len();
        self.answers.retain(|answer| answer.key != key);
        self.answers.len() < before
    }

    /// The first offset of a partition with something that is not answered, or not told.
    pub fn first_open(&self, partition: Partition) -> Option<Offset> {
        let inputs = self.inputs.iter().chain(&self.questions).map(|input| input.position);
        let told = self.answers.iter().map(|answer| answer.of);
        let delta = self.delta_due.and(self.document.at);
        let open = inputs.chain(told).chain(delta).filter(|position| position.partition == partition);
        open.map(|position| position.offset).min()
    }

    /// See [`Ledger::part`](super::Ledger::part). Says how many inputs are gone.
    pub fn part(&mut self, last: &impl Fn(Partition) -> Offset) -> usize {
        self.document.part(last);
        if self.delta.part(last) {
            self.delta_due = Some(self.document.step);
        }
        self.applied.clamp(last);
        let before = self.inputs.len();
        let stands = |position: Position| position.offset <= last(position.partition);
        self.inputs.retain(|input| stands(input.position));
        self.questions.retain(|input| stands(input.position));
        self.halt();
        before - self.inputs.len()
    }

    /// What this node has begun is begun anew by whoever acts.
    pub fn halt(&mut self) {
        self.proposed = None;
        self.delta_sent = false;
        self.answers.iter_mut().for_each(|answer| answer.sent = false);
        self.questions.iter_mut().for_each(|question| question.sent = false);
    }

    /// Whether anything is to be done.
    pub fn is_open(&self) -> bool {
        self.document.lost
            || self.worn
            || self.delta_due.is_some()
            || !(self.inputs.is_empty() && self.questions.is_empty() && self.answers.is_empty())
    }
}
