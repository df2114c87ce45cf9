//! Codes and their remedies.

use crate::{each, load, text};
use anabranch_protocol::code::Code;
use serde_json::Value;

pub(crate) const KINDS: &[&str] = &["ranges", "codes", "other"];

fn code(case: &Value, field: &str) -> Code {
    Code(u16::try_from(case[field].as_u64().expect(field)).expect(field))
}

#[test]
fn codes() {
    each("codes.json", "codes", |case| {
        let code = code(case, "code");
        assert_eq!(code.name(), text(case, "name"));
        assert_eq!(code.remedy().name(), text(case, "remedy"));
        assert_eq!(code.advice(), text(case, "why"));
    });
    let listed: Vec<Code> = load("codes.json")["codes"]
        .as_array()
        .expect("codes")
        .iter()
        .map(|case| code(case, "code"))
        .collect();
    assert_eq!(listed, Code::ALL, "every code has a vector");
    each("codes.json", "ranges", |case| {
        for number in code(case, "first").0..=code(case, "last").0 {
            assert_eq!(Code(number).remedy().name(), text(case, "remedy"), "{number}");
        }
    });
    each("codes.json", "other", |case| {
        assert_eq!(code(case, "code").remedy().name(), text(case, "remedy"));
        assert_eq!(code(case, "code").name(), "unknown");
    });
}
