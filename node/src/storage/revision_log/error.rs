//! What can go wrong with the revision log, and what the caller is to do about it.

use std::io;

/// Errors of the revision log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A write, rename or sync failed. The process must stop (W6): what reached the disk is
    /// unknown, and a second try may succeed on lost data.
    #[error(
        "revision log: cannot {what} {path}: {source}; the member must stop and recover from disk"
    )]
    Write {
        /// The operation.
        what: &'static str,
        /// The file or directory.
        path: String,
        /// What the device said.
        source: io::Error,
    },
    /// An earlier [`Error::Write`] makes every later write impossible.
    #[error("revision log: stopped after a failed write: {first}")]
    Stopped {
        /// The text of the first failure.
        first: String,
    },
    /// A read failed; nothing is known to be damaged.
    #[error("revision log: cannot read {path}: {source}")]
    Read {
        /// The file or directory.
        path: String,
        /// What the device said.
        source: io::Error,
    },
    /// Bytes are not what was written. The replica rebuilds from a snapshot of a peer; a single
    /// voter has none and must restore a backup.
    #[error(
        "revision log: {path} is damaged at byte {offset}: {what}; \
         rebuild this member from a peer's snapshot or restore a backup"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// Its segment number, 0 when it is not a segment.
        segment: u32,
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// What was expected there.
        what: &'static str,
    },
    /// The file was written by a newer version of Quorate.
    #[error(
        "revision log: {path} has format version {found}, this program reads up to {known}; use the newer version"
    )]
    Version {
        /// The file.
        path: String,
        /// Its version.
        found: u16,
        /// The newest that this program knows.
        known: u16,
    },
    /// The location is of a segment that compaction removed: look the key up again, under a
    /// [`super::Pin`].
    #[error("revision log: segment {segment} was compacted away; look the key up again")]
    Moved {
        /// The segment.
        segment: u32,
    },
    /// Background work could not be done, for lack of space perhaps. Nothing has changed.
    #[error(
        "revision log: background work gave up and changed nothing: {cause}; it is tried again"
    )]
    Aborted {
        /// What happened.
        cause: String,
    },
    /// A chunk of a snapshot is not what its manifest says; ask for it again.
    #[error("snapshot chunk {number} refused: {what}; send it again")]
    ChunkRefused {
        /// Which.
        number: u32,
        /// Why.
        what: &'static str,
    },
    /// A snapshot or its manifest cannot be used at all.
    #[error("snapshot refused: {what}; start a new transfer")]
    SnapshotRefused {
        /// Why.
        what: &'static str,
    },
    /// A snapshot was asked to be installed, and chunks are missing.
    #[error("snapshot is not complete: chunk {first} and {missing} in all are missing")]
    SnapshotIncomplete {
        /// The first one missing.
        first: u32,
        /// How many.
        missing: u32,
    },
}

impl Error {
    /// Whether the process must stop rather than go on (W6).
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Stopped { .. })
    }

    /// Whether data is damaged, so that the member must be rebuilt or the transfer repeated.
    #[must_use]
    pub const fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    /// For `map_err`: a failed change of `path`.
    pub(super) fn write(what: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write {
            what,
            path: path.to_owned(),
            source,
        }
    }

    /// For `map_err`: a failed read of `path`.
    pub(super) fn read(path: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read {
            path: path.to_owned(),
            source,
        }
    }
}
