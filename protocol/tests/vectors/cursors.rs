//! Cursors and positions.

use crate::{each, text};
use anabranch_protocol::cursor::{Cursor, Position};
use serde_json::{Value, json};

pub(crate) const KINDS: &[&str] = &["valid", "invalid", "positions", "advance", "includes"];

fn fields(position: &Position) -> Value {
    json!({
        "partition": position.partition,
        "offset": position.offset.to_string(),
        "fingerprint": position.fingerprint.map(|f| format!("{:08x}", f.0)),
    })
}

fn cursor(case: &Value, field: &str) -> Cursor {
    text(case, field).parse().unwrap_or_else(|error| panic!("{field}: {error}"))
}

#[test]
fn cursors() {
    each("cursors.json", "valid", |case| {
        let cursor = cursor(case, "text");
        assert_eq!(cursor.log().to_string(), text(case, "log"));
        let positions: Vec<Value> = cursor.positions().iter().map(fields).collect();
        assert_eq!(Value::Array(positions), case["positions"]);
        assert_eq!(cursor.to_string(), text(case, "text"), "one value has one text");
    });
    each("cursors.json", "invalid", |case| {
        assert!(text(case, "text").parse::<Cursor>().is_err());
    });
    each("cursors.json", "positions", |case| {
        let position = text(case, "text").parse::<Position>().ok();
        assert_eq!(position.as_ref().map_or(Value::Null, fields), case["position"]);
        assert!(position.is_none_or(|p| p.to_string() == text(case, "text")));
    });
}

#[test]
fn movements() {
    each("cursors.json", "advance", |case| {
        let mut cursor = cursor(case, "cursor");
        let position = text(case, "position").parse().expect("a position");
        assert_eq!(cursor.includes(position), !case["moved"].as_bool().expect("moved"));
        assert_eq!(cursor.advance(position), case["moved"]);
        assert_eq!(cursor.to_string(), text(case, "result"));
        assert!(cursor.includes(position));
    });
    each("cursors.json", "includes", |case| {
        let position = text(case, "position").parse().expect("a position");
        assert_eq!(cursor(case, "cursor").includes(position), case["includes"]);
    });
}
