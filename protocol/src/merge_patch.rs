//! JSON merge patches (RFC 7396), on texts: what a patch does not touch keeps its very text, numbers included.
//!
//! Patches do not compose in general: a deletion followed by a new object is not the new object alone, which would leave the
//! old children alive. So whoever left patches out needs the document, never a patch made of several; and [`compose`] says
//! of two whether there is one that stands for both.

use crate::json::{JsonError, Scanner, members, write_string};
use std::borrow::Cow;
use std::collections::HashMap;

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
    let mut changed: HashMap<&str, &str> = changes.iter().map(|(key, value)| (&**key, *value)).collect();
    out.push('{');
    let mut first = true;
    let mut begin = |out: &mut String, key: &str| {
        if !std::mem::take(&mut first) {
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
/// Both must be objects. Costs time in proportion to the product of their numbers of fields: it is meant for small ones.
pub fn compose(first: &str, then: &str) -> Option<String> {
    let mut all = fields(first)?;
    for (key, value) in fields(then)? {
        match all.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) if value.starts_with('{') => *old = Cow::Owned(compose(old, &value)?),
            Some((_, old)) => *old = value,
            None => all.push((key, value)),
        }
    }
    let mut out = String::from("{");
    for (key, value) in &all {
        if out.len() > 1 {
            out.push(',');
        }
        write_string(&mut out, key);
        out.push(':');
        out.push_str(value);
    }
    out.push('}');
    Some(out)
}

/// As [`members`], without its table: that would be the only one in a browser.
fn fields(object: &str) -> Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
    let mut scanner = Scanner::new(object);
    let mut list: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    scanner.enter_object().ok()?;
    while let Some(key) = scanner.next_key().ok()? {
        let value = Cow::Borrowed(scanner.raw().ok()?);
        match list.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => list.push((key, value)),
        }
    }
    scanner.end().ok()?;
    Some(list)
}
