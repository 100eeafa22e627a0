//! The calling side: what a client trusts and shows, and a gRPC channel over it.
//!
//! The member's certificate is always checked against the host that was dialled, unless that was
//! switched off by hand. Must not know: which call is made, command lines.

use super::certificate::Certificate;
use super::files::{self, FileError};
use super::reason::explain_io;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Error};
use tower::Service;

/// Where systems keep the authorities that everybody trusts; the first that exists is used.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A file that has been read: its name, for errors, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pem {
    /// As it is called in errors.
    pub name: String,
    /// In PEM form.
    pub bytes: Vec<u8>,
}

impl Pem {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(path: &Path) -> Result<Self, FileError> {
        Ok(Self {
            name: path.display().to_string(),
            bytes: files::read(path)?,
        })
    }
}

/// What a client trusts and shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Material {
    /// Whom to trust; without it, the authorities of the system.
    pub trusted_ca: Option<Pem>,
    /// The client's own certificate chain and key, for members that ask for one.
    pub identity: Option<(Pem, Pem)>,
    /// Name to expect in the member's certificate instead of the host dialled.
    pub server_name: Option<String>,
    /// Take any certificate of the member: the connection is encrypted, but with whom is unknown.
    pub skip_verify: bool,
}

/// Connections over TLS.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Checks the files.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn new(material: &Material) -> Result<Self, FileError> {
        let provider = super::provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let builder = if material.skip_verify {
            let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        } else {
            builder.with_root_certificates(trusted(material)?)
        };
        let mut config = match &material.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = files::certificates(&certificate.name, &certificate.bytes)?;
                let private = files::private_key(&key.name, &key.bytes)?;
                let pair =
                    files::pair(&provider, (&certificate.name, chain), (&key.name, private))?;
                builder
                    .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)))
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let server_name = material.server_name.clone().map(|name| {
            ServerName::try_from(name.clone()).map_err(|_| FileError::BadCertificate {
                path: "server name".to_owned(),
                why: format!("{name:?} is neither a DNS name nor an address"),
            })
        });
        Ok(Self {
            config: Arc::new(config),
            server_name: server_name.transpose()?,
        })
    }

    /// Connects now.
    ///
    /// # Errors
    /// That of the network or of the handshake.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        endpoint.connect_with_connector(self.clone()).await
    }

    /// Connects when the first call is made, and again when the connection is lost.
    #[must_use]
    pub fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.clone())
    }

    /// A connection to `host` and `port` with nothing said on it yet.
    ///
    /// # Errors
    /// Those of the network; what failed in the handshake as text of [`io::Error`].
    pub async fn dial(self, host: String, port: u16) -> io::Result<TlsStream<TcpStream>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?,
        };
        let stream = TcpStream::connect((bare, port)).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(self.config)
            .connect(name, stream)
            .await
            .map_err(|error| io::Error::new(error.kind(), explain_io(&error)))
    }
}

impl Service<http::Uri> for ClientTls {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let tls = self.clone();
        let host = uri.host().unwrap_or_default().to_owned();
        let port = uri.port_u16().unwrap_or(443);
        Box::pin(async move { tls.dial(host, port).await.map(TokioIo::new) })
    }
}

fn trusted(material: &Material) -> Result<RootCertStore, FileError> {
    if let Some(ca) = &material.trusted_ca {
        return files::roots(&ca.name, &files::certificates(&ca.name, &ca.bytes)?);
    }
    let mut roots = RootCertStore::empty();
    for path in SYSTEM_BUNDLES.map(Path::new) {
        if path.exists() {
            let bundle = Pem::read(path)?;
            // Old authorities that cannot be read are of no use to anybody.
            roots.add_parsable_certificates(files::certificates(&bundle.name, &bundle.bytes)?);
            break;
        }
    }
    Ok(roots)
}

/// Believes any certificate, as the user has asked for; that the other side holds its key is still
/// checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Certificate::parse(end_entity).map_err(rustls::Error::General)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
