//! Topic filters: which topics a subscription or a grant means.

use crate::topic::{NameError, check_common};
use alloc::boxed::Box;
use core::fmt;

/// A topic pattern with MQTT's wildcards: `+` is one level, `#` is the rest and stands last.
///
/// `a/#` also matches the parent `a`. A wildcard in the first level never matches a topic that begins with `$`
/// (MQTT 5.0, section 4.7.2), so that `#` cannot stumble into system topics.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Filter(Box<str>);

impl Filter {
    /// Checks and takes a filter.
    pub fn new(text: &str) -> Result<Filter, NameError> {
        check_common(text)?;
        let mut levels = text.split('/').peekable();
        if levels.peek() == Some(&"$share") {
            return Err(NameError::Shared);
        }
        while let Some(level) = levels.next() {
            let wild = level.bytes().any(|b| b == b'+' || b == b'#');
            if wild && (level.len() > 1 || (level == "#" && levels.peek().is_some())) {
                return Err(NameError::MisplacedWildcard);
            }
        }
        Ok(Filter(text.into()))
    }

    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the slashes.
    pub fn levels(&self) -> core::str::Split<'_, char> {
        self.0.split('/')
    }

    /// Whether the filter names one concrete topic.
    pub fn is_exact(&self) -> bool {
        !self.0.bytes().any(|b| b == b'+' || b == b'#')
    }

    /// Whether this filter means that topic. `topic` is taken to be a valid topic name.
    pub fn matches(&self, topic: &str) -> bool {
        let mut filter = self.levels();
        let mut levels = topic.split('/');
        let mut first = true;
        loop {
            let hidden = first && topic.starts_with('$');
            first = false;
            match (filter.next(), levels.next()) {
                (Some("#"), _) => return !hidden,
                (Some("+"), Some(_)) if !hidden => {}
                (Some(f), Some(t)) if f == t => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }

    /// Whether every topic that `other` can match is matched by this filter.
    ///
    /// Exact: `tests/filters.rs` compares it with brute force over all small filters and topics.
    pub fn covers(&self, other: &Filter) -> bool {
        walk(self, other, |mine, theirs| match (mine, theirs) {
            (Level::Rest, _) => Step::Yes,
            (Level::End, Level::End) => Step::Yes,
            (Level::End, _) | (_, Level::End) | (_, Level::Rest) => Step::No,
            (Level::One, Level::One) | (Level::One, Level::Name(_)) => Step::On,
            (Level::Name(a), Level::Name(b)) if a == b => Step::On,
            (Level::Name(_), _) => Step::No,
        })
    }

    /// Whether some topic is matched by both filters. A denied filter that overlaps a wanted one denies it.
    pub fn overlaps(&self, other: &Filter) -> bool {
        walk(self, other, |mine, theirs| match (mine, theirs) {
            (Level::Rest, _) | (_, Level::Rest) => Step::Yes,
            (Level::End, Level::End) => Step::Yes,
            (Level::End, _) | (_, Level::End) => Step::No,
            (Level::Name(a), Level::Name(b)) if a != b => Step::No,
            _ => Step::On,
        })
    }
}

#[derive(Clone, Copy)]
enum Level<'a> {
    Name(&'a str),
    One,
    Rest,
    End,
}

enum Step {
    Yes,
    No,
    On,
}

/// Walks two filters side by side until `step` decides.
///
/// At the root, `#` is read as `+/#`: every topic has a first level, so both mean the same there, and one rule fewer
/// is needed. Likewise `/#` is `/+/#`: its parent would be the empty name, which is no topic. At the root too, a
/// wildcard against a `$` name decides at once: they share no topic.
fn walk(a: &Filter, b: &Filter, step: impl Fn(Level<'_>, Level<'_>) -> Step) -> bool {
    let (mut a, mut b) = (Levels::new(a.as_str()), Levels::new(b.as_str()));
    let mut first = true;
    loop {
        let (x, y) = (a.next(), b.next());
        if first
            && matches!((x, y), (Level::One, Level::Name(n)) | (Level::Name(n), Level::One) if n.starts_with('$'))
        {
            return false;
        }
        first = false;
        match step(x, y) {
            Step::Yes => return true,
            Step::No => return false,
            Step::On => {}
        }
    }
}

struct Levels<'a> {
    rest: Option<&'a str>,
}

impl<'a> Levels<'a> {
    fn new(text: &'a str) -> Self {
        let text = match text {
            "#" => "+/#",
            "/#" => "/+/#",
            other => other,
        };
        Levels { rest: Some(text) }
    }

    fn next(&mut self) -> Level<'a> {
        let Some(text) = self.rest else { return Level::End };
        let (level, rest) = match text.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (text, None),
        };
        self.rest = rest;
        match level {
            "+" => Level::One,
            "#" => Level::Rest,
            name => Level::Name(name),
        }
    }
}

impl AsRef<str> for Filter {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?})", &*self.0)
    }
}
