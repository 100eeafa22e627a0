//! TLS as every part of Quorate needs it: reading certificate files, saying what a certificate
//! holds, connecting to a member, and telling people why a handshake failed.
//!
//! One provider of cryptography (ring) and one library (rustls) for all; nothing here decides
//! which port asks for what. Must not know: flags, members, Kubernetes.

pub mod certificate;
pub mod client;
pub mod files;
pub mod reason;
pub mod verify;

pub use certificate::{Certificate, bundle_hash};
pub use client::{ClientTls, Material};
pub use files::FileError;
pub use reason::{HandshakeFailure, Reason};

use rustls::crypto::{CryptoProvider, ring};
use std::sync::Arc;

/// The cryptography behind every connection. Named everywhere, so that no process-wide default has
/// to be installed and no other crate can choose one for us.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
