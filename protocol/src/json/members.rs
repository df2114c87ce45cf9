//! The members of an object, for those who look into state: patches, deltas, timestamps.

use super::{JsonError, Scanner};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The members of an object in their order, each value as its text.
pub type Members<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// The members of an object, each key once: of a key that stands twice, the last value counts. `None` for any other value.
///
/// # Errors
///
/// If the text is not JSON, or nests deeper than [`JSON_DEPTH`](crate::limits::JSON_DEPTH).
pub fn members(text: &str) -> Result<Option<Members<'_>>, JsonError> {
    if !text.trim_ascii_start().starts_with('{') {
        let mut scanner = Scanner::new(text);
        scanner.raw()?;
        scanner.end()?;
        return Ok(None);
    }
    let mut scanner = Scanner::new(text);
    let mut list: Members<'_> = Vec::new();
    let mut places: BTreeMap<Cow<'_, str>, usize> = BTreeMap::new();
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        let value = scanner.raw()?;
        match places.get(&key) {
            Some(at) => list[*at].1 = value,
            None => {
                places.insert(key.clone(), list.len());
                list.push((key, value));
            }
        }
    }
    scanner.end()?;
    Ok(Some(list))
}
