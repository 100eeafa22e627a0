//! Whether a certificate would be accepted, found out without a connection.
//!
//! For whoever hands certificates on and wants to know before those who use them. The same library
//! decides as in a handshake. Must not know: where certificates come from.

use super::provider;
use super::reason::{HandshakeFailure, explain};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use std::sync::Arc;
use std::time::Duration;

/// Would be accepted from a callee that was dialled as `host`, at `now_s` (s since 1970).
///
/// # Errors
/// What whoever dials would say.
pub fn accepts_callee(
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'_>],
    host: &str,
    now_s: i64,
) -> Result<(), HandshakeFailure> {
    let (leaf, rest) = split(chain)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .map_err(|error| unusable(&error))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| unusable(&error))?;
    verifier
        .verify_server_cert(leaf, rest, &name, &[], moment(now_s))
        .map_err(|error| explain(&error))?;
    Ok(())
}

/// Would be accepted from a caller, at `now_s` (s since 1970).
///
/// # Errors
/// What the callee would say.
pub fn accepts_caller(
    roots: &Arc<RootCertStore>,
    chain: &[CertificateDer<'_>],
    now_s: i64,
) -> Result<(), HandshakeFailure> {
    let (leaf, rest) = split(chain)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .map_err(|error| unusable(&error))?;
    verifier
        .verify_client_cert(leaf, rest, moment(now_s))
        .map_err(|error| explain(&error))?;
    Ok(())
}

fn split<'a, 'b>(
    chain: &'a [CertificateDer<'b>],
) -> Result<(&'a CertificateDer<'b>, &'a [CertificateDer<'b>]), HandshakeFailure> {
    chain
        .split_first()
        .ok_or_else(|| HandshakeFailure::new(super::Reason::BadCertificate, "there is none"))
}

fn unusable(error: &dyn std::fmt::Display) -> HandshakeFailure {
    HandshakeFailure::new(super::Reason::BadCertificate, error.to_string())
}

fn moment(now_s: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now_s).unwrap_or(0)))
}
