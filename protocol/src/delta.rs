//! The difference of two states. What is desired and not reported: nested objects differ field by field, arrays and all other values as a whole.

use crate::json::{JsonError, Scanner, members, write_string};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// The desired fields that the reported state lacks or has otherwise; `None` if there are none.
///
/// Both are JSON objects, or absent.
///
/// # Errors
/// If a text is not JSON.
pub fn delta(desired: Option<&str>, reported: Option<&str>) -> Result<Option<String>, JsonError> {
    let Some(desired) = desired else { return Ok(None) };
    let Some(wanted) = members(desired)? else { return Ok(None) };
    let there = reported.map(members).transpose()?.flatten().unwrap_or_default();
    let there: BTreeMap<&str, &str> = there.iter().map(|(key, have)| (&**key, *have)).collect();
    let mut out = String::new();
    for (key, want) in &wanted {
        let differs = match there.get(&**key).copied() {
            None => Some((*want).to_owned()),
            Some(have) if want.starts_with('{') && have.starts_with('{') => delta(Some(want), Some(have))?,
            Some(have) => (!same(want, have)?).then(|| (*want).to_owned()),
        };
        if let Some(differs) = differs {
            out.push(if out.is_empty() { '{' } else { ',' });
            write_string(&mut out, key);
            out.push(':');
            out.push_str(&differs);
        }
    }
    if out.is_empty() {
        return Ok(None);
    }
    out.push('}');
    Ok(Some(out))
}

/// Whether two JSON texts mean the same value: blanks, the order of members, escapes and the spelling of numbers aside.
///
/// # Errors
/// If a text is not JSON.
pub fn same(a: &str, b: &str) -> Result<bool, JsonError> {
    let (a, b) = (a.trim_ascii(), b.trim_ascii());
    if a == b {
        return Ok(true);
    }
    Ok(match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => {
            let (one, other) = (members(a)?.unwrap_or_default(), members(b)?.unwrap_or_default());
            if one.len() != other.len() {
                return Ok(false);
            }
            let other: BTreeMap<&str, &str> = other.iter().map(|(key, value)| (&**key, *value)).collect();
            for (key, value) in &one {
                match other.get(&**key) {
                    Some(there) if same(value, there)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Some(b'['), Some(b'[')) => {
            let (one, other) = (items(a)?, items(b)?);
            if one.len() != other.len() {
                return Ok(false);
            }
            for (x, y) in one.iter().zip(&other) {
                if !same(x, y)? {
                    return Ok(false);
                }
            }
            true
        }
        (Some(b'"'), Some(b'"')) => Scanner::new(a).string()? == Scanner::new(b).string()?,
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
            // Two different whole numbers may be the same as fractions of 53 bits.
            let whole = |text: &str| text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
            !(whole(a) && whole(b)) && a.parse::<f64>().ok() == b.parse::<f64>().ok()
        }
        _ => false,
    })
}

/// The merge patch that makes `new` of `old`; `None` if they are the same. Both are JSON objects.
///
/// # Errors
/// If a text is not JSON.
pub fn diff(old: &str, new: &str) -> Result<Option<String>, JsonError> {
    let before = members(old)?.unwrap_or_default();
    let after = members(new)?.unwrap_or_default();
    let there: BTreeMap<&str, &str> = before.iter().map(|(key, value)| (&**key, *value)).collect();
    let mut out = String::new();
    let mut put = |key: &str, value: &str| {
        out.push(if out.is_empty() { '{' } else { ',' });
        write_string(&mut out, key);
        out.push(':');
        out.push_str(value);
    };
    for (key, value) in &after {
        match there.get(&**key) {
            // An object into which `{}` were merged would stay as it was, and so it is: both are objects.
            Some(old) if value.starts_with('{') && old.starts_with('{') => {
                if let Some(inner) = diff(old, value)? {
                    put(key, &inner);
                }
            }
            Some(old) if same(old, value)? => {}
            _ => put(key, value),
        }
    }
    for (key, _) in before.iter().filter(|(key, _)| !after.iter().any(|(there, _)| there == key)) {
        put(key, "null");
    }
    if out.is_empty() {
        return Ok(None);
    }
    out.push('}');
    Ok(Some(out))
}

fn items(text: &str) -> Result<Vec<&str>, JsonError> {
    let mut scanner = Scanner::new(text);
    let mut list = Vec::new();
    scanner.enter_array()?;
    while scanner.next_item()? {
        list.push(scanner.raw()?);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_makes_the_new_of_the_old() {
        let texts = [
            "{}",
            r#"{"a":1}"#,
            r#"{"a":{"b":1,"c":[1]}}"#,
            r#"{"a":{"c":[2]},"d":"x"}"#,
            r#"{"a":{}}"#,
            r#"{"a":{"b":{"e":1}},"d":5}"#,
        ];
        for old in texts {
            for new in texts {
                let patch = diff(old, new).unwrap();
                let made =
                    crate::merge_patch::merge_patch(Some(old), patch.as_deref().unwrap_or("{}")).unwrap();
                assert!(same(&made, new).unwrap(), "{old} and {patch:?} make {made}, not {new}");
                assert_eq!(patch.is_none(), old == new);
            }
        }
    }

    #[test]
    fn values_are_the_same_however_they_are_spelt() {
        let pairs = [
            ("1", "1.0", true),
            ("1e2", "100", true),
            ("9007199254740993", "9007199254740992", false),
            ("\"a\"", "\"\\u0061\"", true),
            ("{\"a\":1,\"b\":[2]}", "{ \"b\" : [ 2 ], \"a\" : 1 }", true),
            ("{\"a\":1}", "{\"a\":1,\"b\":2}", false),
            ("[1,2]", "[2,1]", false),
            ("[1]", "{}", false),
            ("true", "false", false),
            ("\"1\"", "1", false),
        ];
        for (a, b, expected) in pairs {
            assert_eq!(same(a, b).unwrap(), expected, "{a} and {b}");
            assert_eq!(same(b, a).unwrap(), expected, "{b} and {a}");
        }
    }
}
