//! Merge patches: the examples of RFC 7396, and a plain implementation over parsed values as the oracle.

use anabranch_protocol::merge_patch::{compose, merge_patch};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Appendix A of RFC 7396: target, patch, result.
const EXAMPLES: [(&str, &str, &str); 15] = [
    (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
    (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
    (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
    (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
    (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
    (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
    (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
    (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
    (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
    (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
    (r#"{"a":"foo"}"#, "null", "null"),
    (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
    (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
    (r#"[1,2]"#, r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
    (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
];

#[test]
fn the_examples_of_the_rfc() {
    for (target, patch, result) in EXAMPLES {
        assert_eq!(merge_patch(Some(target), patch).as_deref(), Ok(result), "{target} with {patch}");
    }
}

#[test]
fn what_is_not_touched_keeps_its_text() {
    let target = r#"{ "n" : 1.50e+3, "big": 123456789012345678901234567890 , "a" : [ 1 ,2 ] }"#;
    let merged = merge_patch(Some(target), r#"{"x":1}"#);
    let expected = r#"{"n":1.50e+3,"big":123456789012345678901234567890,"a":[ 1 ,2 ],"x":1}"#;
    assert_eq!(merged.as_deref(), Ok(expected));
}

#[test]
fn of_a_doubled_key_the_last_counts() {
    assert_eq!(merge_patch(Some(r#"{"a":1,"a":2}"#), r#"{"b":3,"b":null}"#).as_deref(), Ok(r#"{"a":2}"#));
    assert_eq!(merge_patch(None, r#"{"\u0061":1,"a":{"b":null}}"#).as_deref(), Ok(r#"{"a":{}}"#));
}

#[test]
fn what_is_not_json_is_refused() {
    for bad in ["", "{", r#"{"a":}"#, "[1", "nul", "{} {}"] {
        assert!(merge_patch(None, bad).is_err(), "{bad}");
        assert!(merge_patch(Some(bad), "{}").is_err(), "{bad}");
    }
}

/// First, then, and the one patch for both.
const COMPOSED: [(&str, &str, Option<&str>); 14] = [
    (r#"{"a":1}"#, r#"{"b":2}"#, Some(r#"{"a":1,"b":2}"#)),
    (r#"{"a":1,"b":3}"#, r#"{"a":2}"#, Some(r#"{"a":2,"b":3}"#)),
    (r#"{"a":{"b":1,"c":1}}"#, r#"{"a":{"b":null}}"#, Some(r#"{"a":{"b":null,"c":1}}"#)),
    (r#"{"a":{"b":1}}"#, r#"{"a":null}"#, Some(r#"{"a":null}"#)),
    (r#"{"a":null}"#, r#"{"a":1.50}"#, Some(r#"{"a":1.50}"#)),
    (r#"{"a":[{"b":1}]}"#, r#"{"a":[]}"#, Some(r#"{"a":[]}"#)),
    // No patch empties an object and fills it.
    (r#"{"a":null}"#, r#"{"a":{"b":1}}"#, None),
    (r#"{"a":1}"#, r#"{"a":{}}"#, None),
    (r#"{"a":{"b":[]}}"#, r#"{"a":{"b":{"c":null}}}"#, None),
    // Of a doubled key the last counts, on either side.
    (r#"{"a":null,"\u0061":{"b":1}}"#, r#"{"a":1,"a":{"c":2}}"#, Some(r#"{"a":{"b":1,"c":2}}"#)),
    ("{}", "{}", Some("{}")),
    (r#"{"a":{}}"#, r#"{"a":{}}"#, Some(r#"{"a":{}}"#)),
    ("null", r#"{"a":1}"#, None),
    (r#"{"a":1}"#, "{", None),
];

#[test]
fn two_patches_are_one_where_one_can_be_both() {
    for (first, then, both) in COMPOSED {
        assert_eq!(compose(first, then).as_deref(), both, "{first}, then {then}");
    }
}

/// Section 2 of RFC 7396, word by word.
fn oracle(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = if let Value::Object(map) = target { map } else { Map::new() };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let old = target.remove(name).unwrap_or(Value::Null);
            target.insert(name.clone(), oracle(old, value));
        }
    }
    Value::Object(target)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..9).prop_map(Value::from),
        "[a\"é]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// An object of few names, so that two of them meet: they are patches, and what patches are laid on.
fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[abc]", value(), 0..4).prop_map(|map| json!(map))
}

/// Every object has one more field, of a name that no patch has.
fn with_more(value: &Value) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    let mut more: Map<String, Value> =
        map.iter().map(|(key, value)| (key.clone(), with_more(value))).collect();
    more.insert("more".into(), json!(1));
    Value::Object(more)
}

/// The fields of both, whether or not that is right.
fn naive(first: &Value, then: &Value) -> Value {
    let (Value::Object(first), Value::Object(then)) = (first, then) else { return then.clone() };
    let mut both = first.clone();
    for (key, value) in then {
        let old = first.get(key).unwrap_or(&Value::Null);
        both.insert(key.clone(), naive(old, value));
    }
    Value::Object(both)
}

proptest! {
    /// Whatever the document: the one patch does what the two do, wherever there is one; where there is none, there is a document that the
    /// nearest patch gets wrong.
    #[test]
    fn one_patch_does_what_two_do(document in value(), first in object(), then in object()) {
        let both = |document: Value| oracle(oracle(document, &first), &then);
        match compose(&first.to_string(), &then.to_string()) {
            Some(one) => {
                let one: Value = serde_json::from_str(&one).expect("JSON");
                for document in [document, with_more(&first), with_more(&then)] {
                    prop_assert_eq!(oracle(document.clone(), &one), both(document));
                }
                prop_assert_eq!(&one, &naive(&first, &then));
            }
            None => {
                let one = naive(&first, &then);
                let document = with_more(&then);
                prop_assert_ne!(oracle(document.clone(), &one), both(document));
            }
        }
    }

    /// A fold of patches, deletions and re-creations among them.
    #[test]
    fn a_fold_agrees_with_the_rfc(patches in prop::collection::vec(value(), 1..8)) {
        let mut expected = Value::Null;
        let mut document: Option<String> = None;
        for patch in &patches {
            expected = oracle(expected, patch);
            let text = merge_patch(document.as_deref(), &patch.to_string()).expect("both are JSON");
            prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), expected.clone());
            document = Some(text);
        }
    }
}
