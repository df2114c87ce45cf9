//! JSON merge patches (RFC 7396), on texts: what a patch does not touch keeps its very text, numbers included.
//!
//! Patches do not compose: a deletion followed by a new object is not the new object alone, which would leave the old
//! children alive. So whoever left patches out needs the document, never a patch made of several.

use crate::json::{JsonError, members, write_string};
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
