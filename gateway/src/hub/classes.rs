//! What each topic means: one table of patterns, the narrower row before the broader.
//!
//! ```text
//!   iotsphere/devices/+/shadow/+       state, whole
//!   iotsphere/devices/+/shadow/delta   event            narrower: an exception from the row above
//!   iotsphere/devices/+/commands/#     command
//!   anything else                      event
//! ```

use anabranch_protocol::filter::Filter;
use hashbrown::HashMap;
use std::fmt;
use std::sync::Arc;

/// What a topic's messages are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Every message matters.
    Event,
    /// Requests and responses: every message matters to those whom it concerns.
    Command,
    /// Only the newest value matters.
    State(Value),
}

impl Class {
    pub fn is_state(self) -> bool {
        matches!(self, Class::State(_))
    }
}

/// What the payload of a state topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The whole value. `null` deletes it.
    Whole,
    /// A merge patch of the value before (RFC 7396). `null` deletes it.
    Patch,
}

impl Class {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Event => "event",
            Class::Command => "command",
            Class::State(Value::Whole) => "state",
            Class::State(Value::Patch) => "patch",
        }
    }
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// Of two rows that overlap, the narrower comes first.
    rows: Vec<(Filter, Class)>,
}

impl fmt::Display for Classes {
    /// A row a line. Two tables with the same text mean the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(row, class)| writeln!(f, "{row} {}", class.name()))
    }
}

/// Two rows that give the same topics different meanings, neither being narrower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub one: (Filter, Class),
    pub other: (Filter, Class),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((one, a), (other, b)) = (&self.one, &self.other);
        write!(
            f,
            "{one} ({}) and {other} ({}) mean some of the same topics, and neither covers the other: change one of them",
            a.name(),
            b.name()
        )
    }
}

/// What a filter's topics may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// Some may be events or commands.
    pub events: bool,
    /// Some may be state.
    pub state: bool,
}

impl Classes {
    /// Makes the table. Errs with the first two rows that contradict each other.
    pub fn new(rows: impl IntoIterator<Item = (Filter, Class)>) -> Result<Classes, Conflict> {
        let mut rows: Vec<(Filter, Class)> = rows.into_iter().collect();
        for (at, one) in rows.iter().enumerate() {
            for other in &rows[at + 1..] {
                let (mine, theirs) = (one.0.covers(&other.0), other.0.covers(&one.0));
                if one.1 != other.1 && one.0.overlaps(&other.0) && mine == theirs {
                    return Err(Conflict { one: one.clone(), other: other.clone() });
                }
            }
        }
        // A row is covered by whatever covers a broader one, and by that one besides: counting puts it first.
        let covering = |row: &Filter| rows.iter().filter(|(other, _)| other.covers(row)).count();
        let mut order: Vec<(usize, usize)> =
            rows.iter().enumerate().map(|(at, (row, _))| (usize::MAX - covering(row), at)).collect();
        order.sort_unstable();
        rows = order.into_iter().map(|(_, at)| rows[at].clone()).collect();
        Ok(Classes { rows })
    }

    /// What a topic is. Costs a match with each row; [`Known`] remembers.
    pub fn class_of(&self, topic: &str) -> Class {
        self.rows.iter().find(|(row, _)| row.matches(topic)).map_or(Class::Event, |(_, class)| *class)
    }

    /// What the topics of a filter may be. Never says less than what is true.
    pub fn within(&self, filter: &Filter) -> Holds {
        let state = self.rows.iter().any(|(row, class)| class.is_state() && row.overlaps(filter));
        let only_state = self.rows.iter().any(|(row, class)| {
            let excepted = |(other, theirs): &(Filter, Class)| {
                !theirs.is_state() && other.overlaps(filter) && !other.covers(row)
            };
            class.is_state() && row.covers(filter) && !self.rows.iter().any(excepted)
        });
        Holds { events: !only_state, state }
    }

    /// Whether a topic's messages are merge patches.
    pub fn is_patch(&self, topic: &str) -> bool {
        let patch = Class::State(Value::Patch);
        self.rows.iter().any(|(_, class)| *class == patch) && self.class_of(topic) == patch
    }

    /// Whether any topic is state.
    pub fn have_state(&self) -> bool {
        self.rows.iter().any(|(_, class)| class.is_state())
    }
}

/// Topics remembered, at most: beyond, it begins anew.
const KNOWN: usize = 100_000;

/// The classes of topics that were met: one look-up for a record.
#[derive(Debug)]
pub struct Known {
    classes: Arc<Classes>,
    topics: HashMap<Box<str>, Class>,
}

impl Known {
    pub fn new(classes: Arc<Classes>) -> Known {
        Known { classes, topics: HashMap::new() }
    }

    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    pub fn class_of(&mut self, topic: &str) -> Class {
        if let Some(class) = self.topics.get(topic) {
            return *class;
        }
        if self.topics.len() >= KNOWN {
            self.topics.clear();
        }
        let class = self.classes.class_of(topic);
        self.topics.insert(topic.into(), class);
        class
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLASSES: [Class; 4] =
        [Class::Event, Class::Command, Class::State(Value::Whole), Class::State(Value::Patch)];

    fn filter(text: &str) -> Filter {
        Filter::new(text).expect(text)
    }

    fn table(rows: &[(&str, Class)]) -> Result<Classes, Conflict> {
        Classes::new(rows.iter().map(|(row, class)| (filter(row), *class)))
    }

    #[test]
    fn the_narrower_row_wins_whatever_the_order() {
        let rows = [
            ("a/#", Class::State(Value::Whole)),
            ("a/b/+", Class::Event),
            ("a/b/c", Class::State(Value::Patch)),
            ("x", Class::Command),
        ];
        let mut turned = rows;
        turned.reverse();
        for rows in [rows, turned] {
            let classes = table(&rows).expect("no conflict");
            let names = ["a", "a/b/d", "a/b/c", "a/b/c/d", "x", "y"].map(|t| classes.class_of(t).name());
            assert_eq!(names, ["state", "event", "patch", "state", "command", "event"]);
        }
    }

    #[test]
    fn rows_that_contradict_each_other_are_named() {
        let error = table(&[("a/+", Class::Event), ("+/b", Class::Command)]).expect_err("a/b is both");
        assert_eq!(
            error.to_string(),
            "a/+ (event) and +/b (command) mean some of the same topics, and neither covers the other: change one of them"
        );
        assert!(table(&[("a/+", Class::Event), ("+/b", Class::Event)]).is_ok(), "they agree");
        assert!(table(&[("a", Class::Event), ("a", Class::Command)]).is_err(), "the same row twice");
    }

    #[test]
    fn a_filter_holds_what_its_topics_may_be() {
        let classes = table(&[
            ("d/+/shadow/+", Class::State(Value::Whole)),
            ("d/+/shadow/delta", Class::Event),
            ("d/#", Class::Event),
        ])
        .expect("no conflict");
        let holds = |text| {
            let holds = classes.within(&filter(text));
            (holds.events, holds.state)
        };
        assert_eq!(holds("d/+/shadow/reported"), (false, true));
        assert_eq!(holds("d/7/shadow/+"), (true, true), "delta is an event");
        assert_eq!(holds("d/7/telemetry/#"), (true, false));
        assert_eq!(holds("#"), (true, true));
        assert_eq!(holds("other"), (true, false));
    }

    proptest! {
        /// What `within` says of a filter is true of each of its topics, and the cache says what the table says.
        #[test]
        fn a_filter_never_holds_less_than_its_topics(
            rows in proptest::collection::vec(("[ab+]{1}(/[ab+]{1}){0,2}(/#)?", 0usize..4), 0..5),
            asked in "[ab+]{1}(/[ab+]{1}){0,2}(/#)?",
            topics in proptest::collection::vec("[ab]{1}(/[ab]{1}){0,3}", 1..12),
        ) {
            let rows = rows.iter().filter_map(|(row, class)| Some((Filter::new(row).ok()?, CLASSES[*class])));
            let Ok(classes) = Classes::new(rows) else { return Ok(()) };
            let asked = filter(&asked);
            let holds = classes.within(&asked);
            let mut known = Known::new(Arc::new(classes.clone()));
            for topic in &topics {
                let class = classes.class_of(topic);
                prop_assert_eq!(known.class_of(topic), class);
                prop_assert_eq!(known.class_of(topic), class);
                if asked.matches(topic) {
                    prop_assert!(if class.is_state() { holds.state } else { holds.events }, "{} {:?}", topic, class);
                }
            }
        }
    }
}
