//! How a command ends that did not do what it was asked for.

use std::fmt;
use std::process::ExitCode;

/// Why, for the person who reads it, and the exit code that says which kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command line or the environment cannot be used: exit code 2, as for everything that clap refuses.
    Usage(String),
    /// Refused, or not possible now: exit code 1.
    Refused(String),
}

impl Failure {
    pub fn usage(text: impl fmt::Display) -> Failure {
        Failure::Usage(text.to_string())
    }

    pub fn refused(text: impl fmt::Display) -> Failure {
        Failure::Refused(text.to_string())
    }

    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Refused(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Usage(text) | Failure::Refused(text)) = self;
        f.write_str(text)
    }
}
