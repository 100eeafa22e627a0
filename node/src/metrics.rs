//! Everything that is counted, in one place: etcd's families by etcd's names where the thing
//! exists here, ours under `quorate_`.
//!
//! Counters on the hot path are resolved once and are then a single atomic addition. What is a
//! picture of the state (leader, indexes, sizes) is set when somebody scrapes, not when it changes.
//! Must not know: who scrapes and how, where the values come from.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, exponential_buckets,
};
use quorate_api::limits::ETCD_VERSION;

mod process;
mod replica;

pub use replica::{ApplyOp, NetworkMetrics, PeerMetrics, ReplicaMetrics, StorageMetrics};

/// gRPC codes by number, as they appear in the label `grpc_code`.
pub const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// All families of one node. Share it by `Arc`.
pub struct Metrics {
    registry: Registry,
    /// Raft, apply and inbox.
    pub replica: ReplicaMetrics,
    /// Log and history on disk.
    pub storage: StorageMetrics,
    /// Peers.
    pub network: NetworkMetrics,
    /// Clients.
    pub server: ServerMetrics,
    process: process::ProcessMetrics,
}

/// What the server counts and what it fills in when scraped.
pub struct ServerMetrics {
    grpc_started: IntCounterVec,
    grpc_handled: IntCounterVec,
    grpc_received: IntCounterVec,
    grpc_sent: IntCounterVec,
    request_duration: HistogramVec,
    /// Payload bytes received from gRPC clients.
    pub client_received_bytes: IntCounter,
    /// Payload bytes sent to gRPC clients.
    pub client_sent_bytes: IntCounter,
    /// Requests by kind of call and the API version the client claims.
    pub client_requests: IntCounterVec,
    /// `/health` said yes.
    pub health_success: IntCounter,
    /// `/health` said no.
    pub health_failures: IntCounter,
    /// Newest outcome of each check of `/livez` and `/readyz`: 1 or 0.
    pub healthcheck: IntGaugeVec,
    /// Outcomes of each check of `/livez` and `/readyz`.
    pub healthchecks: IntCounterVec,
    /// 1 while a leader is known.
    pub has_leader: IntGauge,
    /// 1 while this member leads.
    pub is_leader: IntGauge,
    /// 1 while this member is a learner.
    pub is_learner: IntGauge,
    /// Commit index; a gauge under a counter's name, as in etcd.
    pub proposals_committed: IntGauge,
    /// Applied index; a gauge under a counter's name, as in etcd.
    pub proposals_applied: IntGauge,
    /// Effective quota, bytes.
    pub quota_bytes: IntGauge,
    /// 1 for this member's ID.
    pub server_id: IntGaugeVec,
    /// 1 for the version of the cluster.
    pub cluster_version: IntGaugeVec,
    /// Size of the stored history, bytes.
    pub db_total_bytes: IntGauge,
    /// The part of it that is alive, bytes.
    pub db_in_use_bytes: IntGauge,
    /// Keys alive.
    pub keys: IntGauge,
    /// The store's revision.
    pub current_revision: IntGauge,
    /// Revision of the newest compaction.
    pub compact_revision: IntGauge,
    /// Reads of intervals.
    pub range_ops: IntCounter,
    /// Writes of keys.
    pub put_ops: IntCounter,
    /// Deletions of intervals.
    pub delete_ops: IntCounter,
    /// Transactions with more than one operation.
    pub txn_ops: IntCounter,
    /// Open client connections.
    pub connections: IntGauge,
    /// Client requests being answered.
    pub inflight_requests: IntGauge,
    /// Bytes of client requests being answered.
    pub inflight_bytes: IntGauge,
    /// Requests refused because too many were under way.
    pub refused_overload: IntCounter,
    /// HTTP requests that are not gRPC, by route and status.
    pub http_requests: IntCounterVec,
    /// Raft's term.
    pub raft_term: IntGauge,
    /// Last entry in the log.
    pub raft_last_index: IntGauge,
    /// Last entry durable in the log here.
    pub raft_durable_index: IntGauge,
    /// 1 for what this member does.
    pub raft_role: IntGaugeVec,
    /// Durable index of each peer, on the leader.
    pub raft_peer_matched: IntGaugeVec,
    /// Members by role.
    pub members: IntGaugeVec,
    /// Grows at every start of the node.
    pub incarnation: IntGauge,
}

/// The counters of one gRPC method, resolved.
pub struct MethodMetrics {
    /// Calls begun.
    pub started: IntCounter,
    /// Calls ended, by code.
    pub handled: [IntCounter; 17],
    /// Messages received.
    pub received: IntCounter,
    /// Messages sent.
    pub sent: IntCounter,
}

/// How long one kind of request takes, resolved.
#[derive(Clone)]
pub struct RequestTimer {
    /// Answered.
    pub success: Histogram,
    /// Refused or failed.
    pub failure: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let replica = ReplicaMetrics::new(&registry);
        let storage = StorageMetrics::new(&registry);
        let network = NetworkMetrics::new(&registry);
        let server = ServerMetrics::new(&registry);
        let process = process::ProcessMetrics::new(&registry);
        gauge_vec(
            &registry,
            "etcd_server_version",
            "Which version is running. 1 for 'server_version' label with current version.",
            &["server_version"],
        )
        .with_label_values(&[ETCD_VERSION])
        .set(1);
        gauge_vec(
            &registry,
            "quorate_build_info",
            "1 for the version of Quorate that runs.",
            &["version"],
        )
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1);
        Self {
            registry,
            replica,
            storage,
            network,
            server,
            process,
        }
    }
}

impl Metrics {
    /// Everything in Prometheus' text format. The caller has filled in the pictures of the state.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.refresh();
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), &mut text)
            .expect("writing to memory cannot fail");
        text
    }
}

impl ServerMetrics {
    #[expect(clippy::too_many_lines, reason = "one flat list of families")]
    fn new(r: &Registry) -> Self {
        let rpc = ["grpc_type", "grpc_service", "grpc_method"];
        let rpc_code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        Self {
            grpc_started: counter_vec(
                r,
                "grpc_server_started_total",
                "Total number of RPCs started on the server.",
                &rpc,
            ),
            grpc_handled: counter_vec(
                r,
                "grpc_server_handled_total",
                "Total number of RPCs completed on the server, regardless of success or failure.",
                &rpc_code,
            ),
            grpc_received: counter_vec(
                r,
                "grpc_server_msg_received_total",
                "Messages received from clients.",
                &rpc,
            ),
            grpc_sent: counter_vec(
                r,
                "grpc_server_msg_sent_total",
                "Messages sent to clients.",
                &rpc,
            ),
            request_duration: histogram_vec(
                r,
                "etcd_server_request_duration_seconds",
                "Time from the arrival of a request to its answer.",
                &["type", "success"],
                exponential(0.001, 2.0, 14),
            ),
            client_received_bytes: counter(
                r,
                "etcd_network_client_grpc_received_bytes_total",
                "Payload bytes received from gRPC clients.",
            ),
            client_sent_bytes: counter(
                r,
                "etcd_network_client_grpc_sent_bytes_total",
                "Payload bytes sent to gRPC clients.",
            ),
            client_requests: counter_vec(
                r,
                "etcd_server_client_requests_total",
                "Requests by kind of call and claimed API version.",
                &["type", "client_api_version"],
            ),
            health_success: counter(r, "etcd_server_health_success", "Times /health said yes."),
            health_failures: counter(r, "etcd_server_health_failures", "Times /health said no."),
            healthcheck: gauge_vec(
                r,
                "etcd_server_healthcheck",
                "Newest outcome of a health check.",
                &["type", "name"],
            ),
            healthchecks: counter_vec(
                r,
                "etcd_server_healthchecks_total",
                "Outcomes of health checks.",
                &["type", "name", "status"],
            ),
            has_leader: gauge(r, "etcd_server_has_leader", "1 while a leader is known."),
            is_leader: gauge(r, "etcd_server_is_leader", "1 while this member leads."),
            is_learner: gauge(
                r,
                "etcd_server_is_learner",
                "1 while this member is a learner.",
            ),
            proposals_committed: gauge(
                r,
                "etcd_server_proposals_committed_total",
                "The commit index.",
            ),
            proposals_applied: gauge(
                r,
                "etcd_server_proposals_applied_total",
                "The applied index.",
            ),
            quota_bytes: gauge(
                r,
                "etcd_server_quota_backend_bytes",
                "Effective quota of the stored history.",
            ),
            server_id: gauge_vec(
                r,
                "etcd_server_id",
                "1 for the ID of this member, in hexadecimal.",
                &["server_id"],
            ),
            cluster_version: gauge_vec(
                r,
                "etcd_cluster_version",
                "1 for the version of the cluster.",
                &["cluster_version"],
            ),
            db_total_bytes: gauge(
                r,
                "etcd_mvcc_db_total_size_in_bytes",
                "Size of the stored history.",
            ),
            db_in_use_bytes: gauge(
                r,
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "The part of the stored history that is alive.",
            ),
            keys: gauge(r, "etcd_debugging_mvcc_keys_total", "Keys alive."),
            current_revision: gauge(
                r,
                "etcd_debugging_mvcc_current_revision",
                "The store's revision.",
            ),
            compact_revision: gauge(
                r,
                "etcd_debugging_mvcc_compact_revision",
                "Revision of the newest compaction.",
            ),
            range_ops: counter(
                r,
                "etcd_mvcc_range_total",
                "Reads of intervals seen by this member.",
            ),
            put_ops: counter(
                r,
                "etcd_mvcc_put_total",
                "Writes of keys seen by this member.",
            ),
            delete_ops: counter(
                r,
                "etcd_mvcc_delete_total",
                "Deletions of intervals seen by this member.",
            ),
            txn_ops: counter(
                r,
                "etcd_mvcc_txn_total",
                "Transactions with more than one operation seen by this member.",
            ),
            connections: gauge(r, "quorate_server_connections", "Open client connections."),
            inflight_requests: gauge(
                r,
                "quorate_server_inflight_requests",
                "Client requests being answered.",
            ),
            inflight_bytes: gauge(
                r,
                "quorate_server_inflight_bytes",
                "Bytes of client requests being answered.",
            ),
            refused_overload: counter(
                r,
                "quorate_server_refused_overload_total",
                "Requests refused because too many were under way.",
            ),
            http_requests: counter_vec(
                r,
                "quorate_http_requests_total",
                "HTTP requests other than gRPC.",
                &["route", "status"],
            ),
            raft_term: gauge(r, "quorate_raft_term", "Raft's term."),
            raft_last_index: gauge(r, "quorate_raft_last_index", "Last entry in the log."),
            raft_durable_index: gauge(
                r,
                "quorate_raft_durable_index",
                "Last entry durable in the log here.",
            ),
            raft_role: gauge_vec(
                r,
                "quorate_raft_role",
                "1 for what this member does.",
                &["role"],
            ),
            raft_peer_matched: gauge_vec(
                r,
                "quorate_raft_peer_matched_index",
                "Durable index of a peer, on the leader.",
                &["peer"],
            ),
            members: gauge_vec(r, "quorate_members", "Members by role.", &["role"]),
            incarnation: gauge(
                r,
                "quorate_incarnation",
                "Grows at every start of the node.",
            ),
        }
    }

    /// The counters of one method; `kind` is `unary`, `server_stream` or `bidi_stream`. From then
    /// on the method has series, at zero.
    #[must_use]
    pub fn method(&self, kind: &str, service: &str, method: &str) -> MethodMetrics {
        let rpc = [kind, service, method];
        MethodMetrics {
            started: self.grpc_started.with_label_values(&rpc),
            handled: CODES.map(|code| {
                self.grpc_handled
                    .with_label_values(&[kind, service, method, code])
            }),
            received: self.grpc_received.with_label_values(&rpc),
            sent: self.grpc_sent.with_label_values(&rpc),
        }
    }

    /// The timers of one kind of request, as etcd calls it (`Range`, `Put`, `Txn`, …).
    #[must_use]
    pub fn timer(&self, kind: &str) -> RequestTimer {
        RequestTimer {
            success: self.request_duration.with_label_values(&[kind, "true"]),
            failure: self.request_duration.with_label_values(&[kind, "false"]),
        }
    }
}

// The helpers below panic on a name that is malformed or registered twice: every name is a literal
// of this module, so a test that builds `Metrics` once sees each of them.

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    built: prometheus::Result<C>,
) -> C {
    let collector = built.expect("the literal name and labels are well formed");
    registry
        .register(Box::new(collector.clone()))
        .expect("each family is registered once");
    collector
}

fn counter(r: &Registry, name: &str, help: &str) -> IntCounter {
    register(r, IntCounter::new(name, help))
}

fn counter_vec(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(r, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(r: &Registry, name: &str, help: &str) -> IntGauge {
    register(r, IntGauge::new(name, help))
}

fn gauge_vec(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(r, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn histogram(r: &Registry, name: &str, help: &str, buckets: Vec<f64>) -> Histogram {
    register(
        r,
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)),
    )
}

fn histogram_vec(
    r: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: Vec<f64>,
) -> HistogramVec {
    register(
        r,
        HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels),
    )
}

fn exponential(start: f64, factor: f64, count: usize) -> Vec<f64> {
    exponential_buckets(start, factor, count).expect("literal buckets are well formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Families that dashboards and alerts of etcd read; a missing one is a blank panel.
    const NEEDED: &[&str] = &[
        "etcd_server_has_leader 0",
        "etcd_server_leader_changes_seen_total 0",
        "# TYPE etcd_server_proposals_committed_total gauge",
        "# TYPE etcd_server_proposals_applied_total gauge",
        "etcd_server_proposals_pending 0",
        "etcd_server_proposals_failed_total 0",
        "etcd_server_quota_backend_bytes 0",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 0",
        "etcd_disk_backend_commit_duration_seconds_bucket{le=\"0.001\"} 0",
        "etcd_mvcc_db_total_size_in_bytes 0",
        "etcd_mvcc_db_total_size_in_use_in_bytes 0",
        "etcd_network_client_grpc_sent_bytes_total 0",
        "etcd_network_client_grpc_received_bytes_total 0",
        "etcd_server_version{server_version=\"3.7.3\"} 1",
        "process_resident_memory_bytes",
        "process_open_fds",
    ];

    #[test]
    fn a_fresh_node_shows_every_family_the_dashboards_read() {
        let text = Metrics::default().render();
        for line in NEEDED {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
    }

    #[test]
    fn a_method_has_series_at_zero_for_every_code_before_the_first_call() {
        let metrics = Metrics::default();
        let put = metrics.server.method("unary", "etcdserverpb.KV", "Put");
        let text = metrics.render();
        for code in CODES {
            let series = format!(
                "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"Put\",\
                 grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}} 0"
            );
            assert!(text.contains(&series), "missing {series}");
        }
        put.handled[14].inc();
        assert!(metrics.render().contains("grpc_code=\"Unavailable\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1"));
    }

    #[test]
    fn peers_are_labelled_in_hex_by_direction() {
        let metrics = Metrics::default();
        let peer = metrics.network.peer(0xa, 0xbeef);
        peer.sent_bytes.inc_by(7);
        peer.received_bytes.inc_by(9);
        let text = metrics.render();
        assert!(text.contains("etcd_network_peer_sent_bytes_total{To=\"beef\"} 7"));
        assert!(text.contains("etcd_network_peer_received_bytes_total{From=\"beef\"} 9"));
        assert!(text.contains("etcd_network_known_peers{Local=\"a\",Remote=\"beef\"} 1"));
    }
}
