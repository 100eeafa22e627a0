//! Everything that is counted, in one place: etcd's families by etcd's names where the thing
//! exists here, ours under `quorate_`.
//!
//! Counters on the hot path are resolved once and are then a single atomic addition. What is a
//! picture of the state (leader, indexes, sizes) is set when somebody scrapes, not when it changes.
//! Must not know: who scrapes and how, where the values come from.

use family::gauge_vec;
use prometheus::{Histogram, IntCounter, Registry, TextEncoder};
use quorate_api::limits::ETCD_VERSION;

#[macro_use]
mod family;
mod process;
mod replica;
mod tls;

pub use replica::{
    ApplyOp, ApplyTimes, NetworkMetrics, PeerMetrics, ReplicaMetrics, StorageMetrics,
};
pub use tls::{TlsMetrics, TlsPortMetrics};

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
    /// Certificates and handshakes.
    pub tls: TlsMetrics,
    process: process::ProcessMetrics,
}

families! {
    /// What the server counts and what it fills in when scraped.
    pub struct ServerMetrics {
        grpc_started: counter_vec "grpc_server_started_total" ["grpc_type", "grpc_service", "grpc_method"]
            "Total number of RPCs started on the server.";
        grpc_handled: counter_vec "grpc_server_handled_total" ["grpc_type", "grpc_service", "grpc_method", "grpc_code"]
            "Total number of RPCs completed on the server, regardless of success or failure.";
        grpc_received: counter_vec "grpc_server_msg_received_total" ["grpc_type", "grpc_service", "grpc_method"]
            "Messages received from clients.";
        grpc_sent: counter_vec "grpc_server_msg_sent_total" ["grpc_type", "grpc_service", "grpc_method"]
            "Messages sent to clients.";
        request_duration: histogram_vec "etcd_server_request_duration_seconds" ["type", "success"] {0.001, 2.0, 14}
            "Time from the arrival of a request to its answer.";
        /// Payload bytes received from gRPC clients.
        pub client_received_bytes: counter "etcd_network_client_grpc_received_bytes_total"
            "Payload bytes received from gRPC clients.";
        /// Payload bytes sent to gRPC clients.
        pub client_sent_bytes: counter "etcd_network_client_grpc_sent_bytes_total"
            "Payload bytes sent to gRPC clients.";
        /// Requests by kind of call and the API version the client claims.
        pub client_requests: counter_vec "etcd_server_client_requests_total" ["type", "client_api_version"]
            "Requests by kind of call and claimed API version.";
        /// `/health` said yes.
        pub health_success: counter "etcd_server_health_success"
            "Times /health said yes.";
        /// `/health` said no.
        pub health_failures: counter "etcd_server_health_failures"
            "Times /health said no.";
        /// Newest outcome of each check of `/livez` and `/readyz`: 1 or 0.
        pub healthcheck: gauge_vec "etcd_server_healthcheck" ["type", "name"]
            "Newest outcome of a health check.";
        /// Outcomes of each check of `/livez` and `/readyz`.
        pub healthchecks: counter_vec "etcd_server_healthchecks_total" ["type", "name", "status"]
            "Outcomes of health checks.";
        /// 1 while a leader is known.
        pub has_leader: gauge "etcd_server_has_leader"
            "1 while a leader is known.";
        /// 1 while this member leads.
        pub is_leader: gauge "etcd_server_is_leader"
            "1 while this member leads.";
        /// 1 while this member is a learner.
        pub is_learner: gauge "etcd_server_is_learner"
            "1 while this member is a learner.";
        /// Commit index; a gauge under a counter's name, as in etcd.
        pub proposals_committed: gauge "etcd_server_proposals_committed_total"
            "The commit index.";
        /// Applied index; a gauge under a counter's name, as in etcd.
        pub proposals_applied: gauge "etcd_server_proposals_applied_total"
            "The applied index.";
        /// Effective quota, bytes.
        pub quota_bytes: gauge "etcd_server_quota_backend_bytes"
            "Effective quota of the stored history.";
        /// Times the settings file was read again after a change, by outcome.
        pub settings_reloads: counter_vec "quorate_settings_reloads_total" ["result"]
            "The settings file read again after a change.";
        /// 1 for this member's ID.
        pub server_id: gauge_vec "etcd_server_id" ["server_id"]
            "1 for the ID of this member, in hexadecimal.";
        /// 1 for the version of the cluster.
        pub cluster_version: gauge_vec "etcd_cluster_version" ["cluster_version"]
            "1 for the version of the cluster.";
        /// Size of the stored history, bytes.
        pub db_total_bytes: gauge "etcd_mvcc_db_total_size_in_bytes"
            "Size of the stored history.";
        /// The part of it that is alive, bytes.
        pub db_in_use_bytes: gauge "etcd_mvcc_db_total_size_in_use_in_bytes"
            "The part of the stored history that is alive.";
        /// Keys alive.
        pub keys: gauge "etcd_debugging_mvcc_keys_total"
            "Keys alive.";
        /// The store's revision.
        pub current_revision: gauge "etcd_debugging_mvcc_current_revision"
            "The store's revision.";
        /// Revision of the newest compaction.
        pub compact_revision: gauge "etcd_debugging_mvcc_compact_revision"
            "Revision of the newest compaction.";
        /// Reads of intervals.
        pub range_ops: counter "etcd_mvcc_range_total"
            "Reads of intervals seen by this member.";
        /// Writes of keys.
        pub put_ops: counter "etcd_mvcc_put_total"
            "Writes of keys seen by this member.";
        /// Deletions of intervals.
        pub delete_ops: counter "etcd_mvcc_delete_total"
            "Deletions of intervals seen by this member.";
        /// Transactions with more than one operation.
        pub txn_ops: counter "etcd_mvcc_txn_total"
            "Transactions with more than one operation seen by this member.";
        /// Open client connections.
        pub connections: gauge "quorate_server_connections"
            "Open client connections.";
        /// Client requests being answered.
        pub inflight_requests: gauge "quorate_server_inflight_requests"
            "Client requests being answered.";
        /// Bytes of client requests being answered.
        pub inflight_bytes: gauge "quorate_server_inflight_bytes"
            "Bytes of client requests being answered.";
        /// Requests refused because too many were under way.
        pub refused_overload: counter "quorate_server_refused_overload_total"
            "Requests refused because too many were under way.";
        /// HTTP requests that are not gRPC, by route and status.
        pub http_requests: counter_vec "quorate_http_requests_total" ["route", "status"]
            "HTTP requests other than gRPC.";
        /// Raft's term.
        pub raft_term: gauge "quorate_raft_term"
            "Raft's term.";
        /// Last entry in the log.
        pub raft_last_index: gauge "quorate_raft_last_index"
            "Last entry in the log.";
        /// Last entry durable in the log here.
        pub raft_durable_index: gauge "quorate_raft_durable_index"
            "Last entry durable in the log here.";
        /// 1 for what this member does.
        pub raft_role: gauge_vec "quorate_raft_role" ["role"]
            "1 for what this member does.";
        /// Durable index of each peer, on the leader.
        pub raft_peer_matched: gauge_vec "quorate_raft_peer_matched_index" ["peer"]
            "Durable index of a peer, on the leader.";
        /// Members by role.
        pub members: gauge_vec "quorate_members" ["role"]
            "Members by role.";
        /// Grows at every start of the node.
        pub incarnation: gauge "quorate_incarnation"
            "Grows at every start of the node.";
    }
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
        let tls = TlsMetrics::new(&registry);
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
            tls,
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

    /// Every family with its kind, labels and help: a changed one breaks dashboards and alerts.
    const FAMILIES: &str = include_str!("metrics/families.txt");

    #[test]
    fn the_families_are_those_that_dashboards_know() {
        let groups = [
            ServerMetrics::ROWS,
            ReplicaMetrics::ROWS,
            StorageMetrics::ROWS,
            NetworkMetrics::ROWS,
            TlsMetrics::ROWS,
        ];
        let mut rows: Vec<String> = groups
            .iter()
            .flat_map(|rows| rows.iter())
            .map(|(name, kind, labels, help)| {
                let labels = if labels.is_empty() {
                    "-".to_owned()
                } else {
                    labels.join(",")
                };
                format!("{name} {kind} {labels} {help}")
            })
            .collect();
        rows.sort();
        let golden: Vec<&str> = FAMILIES.lines().collect();
        assert_eq!(rows, golden, "metrics/families.txt lists what is served");
    }

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
