//! The device's side of its shadow, pure: what it is told (`desired`) against what it does (`reported`).

use serde_json::{Map, Value, json};
use std::fmt;

/// Shortest and longest sampling interval that the device accepts, ms.
pub const INTERVAL_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// The highest version of a document: the last whole number that JavaScript can tell from its neighbours.
const LAST_VERSION: u64 = (1 << 53) - 1;

/// One kind of telemetry, and the last level of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Cpu,
    Memory,
    Disk,
    Network,
    Temperature,
    Status,
}

impl Metric {
    pub const ALL: [Metric; 6] =
        [Metric::Cpu, Metric::Memory, Metric::Disk, Metric::Network, Metric::Temperature, Metric::Status];

    pub fn name(self) -> &'static str {
        match self {
            Metric::Cpu => "cpu",
            Metric::Memory => "memory",
            Metric::Disk => "disk",
            Metric::Network => "network",
            Metric::Temperature => "temperature",
            Metric::Status => "status",
        }
    }

    fn named(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

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

/// A `desired` document that the device does not obey, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rejected {
    /// None when the document has none that could be named.
    version: Option<u64>,
    reason: String,
}

/// What a `desired` document did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obeyed {
    /// It is older than one that was obeyed or rejected, or the same again.
    Ignored,
    /// The settings are now what it says.
    Applied,
    /// Nothing changed but the report, which tells why.
    Rejected,
}

/// Settings, and the versions of both documents.
#[derive(Clone, Debug)]
pub struct Shadow {
    settings: Settings,
    version: u64,
    applied: Option<u64>,
    newest_seen: Option<u64>,
    rejected: Option<Rejected>,
}

impl Shadow {
    pub fn new(settings: Settings) -> Shadow {
        Shadow { settings, version: 0, applied: None, newest_seen: None, rejected: None }
    }

    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Takes up what a report says that this device wrote in an earlier life: versions never go back, and settings
    /// outlive a restart even where the log has kept of all wishes only the newest one, which was refused.
    pub fn recall(&mut self, reported: &Value) {
        let Some(version) = version_of(reported).filter(|version| *version > self.version) else { return };
        self.version = version;
        let applied = reported.get("desiredVersion").and_then(whole);
        if applied < self.applied {
            // A wish that came after that report has been obeyed already.
            return;
        }
        if let Ok(settings) = self.settings.with(reported) {
            self.settings = settings;
            self.applied = applied;
        }
        self.rejected = reported.get("rejected").map(|rejected| Rejected {
            version: version_of(rejected),
            reason: rejected.get("reason").and_then(Value::as_str).unwrap_or_default().to_string(),
        });
        let refused = self.rejected.as_ref().and_then(|rejected| rejected.version);
        self.newest_seen = self.newest_seen.max(applied).max(refused);
    }

    /// Obeys a whole `desired` document, or none of it. Fields that it does not name stay as they are.
    pub fn obey(&mut self, desired: &Value) -> Obeyed {
        let version = version_of(desired);
        if version.is_some() && version <= self.newest_seen {
            return Obeyed::Ignored;
        }
        self.newest_seen = version.or(self.newest_seen);
        match self.settings.with(desired) {
            Ok(settings) => {
                self.settings = settings;
                self.applied = version;
                self.rejected = None;
                Obeyed::Applied
            }
            Err(reason) => {
                let rejected = Some(Rejected { version, reason: reason.to_string() });
                // The same document without a version, read again, is no news.
                let news = self.rejected != rejected;
                self.rejected = rejected;
                if news { Obeyed::Rejected } else { Obeyed::Ignored }
            }
        }
    }

    /// The whole `reported` document, with the next version. `unsupported` are metrics that this machine does not have.
    pub fn report(&mut self, unsupported: &[Metric]) -> Value {
        self.version += 1;
        let metrics: Map<String, Value> = Metric::ALL
            .into_iter()
            .map(|metric| (metric.name().to_string(), Value::from(self.settings.is_on(metric))))
            .collect();
        let mut document = json!({
            "version": self.version,
            "intervalMs": self.settings.interval_ms,
            "metrics": metrics,
            "desiredVersion": self.applied,
        });
        if !unsupported.is_empty() {
            document["unsupported"] = unsupported.iter().map(|metric| Value::from(metric.name())).collect();
        }
        if let Some(rejected) = &self.rejected {
            document["rejected"] = json!({ "version": rejected.version, "reason": rejected.reason });
        }
        document
    }
}

/// Why a `desired` document is refused; its words are shown to the person who wrote the document.
#[derive(Debug)]
enum Wrong {
    NoVersion,
    Interval(Value),
    Metrics,
    UnknownMetric(String),
    NotASwitch(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = INTERVAL_MS.into_inner();
        match self {
            Wrong::NoVersion => f.write_str("version must be a whole number from 0 to 2^53 - 1"),
            Wrong::Interval(value) => {
                write!(f, "intervalMs must be a whole number from {least} to {most}, and is {}", short(value))
            }
            Wrong::Metrics => f.write_str("metrics must be an object"),
            Wrong::UnknownMetric(name) => {
                let known = Metric::ALL.map(Metric::name).join(", ");
                write!(f, "metrics.{} is not known; this device has {known}", cut(name))
            }
            Wrong::NotASwitch(name) => write!(f, "metrics.{name} must be true or false"),
        }
    }
}

impl Settings {
    fn with(mut self, desired: &Value) -> Result<Settings, Wrong> {
        if version_of(desired).is_none() {
            return Err(Wrong::NoVersion);
        }
        if let Some(value) = desired.get("intervalMs") {
            let interval = value.as_u64().filter(|interval| INTERVAL_MS.contains(interval));
            self.interval_ms = interval.ok_or_else(|| Wrong::Interval(value.clone()))?;
        }
        if let Some(value) = desired.get("metrics") {
            for (name, value) in value.as_object().ok_or(Wrong::Metrics)? {
                let metric = Metric::named(name).ok_or_else(|| Wrong::UnknownMetric(name.clone()))?;
                self.on[metric as usize] = value.as_bool().ok_or_else(|| Wrong::NotASwitch(name.clone()))?;
            }
        }
        Ok(self)
    }
}

fn version_of(document: &Value) -> Option<u64> {
    document.get("version").and_then(whole)
}

fn whole(value: &Value) -> Option<u64> {
    value.as_u64().filter(|number| *number <= LAST_VERSION)
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
mod tests {
    use super::*;

    fn shadow() -> Shadow {
        Shadow::new(Settings::new(1000))
    }

    #[test]
    fn a_newer_desired_is_applied_whole() {
        let mut shadow = shadow();
        let desired = json!({ "version": 3, "intervalMs": 250, "metrics": { "disk": false } });
        assert_eq!(shadow.obey(&desired), Obeyed::Applied);
        assert_eq!(shadow.settings().interval_ms, 250);
        assert!(!shadow.settings().is_on(Metric::Disk));
        assert!(shadow.settings().is_on(Metric::Cpu));
        let reported = shadow.report(&[]);
        assert_eq!(reported["desiredVersion"], 3);
        assert_eq!(reported["metrics"]["disk"], false);
        assert_eq!(reported.get("rejected"), None);
    }

    #[test]
    fn older_and_equal_versions_are_ignored() {
        let mut shadow = shadow();
        shadow.obey(&json!({ "version": 3, "intervalMs": 250 }));
        assert_eq!(shadow.obey(&json!({ "version": 3, "intervalMs": 500 })), Obeyed::Ignored);
        assert_eq!(shadow.obey(&json!({ "version": 2, "intervalMs": 500 })), Obeyed::Ignored);
        assert_eq!(shadow.settings().interval_ms, 250);
    }

    #[test]
    fn wrong_values_are_reported_back_and_change_nothing() {
        for (desired, words) in [
            (json!({ "version": 4, "intervalMs": 99 }), "100 to 60000, and is 99"),
            (json!({ "version": 4, "intervalMs": 60_001 }), "and is 60001"),
            (json!({ "version": 4, "intervalMs": 250.5 }), "and is 250.5"),
            (json!({ "version": 4, "intervalMs": "fast" }), "and is \"fast\""),
            (json!({ "version": 4, "intervalMs": null }), "and is null"),
            (
                json!({ "version": 4, "intervalMs": 200, "metrics": { "gpu": true } }),
                "metrics.gpu is not known",
            ),
            (
                json!({ "version": 4, "intervalMs": 200, "metrics": { "cpu": 1 } }),
                "metrics.cpu must be true or false",
            ),
            (json!({ "version": 4, "metrics": [] }), "metrics must be an object"),
        ] {
            let mut shadow = shadow();
            shadow.obey(&json!({ "version": 1, "intervalMs": 300 }));
            assert_eq!(shadow.obey(&desired), Obeyed::Rejected, "{desired}");
            let reported = shadow.report(&[]);
            assert_eq!(reported["rejected"]["version"], 4);
            let reason = reported["rejected"]["reason"].as_str().unwrap();
            assert!(reason.contains(words), "{reason}");
            assert_eq!(reported["desiredVersion"], 1);
            assert_eq!(reported["intervalMs"], 300);
            assert_eq!(shadow.obey(&desired), Obeyed::Ignored, "the same again: {desired}");
        }
    }

    #[test]
    fn a_document_without_a_version_is_rejected_once() {
        let mut shadow = shadow();
        for desired in [
            json!(null),
            json!([]),
            json!({ "intervalMs": 200 }),
            json!({ "version": -1 }),
            json!({ "version": 1u64 << 53 }),
        ] {
            let obeyed = shadow.obey(&desired);
            assert!(matches!(obeyed, Obeyed::Rejected | Obeyed::Ignored), "{desired}");
        }
        let reported = shadow.report(&[]);
        assert_eq!(reported["rejected"]["version"], Value::Null);
        assert_eq!(reported["intervalMs"], 1000);
    }

    #[test]
    fn a_later_good_version_clears_the_rejection() {
        let mut shadow = shadow();
        shadow.obey(&json!({ "version": 1, "intervalMs": 1 }));
        assert_eq!(shadow.obey(&json!({ "version": 2, "intervalMs": 100 })), Obeyed::Applied);
        assert_eq!(shadow.report(&[]).get("rejected"), None);
    }

    #[test]
    fn versions_go_on_after_a_restart() {
        let mut shadow = shadow();
        shadow.recall(&json!({ "version": 41, "intervalMs": 5 }));
        shadow.recall(&json!({ "version": 12 }));
        shadow.recall(&json!("nonsense"));
        assert_eq!(shadow.report(&[])["version"], 42);
        assert_eq!(shadow.report(&[Metric::Temperature])["unsupported"], json!(["temperature"]));
    }

    #[test]
    fn settings_and_refusals_outlive_a_restart() {
        let mut first = shadow();
        first.obey(&json!({ "version": 7, "intervalMs": 150, "metrics": { "disk": false } }));
        let wrong = json!({ "version": 8, "intervalMs": 5 });
        first.obey(&wrong);
        let reported = first.report(&[]);
        // Of the wishes, a log that keeps newest values has only the wrong one, before or after the report.
        for wish_first in [true, false] {
            let mut second = shadow();
            if wish_first {
                second.obey(&wrong);
            }
            second.recall(&reported);
            assert_eq!(second.obey(&wrong), Obeyed::Ignored);
            assert_eq!(second.settings(), first.settings());
            let mut again = second.report(&[]);
            assert_eq!(again["version"], 2);
            again["version"] = reported["version"].clone();
            assert_eq!(again, reported);
            assert_eq!(second.obey(&json!({ "version": 9, "intervalMs": 300 })), Obeyed::Applied);
        }
    }

    #[test]
    fn a_wish_that_came_after_the_report_holds() {
        let mut first = shadow();
        first.obey(&json!({ "version": 1, "intervalMs": 150 }));
        let reported = first.report(&[]);
        let mut second = shadow();
        second.obey(&json!({ "version": 2, "intervalMs": 400 }));
        second.recall(&reported);
        assert_eq!(second.settings().interval_ms, 400);
        assert_eq!(second.report(&[])["desiredVersion"], 2);
    }

    #[test]
    fn a_long_foreign_value_is_cut() {
        let mut shadow = shadow();
        shadow.obey(&json!({ "version": 1, "intervalMs": "é".repeat(10_000) }));
        assert!(shadow.report(&[]).to_string().len() < 500);
    }
}
