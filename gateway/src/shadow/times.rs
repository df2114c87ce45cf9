//! When each field of a state was set last: a mirror of the state, with a time in the place of each value that is no object
//! with members. An array has one time as a whole.

use anabranch_protocol::json::{JsonError, members, write_string};
use std::collections::HashMap;
use std::fmt::Write;

/// The times after a patch: of what it touched `time`, of the rest the old ones. `state` is the state after the patch.
pub(super) fn stamp(
    old: Option<&str>,
    state: &str,
    patch: &str,
    time: u64,
    out: &mut String,
) -> Result<(), JsonError> {
    let state = members(state)?.unwrap_or_default();
    let patch = members(patch)?.unwrap_or_default();
    let old = old.map(members).transpose()?.flatten().unwrap_or_default();
    let changes: HashMap<&str, &str> = patch.iter().map(|(key, change)| (&**key, *change)).collect();
    let before: HashMap<&str, &str> = old.iter().map(|(key, time)| (&**key, *time)).collect();
    out.push('{');
    for (at, (key, value)) in state.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        match (changes.get(&**key).copied(), before.get(&**key).copied()) {
            (Some(change), old) if has_members(value) => stamp(old, value, change, time, out)?,
            (None, Some(before)) => out.push_str(before),
            _ => _ = write!(out, "{time}"),
        }
    }
    out.push('}');
    Ok(())
}

fn has_members(value: &str) -> bool {
    value.strip_prefix('{').is_some_and(|rest| !rest.trim_ascii_start().starts_with('}'))
}
