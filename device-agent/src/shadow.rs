//! The device's side of its shadow, pure: what is desired against what it does.

use crate::metric::Metric;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Shortest and longest sampling interval that the device accepts, ms.
pub const INTERVAL_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// How the device works now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub interval_ms: u64,
    on: [bool; Metric::ALL.len()],
}

impl Settings {
    /// Everything on.
    pub fn new(interval_ms: u64) -> Settings {
        Settings { interval_ms, on: [true; Metric::ALL.len()] }
    }

    pub fn is_on(&self, metric: Metric) -> bool {
        self.on[metric as usize]
    }
}

/// Settings, and what of the desired state the device does not obey.
#[derive(Clone, Debug)]
pub struct Shadow {
    settings: Settings,
    unsupported: Vec<Metric>,
    /// By JSON pointer of the desired field, why not. In words for the person who asked.
    refused: BTreeMap<String, String>,
}

impl Shadow {
    /// `unsupported` are metrics that this machine does not have.
    pub fn new(mut settings: Settings, unsupported: Vec<Metric>) -> Shadow {
        for metric in &unsupported {
            settings.on[*metric as usize] = false;
        }
        Shadow { settings, unsupported, refused: BTreeMap::new() }
    }

    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Takes up the settings that this device reported in an earlier life: they outlive a restart also where what is desired now cannot be obeyed.
    pub fn recall(&mut self, reported: &Value) {
        self.obey(reported);
        self.refused.clear();
    }

    /// Obeys the desired state field by field. What it does not name stays as it is; what the device cannot do is refused, and says why until it is desired no
    /// longer. Says whether anything is otherwise than before.
    pub fn obey(&mut self, desired: &Value) -> bool {
        let before = (self.settings, std::mem::take(&mut self.refused));
        for (name, value) in desired.as_object().into_iter().flatten() {
            match name.as_str() {
                "intervalMs" => self.interval(value),
                "metrics" => self.metrics(value),
                _ => self.refuse(&[name], "this device knows intervalMs and metrics".to_owned()),
            }
        }
        before != (self.settings, self.refused.clone())
    }

    fn interval(&mut self, value: &Value) {
        match value.as_u64().filter(|interval| INTERVAL_MS.contains(interval)) {
            Some(interval) => self.settings.interval_ms = interval,
            None => {
                let (least, most) = INTERVAL_MS.into_inner();
                let why = format!("must be a whole number from {least} to {most}, and is {}", short(value));
                self.refuse(&["intervalMs"], why);
            }
        }
    }

    fn metrics(&mut self, value: &Value) {
        let Some(switches) = value.as_object() else {
            return self.refuse(&["metrics"], format!("must be an object, and is {}", short(value)));
        };
        for (name, value) in switches {
            let why = match (Metric::named(name), value.as_bool()) {
                (None, _) => {
                    let known = Metric::ALL.map(Metric::name).join(", ");
                    format!("is not known; this device has {known}")
                }
                (Some(_), None) => format!("must be true or false, and is {}", short(value)),
                (Some(metric), Some(true)) if self.unsupported.contains(&metric) => {
                    "this machine does not have it".to_owned()
                }
                (Some(metric), Some(on)) => {
                    self.settings.on[metric as usize] = on;
                    continue;
                }
            };
            self.refuse(&["metrics", name], why);
        }
    }

    fn refuse(&mut self, path: &[&str], why: String) {
        let escaped =
            path.iter().map(|level| format!("/{}", cut(&level.replace('~', "~0").replace('/', "~1"))));
        self.refused.insert(escaped.collect(), why);
    }

    /// Why fields are refused, by their JSON pointers.
    pub fn refused(&self) -> &BTreeMap<String, String> {
        &self.refused
    }

    /// The whole state that the device reports.
    pub fn state(&self) -> Value {
        let metrics: Map<String, Value> = Metric::ALL
            .into_iter()
            .map(|metric| (metric.name().to_string(), Value::from(self.settings.is_on(metric))))
            .collect();
        let mut state = json!({ "intervalMs": self.settings.interval_ms, "metrics": metrics });
        if !self.unsupported.is_empty() {
            state["unsupported"] = self.unsupported.iter().map(|metric| Value::from(metric.name())).collect();
        }
        if !self.refused.is_empty() {
            state["refused"] = json!(self.refused);
        }
        state
    }
}

/// The merge patch (RFC 7396) that makes one state of another; `None` if they are the same.
pub fn patch(before: &Value, now: &Value) -> Option<Value> {
    let (Some(old), Some(new)) = (before.as_object(), now.as_object()) else {
        return (before != now).then(|| now.clone());
    };
    let changed = new
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), patch(old.get(key).unwrap_or(&Value::Null), value)?)));
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let patch: Map<String, Value> = changed.chain(gone).collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// A foreign value in our own words must not become a foreign document.
fn short(value: &Value) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests;
