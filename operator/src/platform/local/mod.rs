//! The local platform: a cluster as child processes of one operator on one machine.
//!
//! | the planner's word | here |
//! |---|---|
//! | slot | a child process, `life.rs`; its ports are base + 10 per slot, `ports.rs` |
//! | volume | a directory with a stamp, `volume.rs` |
//! | intent, latches, status | `state.json`, replaced atomically, `state.rs` |
//! | object | the manifest file, watched by its content, `manifest.rs` |
//! | member calls | the admin service on loopback, `platform/members.rs` |
//!
//! `cluster.rs` holds them together, `platform.rs` makes reads and single effects of them, `run.rs`
//! is the loop around the passes. Children run on when the operator is killed, and the next one
//! takes them over; asked to stop, it stops them in order. Assumes Linux (`/proc`). Must not know:
//! the planner's rules, the terminal.
//!
//! ```text
//! DIR/lock                held by the running operator; its PID is in it
//! DIR/state.json          manifest, set, status
//! DIR/slot-N/life.json    the process and how it fares
//! DIR/slot-N/log          what the process says
//! DIR/slot-N/volume/      stamp.json and data/, the node's own directory
//! ```

mod cluster;
mod files;
mod life;
mod lock;
mod manifest;
mod platform;
mod ports;
mod process;
mod run;
mod state;
mod volume;

use std::io;
use std::path::{Path, PathBuf};

use super::members;

pub use cluster::{Local, Options};
pub use ports::Ports;
pub use run::{Ended, Progress, Report, Until, run};

/// Why something could not be read or done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another operator works on the directory.
    #[error(
        "data directory {} is in use by process {pid}.\nStop it with Ctrl-C or `kill {pid}`, or \
         choose another directory with --data-dir and another --base-port.",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The holder, as it wrote itself down.
        pid: String,
    },
    /// The directory belongs to something else, or was made with other settings.
    #[error("{0}")]
    Foreign(String),
    /// A file of ours is not as it was written.
    #[error("{} is damaged: {why}.\nNothing was changed. Restore the file, or move the directory \
             away to begin anew.", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        why: String,
    },
    /// The manifest cannot be used, and there is no earlier one to go on with.
    #[error("{0}")]
    Manifest(String),
    /// The system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The world is not as the step assumed; the next pass reads it again.
    #[error("{0}")]
    Conflict(String),
    /// A member or the platform refused, and nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// A member asks for patience, and nothing was changed: it is asked again.
    #[error("{0}")]
    NotYet(String),
    /// A member did not answer: the outcome is unknown.
    #[error("{0}")]
    Unanswered(String),
}

impl From<members::Error> for Error {
    fn from(error: members::Error) -> Error {
        match error {
            members::Error::Conflict(text) => Error::Conflict(text),
            members::Error::Refused(text) => Error::Refused(text),
            members::Error::NotYet(text) => Error::NotYet(text),
            members::Error::Unanswered(text) => Error::Unanswered(text),
        }
    }
}

impl Error {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}
