//! TLS of a node's three ports: which files, what is demanded of callers, and live replacement.
//!
//! A [`Port`] holds the certificates of one port. It looks at its files at every handshake (a few
//! `stat` calls) and swaps in what has changed; connections under way keep what they were made
//! with. A set of files that cannot be used never replaces one that can.
//! Must not know: HTTP, frames, who dials whom.
//! Caveat: sessions are not resumed where callers show certificates, because a resumed session
//! would not check them again.

mod load;
#[cfg(test)]
pub(crate) mod pki;
mod port;
mod settings;
#[cfg(test)]
mod tests;
mod verify;

pub use port::{Port, PortReport, Side};
pub use settings::{
    Allowed, Callers, CipherSuite, PortName, PortTls, Settings, Version, cipher_suite,
};

use crate::env::Clock;
use crate::metrics::TlsMetrics;
use quorate_api::tls::FileError;
use std::sync::Arc;

/// Why a port cannot speak TLS; the node does not start.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("TLS of the {port} port: {source}")]
    File {
        /// Which port.
        port: &'static str,
        /// What is wrong with which file.
        source: FileError,
    },
    /// The files are sound and do not fit what is asked for.
    #[error("TLS of the {port} port: {why}")]
    Settings {
        /// Which port.
        port: &'static str,
        /// What does not fit.
        why: String,
    },
}

/// The ports that speak TLS.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    /// Clients.
    pub client: Option<Arc<Port>>,
    /// Peers, both directions.
    pub peer: Option<Arc<Port>>,
    /// The admin service.
    pub admin: Option<Arc<Port>>,
}

impl Ports {
    /// Reads the files of every port.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(
        settings: &Settings,
        clock: &Arc<dyn Clock>,
        metrics: &TlsMetrics,
    ) -> Result<Self, TlsError> {
        let open = |name, settings: &Option<PortTls>| {
            let open = |settings: &PortTls| {
                let metrics = metrics.port(name);
                Port::open(name, settings.clone(), Arc::clone(clock), metrics).map(Arc::new)
            };
            settings.as_ref().map(open).transpose()
        };
        Ok(Self {
            client: open(PortName::Client, &settings.client)?,
            peer: open(PortName::Peer, &settings.peer)?,
            admin: open(PortName::Admin, &settings.admin)?,
        })
    }

    /// Looks at every file again.
    pub fn refresh(&self) {
        self.all().for_each(Port::refresh);
    }

    /// The ports there are.
    pub fn all(&self) -> impl Iterator<Item = &Port> {
        [&self.client, &self.peer, &self.admin]
            .into_iter()
            .filter_map(|port| port.as_deref())
    }
}
