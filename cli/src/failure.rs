//! How a command ends when it does not succeed: one variant per exit code (style.md, section 7).
//!
//! Every message says what happened, to which input, and what to do. Must not know: the wire.

use std::fmt;

/// Why a command did not do what it was asked; `main` maps each variant to its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Refused or failed, and nothing about the outcome is in doubt. Exit code 1.
    Refused(String),
    /// The command line, a file named on it, or standard input cannot be used as given. Exit code
    /// 2.
    Usage(String),
    /// A change was sent and no answer says whether it happened. Exit code 3.
    OutcomeUnknown(String),
    /// A data directory is damaged, in use, or of another cluster or member. Exit code 4.
    DataDirectory(String),
}

impl Failure {
    /// A failure of the ordinary kind (exit code 1).
    pub fn refused(message: impl Into<String>) -> Failure {
        Failure::Refused(message.into())
    }

    /// A mistake in what the user gave (exit code 2).
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage(message.into())
    }

    /// The process exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Refused(_) => 1,
            Failure::Usage(_) => 2,
            Failure::OutcomeUnknown(_) => 3,
            Failure::DataDirectory(_) => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(text)
            | Failure::Usage(text)
            | Failure::OutcomeUnknown(text)
            | Failure::DataDirectory(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_own_exit_code() {
        let codes = [
            Failure::refused("a"),
            Failure::usage("b"),
            Failure::OutcomeUnknown("c".into()),
            Failure::DataDirectory("d".into()),
        ]
        .map(|failure| failure.exit_code());
        assert_eq!(codes, [1, 2, 3, 4]);
    }
}
