//! Why a node does not run, and the exit code that goes with it.
//!
//! Must not know: what the pieces do, only what they report.

use crate::replica::LifeError;
use crate::server::ServeError;
use crate::settings::SettingsError;
use crate::tls::TlsError;
use std::io;
use std::net::SocketAddr;

/// Why a node did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The replica: data directory, log, state machine, membership.
    #[error(transparent)]
    Replica(#[from] LifeError),
    /// The client or admin port.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Certificate files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The peer port.
    #[error(
        "cannot listen on {address} for peers: {source}. Choose a free address, or stop what holds \
         it"
    )]
    ListenPeer {
        /// Which.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no random source.
    #[error("cannot open the system's random source: {0}")]
    Random(io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Signals cannot be awaited.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

impl RunError {
    /// The exit code of a process that ends with this error: 4 for a refused data directory, else
    /// 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Replica(error) if error.is_refusal() => 4,
            Self::Replica(_)
            | Self::Serve(_)
            | Self::Tls(_)
            | Self::Settings(_)
            | Self::ListenPeer { .. }
            | Self::Random(_)
            | Self::Thread(_)
            | Self::Signals(_) => 1,
        }
    }
}
