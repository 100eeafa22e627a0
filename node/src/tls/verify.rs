//! Verifiers that also ask whether the bearer of a genuine certificate is allowed here.
//!
//! Genuineness (signature, validity, revocation, name) is for rustls; only when it has said yes is
//! the rule of the port asked. Must not know: ports, files.

use super::settings::Allowed;
use quorate_api::tls::Certificate;
use quorate_api::tls::reason::NotAllowed;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use std::sync::Arc;

impl Allowed {
    /// Whether the bearer of this certificate is allowed.
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let refuse = |why: String| {
            let other = OtherError(Arc::new(NotAllowed(why)));
            Error::InvalidCertificate(CertificateError::Other(other))
        };
        if matches!(self, Self::Anyone) {
            return Ok(());
        }
        let shown = Certificate::parse(certificate).map_err(refuse)?;
        match self {
            Self::Anyone => Ok(()),
            Self::CommonName(wanted) if shown.common_name.as_deref() == Some(wanted) => Ok(()),
            Self::CommonName(wanted) => Err(refuse(format!(
                "its certificate is genuine, but has the common name {:?}, and only {wanted:?} is \
                 allowed",
                shown.common_name.unwrap_or_default()
            ))),
            Self::Names(wanted) if wanted.iter().any(|name| shown.covers(name)) => Ok(()),
            Self::Names(wanted) => Err(refuse(format!(
                "its certificate is genuine, but made out for [{}], and only [{}] are allowed",
                shown.names(),
                wanted.join(", ")
            ))),
        }
    }
}

/// Checks whoever dials us.
#[derive(Debug)]
pub(super) struct CallerVerifier {
    pub(super) genuine: Arc<dyn ClientCertVerifier>,
    pub(super) allowed: Allowed,
}

impl ClientCertVerifier for CallerVerifier {
    fn offer_client_auth(&self) -> bool {
        self.genuine.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.genuine.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.genuine.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .genuine
            .verify_client_cert(end_entity, intermediates, now)?;
        self.allowed.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.genuine
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.genuine
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.genuine.supported_verify_schemes()
    }
}

/// Checks whomever we dial.
#[derive(Debug)]
pub(super) struct CalleeVerifier {
    pub(super) genuine: Arc<dyn ServerCertVerifier>,
    pub(super) allowed: Allowed,
}

impl ServerCertVerifier for CalleeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.genuine.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.allowed.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.genuine
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.genuine
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.genuine.supported_verify_schemes()
    }
}
