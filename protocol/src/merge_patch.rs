//! JSON merge patches (RFC 7396), on texts: what a patch does not touch keeps its very text, numbers included.
//!
//! Patches do not compose in general: a deletion followed by a new object is not the new object alone, which would leave the
//! old children alive. So whoever left patches out needs the document, never a patch made of several; and [`compose`] says
//! of two whether there is one that stands for both.

use crate::json::{JsonError, Scanner, members, write_string};
use alloc::collections::BTreeMap;
use alloc::string::String;

/// The document that `patch` makes of `target`; `None` is a document that does not exist.
///
/// Both are JSON values. Of a key that stands twice in an object, the last counts. Costs time in proportion to both texts.
///
/// # Errors
///
/// If a text is not JSON, or nests deeper than [`JSON_DEPTH`](crate::limits::JSON_DEPTH).
pub fn merge_patch(target: Option<&str>, patch: &str) -> Result<String, JsonError> {
    let mut out = String::with_capacity(target.map_or(0, str::len) + patch.len());
    merge(target, patch, &mut out)?;
    Ok(out)
}

fn merge(target: Option<&str>, patch: &str, out: &mut String) -> Result<(), JsonError> {
    let Some(changes) = members(patch)? else {
        out.push_str(patch.trim_ascii());
        return Ok(());
    };
    let old = target.map(members).transpose()?.flatten().unwrap_or_default();
    let mut changed: BTreeMap<&str, &str> = changes.iter().map(|(key, value)| (&**key, *value)).collect();
    out.push('{');
    let mut first = true;
    let mut begin = |out: &mut String, key: &str| {
        if !core::mem::take(&mut first) {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
    };
    for (key, value) in &old {
        match changed.remove(&**key) {
            None => {
                begin(out, key);
                out.push_str(value);
            }
            Some("null") => {}
            Some(change) => {
                begin(out, key);
                merge(Some(value), change, out)?;
            }
        }
    }
    for (key, _) in &changes {
        if let Some(change) = changed.remove(&**key).filter(|change| *change != "null") {
            begin(out, key);
            merge(None, change, out)?;
        }
    }
    out.push('}');
    Ok(())
}

/// The patch that does to every document what `first` and then `then` do to it. `None` if there is none: where `then` puts an object
/// in the place of a value that `first` has put there or removed, since no patch of a field says that the old children of an object go.
///
/// Both must be objects. Costs time in proportion to the product of their sizes: it is meant for small ones, and to be small itself.
pub fn compose(first: &str, then: &str) -> Option<String> {
    let mut out = String::new();
    both(first, then, &mut out)?;
    Some(out)
}

fn both(first: &str, then: &str, out: &mut String) -> Option<()> {
    let start = out.len();
    for (object, ahead) in [(first, true), (then, false)] {
        let mut scanner = Scanner::new(object);
        scanner.enter_object().ok()?;
        while let Some(key) = scanner.next_key().ok()? {
            let value = scanner.raw().ok()?;
            let (old, new) = (field(first, &key), field(then, &key));
            // Of a key that stands twice the last counts, and what stands in both is written at its first place.
            let its = if ahead { old } else { new.filter(|_| old.is_none()) };
            if !its.is_some_and(|its| core::ptr::eq(its, value)) {
                continue;
            }
            out.push(if out.len() == start { '{' } else { ',' });
            write_string(out, &key);
            out.push(':');
            match (old, new) {
                (Some(old), Some(new)) if new.starts_with('{') => both(old, new, out)?,
                _ => out.push_str(new.unwrap_or(value)),
            }
        }
        scanner.end().ok()?;
    }
    out.push_str(if out.len() == start { "{}" } else { "}" });
    Some(())
}

/// The value of a member of an object; of a name that stands twice, the last.
pub fn field<'t>(object: &'t str, name: &str) -> Option<&'t str> {
    let mut scanner = Scanner::new(object);
    scanner.enter_object().ok()?;
    let mut found = None;
    while let Some(key) = scanner.next_key().ok()? {
        let value = scanner.raw().ok()?;
        if key == name {
            found = Some(value);
        }
    }
    found
}
