//! Section `topics`: what the topics of this platform mean.

use super::mistake::Place;
use super::reader::Reader;
use super::value::{Raw, filter, size, text};
use crate::hub::classes::{Class, Classes, Value};
use crate::shadow::Topics;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::limits;
use anabranch_protocol::topic::Topic;
use std::path::PathBuf;

/// Section `topics`: the rows of one table. A topic that no row means is an event: every message of it matters. Of two rows
/// that mean the same topic, the narrower counts; two that contradict each other, neither being narrower, are a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicsConfig {
    /// What every topic of the platform begins with. Default `iotsphere`. The defaults below contain it.
    pub root: String,
    /// Topics of which only the newest value matters: shadows, status, preferences. Clients get them as snapshots, and
    /// a client that is behind skips values that newer ones have replaced. A payload of `null` deletes the value.
    pub state: Vec<Filter>,
    /// State topics whose payloads are merge patches (RFC 7396) of the value before. Default none.
    pub patch: Vec<Filter>,
    /// Events after all, where a broader row says otherwise. Default none.
    pub event: Vec<Filter>,
    /// Topics of requests and responses.
    pub command: Vec<Filter>,
    /// The largest envelope that clients may publish on some topics, where `limits.envelope` is too much. The smallest that
    /// means a topic counts. Default none.
    pub sizes: Vec<(Filter, usize)>,
    /// A file in which the newest values outlive the process, written each minute and at the drain. With it, a start reads
    /// the log from there on only. Default none: the whole log is read. Each node needs its own.
    pub checkpoint: Option<PathBuf>,
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
            patch: Vec::new(),
            event: Vec::new(),
            command: filters(&["devices/+/commands/#"]),
            sizes: Vec::new(),
            checkpoint: None,
        }
    }

    pub(super) fn read(reader: &mut Reader, shadows: bool) -> TopicsConfig {
        let root = reader.optional("topics.root", |raw| {
            let root = text(raw)?;
            Topic::new(&root).map_err(|error| format!("{root:?} is not a topic: {error}"))?;
            Ok(root)
        });
        let defaults = root.map_or_else(TopicsConfig::default, |root| TopicsConfig::below(&root));
        let mut list = |key, default| reader.list(key, filter).unwrap_or(default);
        let mut config = TopicsConfig {
            state: list("topics.state", defaults.state),
            patch: list("topics.patch", defaults.patch),
            event: list("topics.event", defaults.event),
            command: list("topics.command", defaults.command),
            sizes: reader.list("topics.sizes", sized).unwrap_or_default(),
            root: defaults.root,
            checkpoint: reader.path("topics.checkpoint").map(|(path, _)| path),
        };
        if shadows && let Err(why) = config.add_shadows() {
            reader.mistake(Place::Nowhere, format!("topics: {why}"));
        }
        if let Err(conflict) = Classes::new(config.rows()) {
            let place = ["topics.state", "topics.patch", "topics.event", "topics.command"]
                .into_iter()
                .find_map(|key| reader.find(key))
                .map_or(Place::Nowhere, |setting| setting.place);
            reader.mistake(place, format!("topics: {conflict}"));
        }
        config
    }

    /// What the shadow service makes of the topics below `shadow/`: inputs and answers are events, documents and deltas state.
    fn add_shadows(&mut self) -> Result<(), String> {
        let topics = Topics::below(&self.root);
        for leaf in Topics::leaves() {
            let Some(own) = topics.filter(leaf) else {
                return Err(format!("the root is too long for shadows: nothing fits below {:?}", self.root));
            };
            let class = if leaf.is_state() { Class::State(Value::Whole) } else { Class::Event };
            if let Some((row, other)) = self.rows().find(|(row, other)| own.covers(row) && *other != class) {
                let (is, means) = (class.name(), other.name());
                return Err(format!(
                    "{row} ({means}) is the shadow service's own ({is}): take it out, or shadows.enabled"
                ));
            }
            let rows = if leaf.is_state() { &mut self.state } else { &mut self.event };
            if !rows.contains(&own) {
                rows.push(own);
            }
        }
        Ok(())
    }

    fn rows(&self) -> impl Iterator<Item = (Filter, Class)> {
        let of = |filters: &[Filter], class| {
            filters.iter().map(move |filter| (filter.clone(), class)).collect::<Vec<_>>()
        };
        let lists = [
            of(&self.state, Class::State(Value::Whole)),
            of(&self.patch, Class::State(Value::Patch)),
            of(&self.event, Class::Event),
            of(&self.command, Class::Command),
        ];
        lists.into_iter().flatten()
    }

    /// The table. A configuration that was read has no rows that contradict each other; of others, the rows that do are left
    /// out.
    pub fn classes(&self) -> Classes {
        let mut rows: Vec<(Filter, Class)> = Vec::new();
        for row in self.rows() {
            rows.push(row);
            if Classes::new(rows.iter().cloned()).is_err() {
                rows.pop();
            }
        }
        Classes::new(rows).unwrap_or_default()
    }
}

/// A filter and a size: `iotsphere/devices/+/telemetry/# 16KiB`.
fn sized(raw: &Raw) -> Result<(Filter, usize), String> {
    let text = text(raw)?;
    let (row, bytes) =
        text.rsplit_once(' ').ok_or_else(|| format!("expected \"FILTER SIZE\", found {text:?}"))?;
    let part = |text: &str| Raw::Text(text.trim().to_owned());
    let most = limits::ENVELOPE_BYTES as u64;
    Ok((filter(&part(row))?, size(1024..=most)(&part(bytes))? as usize))
}

impl Default for TopicsConfig {
    fn default() -> Self {
        TopicsConfig::below("iotsphere")
    }
}
