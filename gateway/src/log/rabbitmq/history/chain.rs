//! What the stream of the histories says, put together. Pure.

use super::super::fault::Fault;
use super::super::options::Options;
use anabranch_protocol::cursor::{LogId, Partition};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// Before the first history.
const ROOT: LogId = LogId(0);

/// One record of the stream.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Entry {
    /// A history ended, and another began.
    Link {
        /// Which ended, in hexadecimal: not every reader of JSON has 64 bits.
        void: String,
        id: String,
        /// When, in milliseconds since 1970; for people.
        time: u64,
        /// Among how many streams its topics are divided. Absent from what earlier versions wrote.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        partitions: Option<Partition>,
    },
    /// Every stream of a history was there, before anybody was told its name.
    Made { made: String, partitions: Partition, time: u64 },
}

pub(super) fn text(id: LogId) -> String {
    format!("{:016x}", id.0)
}

fn id(text: &str) -> Option<LogId> {
    u64::from_str_radix(text, 16).ok().map(LogId)
}

/// Every history that there was.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Chain {
    next: HashMap<LogId, LogId>,
    /// Among how many streams each is divided, as far as that is known; those of earlier versions are not in here.
    partitions: HashMap<LogId, Partition>,
    made: HashSet<LogId>,
}

impl Chain {
    pub(super) fn add(&mut self, body: &[u8]) {
        match serde_json::from_slice::<Entry>(body) {
            Ok(Entry::Link { void, id: new, partitions, .. }) => {
                let (Some(void), Some(new)) = (id(&void), id(&new)) else { return };
                // A circle would have no end.
                let known = new == ROOT || new == void || self.next.values().any(|known| *known == new);
                if known || self.next.contains_key(&void) {
                    return;
                }
                self.next.insert(void, new);
                match partitions {
                    Some(partitions) => _ = self.partitions.insert(new, partitions),
                    // Earlier versions handed out the name without writing down that everything is there.
                    None => _ = self.made.insert(new),
                }
            }
            Ok(Entry::Made { made, partitions, .. }) => {
                let Some(made) = id(&made) else { return };
                self.made.insert(made);
                self.partitions.entry(made).or_insert(partitions);
            }
            Err(_) => {}
        }
    }

    /// The newest history; [`ROOT`] if there was none.
    pub(in super::super) fn end(&self) -> LogId {
        let mut end = ROOT;
        while let Some(next) = self.next.get(&end) {
            end = *next;
        }
        end
    }

    /// The newest history's name, if any has one.
    pub(in super::super) fn name(&self) -> Option<LogId> {
        Some(self.end()).filter(|end| *end != ROOT)
    }

    /// Whether every stream of the newest history was there once: if one is missing now, it was deleted.
    pub(in super::super) fn was_made(&self) -> bool {
        self.made.contains(&self.end())
    }

    /// Among how many streams the newest history is divided, if that is written down.
    pub(in super::super) fn partitions(&self) -> Option<Partition> {
        self.partitions.get(&self.end()).copied()
    }

    /// The newest history's name for a node with these options: an error if it divides the topics in another way.
    pub(in super::super) fn agreed(&self, options: &Options) -> Result<Option<LogId>, Fault> {
        match self.partitions() {
            Some(theirs) if theirs != options.partitions => {
                let (queue, ours) = (&options.queue, options.partitions);
                Err(Fault::Refused(format!(
                    "the log {queue:?} is divided among {theirs} partitions, and this node is set to partitions={ours}: \
                     it would miss what lies in the others. Say partitions={theirs} on every node; or, to divide the \
                     log anew, choose another queue=, or stop all nodes, delete its streams and start them with \
                     partitions={ours}"
                )))
            }
            _ => Ok(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::rabbitmq::options::Server;

    fn chain(links: &[(u64, u64)]) -> Chain {
        let mut chain = Chain::default();
        for (void, id) in links {
            chain.add(format!(r#"{{"void":"{void:x}","id":"{id:x}","time":1}}"#).as_bytes());
        }
        chain
    }

    #[test]
    fn the_first_successor_holds() {
        assert_eq!(chain(&[]).end(), ROOT);
        assert_eq!(chain(&[(0, 10), (10, 11), (10, 12), (11, 13), (12, 14)]).end(), LogId(13));
        assert_eq!(chain(&[(0, 10), (0, 20), (20, 21)]).end(), LogId(10));
    }

    #[test]
    fn nonsense_is_passed_over() {
        let mut odd = chain(&[(0, 10), (10, 10), (10, 0), (10, 11), (11, 10)]);
        odd.add(b"not json");
        odd.add(br#"{"void":"xyz","id":"1","time":1}"#);
        odd.add(br#"{"made":"xyz","partitions":1,"time":1}"#);
        assert_eq!(odd.end(), LogId(11));
    }

    #[test]
    fn a_history_is_made_when_somebody_says_so() {
        let mut chain = Chain::default();
        chain.add(br#"{"void":"0","id":"a","time":1,"partitions":3}"#);
        assert!(!chain.was_made());
        assert_eq!(chain.partitions(), Some(3));
        chain.add(br#"{"made":"a","partitions":3,"time":2}"#);
        assert!(chain.was_made());
        chain.add(br#"{"void":"a","id":"b","time":3,"partitions":1}"#);
        assert!(!chain.was_made(), "each for itself");
    }

    #[test]
    fn what_an_earlier_version_began_is_made_and_divided_as_the_next_node_says() {
        let mut chain = chain(&[(0, 10)]);
        assert!(chain.was_made());
        let one = Options::at(Server::nowhere());
        let three = Options { partitions: 3, ..one.clone() };
        assert_eq!(chain.agreed(&three), Ok(Some(LogId(10))));
        chain.add(br#"{"made":"a","partitions":3,"time":2}"#);
        assert_eq!(chain.agreed(&three), Ok(Some(LogId(10))));
        let Err(Fault::Refused(why)) = chain.agreed(&one) else { panic!() };
        assert!(why.contains("3 partitions") && why.contains("partitions=1"), "{why}");
    }
}
