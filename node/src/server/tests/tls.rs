//! Client and admin ports over TLS: who is served, who is not, and what each hears.

use super::super::{Running, serve};
use super::Config;
use crate::config::{HotSettings, NodeConfig};
use crate::env::Clock;
use crate::env::real::SystemClock;
use crate::metrics::Metrics;
use crate::replica::solo::{REQUEST_BYTES_MAX, Solo};
use crate::tls::pki::{LOCAL, TestCa, TestLeaf, put, put_leaf};
use crate::tls::{PortTls, Ports, Settings};
use quorate_api::admin::v1::{IdentityRequest, IdentityResponse};
use quorate_api::client::{self as api, Client, Options};
use quorate_api::etcdserverpb::{PutRequest, RangeRequest};
use quorate_api::tls::client::Pem;
use quorate_api::tls::{ClientTls, Material};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with TLS on both ports, certificates of one authority, mutual on both.
struct Secure {
    ca: TestCa,
    dir: TempDir,
    running: Running,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    _solo: Solo,
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Secure {
    fn start() -> Self {
        let (ca, dir) = (TestCa::new("ca"), TempDir::new().unwrap());
        let trusted = put(dir.path(), "ca.crt", &ca.pem);
        let port = |stem: &str| {
            let (certificate, key) = put_leaf(dir.path(), stem, &ca.leaf(stem, LOCAL));
            Some(PortTls::new(certificate, key).mutual(&trusted))
        };
        let settings = Settings {
            client: port("client"),
            peer: None,
            admin: port("admin"),
        };
        let metrics = Arc::new(Metrics::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let tls = Ports::open(&settings, &clock, &metrics.tls).unwrap();
        let config = Config {
            max_request_bytes: REQUEST_BYTES_MAX,
            threads: 2,
            listen_metrics: vec![(std::net::Ipv4Addr::LOCALHOST, 0).into()],
            ..Config::of(&NodeConfig::managed("solo", "unused"))
        };
        let (solo, shutdown) = (Solo::joined(), CancellationToken::new());
        let handle = solo.handle.clone();
        let values = HotSettings::default();
        let values = crate::settings::Settings::open(values, None, &metrics.server).unwrap();
        let values = Arc::new(values);
        let running = serve(config, handle, Arc::clone(&metrics), tls, values, &shutdown).unwrap();
        Self {
            ca,
            dir,
            running,
            metrics,
            shutdown,
            _solo: solo,
        }
    }

    fn address(&self) -> SocketAddr {
        self.running.client_addrs()[0]
    }

    fn admin(&self) -> SocketAddr {
        self.running.admin_addr().unwrap()
    }

    /// A caller that trusts this server and shows a leaf, or none.
    fn caller(&self, leaf: Option<&TestLeaf>) -> ClientTls {
        let pem = |name: &str, text: &str| Pem {
            name: name.to_owned(),
            bytes: text.as_bytes().to_vec(),
        };
        let material = Material {
            trusted_ca: Some(pem("ca", &self.ca.pem)),
            identity: leaf.map(|leaf| (pem("leaf", &leaf.cert), pem("key", &leaf.key))),
            ..Material::default()
        };
        ClientTls::new(&material).unwrap()
    }

    fn good_caller(&self) -> ClientTls {
        self.caller(Some(&self.ca.leaf("root", &[])))
    }

    async fn identity(&self, tls: &ClientTls) -> Result<IdentityResponse, String> {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{}", self.admin()));
        let channel = tls.connect(&endpoint.unwrap()).await;
        let channel = channel.map_err(|error| format!("{error:?}"))?;
        let answer = api::admin(channel).identity(IdentityRequest {}).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| format!("{status:?}"))
    }

    /// Waits until the port has refused somebody for this reason: the caller is told first.
    async fn await_failure(&self, port: &str, reason: &str) {
        let line = format!(
            "quorate_tls_handshake_failures_total{{port=\"{port}\",reason=\"{reason}\",side=\"accept\"}}"
        );
        let mut patience = 500;
        while !self.metrics.render().contains(&line) {
            patience -= 1;
            assert!(patience > 0, "{line} in\n{}", self.metrics.render());
            tokio::time::sleep(Duration::from_millis(20)).await; // poll interval
        }
    }
}

/// One request in HTTP/1 on a connection of its own; the status line.
async fn get(tls: ClientTls, address: SocketAddr, path: &str) -> Result<String, String> {
    let exchange = async {
        let mut stream = tls.dial("localhost".to_owned(), address.port()).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(PATIENCE, exchange)
        .await
        .expect("no answer in time");
    answer
        .map(|answer| answer.lines().next().unwrap_or_default().to_owned())
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn clients_with_a_certificate_are_served_as_without_tls() {
    let secure = Secure::start();
    let options = Options {
        endpoints: vec![secure.address().to_string()],
        tls: Some(secure.good_caller()),
        ..Options::default()
    };
    let client = Client::new(&options).unwrap();
    let put = PutRequest {
        key: "k".into(),
        value: "v".into(),
        ..PutRequest::default()
    };
    let answer = client
        .write(async |channel| api::kv(channel).put(put).await)
        .await;
    answer.unwrap();
    let range = || RangeRequest {
        key: "k".into(),
        ..RangeRequest::default()
    };
    let found = client
        .read(async |channel| api::kv(channel).range(range()).await)
        .await;
    assert_eq!(&found.unwrap().kvs[0].value[..], b"v");
    let status = get(secure.good_caller(), secure.address(), "/version").await;
    assert_eq!(status.as_deref(), Ok("HTTP/1.1 200 OK"));
    assert!(
        secure.metrics.render().contains(
            "quorate_tls_certificate_expiry_timestamp_seconds{port=\"client\"} 4102444800"
        )
    );
}

#[tokio::test]
async fn plaintext_is_refused_on_both_ports_and_told_why() {
    let secure = Secure::start();
    for address in [secure.address(), secure.admin()] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /version HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        timeout(PATIENCE, read).await.unwrap().unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"),
            "{answer}"
        );
    }
    secure.await_failure("client", "plaintext").await;
    secure.await_failure("admin", "plaintext").await;
    let options = Options {
        endpoints: vec![secure.address().to_string()],
        ..Options::default()
    };
    let client = Client::new(&options).unwrap();
    let range = RangeRequest {
        key: "k".into(),
        ..RangeRequest::default()
    };
    let read = client.read(async |channel| api::kv(channel).range(range.clone()).await);
    assert!(timeout(PATIENCE, read).await.unwrap().is_err());
}

#[tokio::test]
async fn callers_without_a_good_certificate_are_refused_on_both_ports() {
    let secure = Secure::start();
    let foreign = TestCa::new("foreign").leaf("root", &[]);
    let expired = secure.ca.leaf_of_years("root", &[], 2001..2020);
    for (leaf, reason) in [
        (None, "no_certificate"),
        (Some(&foreign), "unknown_authority"),
        (Some(&expired), "expired"),
    ] {
        let refused = get(secure.caller(leaf), secure.address(), "/version").await;
        assert!(refused.is_err(), "{reason}: {refused:?}");
        secure.await_failure("client", reason).await;
        let refused = timeout(PATIENCE, secure.identity(&secure.caller(leaf))).await;
        assert!(refused.unwrap().is_err(), "{reason}");
        secure.await_failure("admin", reason).await;
    }
    // A write that was refused in the handshake has certainly not happened.
    let options = Options {
        endpoints: vec![secure.address().to_string()],
        tls: Some(secure.caller(Some(&expired))),
        ..Options::default()
    };
    let put = PutRequest::default();
    let write = Client::new(&options).unwrap();
    let refused = write
        .write(async |channel| api::kv(channel).put(put).await)
        .await
        .unwrap_err();
    let text = refused.to_string();
    assert!(
        matches!(refused, api::Error::Unreachable { .. }),
        "{refused:?}"
    );
    assert!(text.contains("our certificate has expired"), "{text}");
    let answer = secure.identity(&secure.good_caller()).await.unwrap();
    let ports: Vec<&str> = answer
        .certificates
        .iter()
        .map(|one| one.port.as_str())
        .collect();
    assert_eq!(ports, ["client", "admin"]);
}

#[tokio::test]
async fn new_connections_use_new_files_and_old_ones_stay() {
    let secure = Secure::start();
    let before = secure.identity(&secure.good_caller()).await.unwrap();
    let caller = secure.good_caller();
    let mut old = caller
        .dial("localhost".to_owned(), secure.address().port())
        .await
        .unwrap();
    let shown = |stream: &tokio_rustls::client::TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let old_leaf = shown(&old);
    put_leaf(secure.dir.path(), "client", &secure.ca.leaf("next", LOCAL));
    let new = secure
        .good_caller()
        .dial("localhost".to_owned(), secure.address().port())
        .await
        .unwrap();
    assert_ne!(shown(&new), old_leaf);
    old.write_all(b"GET /version HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let read = old.read_to_end(&mut answer);
    timeout(PATIENCE, read).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    let after = secure.identity(&secure.good_caller()).await.unwrap();
    assert_ne!(after.certificates[0].serial, before.certificates[0].serial);
    assert_eq!(after.certificates[1], before.certificates[1]);
}

#[tokio::test]
async fn garbage_and_silence_at_the_handshake_harm_nobody_else() {
    let secure = Secure::start();
    let mut silent = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(secure.address()).await.unwrap();
        // The beginning of a record, and nothing more.
        stream.write_all(&[0x16, 3]).await.unwrap();
        silent.push(stream);
    }
    let huge = [&[0x16, 3, 3, 0xff, 0xff][..], &[1; 70_000]].concat();
    let torn = [&[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[0xaa; 300]].concat();
    let claims = [
        &[0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..],
        &[0; 16_379],
    ]
    .concat();
    for garbage in [&[0; 64][..], &[0xff; 64], &huge, &torn, &claims] {
        for address in [secure.address(), secure.admin()] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(garbage).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer);
            if timeout(PATIENCE, read)
                .await
                .expect("closed in time")
                .is_ok()
            {
                // An alert at most.
                assert!(answer.len() < 64, "{} bytes", answer.len());
            }
        }
    }
    let status = get(secure.good_caller(), secure.address(), "/version").await;
    assert_eq!(status.as_deref(), Ok("HTTP/1.1 200 OK"));
    assert!(secure.identity(&secure.good_caller()).await.is_ok());
    drop(silent);
}

/// What the monitor port answers to one request, with its status line.
async fn monitor(secure: &Secure, request: &str) -> String {
    let address = secure.running.metrics_addrs()[0];
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("the answer ends")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_monitor_port_tells_health_and_metrics_without_a_certificate_and_no_key() {
    let secure = Secure::start();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    for (path, holds) in [
        ("/livez", "ok"),
        ("/readyz", "ok"),
        ("/readyz/linearizable_read", "ok"),
        ("/health", "\"health\":\"true\""),
        ("/version", "etcdserver"),
        ("/metrics", "etcd_server_has_leader"),
    ] {
        let answer = monitor(&secure, &get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert!(answer.contains(holds), "{path}: {answer}");
    }
    let put = "PUT /key/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 13\r\n\r\n\
               {\"value\":\"b\"}";
    for request in [
        get("/key/a"),
        get("/status"),
        get("/healthy"),
        put.to_owned(),
    ] {
        let answer = monitor(&secure, &request).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{request}: {answer}");
        assert!(answer.contains("client port"), "{request}: {answer}");
    }
    // HTTP/2, and with it gRPC, is not spoken.
    let answer = monitor(&secure, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!answer.contains("200"), "{answer}");
}
