//! docs/PROTOCOL.md says what the code says: the table of codes, the table of limits, the frames of the example.
//!
//! `UPDATE=1 cargo test -p anabranch-protocol --test specification` rewrites the two tables.

use anabranch_protocol::client_frame::ClientFrame;
use anabranch_protocol::code::Code;
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::limits;
use anabranch_protocol::server_frame::ServerFrame;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn specification() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PROTOCOL.md")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Requires that a marked part of the specification is this text; writes it there if asked to.
fn part_is(mark: &str, expected: &str) {
    let text = read(&specification());
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->"));
    let from = text.find(&begin).expect(mark) + begin.len();
    let to = from + text[from..].find(&end).expect(mark);
    if &text[from..to] == expected {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        let updated = format!("{}{expected}{}", &text[..from], &text[to..]);
        std::fs::write(specification(), updated).expect("docs/PROTOCOL.md");
        return;
    }
    panic!("the part {mark:?} of docs/PROTOCOL.md is out of date: run this test once with UPDATE=1");
}

/// The limits by name. The test below fails if one of limits.rs is not listed.
macro_rules! values {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), limits::$name)),*] };
}

const LIMITS: [(&str, usize); 17] = values![
    TOPIC_BYTES,
    TOPIC_LEVELS,
    ENVELOPE_BYTES,
    CLIENT_FRAME_BYTES,
    JSON_DEPTH,
    METADATA_FIELD_BYTES,
    METADATA_UNKNOWN_FIELDS,
    TOKEN_BYTES,
    CLIENT_ID_BYTES,
    SUBSCRIPTIONS,
    PUBLISHES_IN_FLIGHT,
    PARTITIONS,
    CURSOR_BYTES,
    CONFLATE_MS,
    HIDDEN_MS,
    HTTP_BATCH,
    HTTP_BODY_BYTES,
];

#[test]
fn the_table_of_codes() {
    let mut table = String::from("| code | name | HTTP | what happened, what to do |\n|---|---|---|---|\n");
    for code in Code::ALL {
        table +=
            &format!("| {} | `{}` | {} | {} |\n", code.0, code.name(), code.http_status(), code.advice());
    }
    part_is("codes", &table);
}

#[test]
fn the_table_of_limits() {
    let source = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/limits.rs"));
    let mut table = String::from("| limit | | what |\n|---|---|---|\n");
    let (mut what, mut listed) = (String::new(), 0);
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            what = if what.is_empty() { text.to_owned() } else { format!("{what} {text}") };
        } else if let Some(rest) = line.strip_prefix("pub const ") {
            let name = rest.split(':').next().expect("a name");
            let (_, value) =
                LIMITS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("list {name}"));
            table += &format!("| `{name}` | {} | {} |\n", grouped(*value), std::mem::take(&mut what));
            listed += 1;
        }
    }
    assert_eq!(listed, LIMITS.len());
    part_is("limits", &table);
}

/// A number with a comma at every third digit.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[test]
fn the_example_speaks_the_protocol() {
    let text = read(&specification());
    let (mut client, mut server) = (0, 0);
    for line in text.lines() {
        if let Some(frame) = line.strip_prefix("C {") {
            let frame = format!("{{{frame}");
            let read = ClientFrame::from_json(&frame).unwrap_or_else(|error| panic!("{frame}: {error}"));
            assert_eq!(same(&read.to_json()), same(&frame));
            client += 1;
        } else if let Some(frame) = line.strip_prefix("G {") {
            let frame = format!("{{{frame}");
            let read = ServerFrame::from_json(&frame).unwrap_or_else(|error| panic!("{frame}: {error}"));
            assert_ne!(read, ServerFrame::Unknown, "{frame}");
            assert_eq!(same(&read.to_json()), same(&frame));
            if let ServerFrame::Message { envelope, .. } = read {
                Envelope::parse(envelope).expect("an envelope");
            }
            server += 1;
        }
    }
    assert!(client >= 4 && server >= 10, "the example was not found");
}

fn same(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

/// Every type and field that the golden frames have is in the specification.
#[test]
fn every_frame_and_field_is_described() {
    let specification = read(&specification());
    for file in ["client_frames.json", "server_frames.json"] {
        let vectors = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file));
        for case in same(&vectors)["valid"].as_array().expect("cases") {
            let written: Value =
                case["writes"].as_str().map_or_else(|| same(case["text"].as_str().expect("text")), same);
            let kind = written["type"].as_str().expect("a type");
            // An outcome may have the name of a frame.
            let is_row = |line: &&str| line.starts_with(&format!("| `{kind}` |"));
            let rows: Vec<&str> = specification.lines().filter(is_row).collect();
            assert!(!rows.is_empty(), "{file}: {kind} is not described");
            for field in written.as_object().expect("an object").keys().filter(|field| *field != "type") {
                let described = rows.iter().any(|row| row.contains(&format!("`{field}`")));
                assert!(described, "{kind}: {field} is not described");
            }
        }
    }
}
