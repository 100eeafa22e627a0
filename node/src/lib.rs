//! The server: a Raft replica with its log, its state machine and its surfaces, as a library.
//!
//! Embed it with [`Node::start`], or let [`run`] do what a process does: start, wait for a signal,
//! stop in good order.
//!
//! Reading order: `env`, `storage`, `kv`, `replica`, `tls`, `transport`, `server`,
//! `auto_compaction`; `config` and `flags` say what a node can be told.

pub mod auto_compaction;
pub mod config;
pub mod env;
pub mod error;
mod file_stamp;
pub mod flags;
pub mod kv;
pub mod logging;
pub mod metrics;
pub mod replica;
pub mod server;
pub mod settings;
pub mod storage;
pub mod tls;
pub mod transport;

pub use config::NodeConfig;
pub use error::RunError;

use auto_compaction::AutoCompactor;
use env::Clock;
use env::real::{RealDisk, SystemClock, SystemRng};
use metrics::Metrics;
use replica::{Doors, Handle, Replica};
use settings::Settings;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use transport::PeerPort;

/// A node that runs in this process.
pub struct Node {
    replica: Replica,
    /// Taken by a stop.
    server: Option<server::Running>,
    /// Taken by a stop.
    compactor: Option<auto_compaction::Running>,
    client_addrs: Vec<SocketAddr>,
    admin_addr: Option<SocketAddr>,
    shutdown: CancellationToken,
    peer_addrs: Vec<SocketAddr>,
}

impl Node {
    /// Opens the data directory, joins or forms its cluster as the configuration says, and serves.
    /// Ports given as 0 are chosen by the system; see [`Node::client_addrs`].
    ///
    /// # Errors
    /// [`RunError`]; then nothing runs.
    pub fn start(mut config: NodeConfig) -> Result<Self, RunError> {
        let metrics = Arc::new(Metrics::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let tls = tls::Ports::open(&config.tls, &clock, &metrics.tls)?;
        let settings = Settings::open(
            config.hot.clone(),
            config.settings_file.clone(),
            &metrics.server,
        )?;
        let auto_compaction = settings.auto_compaction();
        let (listeners, peer_addrs) = listen_peers(&config.listen_peer)?;
        if config.advertise_peer_urls.is_empty() {
            let scheme = if tls.peer.is_some() { "https" } else { "http" };
            config.advertise_peer_urls = peer_addrs
                .iter()
                .map(|address| format!("{scheme}://{address}"))
                .collect();
        }
        let peers = PeerPort {
            listeners,
            tls: tls.peer.clone(),
        };
        let doors = Doors {
            disk: Arc::new(RealDisk::new(&config.data_dir)),
            clock: Arc::clone(&clock),
            rng: Box::new(SystemRng::open().map_err(RunError::Random)?),
        };
        let replica = Replica::start(&config, doors, peers, Arc::clone(&metrics))?;
        let shutdown = CancellationToken::new();
        let server = server::serve(
            server::Config::of(&config),
            replica.handle(),
            metrics,
            tls,
            Arc::new(settings),
            &shutdown,
        )?;
        let compactor = AutoCompactor::new(auto_compaction, replica.handle(), clock)
            .start(shutdown.clone())
            .map_err(|error| {
                shutdown.cancel();
                RunError::Thread(error)
            })?;
        Ok(Self {
            replica,
            client_addrs: server.client_addrs().to_vec(),
            admin_addr: server.admin_addr(),
            server: Some(server),
            compactor: Some(compactor),
            shutdown,
            peer_addrs,
        })
    }

    /// The replica: for proposals, reads and membership without the network.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.replica.handle()
    }

    /// Where clients are served.
    #[must_use]
    pub fn client_addrs(&self) -> &[SocketAddr] {
        &self.client_addrs
    }

    /// Where peers are served.
    #[must_use]
    pub fn peer_addrs(&self) -> &[SocketAddr] {
        &self.peer_addrs
    }

    /// Where the admin service is served.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Waits until the replica has ended by itself.
    ///
    /// # Errors
    /// Why it had to.
    pub async fn ended(&mut self) -> Result<(), RunError> {
        Ok(self.replica.ended().await?)
    }

    /// Stops in good order: leadership is handed over, accepted requests are finished, connections
    /// are closed.
    pub async fn stop(mut self) {
        self.replica.stop().await;
        self.shutdown.cancel();
        if let Some(server) = self.server.take() {
            server.stopped().await;
        }
        if let Some(compactor) = self.compactor.take() {
            compactor.stopped().await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Runs a node until SIGTERM or SIGINT, then stops it in good order.
///
/// # Errors
/// [`RunError`], when it does not start, or has to stop by itself.
pub async fn run(config: NodeConfig) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut node = Node::start(config)?;
    tracing::info!(
        clients = ?node.client_addrs(),
        peers = ?node.peer_addrs(),
        admin = ?node.admin_addr(),
        "serving"
    );
    tokio::select! {
        ended = node.ended() => return ended,
        _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
    }
    node.stop().await;
    Ok(())
}

fn listen_peers(addresses: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), RunError> {
    let mut listeners = Vec::new();
    let mut bound = Vec::new();
    for &address in addresses {
        let listen = |source| RunError::ListenPeer { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        bound.push(listener.local_addr().map_err(listen)?);
        listeners.push(listener);
    }
    Ok((listeners, bound))
}
