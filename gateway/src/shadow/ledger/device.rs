//! What is known of one device's shadow.

use super::Verdict;
use super::pace::Pace;
use crate::log::MessageKey;
use crate::shadow::document::Document;
use crate::shadow::entry::{Applied, Entry, Settled};
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
    pub questions: VecDeque<Question>,
    /// Answers that have not been seen in the log.
    pub answers: VecDeque<Answer>,
    /// The step since which the delta is another one than the one that was published.
    pub delta_due: Option<u64>,
    /// Whether this node has appended it.
    pub delta_sent: bool,
    /// The last document has answered nothing but updates that came too fast. The next one waits for more of them: each is a record with
    /// the whole document.
    pub hurried: bool,
    /// The log is about to forget the document or the delta.
    pub worn: bool,
    /// When this node proposed the next step, on its own clock.
    pub proposed: Option<u64>,
    /// Of the inputs that are answered.
    pub pace: Pace,
    /// Whether it stands in the queue.
    pub queued: bool,
}

/// A change that a client asked for.
#[derive(Debug)]
pub(super) struct Input {
    /// Counts what came, whatever the partition.
    pub arrival: u64,
    pub position: Position,
    pub time: u64,
    pub kind: Kind,
    pub id: String,
    pub payload: String,
}

/// A client wants to be told what the shadow is.
#[derive(Debug)]
pub(super) struct Question {
    /// Counts what came, as of an input.
    pub arrival: u64,
    pub position: Position,
    pub time: u64,
    pub id: String,
    /// Of the answer, whichever node gives it.
    pub key: MessageKey,
    /// Whether this node has appended the answer.
    pub sent: bool,
}

impl Question {
    /// The answer's own `messageId`, and its key. One answer, whichever node gives it.
    pub fn answer(topics: &Topics, device: &str, position: Position) -> Option<(String, MessageKey)> {
        let id = format!("get.{}.{}", position.partition, position.offset);
        let key = MessageKey::new(topics.topic(device, Leaf::Accepted)?.as_str(), &id);
        Some((id, key))
    }
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

/// How much higher a step may be than the one before it, or than the log's clock, where steps begin: a year's milliseconds. No gateway
/// comes near; and whoever writes to the broker without one cannot use up the numbers.
const LEAP: u64 = 365 * 24 * 3_600_000;

/// The last record of a topic that counted.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub step: u64,
    pub at: Option<Position>,
    /// It stood in a history that has ended: whatever comes next counts.
    pub lost: bool,
}

impl Chain {
    pub fn judge(&self, entry: &Entry, position: Position, time: u64) -> Verdict {
        // A checkpoint's value has counted before.
        if time > 0 && entry.step > self.step.max(time).saturating_add(LEAP) {
            return Verdict::Void;
        }
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
        let here = |position: &Position| position.partition == partition;
        let read = if kind == Kind::Get {
            self.questions.iter().rev().map(|question| question.position).find(here)
        } else {
            self.inputs.iter().rev().map(|input| input.position).find(here)
        };
        (kind == Kind::Get || offset > self.applied.get(partition))
            && read.is_none_or(|read| read.offset < offset)
    }

    /// A document counts. Says how many inputs it has answered.
    pub fn follow(
        &mut self,
        at: Position,
        entry: Entry,
        payload: &str,
        topics: &Topics,
        name: &str,
        rate: u32,
    ) -> usize {
        self.document.count(entry.step, at);
        (self.incarnation, self.version) = (entry.incarnation, entry.version);
        self.text = (payload != "null").then(|| payload.into());
        self.applied = entry.applied;
        let (before, proposed) = (self.inputs.len(), self.proposed.take());
        let Device { inputs, applied, pace, .. } = self;
        inputs.retain(|input| {
            let waits = input.position.offset > applied.get(input.position.partition);
            if !waits {
                pace.keeps(input.time, proposed.unwrap_or(0), rate);
            }
            waits
        });
        let answered = before - self.inputs.len();
        let too_fast = |it: &&Settled| matches!(it.refused, Some((Code::SHADOW_TOO_FAST, _)));
        self.hurried = answered > 0 && entry.settled.iter().filter(too_fast).count() == answered;
        if proposed.is_some() {
            tally(answered, &entry.settled);
        }
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
        answered
    }

    /// Whether what is desired differs from what is reported.
    pub fn has_delta(&self) -> bool {
        self.text.as_deref().and_then(Document::read).is_some_and(|document| document.delta().is_some())
    }

    /// An answer stands in the log. Says whether it was waited for.
    pub fn answered(&mut self, key: MessageKey) -> bool {
        let before = self.answers.len();
        self.answers.retain(|answer| answer.key != key);
        let questions = self.questions.len();
        self.questions.retain(|question| question.key != key);
        self.answers.len() < before || self.questions.len() < questions
    }

    /// The first offset of a partition with something that is not answered, or not told.
    pub fn first_open(&self, partition: Partition) -> Option<Offset> {
        let inputs = self.inputs.iter().map(|input| input.position);
        let asked = self.questions.iter().map(|question| question.position);
        let told = self.answers.iter().map(|answer| answer.of);
        let delta = self.delta_due.and(self.document.at);
        let open =
            inputs.chain(asked).chain(told).chain(delta).filter(|position| position.partition == partition);
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
        self.questions.retain(|question| stands(question.position));
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

/// Counts what became of inputs, by the node that proposed it.
fn tally(answered: usize, settled: &[Settled]) {
    let count = |result: &'static str, by: usize| {
        metrics::counter!("anabranch_shadow_updates_total", "result" => result).increment(by as u64);
    };
    let refused = settled.iter().filter_map(|settled| settled.refused.as_ref());
    let refused = refused.map(|(code, _)| count(code.name(), 1)).count();
    count("accepted", answered.saturating_sub(refused));
}
