//! Why a handshake failed: a word for counting, from a closed list, and a sentence for people.
//!
//! Must not know: which side of the connection we are on, who counts.

use super::certificate::utc;
use rustls::{AlertDescription, CertificateError, Error};
use std::io;

/// The kinds of failure. A closed list: it becomes the label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The other side's certificate has expired.
    Expired,
    /// The other side's certificate is not valid yet.
    NotYetValid,
    /// Nobody we trust has signed the other side's certificate.
    UnknownAuthority,
    /// The other side's certificate is made out for another name.
    WrongName,
    /// The other side's certificate has been revoked.
    Revoked,
    /// The other side showed no certificate and must.
    NoCertificate,
    /// The certificate is genuine, but its bearer is not among those allowed.
    NotAllowed,
    /// The certificate is malformed, made for another purpose, or its signature is wrong.
    BadCertificate,
    /// The other side refused us; it says why.
    RefusedByOther,
    /// The other side does not speak TLS.
    Plaintext,
    /// The two sides have no version, cipher or protocol in common.
    Incompatible,
    /// The other side did not finish in time.
    Timeout,
    /// The other side closed the connection.
    Closed,
    /// Anything else: the protocol was broken.
    Protocol,
}

impl Reason {
    /// Every reason, in the order of the label's documentation.
    pub const ALL: [Self; 14] = [
        Self::Expired,
        Self::NotYetValid,
        Self::UnknownAuthority,
        Self::WrongName,
        Self::Revoked,
        Self::NoCertificate,
        Self::NotAllowed,
        Self::BadCertificate,
        Self::RefusedByOther,
        Self::Plaintext,
        Self::Incompatible,
        Self::Timeout,
        Self::Closed,
        Self::Protocol,
    ];

    /// The label of a metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownAuthority => "unknown_authority",
            Self::WrongName => "wrong_name",
            Self::Revoked => "revoked",
            Self::NoCertificate => "no_certificate",
            Self::NotAllowed => "not_allowed",
            Self::BadCertificate => "bad_certificate",
            Self::RefusedByOther => "refused_by_other",
            Self::Plaintext => "plaintext",
            Self::Incompatible => "incompatible",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }
}

/// Why a handshake failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct HandshakeFailure {
    /// What kind.
    pub reason: Reason,
    /// For people: what happened and what to do.
    pub text: String,
}

impl HandshakeFailure {
    /// A failure of this kind.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { reason, text }
    }
}

/// The bearer of a genuine certificate is not among those allowed: the error of a verifier.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotAllowed(pub String);

/// Explains an error of the protocol.
#[must_use]
pub fn explain(error: &Error) -> HandshakeFailure {
    let failure = |reason, text: &str| HandshakeFailure::new(reason, text);
    match error {
        Error::InvalidCertificate(error) => explain_certificate(error),
        Error::NoCertificatesPresented => failure(
            Reason::NoCertificate,
            "it showed no certificate, and one is required; give it one issued by the trusted CA",
        ),
        Error::AlertReceived(alert) => failure(
            Reason::RefusedByOther,
            &format!("the other side refused us: {}", alert_text(*alert)),
        ),
        Error::InvalidMessage(_) => failure(
            Reason::Plaintext,
            "what arrived is not TLS; use https:// and TLS on the other side",
        ),
        Error::PeerIncompatible(why) => failure(
            Reason::Incompatible,
            &format!("the two sides have no TLS version or cipher in common ({why:?})"),
        ),
        Error::NoApplicationProtocol => failure(
            Reason::Incompatible,
            "the two sides have no application protocol in common",
        ),
        other => failure(
            Reason::Protocol,
            &format!("the TLS protocol was broken: {other}"),
        ),
    }
}

fn explain_certificate(error: &CertificateError) -> HandshakeFailure {
    use CertificateError as E;
    let (reason, text) = match error {
        E::Expired => (
            Reason::Expired,
            "its certificate has expired; renew it".to_owned(),
        ),
        E::ExpiredContext { not_after, .. } => (
            Reason::Expired,
            format!(
                "its certificate expired on {}; renew it",
                utc(i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX))
            ),
        ),
        E::NotValidYet => (
            Reason::NotYetValid,
            "its certificate is not valid yet; compare the clocks".to_owned(),
        ),
        E::NotValidYetContext { not_before, .. } => (
            Reason::NotYetValid,
            format!(
                "its certificate is not valid before {}; compare the clocks",
                utc(i64::try_from(not_before.as_secs()).unwrap_or(i64::MAX))
            ),
        ),
        E::UnknownIssuer => (
            Reason::UnknownAuthority,
            "its certificate is foreign: no CA trusted here has signed it; issue it from the \
             trusted CA, or trust its CA"
                .to_owned(),
        ),
        E::NotValidForName => (
            Reason::WrongName,
            "its certificate is made out for another name; issue it with the name it is reached by"
                .to_owned(),
        ),
        E::NotValidForNameContext {
            expected,
            presented,
        } => (
            Reason::WrongName,
            format!(
                "its certificate is not made out for {}, but for [{}]; issue it with the name it \
                 is reached by",
                expected.to_str(),
                presented.join(", ")
            ),
        ),
        E::Revoked => (
            Reason::Revoked,
            "its certificate has been revoked; issue a new one".to_owned(),
        ),
        E::Other(other) => match other.0.downcast_ref::<NotAllowed>() {
            Some(not_allowed) => (Reason::NotAllowed, not_allowed.0.clone()),
            None => (
                Reason::BadCertificate,
                format!("its certificate cannot be used ({})", other.0),
            ),
        },
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => (
            Reason::BadCertificate,
            "its certificate is made for another purpose; issue it for both server and client use"
                .to_owned(),
        ),
        other => (
            Reason::BadCertificate,
            format!("its certificate cannot be used ({other})"),
        ),
    };
    HandshakeFailure::new(reason, text)
}

/// What the other side means by an alert.
fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => {
            "our certificate has expired, it says; renew it".to_owned()
        }
        AlertDescription::UnknownCA => {
            "it does not trust the CA of our certificate; use one that it trusts".to_owned()
        }
        AlertDescription::CertificateRequired => {
            "it requires a certificate of us and got none".to_owned()
        }
        AlertDescription::CertificateRevoked => "our certificate has been revoked".to_owned(),
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => {
            "it does not accept our certificate; its own log says why".to_owned()
        }
        AlertDescription::AccessDenied => "our certificate is not among those it allows".to_owned(),
        other => format!("alert {other:?}"),
    }
}

/// Explains an error of the connection on which the handshake ran.
#[must_use]
pub fn explain_io(error: &io::Error) -> HandshakeFailure {
    if let Some(tls) = tls_error(error) {
        return explain(tls);
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => HandshakeFailure::new(
            Reason::Timeout,
            "the other side did not finish the handshake in time",
        ),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => HandshakeFailure::new(
            Reason::Closed,
            "the other side closed the connection during the handshake; its log may say why, or \
             it does not speak TLS",
        ),
        _ => HandshakeFailure::new(Reason::Closed, error.to_string()),
    }
}

/// The verdict on our certificate, found in the text of an error as libraries above TLS hand it on.
///
/// With TLS 1.3 a caller learns of it only when he first reads. Such an alert ends a handshake:
/// nothing that was sent on the connection was read by anybody.
#[must_use]
pub fn verdict_within(text: &str) -> Option<HandshakeFailure> {
    use AlertDescription as Alert;
    [
        Alert::CertificateExpired,
        Alert::UnknownCA,
        Alert::CertificateRequired,
        Alert::CertificateRevoked,
        Alert::BadCertificate,
        Alert::CertificateUnknown,
        Alert::UnsupportedCertificate,
        Alert::AccessDenied,
    ]
    .into_iter()
    .map(Error::AlertReceived)
    .find(|alert| text.ends_with(&alert.to_string()))
    .map(|alert| explain(&alert))
}

/// The error of the TLS protocol within an error of the connection.
#[must_use]
pub fn tls_error(error: &io::Error) -> Option<&Error> {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        let labels: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }

    #[test]
    fn a_refused_certificate_is_explained_with_a_remedy() {
        let not_allowed = rustls::OtherError(Arc::new(NotAllowed("its CN is x".to_owned())));
        for (error, reason, text) in [
            (CertificateError::Expired, Reason::Expired, "renew"),
            (
                CertificateError::UnknownIssuer,
                Reason::UnknownAuthority,
                "foreign",
            ),
            (
                CertificateError::NotValidForName,
                Reason::WrongName,
                "issue it with",
            ),
            (CertificateError::NotValidYet, Reason::NotYetValid, "clocks"),
            (CertificateError::Revoked, Reason::Revoked, "new one"),
            (
                CertificateError::BadSignature,
                Reason::BadCertificate,
                "cannot be used",
            ),
            (
                CertificateError::Other(not_allowed),
                Reason::NotAllowed,
                "its CN is x",
            ),
        ] {
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, Error::from(error));
            let failure = explain_io(&wrapped);
            assert_eq!(failure.reason, reason);
            assert!(failure.text.contains(text), "{}", failure.text);
        }
    }

    #[test]
    fn a_connection_that_ends_is_no_fault_of_the_certificate() {
        for (kind, reason) in [
            (io::ErrorKind::TimedOut, Reason::Timeout),
            (io::ErrorKind::UnexpectedEof, Reason::Closed),
        ] {
            assert_eq!(explain_io(&kind.into()).reason, reason);
        }
    }
}
