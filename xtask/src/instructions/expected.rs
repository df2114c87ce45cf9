//! The file of expected counts, and what a count is worth beside it.

use super::profile;
use crate::workspace;
use anyhow::{Context, Result};
use indicatif::HumanCount;
use std::fs;
use std::path::PathBuf;

/// How many per cent more than expected is a failure.
const TOLERANCE: f64 = 5.0;
/// How many per cent less is one: a path that has become so cheap has perhaps stopped doing its work, and a count so far off
/// would let the next regression pass.
const FAR_UNDER: f64 = 20.0;

const HEAD: &str = "\
# Instructions of the two hottest paths, as callgrind counts them in a build of the dev profile: docs/BENCHMARKS.md.
# Compared by `cargo xtask test --only instructions`; written anew by `cargo xtask instructions --renew`.
";

/// What the file holds: `compiler: …`, then `path: count`, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub compiler: String,
    pub counts: Vec<(String, u64)>,
}

pub fn file() -> PathBuf {
    workspace::root().join("gateway/examples/instructions/expected.txt")
}

impl Expected {
    pub fn read() -> Result<Expected> {
        let file = file();
        let context = || format!("{} (cargo xtask instructions --renew)", workspace::shown(&file));
        let text = fs::read_to_string(&file).with_context(context)?;
        Expected::parse(&text).with_context(context)
    }

    pub fn write(&self) -> Result<()> {
        let file = file();
        fs::write(&file, self.text()).with_context(|| format!("cannot write {}", workspace::shown(&file)))
    }

    fn text(&self) -> String {
        let counts: String = self.counts.iter().map(|(path, count)| format!("{path}: {count}\n")).collect();
        format!("{HEAD}compiler: {}\n{counts}", self.compiler)
    }

    fn parse(text: &str) -> Option<Expected> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let compiler = lines.next()?.strip_prefix("compiler: ")?.to_owned();
        let count = |line: &str| {
            let (path, count) = line.split_once(": ")?;
            Some((path.to_owned(), count.parse().ok()?))
        };
        Some(Expected { compiler, counts: lines.map(count).collect::<Option<_>>()? })
    }

    pub fn count(&self, path: &str) -> Option<u64> {
        self.counts.iter().find(|(known, _)| known == path).map(|(_, count)| *count)
    }
}

/// A count beside the expected one.
pub struct Verdict<'p> {
    path: &'p str,
    expected: u64,
    found: u64,
}

impl<'p> Verdict<'p> {
    pub fn new(path: &'p str, expected: u64, found: u64) -> Verdict<'p> {
        Verdict { path, expected, found }
    }

    /// How much more it is, in per cent; less is negative.
    fn more(&self) -> f64 {
        (self.found as f64 / self.expected as f64 - 1.0) * 100.0
    }

    pub fn is_failure(&self) -> bool {
        self.more() > TOLERANCE || self.more() < -FAR_UNDER
    }

    /// In one line: which path, expected, found, by how much it differs, and what to do.
    pub fn describe(&self, expected: &Expected, compiler: &str) -> String {
        let more = self.more();
        let mut text = format!(
            "{}: {} instructions, {} expected: {more:+.1} %",
            self.path,
            HumanCount(self.found),
            HumanCount(self.expected)
        );
        let renew = "cargo xtask instructions --renew, and say why in the commit";
        if more > TOLERANCE {
            text += &format!(
                ", and {TOLERANCE} % are allowed. Where they are: callgrind_annotate {}. If they are worth it: {renew}",
                workspace::shown(&profile(self.path))
            );
        } else if more < -FAR_UNDER {
            text += &format!(
                ". If it still does all of its work, make that the measure from now on: {renew}; else see why not"
            );
        } else if more < -TOLERANCE {
            text += &format!(". Make that the measure from now on: {renew}");
        }
        if more.abs() > TOLERANCE && expected.compiler != compiler {
            text += &format!(
                " (expected of {}, and this is {compiler}: the compiler alone may be the reason)",
                expected.compiler
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        let counts = vec![("fan-out".into(), 1_000_000), ("publish".into(), 5)];
        Expected { compiler: "rustc 1.2.3 (abc)".into(), counts }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Expected::parse(&expected().text()), Some(expected()));
        assert_eq!(expected().count("fan-out"), Some(1_000_000));
        assert_eq!(Expected::parse("# nothing"), None);
    }

    #[test]
    fn five_per_cent_more_are_allowed_and_a_fifth_less() {
        for (found, fails) in
            [(1_049_000, false), (1_051_000, true), (940_000, false), (801_000, false), (799_000, true)]
        {
            assert_eq!(Verdict::new("fan-out", 1_000_000, found).is_failure(), fails, "{found}");
        }
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let (expected, same) = (expected(), "rustc 1.2.3 (abc)");
        let text = Verdict::new("fan-out", 1_000_000, 1_100_000).describe(&expected, same);
        assert!(
            text.starts_with("fan-out: 1,100,000 instructions, 1,000,000 expected: +10.0 %, and 5 %"),
            "{text}"
        );
        assert!(text.contains("callgrind_annotate") && text.contains("--renew"), "{text}");
        assert!(!text.contains("compiler alone"), "{text}");
        let text = Verdict::new("fan-out", 1_000_000, 1_100_000).describe(&expected, "rustc 2");
        assert!(text.contains("this is rustc 2"), "{text}");
        let text = Verdict::new("fan-out", 1_000_000, 1_010_000).describe(&expected, "rustc 2");
        assert!(text.ends_with("+1.0 %"), "{text}");
    }
}
