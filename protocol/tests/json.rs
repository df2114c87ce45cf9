//! The scanner against `serde_json`, on valid texts and on damaged ones.
//!
//! They may differ in two documented ways: the scanner stops at 64 levels (`serde_json` at 128), and it does not look
//! for lone surrogates in strings whose value nobody asked for.

use anabranch_protocol::json::{Scanner, write_string};
use anabranch_protocol::limits::JSON_DEPTH;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

/// Whether the scanner takes the text as one value.
fn scans(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.raw().is_ok() && scanner.end().is_ok()
}

/// Whether `serde_json` takes the text as one value, by syntax alone.
fn serde_scans(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// The deepest nesting of brackets outside strings: a bound on the true depth, whether the text is valid or not.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut string, mut escape) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escape => escape = false,
            b'\\' if string => escape = true,
            b'"' => string = !string,
            b'[' | b'{' if !string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Reads any value through the scanner's pulling methods into the tree that `serde_json` would build.
fn tree(scanner: &mut Scanner<'_>) -> Value {
    let raw = scanner.clone().raw().expect("a value");
    match raw.as_bytes()[0] {
        b'{' => {
            let mut object = serde_json::Map::new();
            scanner.enter_object().expect("an object");
            while let Some(key) = scanner.next_key().expect("a key") {
                let value = tree(scanner);
                object.insert(key.into_owned(), value);
            }
            Value::Object(object)
        }
        b'[' => {
            let mut list = Vec::new();
            scanner.enter_array().expect("an array");
            while scanner.next_item().expect("an item") {
                list.push(tree(scanner));
            }
            Value::Array(list)
        }
        b'"' => Value::String(scanner.string().expect("a string").into_owned()),
        b't' | b'f' => Value::Bool(scanner.boolean().expect("a boolean")),
        _ => serde_json::from_str(scanner.raw().expect("a value")).expect("a number or null"),
    }
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e12..1e12f64).prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number(),
        any::<String>().prop_map(Value::String),
        "[\\x00-\\x1f\"\\\\/\u{7f}\u{e9}\u{1f321}]{0,8}".prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// One change to a text, as bytes: the result need not be UTF-8.
#[derive(Clone, Debug)]
enum Damage {
    Cut(usize),
    Drop(usize),
    Put(usize, u8),
    Double(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let telling = prop::sample::select(&b"[]{}\",:\\ut0123456789.eE+-nfals \t\n\r\x00\x1f\x7f\xc3\xff/"[..]);
    prop_oneof![
        any::<usize>().prop_map(Damage::Cut),
        any::<usize>().prop_map(Damage::Drop),
        (any::<usize>(), telling).prop_map(|(at, byte)| Damage::Put(at, byte)),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Damage::Double(from, to)),
    ]
}

fn apply(text: &mut Vec<u8>, damage: &Damage) {
    if text.is_empty() {
        return;
    }
    let len = text.len();
    match damage {
        Damage::Cut(at) => text.truncate(at % len),
        Damage::Drop(at) => drop(text.remove(at % len)),
        Damage::Put(at, byte) => text.insert(at % (len + 1), *byte),
        Damage::Double(from, to) => {
            let (from, to) = (from % len, to % len);
            let part = text[from.min(to)..from.max(to)].to_vec();
            text.extend(part);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn valid_json_is_taken_whole_and_read_alike(value in value(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.expect("JSON");
        let mut scanner = Scanner::new(&text);
        prop_assert_eq!(scanner.raw().expect("a value"), &text);
        scanner.end().expect("the end");
        let mut scanner = Scanner::new(&text);
        let read = tree(&mut scanner);
        prop_assert_eq!(read, serde_json::from_str::<Value>(&text).expect("JSON"));
        scanner.end().expect("the end");
    }

    #[test]
    fn damaged_json_is_judged_alike(value in value(), damages in prop::collection::vec(damage(), 1..4)) {
        let mut bytes = serde_json::to_vec(&value).expect("JSON");
        for damage in &damages {
            apply(&mut bytes, damage);
        }
        // Whoever receives bytes checks their encoding first.
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        if depth(&text) <= JSON_DEPTH {
            prop_assert_eq!(scans(&text), serde_scans(&text), "{}", text);
        }
    }

    #[test]
    fn any_text_is_judged_alike(text in "[\\[\\]{}\",:\\\\u0-9eE.+\\-a-f tnrlse\u{e9}]{0,24}") {
        prop_assert_eq!(scans(&text), serde_scans(&text), "{}", text);
    }

    #[test]
    fn strings_have_the_same_value(inner in "([ -!#-\\[\\]-~\u{e9}]|\\\\[\"\\\\/bfnrtux]|\\\\u[0-9a-fA-F]{4}|\\\\u[dD][89abcdefABCDEF][0-9a-f]{2}){0,8}") {
        let text = format!("\"{inner}\"");
        let ours = Scanner::new(&text).string().ok().map(|s| s.into_owned());
        prop_assert_eq!(ours, serde_json::from_str::<String>(&text).ok(), "{}", text);
    }

    #[test]
    fn whole_numbers_have_the_same_value(text in "-?[0-9]{1,20}(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?") {
        let ours = Scanner::new(&text).number().ok();
        let plain = text.bytes().all(|b| b.is_ascii_digit());
        let theirs = serde_json::from_str::<u64>(&text).ok().filter(|n| plain && *n <= 1 << 53);
        prop_assert_eq!(ours, theirs, "{}", text);
    }

    #[test]
    fn what_is_written_is_read_again(text in any::<String>(), controls in "[\\x00-\\x1f\"\\\\]{0,16}") {
        for text in [text.as_str(), controls.as_str()] {
            let mut out = String::new();
            write_string(&mut out, text);
            prop_assert_eq!(Scanner::new(&out).string().expect("a string"), text);
            prop_assert_eq!(&serde_json::from_str::<String>(&out).expect("a string"), text);
            prop_assert!(out.len() <= serde_json::to_string(text).expect("JSON").len(), "the shortest text");
        }
    }
}

/// The first documented difference, at its very edge.
#[test]
fn depth_is_where_they_part() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(scans(&nested(JSON_DEPTH)) && serde_scans(&nested(JSON_DEPTH)));
    assert!(!scans(&nested(JSON_DEPTH + 1)) && serde_scans(&nested(JSON_DEPTH + 1)));
}

/// The second: a value that nobody reads may hold what is no text; where it is read, it is refused.
#[test]
fn lone_surrogates_pass_unread() {
    let text = r#""\ud800""#;
    assert!(scans(text));
    assert!(Scanner::new(text).string().is_err() && serde_json::from_str::<String>(text).is_err());
}

#[test]
fn half_a_surrogate_pair_is_found_wherever_it_stands() {
    for text in [
        r#""\ud800""#,
        r#"{"a":["\udc00"]}"#,
        r#""x\uD83C\uD83C\udf21""#,
        r#""\\\ud800""#,
        r#""\ud83cx""#,
        r#"{"\uDFFF":1}"#,
    ] {
        assert!(scans(text) && serde_json::from_str::<Value>(text).is_err(), "{text}");
        assert!(anabranch_protocol::json::has_lone_surrogate(text), "{text}");
    }
    for text in [r#""\ud83c\udf21""#, r#""\\ud800""#, r#""\u0041\n\\""#, r#"{"a":"é"}"#, "1"] {
        assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
        assert!(!anabranch_protocol::json::has_lone_surrogate(text), "{text}");
    }
}
