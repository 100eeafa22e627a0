//! One port's certificates: what is in force, when it is read again, who was refused and why.
//!
//! Asking for a configuration looks at the files first; that is a `stat` for each, and a reading
//! only when one has changed. One thread reads, the others go on with what is in force.
//! Must not know: sockets.

use super::TlsError;
use super::load::{LoadError, Loaded, load};
use super::settings::{PortName, PortTls};
use crate::env::Clock;
use crate::file_stamp::FileStamp;
use crate::metrics::TlsPortMetrics;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use quorate_api::tls::certificate::utc;
use quorate_api::tls::{FileError, HandshakeFailure, Reason};
use rustls::{ClientConfig, ServerConfig};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Failures of one kind are logged once in so long, with a count of those that were not.
const COMPLAINT_PAUSE_MS: u64 = 10_000;

/// Who began the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The other side: we accepted.
    Accept,
    /// We dialled.
    Dial,
}

impl Side {
    /// As it is called in labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Dial => "dial",
        }
    }
}

/// What a port has in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortReport {
    /// Which port.
    pub port: PortName,
    /// Serial number of our certificate, lower-case hex.
    pub serial: String,
    /// When it expires, seconds since 1970.
    pub not_after_s: i64,
    /// Digest of the trusted certificates, lower-case hex; empty when callers are not checked.
    pub bundle_hash: String,
}

/// The files as they were when last read.
struct LastRead {
    stamps: Vec<Option<FileStamp>>,
    /// Reading itself failed: to be tried again although nothing has changed.
    again: bool,
}

/// TLS of one port.
pub struct Port {
    name: PortName,
    settings: PortTls,
    clock: Arc<dyn Clock>,
    metrics: TlsPortMetrics,
    current: ArcSwap<Loaded>,
    read: Mutex<LastRead>,
    /// When a kind of failure was last logged, ms, and how many were not logged since.
    complaints: Mutex<BTreeMap<(Side, Reason), (u64, u64)>>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("name", &self.name).finish()
    }
}

impl Port {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], when they cannot be used at all. A certificate out of its time can, with a
    /// line in the log: its replacement needs no restart.
    pub fn open(
        name: PortName,
        settings: PortTls,
        clock: Arc<dyn Clock>,
        metrics: TlsPortMetrics,
    ) -> Result<Self, TlsError> {
        let stamps = stamps(&settings);
        let port = name.label();
        let loaded = load(name, &settings, &clock).map_err(|error| match error {
            LoadError::File(source) => TlsError::File { port, source },
            LoadError::Settings(why) => TlsError::Settings { port, why },
        })?;
        let port = Self {
            name,
            settings,
            clock,
            metrics,
            current: ArcSwap::from_pointee(loaded),
            read: Mutex::new(LastRead {
                stamps,
                again: false,
            }),
            complaints: Mutex::default(),
        };
        port.announce("certificate in force");
        Ok(port)
    }

    /// For one connection that was accepted.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        self.refresh();
        Arc::clone(&self.current.load().server)
    }

    /// For one connection that we make; `None` where nothing is dialled from this port.
    #[must_use]
    pub fn client(&self) -> Option<Arc<ClientConfig>> {
        self.refresh();
        self.current.load().client.clone()
    }

    /// What is in force now.
    #[must_use]
    pub fn report(&self) -> PortReport {
        self.refresh();
        let current = self.current.load();
        PortReport {
            port: self.name,
            serial: current.leaf.serial.clone(),
            not_after_s: current.leaf.not_after_s,
            bundle_hash: current.bundle_hash.clone(),
        }
    }

    /// Milliseconds of the process clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock.monotonic_ns() / 1_000_000
    }

    /// Reads the files again when they have changed.
    pub fn refresh(&self) {
        // Somebody else is reading; what is in force is good enough for this handshake.
        let Some(mut read) = self.read.try_lock() else {
            return;
        };
        // Taken before reading: what changes meanwhile is seen next time.
        let found = stamps(&self.settings);
        let changed = read.stamps != found;
        if !changed && !read.again {
            return;
        }
        read.stamps = found;
        read.again = false;
        match load(self.name, &self.settings, &self.clock) {
            Ok(loaded) if self.is_worse(&loaded) => {
                self.metrics.reload_failed.inc();
                tracing::error!(
                    port = self.name.label(),
                    reason = loaded.doubts.join("; "),
                    "the new certificate is not taken: the one in force is still valid"
                );
            }
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                self.metrics.reloaded.inc();
                self.announce("certificate replaced");
            }
            // Between two renames this is normal: the next handshake looks again.
            Err(error) => {
                read.again = matches!(error, LoadError::File(FileError::Read { .. }));
                self.metrics.reload_failed.inc();
                if changed {
                    tracing::warn!(
                        port = self.name.label(),
                        reason = %error,
                        "certificate files have changed and cannot be used; the old ones stay in \
                         force"
                    );
                }
            }
        }
    }

    /// Counts a handshake that succeeded.
    pub fn succeeded(&self, side: Side) {
        self.metrics.succeeded(side).inc();
    }

    /// Counts a handshake that failed, for a caller who tells the log himself.
    pub fn count(&self, side: Side, reason: Reason) {
        self.metrics.failed(side, reason).inc();
    }

    /// Counts a handshake that failed, and says why in the log, though not too often.
    pub fn failed(&self, side: Side, other: &dyn fmt::Display, failure: &HandshakeFailure) {
        self.count(side, failure.reason);
        let now_ms = self.now_ms();
        let mut complaints = self.complaints.lock();
        let unsaid = match complaints.get_mut(&(side, failure.reason)) {
            Some((said_ms, unsaid)) if now_ms.saturating_sub(*said_ms) < COMPLAINT_PAUSE_MS => {
                *unsaid += 1;
                return;
            }
            Some((said_ms, unsaid)) => {
                *said_ms = now_ms;
                std::mem::take(unsaid)
            }
            None => {
                complaints.insert((side, failure.reason), (now_ms, 0));
                0
            }
        };
        drop(complaints);
        tracing::warn!(
            port = self.name.label(),
            side = side.label(),
            %other,
            kind = failure.reason.label(),
            reason = %failure.text,
            unsaid,
            "TLS handshake failed"
        );
    }

    /// Whether the new certificate is out of its time while the one in force is not.
    fn is_worse(&self, loaded: &Loaded) -> bool {
        let now_s = i64::try_from(self.clock.unix_ms() / 1000).unwrap_or(i64::MAX);
        let valid =
            |loaded: &Loaded| (loaded.leaf.not_before_s..=loaded.leaf.not_after_s).contains(&now_s);
        !valid(loaded) && valid(&self.current.load())
    }

    fn announce(&self, what: &str) {
        let current = self.current.load();
        self.metrics.expiry.set(current.leaf.not_after_s);
        tracing::info!(
            port = self.name.label(),
            serial = %current.leaf.serial,
            subject = %current.leaf.subject,
            names = %current.leaf.names(),
            not_after = %utc(current.leaf.not_after_s),
            trusted = %current.bundle_hash,
            "{what}"
        );
        for doubt in &current.doubts {
            tracing::error!(port = self.name.label(), "{doubt}");
        }
    }
}

fn stamps(settings: &PortTls) -> Vec<Option<FileStamp>> {
    let dial = settings.dial_with.as_ref();
    let files = [
        Some(&settings.cert_file),
        Some(&settings.key_file),
        settings.trusted_ca_file.as_ref(),
        settings.crl_file.as_ref(),
        dial.map(|(certificate, _)| certificate),
        dial.map(|(_, key)| key),
    ];
    files
        .into_iter()
        .map(|path| path.and_then(|path| FileStamp::of(path)))
        .collect()
}
