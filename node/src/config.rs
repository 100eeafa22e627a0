//! What a node must be told before it starts: plain, already checked values.
//!
//! May assume nothing about where the values came from (flags, environment, an embedding program).
//! Must not know: sockets, disks, the replica.

pub use crate::flags::{CalledAs, Request, UsageError, parse};
use crate::tls;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Largest value of [`NodeConfig::max_request_bytes`]: a request becomes one record of the log,
/// and one frame on its way to the leader.
pub const REQUEST_BYTES_MAX: usize = (16 << 20) - (64 << 10);

/// What `--initial-cluster-state` says about an empty data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// Every listed member starts now and together they form the cluster.
    New,
    /// The cluster runs already and this member has been added to it.
    Existing,
}

/// One `name=url` pair of a static start; a name may repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// The member's name.
    pub name: String,
    /// One of its peer URLs.
    pub peer_url: String,
}

/// How an empty data directory becomes a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It waits for `Bootstrap` or `Join` through the admin service.
    Managed,
    /// etcd's static start: identities are derived from the list and the token.
    Static {
        /// Every initial member, ourselves among them.
        initial_cluster: Vec<InitialMember>,
        /// Whether the cluster is to be formed or runs already.
        state: InitialState,
        /// `--initial-cluster-token`; enters the identities.
        token: String,
    },
}

/// Which revisions the leader forgets by itself. May change while a node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None: whoever uses the store compacts it.
    #[default]
    Off,
    /// Those that were replaced longer ago than this.
    Periodic {
        /// How far back the history reaches, ms; at least one second.
        retention_ms: u64,
    },
    /// All but the newest.
    Revision {
        /// How many revisions stay readable behind the newest; not 0.
        keep: u64,
    },
}

impl fmt::Display for AutoCompaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Periodic { retention_ms } => {
                write!(f, "periodic {:?}", Duration::from_millis(*retention_ms))
            }
            Self::Revision { keep } => write!(f, "revision {keep}"),
        }
    }
}

/// etcd's quota when none is given, bytes.
pub const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;

/// What a node can be told while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotSettings {
    /// From which level on lines are logged: `debug`, `info`, `warn` or `error`.
    pub log_level: &'static str,
    /// Largest size of the stored history, bytes; `None` for no limit.
    pub quota_backend_bytes: Option<u64>,
    /// Which revisions are forgotten without anybody asking.
    pub auto_compaction: AutoCompaction,
}

impl Default for HotSettings {
    fn default() -> Self {
        Self {
            log_level: "info",
            quota_backend_bytes: Some(QUOTA_BYTES_DEFAULT),
            auto_compaction: AutoCompaction::Off,
        }
    }
}

/// Everything that `run` needs. Each value has been checked by whoever built it.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Human-readable name, published through the replicated state.
    pub name: String,
    /// Directory of everything durable; created with mode 0700.
    pub data_dir: PathBuf,
    /// Where clients are served.
    pub listen_client: Vec<SocketAddr>,
    /// Client URLs told to others (`http://host:port`, `https://` with TLS).
    pub advertise_client_urls: Vec<String>,
    /// Where peers are served.
    pub listen_peer: Vec<SocketAddr>,
    /// Peer URLs told to others (`http://host:port`, `https://` with TLS).
    pub advertise_peer_urls: Vec<String>,
    /// Where the admin service is served; `None` turns it off.
    pub listen_admin: Option<SocketAddr>,
    /// Where health and metrics are served in the clear, beside the client port; usually nowhere.
    pub listen_metrics: Vec<SocketAddr>,
    /// TLS of each port.
    pub tls: tls::Settings,
    /// How an empty directory becomes a member.
    pub start: Start,
    /// Which life of the cluster this node is to take part in: a directory of an earlier one stays
    /// out. 0: that of its directory.
    pub epoch: u64,
    /// Interval between heartbeats of a leader, ms.
    pub heartbeat_ms: u64,
    /// Base of the election timeout, ms; at least five heartbeats.
    pub election_ms: u64,
    /// Applied entries after which the log in memory may be trimmed.
    pub snapshot_count: u64,
    /// Entries kept behind the applied index for followers that lag.
    pub snapshot_catchup_entries: u64,
    /// What may change while the node runs, as it is without a file.
    pub hot: HotSettings,
    /// File of such settings, which win over `hot` and are read again when they change.
    pub settings_file: Option<PathBuf>,
    /// Largest encoded request, bytes; more than [`REQUEST_BYTES_MAX`] counts as that.
    pub max_request_bytes: usize,
    /// Most operations in one branch of a transaction.
    pub max_txn_ops: usize,
    /// Most concurrent HTTP/2 streams of one connection.
    pub max_concurrent_streams: u32,
    /// Most learners at any time.
    pub max_learners: usize,
    /// Whether membership changes that could cost the quorum are refused.
    pub strict_reconfig_check: bool,
}

impl NodeConfig {
    /// A managed node with etcd's defaults on ephemeral loopback ports: for embedding and tests.
    #[must_use]
    pub fn managed(name: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            name: name.into(),
            data_dir: data_dir.into(),
            listen_client: vec![any_port],
            advertise_client_urls: Vec::new(),
            listen_peer: vec![any_port],
            advertise_peer_urls: Vec::new(),
            listen_admin: Some(any_port),
            listen_metrics: Vec::new(),
            tls: tls::Settings::default(),
            start: Start::Managed,
            epoch: 0,
            heartbeat_ms: 100,
            election_ms: 1000,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            hot: HotSettings::default(),
            settings_file: None,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            max_learners: 1,
            strict_reconfig_check: true,
        }
    }
}
