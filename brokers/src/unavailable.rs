//! Why there is no server, in one line.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// Why a server cannot be had.
#[derive(Debug)]
pub enum Unavailable {
    /// A program is not installed.
    Missing {
        /// What was looked for.
        program: &'static str,
        /// The command that brings it.
        get: &'static str,
    },
    /// The server did not start, or did not do what it was asked.
    Failed {
        /// What happened.
        what: String,
        /// Where the server's own words are.
        log: Option<PathBuf>,
    },
}

impl Unavailable {
    pub(crate) fn failed(what: impl Into<String>) -> Unavailable {
        Unavailable::Failed { what: what.into(), log: None }
    }

    /// The same, with the place of the server's log.
    pub(crate) fn with_log(self, path: PathBuf) -> Unavailable {
        match self {
            Unavailable::Failed { what, log: None } => Unavailable::Failed { what, log: Some(path) },
            other => other,
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::Missing { program, get } => {
                write!(f, "{program} is not installed; get it with: {get}")
            }
            Unavailable::Failed { what, log: None } => f.write_str(what),
            Unavailable::Failed { what, log: Some(log) } => write!(f, "{what}; its log: {}", log.display()),
        }
    }
}

impl std::error::Error for Unavailable {}

/// Says that a test was not run, and why: the caller returns afterwards, and the test passes. A test runner hides what a
/// passed test printed: where `ANABRANCH_NOT_RUN` names a file, the line is added there too, with the test's name, and
/// `cargo xtask test` counts it as not run.
///
/// # Panics
///
/// Where the environment has `CI=true`: there, a broker that is missing is a failure. So is one that is installed and
/// did not start, everywhere.
pub fn not_run(why: &Unavailable) {
    assert!(matches!(why, Unavailable::Missing { .. }), "the server is installed, and did not start: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "not run, because {why}; in CI that is a failure");
    let line = format!("not run, because {why}");
    println!("{line}");
    if let Some(path) = std::env::var_os("ANABRANCH_NOT_RUN") {
        let test = std::thread::current().name().unwrap_or("a test").to_string();
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(format!("{line} ({test})\n").as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
