//! Topics and filters.

use crate::{each, text};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::topic::{NameError, Topic};

pub(crate) const TOPIC_KINDS: &[&str] = &["valid", "invalid"];
pub(crate) const FILTER_KINDS: &[&str] = &["valid", "invalid", "matches", "covers", "overlaps"];

fn word(error: NameError) -> &'static str {
    match error {
        NameError::Empty => "empty",
        NameError::TooLong => "too_long",
        NameError::TooDeep => "too_deep",
        NameError::Control => "control",
        NameError::Wildcard => "wildcard",
        NameError::MisplacedWildcard => "misplaced_wildcard",
        NameError::Shared => "shared",
    }
}

fn filter(text: &str) -> Filter {
    Filter::new(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn topics() {
    each("topics.json", "valid", |case| {
        let topic = Topic::new(text(case, "topic")).expect("a topic");
        assert_eq!(topic.as_str(), text(case, "topic"));
        assert_eq!(topic.levels().count() as u64, case["levels"]);
        let exact = Filter::new(topic.as_str());
        assert!(topic.as_str().starts_with("$share/") || exact.expect("a filter").matches(topic.as_str()));
    });
    each("topics.json", "invalid", |case| {
        let error = Topic::new(text(case, "topic")).expect_err("not a topic");
        assert_eq!(word(error), text(case, "error"));
    });
}

#[test]
fn filters() {
    each("filters.json", "valid", |case| {
        let filter = filter(text(case, "filter"));
        assert_eq!(filter.as_str(), text(case, "filter"));
        assert_eq!(filter.is_exact(), case["exact"]);
        assert!(filter.covers(&filter) && filter.overlaps(&filter));
    });
    each("filters.json", "invalid", |case| {
        let error = Filter::new(text(case, "filter")).expect_err("not a filter");
        assert_eq!(word(error), text(case, "error"));
    });
    each("filters.json", "matches", |case| {
        Topic::check(text(case, "topic")).expect("a topic");
        assert_eq!(filter(text(case, "filter")).matches(text(case, "topic")), case["matches"]);
    });
    each("filters.json", "covers", |case| {
        let (one, other) = (filter(text(case, "filter")), filter(text(case, "other")));
        assert_eq!(one.covers(&other), case["covers"]);
    });
    each("filters.json", "overlaps", |case| {
        let (one, other) = (filter(text(case, "filter")), filter(text(case, "other")));
        assert_eq!(one.overlaps(&other), case["overlaps"]);
        assert_eq!(other.overlaps(&one), case["overlaps"], "overlapping is mutual");
    });
}
