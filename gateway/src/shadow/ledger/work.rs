//! What is due: proposals for the next documents, deltas, answers. Whoever holds the duty appends it; to append it twice does no harm.

use super::device::{Device, Input, Question};
use super::{Ledger, push};
use crate::log::{MessageKey, NewRecord};
use crate::shadow::document::{Document, Occasion, apply};
use crate::shadow::entry::{Applied, Entry, Settled};
use crate::shadow::message::Message;
use crate::shadow::topics::{Kind, Leaf, Topics};
use crate::shadow::update::{Refusal, Update};
use crate::shadow::{Limits, QUESTION};
use anabranch_protocol::code::Code;
use anabranch_protocol::json::ObjectWriter;

/// Inputs that one document takes in, at most: half a millisecond's work. Those that come too fast are none.
const INPUTS: usize = 64;
/// What one document says to those whom it answers, at most, in bytes. Together with the largest document it stays below an envelope's
/// limit.
const SETTLED_BYTES: usize = 48 * 1024;
/// Of that, what stands around an id and a reason.
const SETTLED_AROUND: usize = 80;
/// How long a proposal may be on its way before it is made anew, in milliseconds.
const PATIENCE: u64 = 10_000;

/// Something to be appended.
#[derive(Clone, Debug)]
pub struct Task {
    pub job: Job,
    pub record: NewRecord,
}

/// What for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// The next document of a device. Whether it counts is seen when it is read.
    Propose {
        device: Box<str>,
        step: u64,
    },
    Delta {
        device: Box<str>,
        step: u64,
    },
    Answer {
        device: Box<str>,
        key: MessageKey,
    },
    /// A question, by where it stands.
    Tell {
        device: Box<str>,
        arrival: u64,
    },
}

impl Job {
    fn device(&self) -> &str {
        match self {
            Job::Propose { device, .. }
            | Job::Delta { device, .. }
            | Job::Answer { device, .. }
            | Job::Tell { device, .. } => device,
        }
    }
}

impl Ledger {
    /// What is due for the next devices in line, of at most so many. `now` is this node's clock, `unix_ms` the world's, both in milliseconds.
    pub fn work(&mut self, devices: usize, now: u64, unix_ms: u64) -> Vec<Task> {
        let mut tasks = Vec::new();
        for _ in 0..devices {
            let Some(name) = self.queue.pop_front() else { break };
            let Some(device) = self.devices.get_mut(&name) else { continue };
            device.queued = false;
            self.proposals += 1;
            let proposal = format!("{}.{}", self.name, self.proposals);
            let desk = Desk {
                topics: &self.topics,
                limits: &self.limits,
                unknown_to: &self.unknown_to,
                name: &name,
                proposal: &proposal,
                unix_ms,
                time: self.time,
            };
            desk.work(device, now, &mut tasks);
            if device.is_open() {
                self.under_way.insert(name);
            }
        }
        tasks
    }

    /// What became of a task: whether it is stored.
    pub fn done(&mut self, job: &Job, stored: bool) {
        let Some(device) = self.devices.get_mut(job.device()) else { return };
        match job {
            // That it stands in the log is not that it counts.
            Job::Propose { step, .. } if !stored && *step > device.document.step => device.proposed = None,
            Job::Propose { .. } => {}
            Job::Delta { step, .. } if stored => {
                device.delta_due = device.delta_due.filter(|due| due > step);
            }
            Job::Delta { .. } => device.delta_sent = false,
            Job::Answer { key, .. } if stored => _ = device.answered(*key),
            Job::Answer { key, .. } => {
                let failed = device.answers.iter_mut().filter(|answer| answer.key == *key);
                failed.for_each(|answer| answer.sent = false);
            }
            Job::Tell { arrival, .. } if stored => {
                device.questions.retain(|question| question.arrival != *arrival);
            }
            Job::Tell { arrival, .. } => {
                let failed = device.questions.iter_mut().filter(|question| question.arrival == *arrival);
                failed.for_each(|question| question.sent = false);
            }
        }
    }

    /// Puts those in line again whose work has failed, or has been under way for too long. Now and then.
    pub fn look_again(&mut self, now: u64) {
        for name in std::mem::take(&mut self.under_way) {
            let Some(device) = self.devices.get_mut(&name) else { continue };
            if device.proposed.is_some_and(|since| now.saturating_sub(since) >= PATIENCE) {
                device.proposed = None;
            }
            device.hurried = false;
            if device.is_open() {
                push(&mut self.queue, &name, device);
            }
        }
    }
}

/// Where one device's work is done.
struct Desk<'w> {
    topics: &'w Topics,
    limits: &'w Limits,
    unknown_to: &'w Applied,
    name: &'w str,
    /// The message id of a proposal.
    proposal: &'w str,
    unix_ms: u64,
    /// The log's clock, as of the last record.
    time: u64,
}

impl Desk<'_> {
    fn work(&self, device: &mut Device, now: u64, tasks: &mut Vec<Task>) {
        // What stood in a history that has ended is written first.
        if device.delta_due.is_some() && !device.delta_sent && !device.document.lost {
            tasks.extend(self.delta(device));
            device.delta_sent = true;
        }
        for at in 0..device.answers.len() {
            if !device.answers[at].sent {
                tasks.extend(self.answer(device, at));
                device.answers[at].sent = true;
            }
        }
        self.questions(device, tasks);
        let rewritten = device.document.lost || device.worn;
        if device.proposed.is_none() && (rewritten || !(device.inputs.is_empty() || device.hurried)) {
            tasks.extend(self.proposal(device, now));
            device.proposed = Some(now);
        }
    }

    fn task(&self, job: Job, leaf: Leaf, message: (&str, Option<&str>, Option<&str>, &str)) -> Option<Task> {
        let (id, answers, entry, payload) = message;
        let topic = self.topics.topic(self.name, leaf)?;
        let record = Message { topic, id, answers, entry, payload, time: self.unix_ms }.record();
        Some(Task { job, record })
    }

    fn proposal(&self, device: &Device, now: u64) -> Option<Task> {
        let current = device.text.as_deref().and_then(Document::read);
        let mut document = current.clone();
        let (mut incarnation, mut version) = (device.incarnation, device.version);
        let begins = device.document.at.is_none();
        let first = device.inputs.front().map_or(0, |input| input.time);
        let mut entry = Entry {
            step: if begins { first.max(1) } else { device.document.step + 1 },
            begins: begins.then(|| self.unknown_to.clone()),
            applied: device.applied.clone(),
            ..Entry::default()
        };
        let rewritten = device.document.lost || device.worn;
        // A copy: it has gone on when the document counts.
        let mut pace = device.pace;
        let (mut taken, mut said) = (0, 0);
        for input in &device.inputs {
            if taken == INPUTS || said >= SETTLED_BYTES {
                break;
            }
            let answer = if pace.keeps(input.time, now, self.limits.rate) {
                taken += 1;
                self.apply(input, document.as_ref(), incarnation)
            } else {
                Err(self.too_fast())
            };
            entry.applied.advance(input.position.partition, input.position.offset);
            let mut deleted = false;
            let refused = match answer {
                Ok(changed) => {
                    deleted = changed.is_none();
                    version = changed.as_ref().map_or(version + 1, |changed| changed.version);
                    incarnation = changed.as_ref().map_or(incarnation, |changed| changed.incarnation);
                    document = changed;
                    None
                }
                Err(Refusal { code, message }) => Some((code, message.into_owned())),
            };
            // A device that reports is told when something is wrong.
            if refused.is_some() || input.kind != Kind::Reported {
                let version =
                    document.as_ref().map_or(if refused.is_some() { 0 } else { version }, |d| d.version);
                said += input.id.len()
                    + refused.as_ref().map_or(0, |(_, message)| message.len())
                    + SETTLED_AROUND;
                entry.settled.push(Settled { id: input.id.clone(), version, refused });
            }
            if deleted {
                break; // What comes next makes another incarnation: all answers of one record are of one.
            }
        }
        (entry.incarnation, entry.version) = (incarnation, version);
        let delta = |document: &Option<Document>| document.as_ref().and_then(Document::delta);
        let now = delta(&document);
        entry.delta = delta(&current) != now || (rewritten && now.is_some());
        let payload = document.as_ref().map_or_else(|| "null".to_owned(), Document::to_json);
        let job = Job::Propose { device: self.name.into(), step: entry.step };
        self.task(job, Leaf::Document, (self.proposal, None, Some(&entry.to_json()), &payload))
    }

    fn delta(&self, device: &Device) -> Option<Task> {
        let step = device.document.step;
        let document = device.text.as_deref().and_then(Document::read);
        let differs = document.as_ref().and_then(|document| Some((document, document.delta()?)));
        let mut payload = String::new();
        match differs {
            Some((document, delta)) => {
                let mut object = ObjectWriter::begin(&mut payload);
                object.number("incarnation", document.incarnation).number("version", document.version);
                object.number("timestamp", document.time).raw("state", &delta);
                object.end();
            }
            None => payload.push_str("null"),
        }
        let entry =
            Entry { step, incarnation: device.incarnation, version: device.version, ..Entry::default() };
        let id = format!("{}.{step}", device.incarnation);
        let job = Job::Delta { device: self.name.into(), step };
        self.task(job, Leaf::Delta, (&id, None, Some(&entry.to_json()), &payload))
    }

    fn answer(&self, device: &Device, at: usize) -> Option<Task> {
        let answer = &device.answers[at];
        let mut payload = String::new();
        let mut object = ObjectWriter::begin(&mut payload);
        let leaf = match &answer.refused {
            None => Leaf::Accepted,
            Some((code, message)) => {
                object.number("code", u64::from(code.0)).string("name", code.name());
                object.string("remedy", code.remedy().name()).string("message", message);
                Leaf::Rejected
            }
        };
        object.number("incarnation", answer.incarnation).number("version", answer.version);
        if answer.deleted {
            object.boolean("deleted", true);
        }
        object.end();
        let job = Job::Answer { device: self.name.into(), key: answer.key };
        self.task(job, leaf, (&answer.id, Some(&answer.to), None, &payload))
    }

    /// What an input makes of a document; nothing, if it deletes it.
    fn apply(
        &self,
        input: &Input,
        document: Option<&Document>,
        incarnation: u64,
    ) -> Result<Option<Document>, Refusal> {
        let update = Update::read(input.kind, &input.payload)?;
        let occasion = Occasion { incarnation: input.time.max(incarnation + 1), time: input.time };
        apply(document, &update, self.limits, occasion)
    }

    fn too_fast(&self) -> Refusal {
        let message = format!("more than {} updates of the device in a second", self.limits.rate);
        Refusal { code: Code::SHADOW_TOO_FAST, message: message.into() }
    }

    /// Answers the questions before which every input is answered. Who has waited for too long, by the log's clock, is told nothing.
    fn questions(&self, device: &mut Device, tasks: &mut Vec<Task>) {
        let oldest = self.time.saturating_sub(QUESTION.as_millis() as u64);
        device.questions.retain(|question| question.time >= oldest);
        if device.document.lost {
            return;
        }
        let first = device.inputs.front().map_or(u64::MAX, |input| input.arrival);
        let document = device.text.as_deref().and_then(Document::read);
        for question in &mut device.questions {
            if question.sent || question.arrival > first {
                continue;
            }
            tasks.extend(self.tell(question, document.as_ref()));
            question.sent = true;
        }
    }

    fn tell(&self, question: &Question, document: Option<&Document>) -> Option<Task> {
        let mut payload = String::new();
        let mut object = ObjectWriter::begin(&mut payload);
        // Of a shadow that does not exist, too: if two nodes answer, and know more or less, clients are told once.
        document.unwrap_or(&Document::default()).write(&mut object);
        if let Some(delta) = document.and_then(Document::delta) {
            object.raw("delta", &delta);
        }
        object.end();
        let (id, _) = Question::answer(self.topics, self.name, question.position)?;
        let job = Job::Tell { device: self.name.into(), arrival: question.arrival };
        self.task(job, Leaf::Accepted, (&id, Some(&question.id), None, &payload))
    }
}
