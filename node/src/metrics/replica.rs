//! Families of what runs behind the server: Raft, apply, inbox, disk and peers.
//!
//! Must not know: who updates them.

use super::{counter, counter_vec, exponential, gauge, gauge_vec, histogram, histogram_vec};
use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

/// Raft, apply and inbox. The replica's thread updates them.
pub struct ReplicaMetrics {
    /// Changes of the leader as seen here.
    pub leader_changes: IntCounter,
    /// Proposals that wait for an answer.
    pub proposals_pending: IntGauge,
    /// Proposals that timed out or were refused by Raft.
    pub proposals_failed: IntCounter,
    /// Applies that took longer than etcd's threshold of 100 ms.
    pub slow_apply: IntCounter,
    /// Linearizable reads whose quorum round took long.
    pub slow_read_indexes: IntCounter,
    /// Linearizable reads whose quorum round failed.
    pub read_indexes_failed: IntCounter,
    /// Heartbeats that could not be sent in time.
    pub heartbeat_send_failures: IntCounter,
    /// Learners promoted.
    pub learner_promote_successes: IntCounter,
    /// Learners not promoted, by reason.
    pub learner_promote_failures: IntCounterVec,
    /// Snapshots being installed.
    pub snapshot_apply_in_progress: IntGauge,
    apply_duration: HistogramVec,
    /// Seconds one turn of the replica's loop takes.
    pub turn_seconds: Histogram,
    /// Inputs taken from the inbox per turn.
    pub inbox_batch: Histogram,
    /// Inputs refused because the inbox was full.
    pub inbox_refused: IntCounter,
    /// Proposals per append to the log.
    pub propose_batch: Histogram,
    /// Entries applied per turn.
    pub apply_batch: Histogram,
    /// Reads confirmed by one quorum round.
    pub read_batch: Histogram,
    /// Campaigns begun here, pre-votes included.
    pub campaigns: IntCounter,
    /// Raft messages sent.
    pub messages_sent: IntCounter,
    /// Raft messages received.
    pub messages_received: IntCounter,
    /// Raft messages dropped because a queue was full.
    pub messages_dropped: IntCounter,
}

/// Label `op` of the apply histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyOp {
    /// A put.
    Put,
    /// A deletion.
    DeleteRange,
    /// A transaction.
    Txn,
    /// A compaction.
    Compaction,
    /// A change of the membership data.
    Member,
}

impl ApplyOp {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "Put",
            Self::DeleteRange => "DeleteRange",
            Self::Txn => "Txn",
            Self::Compaction => "Compaction",
            Self::Member => "ClusterMember",
        }
    }
}

impl ReplicaMetrics {
    #[expect(clippy::too_many_lines, reason = "one flat list of families")]
    pub(super) fn new(r: &Registry) -> Self {
        let batch = || exponential(1.0, 2.0, 14);
        Self {
            leader_changes: counter(
                r,
                "etcd_server_leader_changes_seen_total",
                "Changes of the leader seen.",
            ),
            proposals_pending: gauge(
                r,
                "etcd_server_proposals_pending",
                "Proposals that wait for an answer.",
            ),
            proposals_failed: counter(
                r,
                "etcd_server_proposals_failed_total",
                "Proposals that timed out or were refused.",
            ),
            slow_apply: counter(
                r,
                "etcd_server_slow_apply_total",
                "Applies that took too long.",
            ),
            slow_read_indexes: counter(
                r,
                "etcd_server_slow_read_indexes_total",
                "Quorum rounds of reads that took too long.",
            ),
            read_indexes_failed: counter(
                r,
                "etcd_server_read_indexes_failed_total",
                "Quorum rounds of reads that failed.",
            ),
            heartbeat_send_failures: counter(
                r,
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats sent too late or not at all.",
            ),
            learner_promote_successes: counter(
                r,
                "etcd_server_learner_promote_successes",
                "Learners promoted.",
            ),
            learner_promote_failures: counter_vec(
                r,
                "etcd_server_learner_promote_failures",
                "Learners not promoted.",
                &["Reason"],
            ),
            snapshot_apply_in_progress: gauge(
                r,
                "etcd_server_snapshot_apply_in_progress_total",
                "Snapshots being installed.",
            ),
            apply_duration: histogram_vec(
                r,
                "etcd_server_apply_duration_seconds",
                "Time to apply a command.",
                &["version", "op", "success"],
                exponential(0.0001, 2.0, 20),
            ),
            turn_seconds: histogram(
                r,
                "quorate_replica_turn_seconds",
                "Time of one turn of the replica's loop.",
                exponential(0.000_01, 2.0, 18),
            ),
            inbox_batch: histogram(
                r,
                "quorate_inbox_batch_size",
                "Inputs taken from the inbox per turn.",
                batch(),
            ),
            inbox_refused: counter(
                r,
                "quorate_inbox_refused_total",
                "Inputs refused because the inbox was full.",
            ),
            propose_batch: histogram(
                r,
                "quorate_raft_propose_batch_size",
                "Proposals per append to the log.",
                batch(),
            ),
            apply_batch: histogram(
                r,
                "quorate_apply_batch_size",
                "Entries applied per turn.",
                batch(),
            ),
            read_batch: histogram(
                r,
                "quorate_raft_read_batch_size",
                "Reads confirmed by one quorum round.",
                batch(),
            ),
            campaigns: counter(
                r,
                "quorate_raft_campaigns_total",
                "Campaigns begun here, pre-votes included.",
            ),
            messages_sent: counter(r, "quorate_raft_messages_sent_total", "Raft messages sent."),
            messages_received: counter(
                r,
                "quorate_raft_messages_received_total",
                "Raft messages received.",
            ),
            messages_dropped: counter(
                r,
                "quorate_raft_messages_dropped_total",
                "Raft messages dropped because a queue was full.",
            ),
        }
    }

    /// The histogram of one kind of command; keep it, the look-up is not for the apply path.
    #[must_use]
    pub fn apply_duration(&self, op: ApplyOp, success: bool) -> Histogram {
        let success = if success { "true" } else { "false" };
        self.apply_duration
            .with_label_values(&["v3", op.as_str(), success])
    }
}

/// Log and history on disk.
pub struct StorageMetrics {
    /// One sync of the write-ahead log.
    pub wal_fsync_seconds: Histogram,
    /// One write to it, before the sync.
    pub wal_write_seconds: Histogram,
    /// Bytes written to it since the start.
    pub wal_write_bytes: IntGauge,
    /// Entries made durable by one sync.
    pub wal_batch: Histogram,
    /// Segments of the log, on disk and spare.
    pub wal_segments: IntGauge,
    /// One sync of the revision log.
    pub history_sync_seconds: Histogram,
    /// Bytes applied and not yet durable in the revision log.
    pub history_unsynced_bytes: IntGauge,
    /// Keys removed by compaction.
    pub compacted_keys: IntCounter,
    /// Unix time of the last finished compaction.
    pub compaction_last: IntGauge,
}

impl StorageMetrics {
    pub(super) fn new(r: &Registry) -> Self {
        Self {
            wal_fsync_seconds: histogram(
                r,
                "etcd_disk_wal_fsync_duration_seconds",
                "Time of a sync of the write-ahead log.",
                exponential(0.001, 2.0, 14),
            ),
            wal_write_seconds: histogram(
                r,
                "etcd_disk_wal_write_duration_seconds",
                "Time of a write to the write-ahead log.",
                exponential(0.001, 2.0, 14),
            ),
            wal_write_bytes: gauge(
                r,
                "etcd_disk_wal_write_bytes_total",
                "Bytes written to the write-ahead log.",
            ),
            wal_batch: histogram(
                r,
                "quorate_wal_batch_entries",
                "Entries made durable by one sync.",
                exponential(1.0, 2.0, 14),
            ),
            wal_segments: gauge(
                r,
                "quorate_wal_segments",
                "Segments of the write-ahead log, spare ones included.",
            ),
            history_sync_seconds: histogram(
                r,
                "etcd_disk_backend_commit_duration_seconds",
                "Time of a sync of the revision log.",
                exponential(0.001, 2.0, 14),
            ),
            history_unsynced_bytes: gauge(
                r,
                "quorate_history_unsynced_bytes",
                "Bytes applied and not yet durable in the revision log.",
            ),
            compacted_keys: counter(
                r,
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Keys removed by compaction.",
            ),
            compaction_last: gauge(
                r,
                "etcd_debugging_mvcc_db_compaction_last",
                "Unix time of the last finished compaction.",
            ),
        }
    }
}

/// Peers, by member ID in hexadecimal.
pub struct NetworkMetrics {
    round_trip: HistogramVec,
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    sent_failures: IntCounterVec,
    received_failures: IntCounterVec,
    active: IntGaugeVec,
    known: IntGaugeVec,
    disconnected: IntCounterVec,
    snapshot_sends: IntCounterVec,
    snapshot_send_failures: IntCounterVec,
    snapshot_sends_inflight: IntGaugeVec,
    snapshot_send_seconds: HistogramVec,
    snapshot_receives: IntCounterVec,
    snapshot_receive_failures: IntCounterVec,
    snapshot_receives_inflight: IntGaugeVec,
    snapshot_receive_seconds: HistogramVec,
}

/// The families of one peer, resolved.
#[derive(Clone)]
pub struct PeerMetrics {
    /// Time between a probe and its answer, seconds.
    pub round_trip_seconds: Histogram,
    /// Bytes sent to it.
    pub sent_bytes: IntCounter,
    /// Bytes received from it.
    pub received_bytes: IntCounter,
    /// Messages that could not be sent to it.
    pub sent_failures: IntCounter,
    /// Frames from it that could not be read.
    pub received_failures: IntCounter,
    /// 1 while connected.
    pub active: IntGauge,
    /// Times the connection to it was lost.
    pub disconnected: IntCounter,
    /// Snapshots sent to it.
    pub snapshot_sends: IntCounter,
    /// Snapshots that could not be sent to it.
    pub snapshot_send_failures: IntCounter,
    /// Snapshots being sent to it.
    pub snapshot_sends_inflight: IntGauge,
    /// How long sending a snapshot to it took.
    pub snapshot_send_seconds: Histogram,
    /// Snapshots received from it.
    pub snapshot_receives: IntCounter,
    /// Snapshots from it that failed.
    pub snapshot_receive_failures: IntCounter,
    /// Snapshots being received from it.
    pub snapshot_receives_inflight: IntGauge,
    /// How long receiving a snapshot from it took.
    pub snapshot_receive_seconds: Histogram,
}

impl NetworkMetrics {
    #[expect(clippy::too_many_lines, reason = "one flat list of families")]
    pub(super) fn new(r: &Registry) -> Self {
        let (to, from, both) = (["To"], ["From"], ["Local", "Remote"]);
        let seconds = || exponential(0.1, 2.0, 10);
        Self {
            round_trip: histogram_vec(
                r,
                "etcd_network_peer_round_trip_time_seconds",
                "Round-trip time between peers.",
                &to,
                exponential(0.0001, 2.0, 16),
            ),
            sent_bytes: counter_vec(
                r,
                "etcd_network_peer_sent_bytes_total",
                "Bytes sent to a peer.",
                &to,
            ),
            received_bytes: counter_vec(
                r,
                "etcd_network_peer_received_bytes_total",
                "Bytes received from a peer.",
                &from,
            ),
            sent_failures: counter_vec(
                r,
                "etcd_network_peer_sent_failures_total",
                "Messages that could not be sent to a peer.",
                &to,
            ),
            received_failures: counter_vec(
                r,
                "etcd_network_peer_received_failures_total",
                "Frames of a peer that could not be read.",
                &from,
            ),
            active: gauge_vec(
                r,
                "etcd_network_active_peers",
                "1 while connected to the peer.",
                &both,
            ),
            known: gauge_vec(r, "etcd_network_known_peers", "1 for every peer.", &both),
            disconnected: counter_vec(
                r,
                "etcd_network_disconnected_peers_total",
                "Times the connection to a peer was lost.",
                &both,
            ),
            snapshot_sends: counter_vec(
                r,
                "etcd_network_snapshot_send_success",
                "Snapshots sent.",
                &to,
            ),
            snapshot_send_failures: counter_vec(
                r,
                "etcd_network_snapshot_send_failures",
                "Snapshots that could not be sent.",
                &to,
            ),
            snapshot_sends_inflight: gauge_vec(
                r,
                "etcd_network_snapshot_send_inflights_total",
                "Snapshots being sent.",
                &to,
            ),
            snapshot_send_seconds: histogram_vec(
                r,
                "etcd_network_snapshot_send_total_duration_seconds",
                "Time to send a snapshot.",
                &to,
                seconds(),
            ),
            snapshot_receives: counter_vec(
                r,
                "etcd_network_snapshot_receive_success",
                "Snapshots received.",
                &from,
            ),
            snapshot_receive_failures: counter_vec(
                r,
                "etcd_network_snapshot_receive_failures",
                "Snapshots that could not be received.",
                &from,
            ),
            snapshot_receives_inflight: gauge_vec(
                r,
                "etcd_network_snapshot_receive_inflights_total",
                "Snapshots being received.",
                &from,
            ),
            snapshot_receive_seconds: histogram_vec(
                r,
                "etcd_network_snapshot_receive_total_duration_seconds",
                "Time to receive a snapshot.",
                &from,
                seconds(),
            ),
        }
    }

    /// The families of one peer; its series exist from then on.
    #[must_use]
    pub fn peer(&self, local: u64, remote: u64) -> PeerMetrics {
        let (local, remote) = (format!("{local:x}"), format!("{remote:x}"));
        let one = [remote.as_str()];
        let both = [local.as_str(), remote.as_str()];
        self.known.with_label_values(&both).set(1);
        PeerMetrics {
            round_trip_seconds: self.round_trip.with_label_values(&one),
            sent_bytes: self.sent_bytes.with_label_values(&one),
            received_bytes: self.received_bytes.with_label_values(&one),
            sent_failures: self.sent_failures.with_label_values(&one),
            received_failures: self.received_failures.with_label_values(&one),
            active: self.active.with_label_values(&both),
            disconnected: self.disconnected.with_label_values(&both),
            snapshot_sends: self.snapshot_sends.with_label_values(&one),
            snapshot_send_failures: self.snapshot_send_failures.with_label_values(&one),
            snapshot_sends_inflight: self.snapshot_sends_inflight.with_label_values(&one),
            snapshot_send_seconds: self.snapshot_send_seconds.with_label_values(&one),
            snapshot_receives: self.snapshot_receives.with_label_values(&one),
            snapshot_receive_failures: self.snapshot_receive_failures.with_label_values(&one),
            snapshot_receives_inflight: self.snapshot_receives_inflight.with_label_values(&one),
            snapshot_receive_seconds: self.snapshot_receive_seconds.with_label_values(&one),
        }
    }

    /// Forgets a member that was removed, so that its series end.
    pub fn forget(&self, local: u64, remote: u64) {
        let (local, remote) = (format!("{local:x}"), format!("{remote:x}"));
        for gauge in [&self.active, &self.known] {
            // Absent series are as forgotten as removed ones.
            let _ = gauge.remove_label_values(&[&local, &remote]);
        }
    }
}
