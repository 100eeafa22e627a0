//! Families of what runs behind the server: Raft, apply, inbox, disk and peers.
//!
//! Must not know: who updates them.

use prometheus::{Histogram, IntCounter, IntGauge};

families! {
    /// Raft, apply and inbox. The replica's thread updates them.
    pub struct ReplicaMetrics {
        /// Changes of the leader as seen here.
        pub leader_changes: counter "etcd_server_leader_changes_seen_total"
            "Changes of the leader seen.";
        /// Proposals that wait for an answer.
        pub proposals_pending: gauge "etcd_server_proposals_pending"
            "Proposals that wait for an answer.";
        /// Proposals that timed out or were refused by Raft.
        pub proposals_failed: counter "etcd_server_proposals_failed_total"
            "Proposals that timed out or were refused.";
        /// Applies that took longer than etcd's threshold of 100 ms.
        pub slow_apply: counter "etcd_server_slow_apply_total"
            "Applies that took too long.";
        /// Linearizable reads whose quorum round took long.
        pub slow_read_indexes: counter "etcd_server_slow_read_indexes_total"
            "Quorum rounds of reads that took too long.";
        /// Linearizable reads whose quorum round failed.
        pub read_indexes_failed: counter "etcd_server_read_indexes_failed_total"
            "Quorum rounds of reads that failed.";
        /// Heartbeats that could not be sent in time.
        pub heartbeat_send_failures: counter "etcd_server_heartbeat_send_failures_total"
            "Heartbeats sent too late or not at all.";
        /// Learners promoted.
        pub learner_promote_successes: counter "etcd_server_learner_promote_successes"
            "Learners promoted.";
        /// Learners not promoted, by reason.
        pub learner_promote_failures: counter_vec "etcd_server_learner_promote_failures" ["Reason"]
            "Learners not promoted.";
        /// Snapshots being installed.
        pub snapshot_apply_in_progress: gauge "etcd_server_snapshot_apply_in_progress_total"
            "Snapshots being installed.";
        apply_duration: histogram_vec "etcd_server_apply_duration_seconds" ["version", "op", "success"] {0.0001, 2.0, 20}
            "Time to apply a command.";
        /// Seconds one turn of the replica's loop takes.
        pub turn_seconds: histogram "quorate_replica_turn_seconds" {0.000_01, 2.0, 18}
            "Time of one turn of the replica's loop.";
        /// Inputs taken from the inbox per turn.
        pub inbox_batch: histogram "quorate_inbox_batch_size" {1.0, 2.0, 14}
            "Inputs taken from the inbox per turn.";
        /// Inputs refused because the inbox was full.
        pub inbox_refused: counter "quorate_inbox_refused_total"
            "Inputs refused because the inbox was full.";
        /// Proposals per append to the log.
        pub propose_batch: histogram "quorate_raft_propose_batch_size" {1.0, 2.0, 14}
            "Proposals per append to the log.";
        /// Entries applied per turn.
        pub apply_batch: histogram "quorate_apply_batch_size" {1.0, 2.0, 14}
            "Entries applied per turn.";
        /// Reads confirmed by one quorum round.
        pub read_batch: histogram "quorate_raft_read_batch_size" {1.0, 2.0, 14}
            "Reads confirmed by one quorum round.";
        /// Campaigns begun here, pre-votes included.
        pub campaigns: counter "quorate_raft_campaigns_total"
            "Campaigns begun here, pre-votes included.";
        /// Raft messages sent.
        pub messages_sent: counter "quorate_raft_messages_sent_total"
            "Raft messages sent.";
        /// Raft messages received.
        pub messages_received: counter "quorate_raft_messages_received_total"
            "Raft messages received.";
        /// Raft messages dropped because a queue was full.
        pub messages_dropped: counter "quorate_raft_messages_dropped_total"
            "Raft messages dropped because a queue was full.";
    }
}

/// Label `op` of the apply histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyOp {
    /// A put.
    Put = 0,
    /// A deletion.
    DeleteRange = 1,
    /// A transaction.
    Txn = 2,
    /// A compaction.
    Compaction = 3,
    /// A change of the membership data.
    Member = 4,
}

/// The values of label `op`, in the order of [`ApplyOp`].
const APPLY_OPS: [&str; 5] = ["Put", "DeleteRange", "Txn", "Compaction", "ClusterMember"];

/// The histograms of applying, resolved: the look-up is not for the apply path.
pub struct ApplyTimes {
    /// By [`ApplyOp`]: refused, done.
    times: [[Histogram; 2]; 5],
}

impl ApplyTimes {
    /// A command took this many seconds to apply.
    pub fn observe(&self, op: ApplyOp, success: bool, seconds: f64) {
        self.times[op as usize][usize::from(success)].observe(seconds);
    }
}

impl ReplicaMetrics {
    /// The histograms of applying; their series exist from then on.
    #[must_use]
    pub fn apply_times(&self) -> ApplyTimes {
        let of = |op: &str, success: &str| {
            let labels = ["v3", op, success];
            self.apply_duration.with_label_values(&labels)
        };
        ApplyTimes {
            times: APPLY_OPS.map(|op| [of(op, "false"), of(op, "true")]),
        }
    }
}

families! {
    /// Log and history on disk.
    pub struct StorageMetrics {
        /// One sync of the write-ahead log.
        pub wal_fsync_seconds: histogram "etcd_disk_wal_fsync_duration_seconds" {0.001, 2.0, 14}
            "Time of a sync of the write-ahead log.";
        /// One write to it, before the sync.
        pub wal_write_seconds: histogram "etcd_disk_wal_write_duration_seconds" {0.001, 2.0, 14}
            "Time of a write to the write-ahead log.";
        /// Bytes written to it since the start.
        pub wal_write_bytes: gauge "etcd_disk_wal_write_bytes_total"
            "Bytes written to the write-ahead log.";
        /// Entries made durable by one sync.
        pub wal_batch: histogram "quorate_wal_batch_entries" {1.0, 2.0, 14}
            "Entries made durable by one sync.";
        /// Segments of the log, on disk and spare.
        pub wal_segments: gauge "quorate_wal_segments"
            "Segments of the write-ahead log, spare ones included.";
        /// One sync of the revision log.
        pub history_sync_seconds: histogram "etcd_disk_backend_commit_duration_seconds" {0.001, 2.0, 14}
            "Time of a sync of the revision log.";
        /// Bytes applied and not yet durable in the revision log.
        pub history_unsynced_bytes: gauge "quorate_history_unsynced_bytes"
            "Bytes applied and not yet durable in the revision log.";
        /// Keys removed by compaction.
        pub compacted_keys: counter "etcd_debugging_mvcc_db_compaction_keys_total"
            "Keys removed by compaction.";
        /// Unix time of the last finished compaction.
        pub compaction_last: gauge "etcd_debugging_mvcc_db_compaction_last"
            "Unix time of the last finished compaction.";
    }
}

families! {
    /// Peers, by member ID in hexadecimal.
    pub struct NetworkMetrics {
        round_trip: histogram_vec "etcd_network_peer_round_trip_time_seconds" ["To"] {0.0001, 2.0, 16}
            "Round-trip time between peers.";
        sent_bytes: counter_vec "etcd_network_peer_sent_bytes_total" ["To"]
            "Bytes sent to a peer.";
        received_bytes: counter_vec "etcd_network_peer_received_bytes_total" ["From"]
            "Bytes received from a peer.";
        sent_failures: counter_vec "etcd_network_peer_sent_failures_total" ["To"]
            "Messages that could not be sent to a peer.";
        received_failures: counter_vec "etcd_network_peer_received_failures_total" ["From"]
            "Frames of a peer that could not be read.";
        active: gauge_vec "etcd_network_active_peers" ["Local", "Remote"]
            "1 while connected to the peer.";
        known: gauge_vec "etcd_network_known_peers" ["Local", "Remote"]
            "1 for every peer.";
        disconnected: counter_vec "etcd_network_disconnected_peers_total" ["Local", "Remote"]
            "Times the connection to a peer was lost.";
        snapshot_sends: counter_vec "etcd_network_snapshot_send_success" ["To"]
            "Snapshots sent.";
        snapshot_send_failures: counter_vec "etcd_network_snapshot_send_failures" ["To"]
            "Snapshots that could not be sent.";
        snapshot_sends_inflight: gauge_vec "etcd_network_snapshot_send_inflights_total" ["To"]
            "Snapshots being sent.";
        snapshot_send_seconds: histogram_vec "etcd_network_snapshot_send_total_duration_seconds" ["To"] {0.1, 2.0, 10}
            "Time to send a snapshot.";
        snapshot_receives: counter_vec "etcd_network_snapshot_receive_success" ["From"]
            "Snapshots received.";
        snapshot_receive_failures: counter_vec "etcd_network_snapshot_receive_failures" ["From"]
            "Snapshots that could not be received.";
        snapshot_receives_inflight: gauge_vec "etcd_network_snapshot_receive_inflights_total" ["From"]
            "Snapshots being received.";
        snapshot_receive_seconds: histogram_vec "etcd_network_snapshot_receive_total_duration_seconds" ["From"] {0.1, 2.0, 10}
            "Time to receive a snapshot.";
    }
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
        let (one, both) = ([remote.as_str()], [local.as_str(), remote.as_str()]);
        // Absent series are as forgotten as removed ones.
        for gauge in [&self.active, &self.known] {
            let _ = gauge.remove_label_values(&both);
        }
        let _ = self.disconnected.remove_label_values(&both);
        for counter in [
            &self.sent_bytes,
            &self.received_bytes,
            &self.sent_failures,
            &self.received_failures,
            &self.snapshot_sends,
            &self.snapshot_send_failures,
            &self.snapshot_receives,
            &self.snapshot_receive_failures,
        ] {
            let _ = counter.remove_label_values(&one);
        }
        for gauge in [
            &self.snapshot_sends_inflight,
            &self.snapshot_receives_inflight,
        ] {
            let _ = gauge.remove_label_values(&one);
        }
        for histogram in [
            &self.round_trip,
            &self.snapshot_send_seconds,
            &self.snapshot_receive_seconds,
        ] {
            let _ = histogram.remove_label_values(&one);
        }
    }
}
