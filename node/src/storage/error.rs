//! What can go wrong on disk, for the log, the slots and the identity of a directory.
//!
//! Three kinds, told apart by [`Error::is_fatal`] and [`Error::is_refusal`]: the device failed and
//! the process must stop (W6); the directory is refused before anything was changed (exit code 4);
//! the request cannot be served, and nothing was promised.

use std::io;

/// An error of storage. Says what happened, to which file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed. What was written since the last successful sync is in doubt.
    #[error(
        "cannot {action} {path}: {source}. The member must stop: after such an error a retry could report success for data that is gone"
    )]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier error was fatal; nothing more is written.
    #[error("the log stopped after an earlier error and takes nothing more; restart the member")]
    Stopped,
    /// There is no room for another segment. Nothing was written, nothing is promised.
    #[error(
        "no space for another {bytes} bytes at {path}. Nothing was written; free some space, then writes are taken again"
    )]
    NoSpace {
        /// The file that could not be allocated.
        path: String,
        /// How much was wanted.
        bytes: u64,
    },
    /// A single record or field is larger than the format holds. Nothing was written.
    #[error("{what} has {bytes} bytes, and at most {bytes_max} can be stored. Nothing was written")]
    TooLarge {
        /// What it was.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Another process uses the directory.
    #[error("data directory {path:?} is in use by {}. Stop that process, or use another directory. Nothing was changed", holder_text(*.holder))]
    Locked {
        /// The directory.
        path: String,
        /// The process, when its lock file names it.
        holder: Option<u32>,
    },
    /// Others may read or write the directory.
    #[error(
        "data directory {path:?} has mode {mode:04o}; others than its owner must have no access. Run: chmod 700 {path:?}. Nothing was changed"
    )]
    TooOpen {
        /// The directory.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The directory holds data, but not of this program, or of a version it cannot read.
    #[error("data directory {path:?} {found}. {remedy} Nothing was changed")]
    Foreign {
        /// The directory or file.
        path: String,
        /// What was found.
        found: String,
        /// What to do, a sentence.
        remedy: &'static str,
    },
    /// What this member once promised cannot be known any more: it must not take part again.
    #[error(
        "{path:?}: {why}. This member may have voted or acknowledged what is lost, so it must not take part again under its old ID: remove it from the cluster and add a new member with an empty directory. Nothing was changed"
    )]
    LostPromise {
        /// The file or directory.
        path: String,
        /// The evidence.
        why: String,
    },
}

fn holder_text(holder: Option<u32>) -> String {
    match holder {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

impl Error {
    /// An error of the device, with what was tried.
    pub(crate) fn io(action: &'static str, path: String, source: io::Error) -> Self {
        Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether the process must stop without acknowledging anything more (W6).
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Stopped)
    }

    /// Whether the data directory is refused: exit code 4, nothing was changed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Locked { .. }
                | Self::TooOpen { .. }
                | Self::Foreign { .. }
                | Self::LostPromise { .. }
        )
    }
}

/// A directory in place of a file, or the reverse, while nothing has been changed yet: refused like
/// anything else that does not belong there. Not for writes, where the device is in doubt.
pub(crate) fn misplaced(error: Error) -> Error {
    match error {
        Error::Io { path, source, .. }
            if matches!(
                source.kind(),
                io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
            ) =>
        {
            Error::Foreign {
                path,
                found: "is a directory in place of a file, or a file in place of a directory"
                    .to_owned(),
                remedy: "Put back what belongs there, or replace this member by a new one with an \
                         empty directory.",
            }
        }
        other => other,
    }
}

/// Adds to an [`io::Result`] what was tried and on which file.
pub(crate) trait IoContext<T> {
    /// Turns the error into [`Error::Io`]; `path` is only called on failure.
    fn context(self, action: &'static str, path: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::io(action, path(), source))
    }
}
