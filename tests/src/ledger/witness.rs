//! What one client's app was shown, in order.

use super::Number;
use anabranch::Event;
use anabranch_protocol::cursor::{Cursor, Offset, Partition, Position};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Gap, Outcome};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// One subscription's witness.
#[derive(Debug)]
pub struct Witness {
    pub(super) filter: Filter,
    pub(super) seen: u64,
    pub(super) doubled: u64,
    pub(super) out_of_order: u64,
    pub(super) resets: u64,
    pub(super) gaps: Vec<Gap>,
    start: Option<Cursor>,
    /// One bit for each number.
    numbers: Vec<u64>,
    last: HashMap<Partition, Offset>,
}

/// What publishers put into payloads.
#[derive(Deserialize)]
struct Payload {
    n: Number,
}

impl Witness {
    pub fn new(filter: &str) -> Witness {
        Witness {
            filter: Filter::new(filter).expect("a filter"),
            seen: 0,
            doubled: 0,
            out_of_order: 0,
            resets: 0,
            gaps: Vec::new(),
            start: None,
            numbers: Vec::new(),
            last: HashMap::new(),
        }
    }

    /// The client asked for nothing up to here. Without it: for everything.
    pub fn starts_after(&mut self, cursor: Cursor) {
        self.start = Some(cursor);
    }

    /// The app was shown a message.
    pub fn message(&mut self, number: Number, position: Position) {
        self.seen += 1;
        let (word, bit) = (number as usize / 64, 1u64 << (number % 64));
        if self.numbers.len() <= word {
            self.numbers.resize(word + 1, 0);
        }
        if self.numbers[word] & bit != 0 {
            self.doubled += 1;
        }
        self.numbers[word] |= bit;
        let before = self.last.insert(position.partition, position.offset);
        // A double is counted as such, once.
        if before.is_some_and(|before| before > position.offset) {
            self.out_of_order += 1;
        }
    }

    /// The app was told a gap.
    pub fn gap(&mut self, gap: &Gap) {
        self.gaps.push(gap.clone());
    }

    /// Writes down an event of an SDK's subscription. Panics if it has ended.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Message(message) => {
                let payload: Payload = message.json().expect("a payload with its number");
                self.message(payload.n, message.position());
            }
            Event::Gap(gap) => self.gap(gap),
            Event::Subscribed(Outcome::Reset(_)) => self.resets += 1,
            Event::Closed(why) => panic!("the subscription to {} has ended: {why:?}", self.filter),
            _ => {}
        }
    }

    /// Writes down a frame from the gateway, for clients that deliver everything that they get.
    pub fn frame(&mut self, frame: &Value) {
        let text = |field: &str| frame[field].as_str().unwrap_or_default();
        match text("type") {
            "message" => {
                let envelope = &frame["envelope"];
                let topic = envelope["metadata"]["topic"].as_str().unwrap_or_default();
                if self.filter.matches(topic) {
                    let payload =
                        Payload::deserialize(&envelope["payload"]).expect("a payload with its number");
                    self.message(payload.n, text("position").parse().expect("a position"));
                }
            }
            "gap" => self.gap_fields(frame),
            "subscribed" if text("outcome") == "gap" => self.gap_fields(frame),
            "subscribed" if text("outcome") == "reset" => self.resets += 1,
            _ => {}
        }
    }

    fn gap_fields(&mut self, frame: &Value) {
        use anabranch_protocol::server_frame::ServerFrame;
        let mut gap = frame.clone();
        gap["type"] = "gap".into();
        match ServerFrame::from_json(&gap.to_string()) {
            Ok(ServerFrame::Gap { gap, .. }) => self.gap(&gap),
            other => panic!("not a gap: {other:?}"),
        }
    }

    /// How many messages the app was shown.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The gaps that the app was told, in order.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// How often the app was told that another history has begun.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    pub(super) fn has(&self, number: Number) -> bool {
        let word = self.numbers.get(number as usize / 64).copied().unwrap_or(0);
        word & 1 << (number % 64) != 0
    }

    pub(super) fn is_before_start(&self, position: Position) -> bool {
        self.start.as_ref().is_some_and(|start| start.includes(position))
    }

    pub(super) fn was_told(&self, position: Position) -> bool {
        let within = |gap: &Gap| {
            gap.partition == position.partition && gap.after < position.offset && position.offset < gap.before
        };
        self.gaps.iter().any(within)
    }
}
