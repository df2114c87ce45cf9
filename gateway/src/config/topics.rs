//! Section `topics`: what the topics of this platform mean.

use super::reader::Reader;
use super::value::{filter, text};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::topic::Topic;

/// Section `topics`. A topic that is neither state nor command is an event: every message of it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicsConfig {
    /// What every topic of the platform begins with. Default `iotsphere`. The defaults below contain it.
    pub root: String,
    /// Topics of which only the newest value matters: shadows, status, preferences. Clients get them as snapshots, and
    /// a client that is behind skips values that newer ones have replaced.
    pub state: Vec<Filter>,
    /// Topics of requests and responses.
    pub command: Vec<Filter>,
}

impl TopicsConfig {
    /// The platform's topics below a root.
    fn below(root: &str) -> TopicsConfig {
        const STATE: [&str; 5] = [
            "devices/+/shadow/+",
            "devices/+/telemetry/status",
            "devices/batch/status",
            "users/+/preferences",
            "system/status",
        ];
        let filters = |below: &[&str]| {
            // A root so long that nothing fits below it has no such topics.
            below.iter().filter_map(|rest| Filter::new(&format!("{root}/{rest}")).ok()).collect()
        };
        TopicsConfig {
            root: root.to_owned(),
            state: filters(&STATE),
            command: filters(&["devices/+/commands/+"]),
        }
    }

    pub(super) fn read(reader: &mut Reader) -> TopicsConfig {
        let root = reader.optional("topics.root", |raw| {
            let root = text(raw)?;
            Topic::new(&root).map_err(|error| format!("{root:?} is not a topic: {error}"))?;
            Ok(root)
        });
        let defaults = root.map_or_else(TopicsConfig::default, |root| TopicsConfig::below(&root));
        TopicsConfig {
            state: reader.list("topics.state", filter).unwrap_or(defaults.state),
            command: reader.list("topics.command", filter).unwrap_or(defaults.command),
            root: defaults.root,
        }
    }
}

impl Default for TopicsConfig {
    fn default() -> Self {
        TopicsConfig::below("iotsphere")
    }
}
