//! Several nodes, of which any may act at any time, over one log.

use super::*;
use crate::log::NewRecord;
use crate::shadow::document::Document;
use anabranch_protocol::cursor::LogId;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

const PARTITIONS: usize = 2;
/// Nodes so far: each has a name of its own.
static NODES: AtomicU64 = AtomicU64::new(0);
/// Milliseconds since 1970: all of it happens within a minute.
const BEGAN: u64 = 1_700_000_000_000;

fn topics() -> Topics {
    Topics::below("t")
}

/// A log, as nodes read it: without second copies of a message.
#[derive(Default)]
struct Tape {
    partitions: [Vec<Record>; PARTITIONS],
    /// Records that it has forgotten.
    forgotten: [usize; PARTITIONS],
    count: u64,
}

impl Tape {
    fn append(&mut self, new: NewRecord) {
        let partition = crc32c::crc32c(new.topic.as_str().as_bytes()) as usize % PARTITIONS;
        let line = &mut self.partitions[partition];
        let offset = Offset((self.forgotten[partition] + line.len()) as u64 + 1);
        let position = Position { partition: partition as Partition, offset, fingerprint: None };
        self.count += 1;
        let topic = new.topic.as_str().into();
        line.push(Record { position, time: BEGAN + self.count, topic, key: new.key, envelope: new.envelope });
    }

    /// Forgets everything. Where it begins then.
    fn forget(&mut self) -> [Offset; PARTITIONS] {
        for (line, forgotten) in self.partitions.iter_mut().zip(&mut self.forgotten) {
            *forgotten += line.len();
            line.clear();
        }
        self.forgotten.map(|forgotten| Offset(forgotten as u64 + 1))
    }

    /// A client publishes. Returns the message's id.
    fn publish(&mut self, device: &str, kind: Kind, payload: &str) -> String {
        let topic = topics().topic(device, Leaf::Input(kind)).expect("a topic");
        let id = format!("m{}", self.count);
        let envelope =
            format!(r#"{{"metadata":{{"messageId":"{id}","topic":"{topic}"}},"payload":{payload}}}"#);
        let key = MessageKey::new(topic.as_str(), &id);
        self.append(NewRecord { topic, key, envelope: envelope.into() });
        id
    }
}

struct Node {
    ledger: Ledger,
    read: [usize; PARTITIONS],
    /// As the publisher's window: the first copy of a message is the one.
    seen: HashSet<MessageKey>,
    outbox: VecDeque<Task>,
    counted: Vec<Record>,
}

impl Node {
    fn new() -> Node {
        let limits = Limits { rate: 1_000_000, ..Limits::default() };
        Node {
            ledger: Ledger::new(topics(), limits, format!("n{}", NODES.fetch_add(1, Ordering::Relaxed))),
            read: [0; PARTITIONS],
            seen: HashSet::new(),
            outbox: VecDeque::new(),
            counted: Vec::new(),
        }
    }

    fn read(&mut self, tape: &Tape, partition: usize, most: usize) {
        let from = self.read[partition].saturating_sub(tape.forgotten[partition]);
        self.read[partition] = self.read[partition].max(tape.forgotten[partition]);
        for record in tape.partitions[partition].iter().skip(from).take(most) {
            self.read[partition] += 1;
            if self.seen.insert(record.key) && self.ledger.take(record) {
                self.counted.push(record.clone());
            }
        }
    }

    fn read_all(&mut self, tape: &Tape) {
        (0..PARTITIONS).for_each(|partition| self.read(tape, partition, usize::MAX));
    }

    fn work(&mut self, now: u64) {
        self.outbox.extend(self.ledger.work(3, now, BEGAN));
    }

    /// Acts until nothing is due, whatever it thought to be on its way.
    fn finish(&mut self, tape: &mut Tape) {
        let mut now = 1_000_000;
        for _ in 0..200 {
            self.read_all(tape);
            now += 20_000;
            self.ledger.look_again(now);
            self.work(now);
            let before = tape.count;
            self.send(tape, usize::MAX);
            if tape.count == before && self.ledger.queue.is_empty() && self.ledger.under_way.is_empty() {
                return;
            }
        }
        panic!("it does not come to an end: {:?}", self.ledger);
    }

    fn send(&mut self, tape: &mut Tape, most: usize) {
        for _ in 0..most {
            let Some(task) = self.outbox.pop_front() else { return };
            tape.append(task.record);
            self.ledger.done(&task.job, true);
        }
    }

    fn payloads(&self, leaf: Leaf) -> Vec<(String, Value)> {
        let of = |record: &&Record| topics().split(&record.topic).is_some_and(|(_, found)| found == leaf);
        let text = |record: &Record| serde_json::from_slice(&record.envelope).expect("JSON");
        self.counted
            .iter()
            .filter(of)
            .map(|record| {
                let envelope: Value = text(record);
                (
                    envelope["metadata"]["correlationId"].as_str().unwrap_or("").into(),
                    envelope["payload"].clone(),
                )
            })
            .collect()
    }
}

/// One node and its log, for stories.
struct Story {
    tape: Tape,
    node: Node,
}

impl Story {
    fn new() -> Story {
        Story { tape: Tape::default(), node: Node::new() }
    }

    fn says(&mut self, kind: Kind, payload: &str) -> String {
        let id = self.tape.publish("d", kind, payload);
        self.node.finish(&mut self.tape);
        id
    }

    fn last(&self, leaf: Leaf) -> Value {
        self.node.payloads(leaf).last().map_or(Value::Null, |(_, payload)| payload.clone())
    }
}

#[test]
fn an_app_sets_a_device_reports_and_the_delta_empties() {
    let mut story = Story::new();
    let id = story.says(Kind::Desired, r#"{"on":true}"#);
    assert_eq!(story.last(Leaf::Document)["state"], json!({ "desired": { "on": true } }));
    assert_eq!(story.last(Leaf::Delta)["state"], json!({ "on": true }));
    let (to, accepted) = story.node.payloads(Leaf::Accepted).pop().expect("an answer");
    assert_eq!((to, &accepted["version"]), (id, &json!(1)));
    story.says(Kind::Reported, r#"{"on":true}"#);
    assert_eq!(story.last(Leaf::Delta), Value::Null);
    assert_eq!(story.node.payloads(Leaf::Accepted).len(), 1, "a report that is well is not answered");
    let id = story.says(Kind::Update, r#"{"state":{"desired":{}},"version":7}"#);
    let (to, rejected) = story.node.payloads(Leaf::Rejected).pop().expect("an answer");
    assert_eq!((to, &rejected["code"], &rejected["version"]), (id, &json!(4410), &json!(2)));
}

#[test]
fn a_question_is_answered_behind_what_came_before_it() {
    let mut story = Story::new();
    story.tape.publish("d", Kind::Desired, r#"{"a":1}"#);
    let id = story.says(Kind::Get, "{}");
    let told = story.node.payloads(Leaf::Accepted);
    let (_, answer) = told.iter().find(|(to, _)| *to == id).expect("an answer");
    assert_eq!((&answer["state"], &answer["delta"]), (&json!({ "desired": { "a": 1 } }), &json!({ "a": 1 })));
    let other = story.tape.publish("e", Kind::Get, "null");
    story.node.finish(&mut story.tape);
    let (to, answer) = story.node.payloads(Leaf::Accepted).pop().expect("an answer");
    assert_eq!((to, &answer["version"]), (other, &json!(0)));
}

#[test]
fn a_shadow_that_is_made_again_is_another_incarnation() {
    let mut story = Story::new();
    story.says(Kind::Desired, r#"{"a":1}"#);
    let first = story.last(Leaf::Document)["incarnation"].as_u64().expect("a number");
    story.says(Kind::Delete, "{}");
    assert_eq!(story.last(Leaf::Document), Value::Null);
    assert_eq!(story.last(Leaf::Delta), Value::Null);
    story.says(Kind::Desired, r#"{"b":1}"#);
    let last = story.last(Leaf::Document);
    assert!(last["incarnation"].as_u64().expect("a number") > first);
    assert_eq!((&last["version"], &last["state"]), (&json!(1), &json!({ "desired": { "b": 1 } })));
}

/// What a publisher without a gateway writes on an output topic, it writes for nobody.
#[test]
fn documents_that_no_gateway_wrote_do_not_count() {
    let mut story = Story::new();
    story.says(Kind::Desired, r#"{"a":1}"#);
    let topic = topics().topic("d", Leaf::Document).expect("a topic");
    let envelope =
        format!(r#"{{"metadata":{{"messageId":"x","topic":"{topic}"}},"payload":{{"version":9}}}}"#);
    let key = MessageKey::new(topic.as_str(), "x");
    story.tape.append(NewRecord { topic, key, envelope: envelope.into() });
    story.node.read_all(&story.tape);
    assert_eq!(story.last(Leaf::Document)["version"], json!(1));
    let void =
        story.tape.partitions.iter().flatten().filter(|record| story.node.ledger.is_void(record.position));
    assert_eq!(void.count(), 1);
}

#[test]
fn who_updates_too_often_is_told_so() {
    let mut story = Story::new();
    story.node.ledger.limits.rate = 3;
    for n in 0..5 {
        story.tape.publish("d", Kind::Desired, &format!(r#"{{"f{n}":1}}"#));
    }
    story.node.finish(&mut story.tape);
    assert_eq!(story.last(Leaf::Document)["version"], json!(3));
    assert_eq!(story.node.payloads(Leaf::Rejected).len(), 2);
    assert_eq!(story.last(Leaf::Rejected)["remedy"], json!("retry"));
}

/// What the log is about to forget is written again, the delta too: a node that begins then knows it.
/// The log takes nothing for a while, so each proposal is made again and again. It asks for nothing more than once.
#[test]
fn a_proposal_that_was_not_stored_counts_for_no_pace() {
    let mut story = Story::new();
    story.node.ledger.limits.rate = 3;
    for n in 0..3 {
        story.tape.publish("d", Kind::Desired, &format!(r#"{{"f{n}":1}}"#));
    }
    story.node.read_all(&story.tape);
    for now in 0..20 {
        story.node.ledger.look_again(now * 500);
        story.node.work(now * 500);
        for task in story.node.outbox.drain(..) {
            story.node.ledger.done(&task.job, false);
        }
    }
    story.node.finish(&mut story.tape);
    assert!(story.node.payloads(Leaf::Rejected).is_empty());
    assert_eq!(story.last(Leaf::Document)["version"], json!(3));
}

/// Each refusal is a record with the whole document, so they are gathered. What is in time does not wait.
#[test]
fn many_who_come_too_fast_are_refused_together() {
    let mut story = Story::new();
    story.node.ledger.limits.rate = 3;
    for n in 0..603 {
        story.tape.publish("d", Kind::Desired, &format!(r#"{{"f{n}":1}}"#));
        story.node.read_all(&story.tape);
        // No tick meanwhile.
        story.node.work(0);
        story.node.send(&mut story.tape, usize::MAX);
        story.node.read_all(&story.tape);
    }
    let documents = |story: &Story| story.node.payloads(Leaf::Document).len();
    assert_eq!((documents(&story), story.last(Leaf::Document)["version"].clone()), (4, json!(3)));
    story.node.finish(&mut story.tape);
    let (refused, version) =
        (story.node.payloads(Leaf::Rejected).len(), story.last(Leaf::Document)["version"].clone());
    assert_eq!(version.as_u64().map(|version| version as usize + refused), Some(603));
    assert!(refused > 580, "{refused}: some come in time, as the node's clock goes on");
    assert!(documents(&story) < 10, "{}", documents(&story));
}

/// Whoever may write to the broker can make documents that count. They cannot end the shadow.
#[test]
fn a_forged_step_does_not_use_up_the_numbers() {
    let mut story = Story::new();
    story.says(Kind::Desired, r#"{"a":1}"#);
    let topic = topics().topic("d", Leaf::Document).expect("a topic");
    for step in [(1_u64 << 53) - 2, BEGAN + 360 * 24 * 3_600_000] {
        let id = step.to_string();
        // And that everything is answered is no gateway's word either.
        let mut applied = Applied::default();
        (0..PARTITIONS).for_each(|partition| applied.advance(partition as Partition, Offset(u64::MAX)));
        let applied = if step < 1 << 52 { Applied::default() } else { applied };
        let entry = Entry { step, incarnation: 1, version: 9, applied, ..Entry::default() }.to_json();
        let envelope = format!(
            r#"{{"metadata":{{"messageId":"{id}","topic":"{topic}","shadow":{entry}}},"payload":null}}"#
        );
        let key = MessageKey::new(topic.as_str(), &id);
        story.tape.append(NewRecord { topic: topic.clone(), key, envelope: envelope.into() });
        story.says(Kind::Desired, r#"{"b":1}"#);
        assert_eq!(story.last(Leaf::Document)["state"]["desired"]["b"], json!(1), "{step}");
    }
}

/// A name costs nothing for longer than its question waits.
#[test]
fn shadows_that_never_were_are_forgotten() {
    let mut story = Story::new();
    for n in 0..50 {
        story.tape.publish(&format!("none{n}"), Kind::Get, "null");
    }
    story.says(Kind::Desired, r#"{"a":1}"#);
    story.node.ledger.forget(|_| Offset(0));
    assert_eq!(story.node.ledger.devices.len(), 1);
}

/// Its clock is ahead of the log's by more than a question may wait.
#[test]
fn a_question_is_as_old_as_the_log_says() {
    let mut story = Story::new();
    story.tape.publish("d", Kind::Get, "{}");
    story.node.read_all(&story.tape);
    let late = BEGAN + 2 * crate::shadow::QUESTION.as_millis() as u64;
    assert_eq!(story.node.ledger.work(3, 0, late).len(), 1);
}

/// A node that never acts reads what others answer, and keeps nothing of it.
#[test]
fn who_does_not_act_forgets_questions_that_are_answered() {
    let mut story = Story::new();
    let mut standby = Node::new();
    for _ in 0..3 {
        story.says(Kind::Get, "null");
    }
    let asked = |node: &Node| node.ledger.devices["d"].questions.len();
    // Each partition at its own pace: answers may come first.
    for partition in [0, 1] {
        standby.read(&story.tape, partition, usize::MAX);
    }
    assert_eq!((asked(&standby), asked(&story.node)), (0, 0));
    for _ in 0..QUESTIONS + 5 {
        story.tape.publish("d", Kind::Get, "null");
    }
    standby.read_all(&story.tape);
    assert_eq!(asked(&standby), QUESTIONS, "nobody answers: the last ones wait");
}

#[test]
fn what_is_about_to_be_forgotten_is_written_again() {
    let mut story = Story::new();
    story.says(Kind::Desired, r#"{"a":1}"#);
    story.says(Kind::Reported, r#"{"b":2}"#);
    let before = story.last(Leaf::Document);
    let worn: Vec<Offset> = story.tape.partitions.iter().map(|line| Offset(line.len() as u64 + 1)).collect();
    for line in &mut story.tape.partitions {
        line.iter_mut().for_each(|record| record.key = MessageKey([0; 16]));
    }
    assert_eq!(story.node.ledger.refresh(|partition| worn[usize::from(partition)]), 1);
    assert_eq!(story.node.ledger.refresh(|partition| worn[usize::from(partition)]), 0, "it is on its way");
    let written = story.tape.forget();
    story.node.finish(&mut story.tape);
    assert_eq!(story.last(Leaf::Document), before);
    let mut fresh = Node::new();
    (0..PARTITIONS).for_each(|p| fresh.ledger.lose(p as Partition, Offset(written[p].0 - 1)));
    fresh.read_all(&story.tape);
    assert_eq!(fresh.payloads(Leaf::Document).pop().expect("it is there").1, before);
    assert_eq!(fresh.payloads(Leaf::Delta).pop().expect("it is there").1["state"], json!({ "a": 1 }));
}

/// The log has forgotten a shadow, or that it was deleted. One node remembers, another has begun since; either acts first, and they
/// agree.
#[test]
fn who_remembers_and_who_does_not_agree() {
    for deleted in [false, true] {
        for first in 0..2 {
            let mut story = Story::new();
            story.says(Kind::Desired, r#"{"a":1}"#);
            if deleted {
                story.says(Kind::Delete, "{}");
            }
            let written = story.tape.forget();
            let mut fresh = Node::new();
            (0..PARTITIONS).for_each(|p| fresh.ledger.lose(p as Partition, Offset(written[p].0 - 1)));
            let Story { mut tape, node } = story;
            let mut nodes = [node, fresh];
            tape.publish("d", Kind::Desired, r#"{"b":1}"#);
            for node in &mut nodes {
                node.read_all(&tape);
                node.work(1);
            }
            nodes[first].send(&mut tape, usize::MAX);
            nodes[1 - first].send(&mut tape, usize::MAX);
            nodes[0].finish(&mut tape);
            nodes[1].finish(&mut tape);
            nodes[0].read_all(&tape);
            let [one, other] =
                [0, 1].map(|node| nodes[node].ledger.devices["d"].text.clone().expect("a shadow"));
            assert_eq!(one, other, "deleted: {deleted}, first: {first}");
            let state = Document::read(&one).expect("a document").desired.expect("desired").state;
            assert!(state.contains(r#""b":1"#), "the update counts: {state}");
        }
    }
    // Who has forgotten a deletion himself knows that he has.
    let mut story = Story::new();
    story.says(Kind::Desired, r#"{"a":1}"#);
    story.says(Kind::Delete, "{}");
    let oldest = story.tape.forget();
    story.node.ledger.look_again(1 << 40);
    story.node.finish(&mut story.tape);
    story.node.ledger.forget(|partition| oldest[usize::from(partition)]);
    assert!(story.node.ledger.devices.is_empty());
    story.says(Kind::Desired, r#"{"b":1}"#);
    assert_eq!(story.last(Leaf::Document)["version"], json!(1));
}

/// The log is deleted, or has lost its end: who knows the documents writes them again.
#[test]
fn what_another_history_lacks_is_written_again() {
    for kept in 0..6 {
        let mut story = Story::new();
        story.says(Kind::Desired, r#"{"a":1}"#);
        story.says(Kind::Reported, r#"{"b":2}"#);
        let document = story.last(Leaf::Document)["state"].clone();
        let mut head = Cursor::beginning(LogId(2));
        for (partition, line) in story.tape.partitions.iter_mut().enumerate() {
            line.truncate(kept);
            if let Some(last) = line.last() {
                head.set(Position { partition: partition as Partition, ..last.position });
            }
            story.node.read[partition] = line.len();
        }
        let standing: HashSet<MessageKey> =
            story.tape.partitions.iter().flatten().map(|record| record.key).collect();
        story.node.seen.retain(|key| standing.contains(key));
        story.node.ledger.part(&head);
        story.node.finish(&mut story.tape);
        let mut fresh = Node::new();
        fresh.read_all(&story.tape);
        for node in [&story.node, &fresh] {
            let last = |leaf| node.payloads(leaf).last().map_or(Value::Null, |(_, payload)| payload.clone());
            assert_eq!(last(Leaf::Document)["state"], document, "{kept} kept");
            assert_eq!(last(Leaf::Delta)["state"], json!({ "a": 1 }), "{kept} kept");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        device: u8,
        kind: u8,
    },
    Read {
        node: usize,
        partition: usize,
        most: usize,
    },
    Work {
        node: usize,
    },
    Send {
        node: usize,
        most: usize,
    },
    Again {
        node: usize,
    },
    /// It ends, with all that it had not sent, and begins with the log.
    Restart {
        node: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..3usize;
    prop_oneof![
        4 => (0..2u8, 0..12u8).prop_map(|(device, kind)| Step::Publish { device, kind }),
        6 => (node.clone(), 0..PARTITIONS, 1..6usize)
            .prop_map(|(node, partition, most)| Step::Read { node, partition, most }),
        4 => node.clone().prop_map(|node| Step::Work { node }),
        5 => (node.clone(), 1..4usize).prop_map(|(node, most)| Step::Send { node, most }),
        2 => node.clone().prop_map(|node| Step::Again { node }),
        1 => node.prop_map(|node| Step::Restart { node }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    /// Whoever acts, however late, over whatever crashes: every input is answered once, none is lost, no version is used twice,
    /// and all nodes agree.
    #[test]
    fn any_interleaving_of_writers_and_actors_converges(steps in proptest::collection::vec(step(), 1..120)) {
        let mut tape = Tape::default();
        let mut nodes: Vec<Node> = (0..3).map(|_| Node::new()).collect();
        let mut asked: BTreeMap<String, (u8, u8)> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            now += 1;
            match step {
                Step::Publish { device, kind } => {
                    let field = format!("f{}", tape.count);
                    let (input, payload) = match kind {
                        0..=4 => (Kind::Desired, format!(r#"{{"{field}":1}}"#)),
                        5..=9 => (Kind::Reported, format!(r#"{{"{field}":1}}"#)),
                        10 => (Kind::Update, format!(r#"{{"state":{{"desired":{{"{field}":1}}}},"version":{}}}"#, tape.count % 4)),
                        _ => (Kind::Get, "{}".to_owned()),
                    };
                    let id = tape.publish(&format!("d{device}"), input, &payload);
                    asked.insert(id, (device, kind));
                }
                Step::Read { node, partition, most } => nodes[node].read(&tape, partition, most),
                Step::Work { node } => nodes[node].work(now),
                Step::Send { node, most } => nodes[node].send(&mut tape, most),
                Step::Again { node } => {
                    now += 20_000;
                    nodes[node].ledger.look_again(now);
                }
                Step::Restart { node } => nodes[node] = Node::new(),
            }
        }
        nodes[0].finish(&mut tape);
        // Zombies say what they had in hand, and somebody cleans up behind them.
        nodes[1].send(&mut tape, usize::MAX);
        nodes[2].send(&mut tape, usize::MAX);
        nodes[0].finish(&mut tape);
        nodes.push(Node::new());
        for node in &mut nodes[1..] {
            node.read_all(&tape);
        }
        let [accepted, rejected] = [Leaf::Accepted, Leaf::Rejected].map(|leaf| nodes[0].payloads(leaf));
        let is_answered = |id: &str| {
            let count = |list: &[(String, Value)]| list.iter().filter(|(to, _)| to == id).count();
            (count(&accepted), count(&rejected))
        };
        for device in 0..2u8 {
            let name = format!("d{device}");
            let texts: Vec<_> = nodes.iter().map(|node| {
                node.ledger.devices.get(&*name).map(|device| (device.document.step, device.text.clone()))
            }).collect();
            prop_assert!(texts.iter().all(|text| *text == texts[3]), "{:?}", texts);
            let document = texts[3].clone().and_then(|(_, text)| Document::read(&text?));
            let mut fields: HashSet<String> = HashSet::new();
            for section in document.iter().flat_map(|document| [&document.desired, &document.reported]).flatten() {
                let state: Value = serde_json::from_str(&section.state).expect("JSON");
                fields.extend(state.as_object().expect("an object").keys().cloned());
            }
            let mut due = HashSet::new();
            for (id, (_, kind)) in asked.iter().filter(|(_, (of, _))| *of == device) {
                let (yes, no) = is_answered(id);
                match kind {
                    5..=9 => prop_assert_eq!((yes, no), (0, 0)),
                    _ => prop_assert_eq!(yes + no, 1, "{} of {}", id, name),
                }
                if *kind < 11 && no == 0 {
                    due.insert(id.replace('m', "f"));
                }
            }
            prop_assert_eq!(fields, due, "each accepted update is in the document, and no other");
            let topic = topics().topic(&name, Leaf::Delta).expect("a topic");
            let deltas: Vec<&Record> =
                nodes[3].counted.iter().filter(|record| *record.topic == *topic.as_str()).collect();
            let last: Value = deltas.last().map_or(Value::Null, |record| {
                serde_json::from_slice::<Value>(&record.envelope).expect("JSON")["payload"]["state"].clone()
            });
            let delta = document.and_then(|document| document.delta());
            prop_assert_eq!(last, delta.map_or(Value::Null, |delta| serde_json::from_str(&delta).expect("JSON")));
        }
        for node in &nodes {
            prop_assert_eq!(node.ledger.waiting(), 0);
            let mut versions: BTreeMap<(String, u64, u64), Value> = BTreeMap::new();
            for record in node.counted.iter().filter(|record| record.topic.ends_with("/document")) {
                let envelope: Value = serde_json::from_slice(&record.envelope).expect("JSON");
                let payload = envelope["payload"].clone();
                if payload.is_null() {
                    continue; // Nothing but refusals so far.
                }
                let number = |name: &str| payload[name].as_u64().expect("a number");
                let key = (record.topic.to_string(), number("incarnation"), number("version"));
                let before = versions.insert(key, payload.clone());
                prop_assert!(before.is_none_or(|before| before == payload), "a version with two contents");
            }
        }
    }
}
