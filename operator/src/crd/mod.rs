//! The `KvCluster` resource: what a user writes (`spec`) and sees (`status`).
//!
//! These are types and their schema, without decisions: `validate` turns the spec into `Desired`,
//! and `status` makes the status. Assumes nothing. Must not know: clients, plans. Caveat: the types
//! accept unknown fields when they are decoded, so that one object of a future schema cannot break
//! a watch (H53); manifests are checked against the schema by `manifest`.

mod access;
mod rules;
mod schema;
mod spec;
mod status;
mod workload;

pub use access::{
    AuthSpec, ClientAuth, ClientTls, IssuerRef, NetworkPolicySpec, PeerTls, ServiceSpec,
    ServiceType, TlsMode, TlsSpec,
};
pub use schema::{crd, crd_yaml, schema};
pub use spec::{
    AccessMode, AdoptSpec, AutoCompaction, AutoCompactionMode, AzureLocation, BackupRetention,
    BackupSpec, BootstrapSpec, BucketLocation, ClaimLocation, Destination, KvCluster,
    KvClusterSpec, NewSpec, RecoverySpec, RepairAction, RepairSpec, RestoreSpec, RetentionPolicy,
    StorageSpec,
};
pub use status::{
    BackoffStatus, BackupFailure, BackupStatus, BackupSuccess, BootstrapStatus, CertificateStatus,
    CertificatesStatus, ClaimStatus, ConditionStatus, KvClusterStatus, LeaderStatus, MemberStatus,
    OperationStatus, QuorumStatus, RecoveryStatus, RequestStatus, StorageStatus, VersionStatus,
};
pub use workload::{
    DisruptionBudgetSpec, EvictionPolicy, ExtraVolume, ImageSpec, LocalSecret, MonitoringSpec,
    PodMetadata, PodMonitorSpec, PrometheusRuleSpec, PullPolicy, SchedulingSpec, UpdateSpec,
    UpdateStrategy,
};

/// The API group of our resources.
pub const GROUP: &str = "quorate.dev";
/// The version of our resources.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of a `KvCluster`.
pub const API_VERSION: &str = "quorate.dev/v1alpha1";
/// `kind` of a `KvCluster`.
pub const KIND: &str = "KvCluster";
/// The finalizer that lets us apply the volume policy before the object goes.
pub const FINALIZER: &str = "quorate.dev/cleanup";
/// Annotation: replace one member in place, `ordinal=<n>,id=<member id>`.
pub const ANNOTATION_REPLACE_MEMBER: &str = "quorate.dev/replace-member";
/// Annotation: abort the operation of that ID.
pub const ANNOTATION_ABORT_OPERATION: &str = "quorate.dev/abort-operation";
/// Annotation: let the member in that slot lead, `to=<ordinal>,token=<any>`.
pub const ANNOTATION_TRANSFER_LEADER: &str = "quorate.dev/transfer-leader";
/// Annotation: recover from a lost quorum, `from=<ordinal>|auto,epoch=<n>[,force=true]`.
pub const ANNOTATION_RECOVER_QUORUM: &str = "quorate.dev/recover-quorum";
/// Annotation: all pods begin anew, one by one; an RFC 3339 time.
pub const ANNOTATION_RESTARTED_AT: &str = "quorate.dev/restarted-at";
/// Annotation: make a leaf or an authority anew, `leaf|ca,token=<any>[,grace=<duration>]`.
pub const ANNOTATION_ROTATE_CERTIFICATES: &str = "quorate.dev/rotate-certificates";
/// Prefixes of labels and annotations that are the operator's.
pub const RESERVED_PREFIXES: [&str; 2] = ["quorate.dev/", "app.kubernetes.io/"];
/// Settings of the node that the operator renders itself.
pub const RESERVED_CONFIG: [&str; 26] = [
    "admin-cert-allowed-cn",
    "admin-cert-file",
    "admin-key-file",
    "admin-trusted-ca-file",
    "admin-url",
    "advertise-client-urls",
    "cert-file",
    "client-cert-auth",
    "client-cert-optional",
    "data-dir",
    "epoch",
    "initial-advertise-peer-urls",
    "initial-cluster",
    "initial-cluster-state",
    "key-file",
    "listen-admin",
    "listen-client-urls",
    "listen-metrics-urls",
    "listen-peer-urls",
    "name",
    "peer-cert-allowed-cn",
    "peer-cert-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "settings-file",
    "trusted-ca-file",
];
/// Settings of the node that a field of the spec is for, and which.
pub const CONFIG_WITH_FIELD: [(&str, &str); 3] = [
    ("auto-compaction-mode", "spec.autoCompaction.mode"),
    ("auto-compaction-retention", "spec.autoCompaction.retention"),
    ("quota-backend-bytes", "spec.quotaBackendBytes"),
];
/// The longest name of a cluster: revision labels of its pods add 18 characters.
pub const NAME_LENGTH_MAX: usize = 45;
/// The most voting members: beyond, each write costs more than a further failure saves.
pub const REPLICAS_MAX: u32 = 7;
/// The smallest volume, in bytes: what a new log and history allocate, with room for one more
/// segment.
pub const STORAGE_BYTES_MIN: u64 = 64 << 20;
