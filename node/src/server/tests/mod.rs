//! The whole server over loopback, in front of a replica of one.

mod compaction;
mod grpc;
mod http;
mod settings;
mod tls;

use super::{Config, Running, serve};
use crate::config::{HotSettings, NodeConfig};
use crate::metrics::Metrics;
use crate::replica::solo::{REQUEST_BYTES_MAX, Solo};
use crate::settings::Settings;
use crate::tls::Ports;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A server and what stands behind it; stops when dropped.
struct Served {
    solo: Solo,
    running: Running,
    shutdown: CancellationToken,
}

impl Served {
    fn start(solo: Solo) -> Self {
        Self::with_settings(solo, None)
    }

    fn with_settings(solo: Solo, file: Option<PathBuf>) -> Self {
        let node = NodeConfig::managed("solo", "unused");
        let config = Config {
            max_request_bytes: REQUEST_BYTES_MAX,
            threads: 2,
            ..Config::of(&node)
        };
        let shutdown = CancellationToken::new();
        let metrics = Arc::new(Metrics::default());
        let settings = Settings::open(HotSettings::default(), file, &metrics.server).unwrap();
        let running = serve(
            config,
            solo.handle.clone(),
            metrics,
            Ports::default(),
            Arc::new(settings),
            &shutdown,
        )
        .unwrap();
        Self {
            solo,
            running,
            shutdown,
        }
    }

    fn joined() -> Self {
        Self::start(Solo::joined())
    }

    fn unjoined() -> Self {
        Self::start(Solo::unjoined())
    }

    fn address(&self) -> SocketAddr {
        self.running.client_addrs()[0]
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[test]
fn a_port_in_use_is_refused_with_its_address() {
    let served = Served::joined();
    let shutdown = CancellationToken::new();
    let node = NodeConfig::managed("second", "unused");
    let config = Config {
        listen_client: vec![served.address()],
        ..Config::of(&node)
    };
    let metrics = Arc::new(Metrics::default());
    let settings = Settings::open(HotSettings::default(), None, &metrics.server).unwrap();
    let error = serve(
        config,
        served.solo.handle.clone(),
        metrics,
        Ports::default(),
        Arc::new(settings),
        &shutdown,
    )
    .err();
    let text = error.expect("the port is taken").to_string();
    assert!(text.contains(&served.address().to_string()), "{text}");
    assert!(text.contains("Choose a free address"), "{text}");
}

#[tokio::test]
async fn a_stopped_server_ends_all_its_threads() {
    let mut served = Served::joined();
    // A connection that is open and idle does not hold the server up.
    let _idle = tokio::net::TcpStream::connect(served.address())
        .await
        .unwrap();
    let client = http::get(&served, "/version").await;
    assert_eq!(client.status, 200);
    served.shutdown.cancel();
    let nothing = Running {
        client_addrs: Vec::new(),
        admin_addr: None,
        metrics_addrs: Vec::new(),
        stopped: Vec::new(),
    };
    let address = served.address();
    std::mem::replace(&mut served.running, nothing)
        .stopped()
        .await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
