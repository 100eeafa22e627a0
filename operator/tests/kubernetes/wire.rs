//! The admin ports of nodes: plaintext, or mutual TLS with the files their pod has at the moment.
//!
//! As a real node, a fake one never speaks in the clear where it has files, and lets nobody in but
//! the operator.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use quorate_api::admin::v1 as pb;
use quorate_api::tls::verify::accepts_callee;
use quorate_api::tls::{Certificate, bundle_hash, files, provider};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tonic::transport::server::Connected;

use super::sets::Group;

/// The files of one port, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection, encrypted or not.
pub struct Wire(Pin<Box<dyn Io>>);

impl Connected for Wire {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_read(task, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(task)
    }
}

/// Accepts callers of a slot's admin port and hands on those that are let in.
pub async fn accept(
    listener: TcpListener,
    slot: u8,
    group: Arc<Mutex<Group>>,
    ready: mpsc::Sender<io::Result<Wire>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let port = {
            let group = group
                .lock()
                .expect("no test panics while it holds the group");
            group
                .files
                .get(&slot)
                .and_then(|ports| ports.get("admin").cloned())
        };
        let wire = match port {
            None => Wire(Box::pin(stream)),
            Some(port) => {
                let acceptor = TlsAcceptor::from(Arc::new(config(&port)));
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let caller = Certificate::parse(&shown[0]).expect("a certificate");
                if caller.common_name.as_deref() != Some("orders.data.operator") {
                    continue;
                }
                Wire(Box::pin(stream))
            }
        };
        if ready.send(Ok(wire)).await.is_err() {
            return;
        }
    }
}

fn config(port: &Files) -> ServerConfig {
    let chain = files::certificates("tls.crt", &port["tls.crt"]).expect("a chain");
    let key = files::private_key("tls.key", &port["tls.key"]).expect("a key");
    let pair = files::pair(&provider(), ("tls.crt", chain), ("tls.key", key)).expect("a pair");
    let trusted = files::certificates("ca.crt", &port["ca.crt"]).expect("authorities");
    let roots = Arc::new(files::roots("ca.crt", &trusted).expect("roots"));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// What a node reports of its ports.
pub fn report(ports: &BTreeMap<String, Files>) -> Vec<pb::PortCertificate> {
    let one = |(port, content): (&String, &Files)| {
        let chain = files::certificates("tls.crt", &content["tls.crt"]).expect("a chain");
        let leaf = Certificate::parse(&chain[0]).expect("a leaf");
        let trusted = content
            .get("ca.crt")
            .map(|pem| files::certificates("ca.crt", pem));
        pb::PortCertificate {
            port: port.clone(),
            serial: leaf.serial,
            not_after_s: leaf.not_after_s,
            bundle_hash: trusted.map_or(String::new(), |ders| bundle_hash(&ders.expect("PEM"))),
        }
    };
    ports.iter().map(one).collect()
}

/// Every member believes every other, whatever files each has read.
pub fn check(members: &BTreeMap<u8, BTreeMap<String, Files>>, now_s: i64) {
    let peers = || {
        members
            .iter()
            .filter_map(|(slot, ports)| Some((slot, ports.get("peer")?)))
    };
    for (shower, shown) in peers() {
        let chain = files::certificates("tls.crt", &shown["tls.crt"]).expect("a chain");
        let host = format!("orders-{shower}.orders-peers.data.svc");
        for (verifier, verifying) in peers() {
            let trusted = files::certificates("ca.crt", &verifying["ca.crt"]).expect("PEM");
            let roots = Arc::new(files::roots("ca.crt", &trusted).expect("roots"));
            if let Err(failure) = accepts_callee(&roots, &chain, &host, now_s) {
                panic!("slot {verifier} refuses slot {shower}: {failure}");
            }
        }
    }
}
