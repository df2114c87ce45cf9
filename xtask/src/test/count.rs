//! How many tests ran: read off the closing lines of the runners, whichever of them ran.

use crate::progress;
use std::fmt;
use std::ops::AddAssign;

/// How a line starts that tells of a test without its broker (`anabranch_brokers::not_run`).
const NOT_RUN: &str = "not run, because ";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
    /// Tests that found no broker, and said so.
    pub not_run: u64,
}

impl Count {
    pub fn failed() -> Count {
        Count { failed: 1, ..Count::default() }
    }

    /// A step that failed without a failed test (its build broke, say) counts as one failure.
    pub fn or_failed(mut self, failed: bool) -> Count {
        if failed && self.failed == 0 {
            self.failed = 1;
        }
        self
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.not_run += other.not_run;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Count::default() {
            return Ok(());
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.not_run {
            0 => Ok(()),
            not_run => write!(f, ", {not_run} not run"),
        }
    }
}

/// Adds up the closing lines of cargo test, nextest, vitest and node's runner, and the plain `N passed, N failed`. What a
/// failed test printed itself, nextest shows indented: there, such lines count nothing.
pub fn in_log(log: &str) -> Count {
    let mut sum = Count::default();
    for line in progress::plain(log).lines() {
        if let Some(count) = in_line(line) {
            sum += count;
        }
    }
    // The runners took them for passed ones.
    let not_run = log.lines().filter(|line| line.starts_with(NOT_RUN)).count() as u64;
    Count { passed: sum.passed.saturating_sub(not_run), not_run, ..sum }
}

/// Why tests were not run, each reason once.
pub fn reasons(log: &str) -> Vec<&str> {
    let mut reasons: Vec<&str> = log.lines().filter(|line| line.starts_with(NOT_RUN)).collect();
    reasons.iter_mut().for_each(|line| *line = line.split_once(" (").map_or(*line, |(reason, _)| reason));
    reasons.sort_unstable();
    reasons.dedup();
    reasons
}

/// The runners' lines that name a failed test, each once.
pub fn failures(log: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in progress::plain(log).lines() {
        let nextest = |line: &str| {
            let (verdict, test) = line.trim_start().split_once('[')?;
            let failed = matches!(verdict.trim(), "FAIL" | "TIMEOUT" | "LEAK-FAIL" | "SIGABRT" | "SIGSEGV");
            failed.then(|| test.rsplit_once(") ")).flatten().map(|(_, name)| name.trim().to_string())
        };
        let libtest = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_string());
        let tap = |line: &str| Some(line.strip_prefix("not ok ")?.split_once(" - ")?.1.to_string());
        let found = nextest(line).or_else(|| libtest(line)).or_else(|| tap(line));
        names.extend(found.filter(|name| !names.contains(name)));
    }
    names
}

/// What the failed tests said as they ended: each panic's place and message, without the backtrace, which would push them
/// out of the log's last lines.
pub fn panics(log: &str) -> Vec<String> {
    /// A message may be a table; its beginning says enough.
    const MOST: usize = 6;
    let begins = |line: &str| line.contains("' panicked at ") || line.contains(") panicked at ");
    let log = progress::plain(log);
    let mut said: Vec<String> = Vec::new();
    let mut lines = log.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        if !begins(line) {
            continue;
        }
        let mut panic = vec![line];
        let message = |line: &&str| {
            !line.starts_with("stack backtrace:") && !line.starts_with("note: ") && !begins(line)
        };
        while panic.len() <= MOST
            && let Some(line) = lines.next_if(message)
        {
            panic.push(line);
        }
        let panic = panic.join("\n");
        if !said.contains(&panic) {
            said.push(panic);
        }
    }
    said
}

fn counted(passed: u64, failed: u64) -> Count {
    Count { passed, failed, not_run: 0 }
}

fn in_line(line: &str) -> Option<Count> {
    let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || "(),;|:".contains(c)).collect();
    let before = |word: &str| {
        let words: Vec<&&str> = words.iter().filter(|word| !word.is_empty()).collect();
        let at = words.iter().position(|w| **w == word)?;
        words.get(at.checked_sub(1)?)?.parse::<u64>().ok()
    };
    let both = || Some(counted(before("passed").unwrap_or(0), before("failed").unwrap_or(0)));
    // cargo test
    if line.starts_with("test result:") {
        return both();
    }
    // nextest: a test that timed out is told apart from one that failed
    if line.trim_start().starts_with("Summary [") {
        let timed_out = before("timed").unwrap_or(0) + before("out").unwrap_or(0);
        let count = both()?;
        return Some(Count { failed: count.failed + timed_out + before("exec").unwrap_or(0), ..count });
    }
    // vitest: "Tests  2 failed | 31 passed (33)", not its line about files
    if line.trim_start().starts_with("Tests ") && line.ends_with(')') {
        return both();
    }
    // node --test, as TAP or for people: "# pass 3", "ℹ fail 0"
    if let Some(rest) = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ ")) {
        let (word, number) = rest.split_once(' ')?;
        let number = number.parse().ok()?;
        return match word {
            "pass" => Some(Count { passed: number, ..Count::default() }),
            "fail" | "cancelled" => Some(Count { failed: number, ..Count::default() }),
            _ => None,
        };
    }
    // the plain one, alone on its line
    let (passed, rest) = line.split_once(" passed, ")?;
    let (failed, _) = rest.split_once(" failed")?;
    Some(counted(passed.parse().ok()?, failed.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_runner_is_understood() {
        for (line, passed, failed) in [
            (
                "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.1s",
                5,
                2,
            ),
            ("     Summary [   2.345s] 120 tests run: 119 passed (1 slow), 1 failed, 3 skipped", 119, 1),
            ("     Summary [  60.001s] 3 tests run: 1 passed, 1 failed, 1 timed out, 0 skipped", 1, 2),
            ("\u{1b}[2m      Tests \u{1b}[22m \u{1b}[1m\u{1b}[31m2 failed\u{1b}[39m | 31 passed (33)", 31, 2),
            ("      Tests  4 passed (4)", 4, 0),
            ("# pass 7", 7, 0),
            ("ℹ fail 1", 0, 1),
            ("12 passed, 3 failed", 12, 3),
            ("12 passed, 0 failed, 1 skipped", 12, 0),
        ] {
            assert_eq!(in_log(line), counted(passed, failed), "{line}");
        }
    }

    #[test]
    fn failed_tests_are_named_once() {
        let log = "        FAIL [   0.597s] (333/441) anabranch-gateway::config help\n        PASS [ 1s] (1/2) a b\n\
                   test a::b ... FAILED\nnot ok 3 - the link is back\n        FAIL [   0.597s] (333/441) anabranch-gateway::config help\n";
        assert_eq!(failures(log), ["anabranch-gateway::config help", "a::b", "the link is back"]);
    }

    #[test]
    fn a_panic_is_told_without_its_backtrace() {
        let log = "    thread 'drain::by_sigterm' (7) panicked at tests/drain.rs:156:5:\n    before their slots: [1ms]\n    \
                   stack backtrace:\n       0: rust_begin_unwind\nthread 'main' panicked at a.rs:1:1:\nleft: 1\nright: 2\nthread 'b' panicked at b.rs:1:1:\nno\nnote: run\n";
        let told = panics(log);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].ends_with("drain.rs:156:5:\nbefore their slots: [1ms]"), "{told:?}");
        assert!(told[1].ends_with("left: 1\nright: 2"), "{told:?}");
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in [
            "    test result: FAILED. 0 passed; 1 failed;",
            "    1 passed, 2 failed",
            "Test Files  2 passed (2)",
            "running 5 tests",
            "warning: 3 passed over",
            "# tests 9",
            "",
        ] {
            assert_eq!(in_log(line), Count::default(), "{line}");
        }
    }

    #[test]
    fn a_test_without_its_broker_has_not_passed() {
        let log = "     Summary [ 2.3s] 9 tests run: 9 passed, 0 skipped\nnot run, because Redis is not installed; get it \
                   (tails)\nnot run, because Redis is not installed; get it (trims)\n    not run, because of itself\n";
        assert_eq!(in_log(log), Count { passed: 7, failed: 0, not_run: 2 });
        assert_eq!(reasons(log), ["not run, because Redis is not installed; get it"]);
    }
}
