//! What the app has said: I5, each that was accepted reaches the log, or its end is told.

use super::truth::Truth;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::Position;
use std::collections::BTreeMap;

/// All publishes of one client, over all its processes.
#[derive(Default)]
pub struct Said {
    by_id: BTreeMap<Box<str>, One>,
    /// The order in which they were said.
    order: Vec<(Box<str>, &'static str)>,
}

struct One {
    /// It is to outlive the process.
    kept: bool,
    /// The app was told that it is kept; one that is not kept ends with the process.
    accepted: bool,
    process: u32,
    end: Option<End>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Published,
    Failed(Code),
    Withdrawn,
}

impl Said {
    pub fn enter(&mut self, message_id: &str, topic: &'static str, kept: bool, process: u32) {
        let one = One { kept, accepted: false, process, end: None };
        assert!(self.by_id.insert(message_id.into(), one).is_none(), "a fresh id");
        self.order.push((message_id.into(), topic));
    }

    pub fn accepted(&mut self, message_id: &str) {
        self.one(message_id).accepted = true;
    }

    fn one(&mut self, message_id: &str) -> &mut One {
        self.by_id.get_mut(message_id).unwrap_or_else(|| panic!("I5: {message_id} was never said"))
    }

    pub fn published(&mut self, message_id: &str, position: Position, process: u32, truth: &Truth) {
        assert!(truth.was_stored_at(message_id, position), "I5: {message_id} was never at {position}");
        let one = self.one(message_id);
        let again = one.end == Some(End::Published) && one.process == process;
        assert!(!again, "{message_id} is published twice");
        (one.end, one.process) = (Some(End::Published), process);
    }

    pub fn failed(&mut self, message_id: &str, code: Code, process: u32, truth: &Truth) {
        let unsent = code == Code::EXPIRED;
        let one = self.one(message_id);
        assert!(one.end.is_none() || one.process != process, "{message_id} ends twice");
        (one.end, one.process) = (Some(End::Failed(code)), process);
        assert!(
            !(unsent && truth.was_stored(message_id)),
            "I5: {message_id} is said to have never been sent"
        );
    }

    pub fn withdrawn(&mut self, message_id: &str) {
        self.one(message_id).end = Some(End::Withdrawn);
    }

    pub fn check_at_the_end(&self, process: u32, truth: &Truth, who: &str) {
        for (message_id, One { kept, accepted, process: its, end }) in &self.by_id {
            match end {
                Some(End::Published) => {
                    assert!(truth.was_stored(message_id), "I5: {who}: {message_id} is not there")
                }
                Some(End::Failed(_) | End::Withdrawn) => {}
                // Its process has ended, and with it whoever was to be told.
                None if !kept && *its != process => {}
                None => {
                    let fine = truth.was_stored(message_id) || (*kept && !accepted && *its != process);
                    assert!(fine, "I5: {who}: {message_id} is nowhere, and nobody was told");
                }
            }
        }
    }

    /// Of each topic, in the order in which they were said.
    pub fn check_order(&self, truth: &Truth, who: &str) {
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        for message_id in truth.order() {
            let Some(at) = self.order.iter().position(|(said, _)| **said == *message_id) else { continue };
            let one = &self.by_id[message_id];
            // What nobody waits for any more may come late, from a connection that is long gone.
            if one.end != Some(End::Published) || (one.kept && !one.accepted) {
                continue;
            }
            let topic = self.order[at].1;
            let before = last.insert(topic, at);
            assert!(before.is_none_or(|before| before < at), "{who}: {message_id} was overtaken on {topic}");
        }
    }
}
