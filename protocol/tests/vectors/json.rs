//! What the scanner takes and refuses.

use crate::{each, pieces, text};
use anabranch_protocol::json::{Scanner, write_string};

pub(crate) const KINDS: &[&str] = &["accepted", "refused", "strings", "numbers", "written"];

/// Whether a text is one JSON value.
fn accepts(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.raw().is_ok() && scanner.end().is_ok()
}

#[test]
fn values() {
    each("json.json", "accepted", |case| {
        let text = pieces(&case["text"]);
        let mut scanner = Scanner::new(&text);
        let raw = scanner.raw().expect("a value");
        scanner.end().expect("the end");
        assert_eq!(
            raw,
            text.trim_matches([' ', '\t', '\r', '\n']),
            "the whole text, without the blanks around it"
        );
    });
    each("json.json", "refused", |case| assert!(!accepts(&pieces(&case["text"]))));
}

#[test]
fn strings_and_numbers() {
    each("json.json", "strings", |case| {
        let value = Scanner::new(text(case, "json")).string().ok();
        assert_eq!(value.as_deref(), case["value"].as_str());
    });
    each("json.json", "numbers", |case| {
        let value = Scanner::new(text(case, "json")).number().ok();
        assert_eq!(value.map(|n| n.to_string()).as_deref(), case["value"].as_str());
    });
    each("json.json", "written", |case| {
        let mut out = String::new();
        write_string(&mut out, text(case, "value"));
        assert_eq!(out, text(case, "json"));
        assert_eq!(Scanner::new(&out).string().expect("a string"), text(case, "value"));
    });
}
