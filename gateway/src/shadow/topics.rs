//! Which topics are a shadow's.

use anabranch_protocol::filter::Filter;
use anabranch_protocol::topic::Topic;

/// What asks for a change, or for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `shadow/desired`: a merge patch of what apps want.
    Desired,
    /// `shadow/reported`: a merge patch of what the device says of itself.
    Reported,
    /// `shadow/update`: both, and what is expected.
    Update,
    /// `shadow/get`: whoever has no snapshots asks for the document.
    Get,
    /// `shadow/delete`.
    Delete,
}

/// What a topic of a shadow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    Input(Kind),
    Document,
    Delta,
    Accepted,
    Rejected,
}

const LEAVES: [(&str, Leaf); 9] = [
    ("desired", Leaf::Input(Kind::Desired)),
    ("reported", Leaf::Input(Kind::Reported)),
    ("update", Leaf::Input(Kind::Update)),
    ("get", Leaf::Input(Kind::Get)),
    ("delete", Leaf::Input(Kind::Delete)),
    ("document", Leaf::Document),
    ("delta", Leaf::Delta),
    ("accepted", Leaf::Accepted),
    ("rejected", Leaf::Rejected),
];

impl Leaf {
    pub const fn name(self) -> &'static str {
        match self {
            Leaf::Input(Kind::Desired) => "desired",
            Leaf::Input(Kind::Reported) => "reported",
            Leaf::Input(Kind::Update) => "update",
            Leaf::Input(Kind::Get) => "get",
            Leaf::Input(Kind::Delete) => "delete",
            Leaf::Document => "document",
            Leaf::Delta => "delta",
            Leaf::Accepted => "accepted",
            Leaf::Rejected => "rejected",
        }
    }

    /// Whether only the newest message matters.
    pub const fn is_state(self) -> bool {
        matches!(self, Leaf::Document | Leaf::Delta)
    }
}

/// `{root}/devices/{id}/shadow/…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// With the slash at its end.
    prefix: String,
}

impl Topics {
    /// The shadows of the devices below a root.
    pub fn below(root: &str) -> Topics {
        Topics { prefix: format!("{root}/devices/") }
    }

    /// The device and the leaf of a topic; `None` if it is no shadow's.
    pub fn split<'t>(&self, topic: &'t str) -> Option<(&'t str, Leaf)> {
        let (device, leaf) = topic.strip_prefix(&*self.prefix)?.split_once('/')?;
        let leaf = leaf.strip_prefix("shadow/")?;
        let (_, leaf) = LEAVES.into_iter().find(|(name, _)| *name == leaf)?;
        Some((device, leaf))
    }

    /// Whether the gateway alone writes this topic.
    pub fn is_reserved(&self, topic: &str) -> bool {
        self.split(topic).is_some_and(|(_, leaf)| !matches!(leaf, Leaf::Input(_)))
    }

    /// The topic; `None` if the device's name is too long for it.
    pub fn topic(&self, device: &str, leaf: Leaf) -> Option<Topic> {
        Topic::new(&format!("{}{device}/shadow/{}", self.prefix, leaf.name())).ok()
    }

    /// Every device's topic of a leaf; `None` if the root is too long.
    pub fn filter(&self, leaf: Leaf) -> Option<Filter> {
        Filter::new(&format!("{}+/shadow/{}", self.prefix, leaf.name())).ok()
    }

    /// All leaves.
    pub fn leaves() -> impl Iterator<Item = Leaf> {
        LEAVES.into_iter().map(|(_, leaf)| leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_a_device_and_a_leaf() {
        let topics = Topics::below("plant");
        let split = |topic| topics.split(topic).map(|(device, leaf)| (device, leaf.name()));
        assert_eq!(split("plant/devices/d1/shadow/desired"), Some(("d1", "desired")));
        assert_eq!(split("plant/devices/d1/shadow/document"), Some(("d1", "document")));
        for other in
            ["plant/devices/d1/shadow", "plant/devices/d1/shadow/x", "plant/devices/d1/x/shadow/get", "x"]
        {
            assert_eq!(split(other), None, "{other}");
        }
        for leaf in Topics::leaves() {
            let topic = topics.topic("d", leaf).expect("a topic");
            assert_eq!(topics.split(topic.as_str()), Some(("d", leaf)));
            assert!(topics.filter(leaf).expect("a filter").matches(topic.as_str()));
            assert_eq!(topics.is_reserved(topic.as_str()), !matches!(leaf, Leaf::Input(_)));
        }
        assert_eq!(topics.topic(&"x".repeat(240), Leaf::Document), None);
    }
}
