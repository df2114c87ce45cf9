//! A concrete, validated topic name.

use crate::limits;
use alloc::sync::Arc;
use core::fmt;

/// A concrete topic: `iotsphere/devices/d1/shadow/delta`.
///
/// At most [`limits::TOPIC_BYTES`] bytes and [`limits::TOPIC_LEVELS`] levels, no wildcards, no control characters.
/// Levels may be empty, as in MQTT: `a//b` has three.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// Why a text is not a topic, or not a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing at all.
    Empty,
    /// Over [`limits::TOPIC_BYTES`] bytes.
    TooLong,
    /// Over [`limits::TOPIC_LEVELS`] levels.
    TooDeep,
    /// A control character, which no topic of ours has a use for and every log file suffers from.
    Control,
    /// `+` or `#` in a topic, which must be concrete.
    Wildcard,
    /// `+` or `#` beside other characters in one level, or `#` before the last level.
    MisplacedWildcard,
    /// `$share/…`: shared subscriptions divide work between consumers, dashboards want everything.
    Shared,
}

impl NameError {
    /// What is wrong, for the person who wrote the name.
    pub const fn message(self) -> &'static str {
        match self {
            NameError::Empty => "the name is empty",
            NameError::TooLong => "the name is longer than 255 bytes",
            NameError::TooDeep => "the name has more than 32 levels",
            NameError::Control => "the name contains a control character",
            NameError::Wildcard => "a topic must be concrete: it contains + or #",
            NameError::MisplacedWildcard => "+ and # must fill a whole level, and # must be the last one",
            NameError::Shared => "shared subscriptions ($share/…) are not offered",
        }
    }

    /// Always `false`: a name does not get better by itself.
    pub const fn is_retryable(self) -> bool {
        false
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for NameError {}

impl Topic {
    /// Checks and takes a name.
    pub fn new(name: &str) -> Result<Topic, NameError> {
        Topic::check(name)?;
        Ok(Topic(name.into()))
    }

    /// Checks a name without keeping it: for the path that only passes topics on.
    pub fn check(name: &str) -> Result<(), NameError> {
        check_common(name)?;
        if name.bytes().any(|b| b == b'+' || b == b'#') {
            return Err(NameError::Wildcard);
        }
        Ok(())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the slashes.
    pub fn levels(&self) -> core::str::Split<'_, char> {
        self.0.split('/')
    }
}

impl From<Topic> for Arc<str> {
    fn from(topic: Topic) -> Arc<str> {
        topic.0
    }
}

/// The rules that topics and filters share.
pub(crate) fn check_common(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > limits::TOPIC_BYTES {
        return Err(NameError::TooLong);
    }
    if name.bytes().filter(|&b| b == b'/').count() >= limits::TOPIC_LEVELS {
        return Err(NameError::TooDeep);
    }
    // Nearly every name is ASCII, whose bytes are looked at several at a time.
    let control = if name.is_ascii() {
        name.bytes().any(|byte| byte.is_ascii_control())
    } else {
        name.chars().any(char::is_control)
    };
    if control { Err(NameError::Control) } else { Ok(()) }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({:?})", &*self.0)
    }
}
