//! Reads every golden vector in `protocol/vectors/`, and fails for a file or a kind of case that nobody reads.
//!
//! Other implementations read the same files: what they hold is the specification, not what this crate happens to do.

#![forbid(unsafe_code)]

mod codes;
mod cursors;
mod delivery;
mod envelopes;
mod frames;
mod json;
mod names;

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The files, and the kinds of cases that the tests here read in each.
const COVERED: &[(&str, &[&str])] = &[
    ("client_frames.json", frames::CLIENT_KINDS),
    ("codes.json", codes::KINDS),
    ("cursors.json", cursors::KINDS),
    ("delivery.json", delivery::KINDS),
    ("envelopes.json", envelopes::KINDS),
    ("filters.json", names::FILTER_KINDS),
    ("json.json", json::KINDS),
    ("server_frames.json", frames::SERVER_KINDS),
    ("topics.json", names::TOPIC_KINDS),
];

#[test]
fn every_file_and_every_kind_of_case_is_covered() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .expect("the folder protocol/vectors")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .collect();
    found.sort();
    let covered: Vec<&str> = COVERED.iter().map(|(file, _)| *file).collect();
    assert_eq!(found, covered);
    for (file, kinds) in COVERED {
        let document = load(file);
        let document = document.as_object().expect("an object");
        for (kind, cases) in document {
            if kind == "about" || (kind == "stamp" && *file == "envelopes.json") {
                continue;
            }
            assert!(kinds.contains(&kind.as_str()), "{file}: nobody reads the cases under {kind:?}");
            for case in cases.as_array().expect("an array of cases") {
                assert!(!text(case, "why").is_empty(), "{file}: {case} does not say why");
            }
        }
        for kind in *kinds {
            assert!(document.contains_key(*kind), "{file}: there are no cases under {kind:?}");
        }
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// A file of vectors.
fn load(file: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(file)).expect(file);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Calls `check` with each case of a kind, and names the case that fails.
fn each(file: &str, kind: &str, check: impl Fn(&Value)) {
    let document = load(file);
    let cases = document[kind].as_array().unwrap_or_else(|| panic!("{file}: no {kind}"));
    assert!(!cases.is_empty(), "{file}: {kind} is empty");
    for (number, case) in cases.iter().enumerate() {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(case)));
        assert!(outcome.is_ok(), "{file}: {kind}[{number}] failed: {}", case["why"]);
    }
}

/// A field that is a text.
fn text<'v>(case: &'v Value, field: &str) -> &'v str {
    case[field].as_str().unwrap_or_else(|| panic!("{field} must be a text in {case}"))
}

/// A field that is a text, or pieces of one with repetitions.
fn pieces(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(pieces).collect(),
        Value::Object(piece) => {
            let times = piece["times"].as_u64().expect("times");
            piece["repeat"].as_str().expect("repeat").repeat(times as usize)
        }
        other => panic!("not a text: {other}"),
    }
}

/// The number-keyed map of a JSON object.
fn by_number(value: &Value) -> BTreeMap<u32, Option<String>> {
    let object = value.as_object().expect("an object");
    object
        .iter()
        .map(|(key, text)| (key.parse().expect("a number"), text.as_str().map(str::to_owned)))
        .collect()
}
