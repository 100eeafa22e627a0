//! What a port is told about TLS: plain values, already checked for sense by whoever read them.
//!
//! Must not know: flags, files' contents.

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite as suite;
use std::path::PathBuf;

/// Which port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortName {
    /// Clients.
    Client,
    /// Peers.
    Peer,
    /// The admin service.
    Admin,
}

impl PortName {
    /// As it is called in logs and labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
            Self::Admin => "admin",
        }
    }
}

/// TLS of all ports; `None` is plaintext.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Clients.
    pub client: Option<PortTls>,
    /// Peers.
    pub peer: Option<PortTls>,
    /// The admin service.
    pub admin: Option<PortTls>,
}

/// TLS of one port.
#[derive(Clone, Debug, PartialEq)]
pub struct PortTls {
    /// Our certificate chain, leaf first.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Who may have signed the certificates of the other side.
    pub trusted_ca_file: Option<PathBuf>,
    /// Certificates that are no longer good.
    pub crl_file: Option<PathBuf>,
    /// What callers must show. Anything but [`Callers::NotAsked`] needs `trusted_ca_file`.
    pub callers: Callers,
    /// Which genuine certificates are accepted.
    pub allowed: Allowed,
    /// Certificate and key shown when we dial; without it, those of the port.
    pub dial_with: Option<(PathBuf, PathBuf)>,
    /// Oldest version spoken.
    pub version_min: Version,
    /// Newest version spoken.
    pub version_max: Version,
    /// Suites of TLS 1.2; empty for all. Those of TLS 1.3 are not a choice.
    pub cipher_suites: Vec<CipherSuite>,
}

impl PortTls {
    /// A port with this certificate, of which callers are not asked for theirs.
    #[must_use]
    pub fn new(cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        Self {
            cert_file: cert_file.into(),
            key_file: key_file.into(),
            trusted_ca_file: None,
            crl_file: None,
            callers: Callers::NotAsked,
            allowed: Allowed::Anyone,
            dial_with: None,
            version_min: Version::Tls12,
            version_max: Version::Tls13,
            cipher_suites: Vec::new(),
        }
    }

    /// The same, with callers that must show a certificate signed by this authority.
    #[must_use]
    pub fn mutual(self, trusted_ca_file: impl Into<PathBuf>) -> Self {
        Self {
            trusted_ca_file: Some(trusted_ca_file.into()),
            callers: Callers::Required,
            ..self
        }
    }
}

/// Whether callers show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// They are not asked.
    NotAsked,
    /// One that is shown is checked; none is accepted, too.
    Optional,
    /// One is required.
    Required,
}

/// Whose genuine certificate is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Whoever has one.
    Anyone,
    /// Those whose subject has this common name.
    CommonName(String),
    /// Those made out for one of these names or addresses.
    Names(Vec<String>),
}

/// A version of the protocol. Older ones are not spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A cipher suite of TLS 1.2 by its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CipherSuite {
    /// As Go and IANA call it.
    pub name: &'static str,
    pub(super) suite: SupportedCipherSuite,
}

/// The suites of TLS 1.2 that are served: those with forward secrecy and authenticated encryption.
const SUITES: [CipherSuite; 6] = [
    CipherSuite {
        name: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    },
    CipherSuite {
        name: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        suite: suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    },
    CipherSuite {
        name: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        suite: suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    },
    CipherSuite {
        name: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        suite: suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    },
    CipherSuite {
        name: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        suite: suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    },
    CipherSuite {
        name: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        suite: suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    },
];

/// The suite of this name, in Go's or IANA's spelling.
///
/// # Errors
/// The names there are.
pub fn cipher_suite(name: &str) -> Result<CipherSuite, String> {
    // Go has a short spelling for two of them.
    let full = match name {
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => {
            format!("{name}_SHA256")
        }
        _ => name.to_owned(),
    };
    SUITES
        .into_iter()
        .find(|suite| suite.name == full)
        .ok_or_else(|| SUITES.map(|suite| suite.name).join(", "))
}
