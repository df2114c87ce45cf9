//! Why there is no server, in one line.

use std::fmt;
use std::path::PathBuf;

/// Why a server cannot be had.
#[derive(Debug)]
pub enum Unavailable {
    /// A program is not installed.
    Missing {
        /// What was looked for.
        program: &'static str,
        /// Debian's package that brings it.
        package: &'static str,
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
            Unavailable::Missing { program, package } => {
                write!(f, "{program} is not installed; get it with: sudo apt-get install {package}")
            }
            Unavailable::Failed { what, log: None } => f.write_str(what),
            Unavailable::Failed { what, log: Some(log) } => write!(f, "{what}; its log: {}", log.display()),
        }
    }
}

impl std::error::Error for Unavailable {}

/// Says that a test was not run, and why: the caller returns afterwards, and the test passes.
///
/// # Panics
///
/// Where the environment has `CI=true`: there, a broker that is missing is a failure. So is one that is installed and
/// did not start, everywhere.
pub fn not_run(why: &Unavailable) {
    assert!(matches!(why, Unavailable::Missing { .. }), "the server is installed, and did not start: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "not run, because {why}; in CI that is a failure");
    println!("not run, because {why}");
}
