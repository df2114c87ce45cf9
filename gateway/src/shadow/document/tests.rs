//! The table of conformance, and what holds whatever is done.

use super::*;
use crate::shadow::topics::Kind;
use proptest::prelude::*;
use serde_json::Value;

/// `"$8"` is a text of eight letters.
fn expand(payload: &str) -> String {
    let Some((before, rest)) =
        payload.split_once("\"$").filter(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
    else {
        return payload.to_owned();
    };
    let (number, after) = rest.split_once('"').expect("a closing quote");
    format!("{before}\"{}\"{}", "x".repeat(number.parse().expect("a number")), expand(after))
}

fn kind(name: &str) -> Kind {
    match name {
        "desired" => Kind::Desired,
        "reported" => Kind::Reported,
        "update" => Kind::Update,
        "delete" => Kind::Delete,
        other => panic!("there is no kind {other}"),
    }
}

/// A shadow over its lives.
#[derive(Default)]
struct Life {
    document: Option<Document>,
    incarnation: u64,
    time: u64,
}

impl Life {
    fn update(&mut self, kind: Kind, payload: &str) -> Result<(), Refusal> {
        self.time += 1;
        let occasion = Occasion { incarnation: self.time.max(self.incarnation + 1), time: self.time };
        let update = Update::read(kind, payload)?;
        self.document = apply(self.document.as_ref(), &update, &Limits::default(), occasion)?;
        if let Some(document) = &self.document {
            self.incarnation = document.incarnation;
        }
        Ok(())
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// As serde_json reads numbers: 1.0 is not 1 there, and is here.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn the_table_holds() {
    let (mut cases, mut name, mut life) = (0, "", Life::default());
    for line in include_str!("../conformance.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(next) = line.strip_prefix("case ") {
            (cases, name, life) = (cases + 1, next, Life::default());
            continue;
        }
        let (asked, expected) = line.rsplit_once(" -> ").expect("an arrow");
        let (what, payload) = asked.split_once(' ').expect("a payload");
        let before = life.document.clone();
        let answer = life.update(kind(what), &expand(payload));
        let shown = format!("{name}: {line}: {:?}", life.document);
        if let Some(code) = expected.strip_prefix("refused ") {
            assert_eq!(answer.expect_err(&shown).code.name(), code, "{shown}");
            assert_eq!(life.document, before, "{shown}");
            continue;
        }
        answer.unwrap_or_else(|refusal| panic!("{shown}: {refusal:?}"));
        if expected == "deleted" {
            assert_eq!(life.document, None, "{shown}");
            continue;
        }
        let document = life.document.as_ref().expect(&shown);
        assert_eq!(Document::read(&document.to_json()).as_ref(), Some(document), "{shown}");
        let (version, rest) = expected.split_once(' ').unwrap_or((expected, ""));
        assert_eq!(format!("v{}", document.version), version, "{shown}");
        if rest.is_empty() {
            continue;
        }
        let (state, delta) =
            rest.split_once(" delta ").map_or((rest, None), |(state, delta)| (state, Some(delta)));
        assert!(alike(&json(&document.to_json())["state"], &json(state)), "{shown}");
        let found = document.delta();
        match (&found, delta) {
            (Some(found), Some(delta)) => assert!(alike(&json(found), &json(delta)), "{shown}: {found}"),
            (found, delta) => assert_eq!(found.is_some(), delta.is_some(), "{shown}: {found:?}"),
        }
    }
    assert!(cases >= 60, "{cases} cases");
}

#[test]
fn each_field_has_the_time_at_which_it_was_set() {
    let mut life = Life::default();
    let mut update = |kind, payload| life.update(kind, payload).expect("accepted");
    update(Kind::Desired, r#"{"a":1,"fan":{"rpm":1,"on":true},"l":[1,2],"e":{}}"#);
    update(Kind::Desired, r#"{"fan":{"rpm":2},"b":{"c":{"d":1}}}"#);
    update(Kind::Desired, r#"{"a":null,"b":{"c":5}}"#);
    let times = json(&life.document.expect("a document").desired.expect("desired").times);
    assert_eq!(times, json(r#"{"fan":{"rpm":2,"on":1},"l":1,"e":1,"b":{"c":3}}"#));
}

/// Patches of a few keys, nested, with removals.
fn patch() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), (0..3).prop_map(Value::from), Just(Value::from(vec![1, 2])),];
    let nested = leaf.prop_recursive(3, 12, 3, |inner| {
        proptest::collection::btree_map("[abc]", inner, 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    });
    proptest::collection::btree_map("[abc]", nested, 0..3)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

fn leaves(value: &Value, path: &str, out: &mut Vec<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => map.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), out)),
        None => out.push(path.to_owned()),
    }
}

proptest! {
    /// Desired minus reported: who reports the delta has none left, and the times stand where the values do.
    #[test]
    fn whoever_reports_the_delta_has_done_what_is_desired(
        updates in proptest::collection::vec((any::<bool>(), patch()), 1..12),
    ) {
        let mut life = Life::default();
        for (desired, patch) in updates {
            let kind = if desired { Kind::Desired } else { Kind::Reported };
            life.update(kind, &patch.to_string()).expect("accepted");
            let document = life.document.as_ref().expect("a document");
            for section in [&document.desired, &document.reported].into_iter().flatten() {
                let (mut values, mut times) = (Vec::new(), Vec::new());
                leaves(&json(&section.state), "", &mut values);
                leaves(&json(&section.times), "", &mut times);
                prop_assert_eq!(values, times);
            }
        }
        if let Some(delta) = life.document.as_ref().and_then(Document::delta) {
            life.update(Kind::Reported, &delta).expect("accepted");
        }
        prop_assert_eq!(life.document.and_then(|document| document.delta()), None);
    }
}
