//! From files to configurations of rustls: everything or nothing.
//!
//! Assumes that settings were checked for sense. Must not know: when and why files are read again.

use super::settings::{Callers, PortName, PortTls, Version};
use super::verify::{CalleeVerifier, CallerVerifier};
use crate::env::Clock;
use quorate_api::tls::{Certificate, FileError, bundle_hash, certificate, files, provider, reason};
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What peers agree to speak, so that a certificate good for two ports cannot be used to make one
/// believe it is the other.
const PEER_PROTOCOL: &[u8] = b"quorate-peer";

/// Sessions kept so that clients without certificates may resume them.
const SESSIONS_MAX: usize = 4096;

/// Everything made from one reading of the files.
#[derive(Debug)]
pub(super) struct Loaded {
    /// For those who dial us.
    pub(super) server: Arc<ServerConfig>,
    /// For dialling, when there is somebody to trust.
    pub(super) client: Option<Arc<ClientConfig>>,
    /// What our certificate says.
    pub(super) leaf: Certificate,
    /// Digest of whom we trust; empty when there is nobody.
    pub(super) bundle_hash: String,
    /// What is wrong without making the files useless, for people.
    pub(super) doubts: Vec<String>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0}")]
    Settings(String),
}

impl From<rustls::Error> for LoadError {
    fn from(error: rustls::Error) -> Self {
        Self::Settings(reason::explain(&error).text)
    }
}

/// The clock of the node, as rustls asks for it.
struct DoorTime(Arc<dyn Clock>);

impl DoorTime {
    fn now(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.0.unix_ms()))
    }
}

impl std::fmt::Debug for DoorTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DoorTime")
    }
}

impl TimeProvider for DoorTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now())
    }
}

/// Whom the port trusts.
struct Trust {
    roots: Arc<RootCertStore>,
    hash: String,
    revoked: Vec<CertificateRevocationListDer<'static>>,
}

/// Reads all files of a port.
pub(super) fn load(
    port: PortName,
    settings: &PortTls,
    clock: &Arc<dyn Clock>,
) -> Result<Loaded, LoadError> {
    let crypto = Arc::new(crypto(settings));
    let time = Arc::new(DoorTime(Arc::clone(clock)));
    let pair = read_pair(&crypto, &settings.cert_file, &settings.key_file)?;
    let leaf_der = leaf(&pair, &settings.cert_file)?;
    let leaf = parse(&leaf_der, &settings.cert_file)?;
    let trust = settings
        .trusted_ca_file
        .as_deref()
        .map(|ca| trust(ca, settings));
    let trust = trust.transpose()?;
    let mut doubts = Vec::new();
    doubt_validity(&leaf, &settings.cert_file, &**clock, &mut doubts);

    let verifier = caller_verifier(settings, trust.as_ref(), &crypto)?;
    if let (PortName::Peer, Some(verifier)) = (port, &verifier) {
        // Peers trust whom we trust: a leaf that we would refuse, they will refuse.
        if let Err(error) = verifier.verify_client_cert(&leaf_der, &pair.cert[1..], time.now()) {
            doubts.push(format!(
                "{}: the other members will refuse this member: {}",
                settings.cert_file.display(),
                reason::explain(&error).text
            ));
        }
    }
    let client = match (port, &trust) {
        (PortName::Peer, Some(trust)) => Some(Arc::new(client_config(
            settings, trust, &crypto, &time, &pair,
        )?)),
        (PortName::Peer | PortName::Client | PortName::Admin, _) => None,
    };
    let server = server_config(port, settings, verifier, &crypto, &time, pair)?;
    Ok(Loaded {
        server: Arc::new(server),
        client,
        leaf,
        bundle_hash: trust.map(|trust| trust.hash).unwrap_or_default(),
        doubts,
    })
}

fn crypto(settings: &PortTls) -> CryptoProvider {
    let mut crypto = CryptoProvider::clone(&provider());
    if !settings.cipher_suites.is_empty() {
        crypto.cipher_suites.retain(|suite| {
            suite.tls13().is_some()
                || settings
                    .cipher_suites
                    .iter()
                    .any(|chosen| chosen.suite == *suite)
        });
    }
    crypto
}

fn versions(settings: &PortTls) -> Vec<&'static SupportedProtocolVersion> {
    let spoken = settings.version_min..=settings.version_max;
    [
        (Version::Tls13, &version::TLS13),
        (Version::Tls12, &version::TLS12),
    ]
    .into_iter()
    .filter(|(version, _)| spoken.contains(version))
    .map(|(_, version)| version)
    .collect()
}

fn read_pair(
    crypto: &CryptoProvider,
    certificate: &Path,
    key: &Path,
) -> Result<CertifiedKey, FileError> {
    let (certificate_name, key_name) = (shown(certificate), shown(key));
    let chain = files::certificates(&certificate_name, &files::read(certificate)?)?;
    let private = files::private_key(&key_name, &files::read(key)?)?;
    files::pair(crypto, (&certificate_name, chain), (&key_name, private))
}

fn leaf(pair: &CertifiedKey, path: &Path) -> Result<CertificateDer<'static>, FileError> {
    let first = pair.cert.first().cloned();
    first.ok_or_else(|| FileError::BadCertificate {
        path: shown(path),
        why: "the chain is empty".to_owned(),
    })
}

fn parse(der: &CertificateDer<'_>, path: &Path) -> Result<Certificate, FileError> {
    Certificate::parse(der).map_err(|why| FileError::BadCertificate {
        path: shown(path),
        why,
    })
}

fn trust(ca: &Path, settings: &PortTls) -> Result<Trust, FileError> {
    let name = shown(ca);
    let certificates = files::certificates(&name, &files::read(ca)?)?;
    let roots = files::roots(&name, &certificates)?;
    let revoked = match &settings.crl_file {
        None => Vec::new(),
        Some(path) => files::revocation_lists(&shown(path), &files::read(path)?)?,
    };
    Ok(Trust {
        roots: Arc::new(roots),
        hash: bundle_hash(&certificates),
        revoked,
    })
}

/// A certificate out of its time is taken all the same: whoever renews it needs no restart then,
/// and a node that does not run can be told nothing.
fn doubt_validity(leaf: &Certificate, path: &Path, clock: &dyn Clock, doubts: &mut Vec<String>) {
    let now_s = i64::try_from(clock.unix_ms() / 1000).unwrap_or(i64::MAX);
    let path = path.display();
    if leaf.not_after_s < now_s {
        doubts.push(format!(
            "{path}: the certificate expired on {}; replace the file, no restart is needed",
            certificate::utc(leaf.not_after_s)
        ));
    } else if leaf.not_before_s > now_s {
        doubts.push(format!(
            "{path}: the certificate is not valid before {}; set the clock of this machine, or \
             issue it again",
            certificate::utc(leaf.not_before_s)
        ));
    }
}

fn caller_verifier(
    settings: &PortTls,
    trust: Option<&Trust>,
    crypto: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, LoadError> {
    let optional = match settings.callers {
        Callers::NotAsked => return Ok(None),
        Callers::Optional => true,
        Callers::Required => false,
    };
    let trust = trust.ok_or_else(|| {
        LoadError::Settings("callers must show certificates, but no trusted CA is given".to_owned())
    })?;
    let roots = Arc::clone(&trust.roots);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(crypto))
        .with_crls(trust.revoked.iter().cloned())
        .allow_unknown_revocation_status()
        .only_check_end_entity_revocation();
    if optional {
        builder = builder.allow_unauthenticated();
    }
    let genuine = builder
        .build()
        .map_err(|error| LoadError::Settings(error.to_string()))?;
    Ok(Some(Arc::new(CallerVerifier {
        genuine,
        allowed: settings.allowed.clone(),
    })))
}

fn server_config(
    port: PortName,
    settings: &PortTls,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    crypto: &Arc<CryptoProvider>,
    time: &Arc<DoorTime>,
    pair: CertifiedKey,
) -> Result<ServerConfig, LoadError> {
    let time = Arc::clone(time) as Arc<dyn TimeProvider>;
    let builder = ServerConfig::builder_with_details(Arc::clone(crypto), time)
        .with_protocol_versions(&versions(settings))?;
    let verified = verifier.is_some();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = match port {
        PortName::Client => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        PortName::Admin => vec![b"h2".to_vec()],
        PortName::Peer => vec![PEER_PROTOCOL.to_vec()],
    };
    if verified {
        // A resumed session would not look at the caller's certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.session_storage = rustls::server::ServerSessionMemoryCache::new(SESSIONS_MAX);
    }
    Ok(config)
}

fn client_config(
    settings: &PortTls,
    trust: &Trust,
    crypto: &Arc<CryptoProvider>,
    time: &Arc<DoorTime>,
    pair: &CertifiedKey,
) -> Result<ClientConfig, LoadError> {
    let roots = Arc::clone(&trust.roots);
    let genuine = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(crypto))
        .with_crls(trust.revoked.iter().cloned())
        .allow_unknown_revocation_status()
        .only_check_end_entity_revocation()
        .build()
        .map_err(|error| LoadError::Settings(error.to_string()))?;
    let verifier = Arc::new(CalleeVerifier {
        genuine,
        allowed: settings.allowed.clone(),
    });
    let pair = match &settings.dial_with {
        None => pair.clone(),
        Some((certificate, key)) => read_pair(crypto, certificate, key)?,
    };
    let time = Arc::clone(time) as Arc<dyn TimeProvider>;
    let mut config = ClientConfig::builder_with_details(Arc::clone(crypto), time)
        .with_protocol_versions(&versions(settings))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![PEER_PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
