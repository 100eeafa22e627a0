//! What a user sees, and where the operator keeps its records.
//!
//! 64-bit IDs are sixteen hexadecimal digits, because JSON numbers lose precision. Times are RFC
//! 3339 in UTC. Every field may be missing: an empty status is a valid state (H11).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a cluster as last read, and the operator's records.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct KvClusterStatus {
    /// The generation of the spec this status speaks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for people, derived from the conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// Latch: the identity of this cluster's history.
    #[serde(rename = "clusterUUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub cluster_uuid: Option<String>,
    /// Latch: the cluster ID that etcd clients see, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub cluster_id: Option<String>,
    /// Latch: grows with each recovery from a lost quorum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Latch: how far bootstrap came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapStatus>,
    /// Voters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Voters that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Voters at the wanted version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_replicas: Option<i32>,
    /// Ready voters of all, `3/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub ready: Option<String>,
    /// The label selector of the members' pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// The largest member's history, rounded, as in `1.2Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub db_size: Option<String>,
    /// Quorum by the last linearizable read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum: Option<QuorumStatus>,
    /// The leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<LeaderStatus>,
    /// The slots and who lives in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub members: Vec<MemberStatus>,
    /// The intent: the operation in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationStatus>,
    /// A pause after an aborted operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<BackoffStatus>,
    /// A recovery from a lost quorum in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryStatus>,
    /// Versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionStatus>,
    /// Volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// Certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesStatus>,
    /// Backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupStatus>,
    /// Requests by annotation that were carried out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub last_requests: Vec<RequestStatus>,
    /// The conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub conditions: Vec<ConditionStatus>,
}

/// One condition, in the form Kubernetes has for all resources.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConditionStatus {
    /// Its type.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[schemars(length(max = 8))]
    pub status: String,
    /// One word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// A sentence.
    #[schemars(length(max = 2048))]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// The generation of the spec it speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// How far bootstrap came.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapStatus {
    /// `Pending`, `Issued` or `Done`.
    #[schemars(length(max = 16))]
    pub state: String,
    /// The first member's slot.
    pub ordinal: i32,
    /// The first member.
    #[schemars(length(max = 16))]
    pub member_id: String,
    /// Which life of the slot.
    pub incarnation: i64,
    /// The volume the instruction was meant for.
    #[serde(rename = "claimUID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub claim_uid: Option<String>,
    /// The data directory the instruction was meant for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub directory_id: Option<String>,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// Quorum by the last linearizable read.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct QuorumStatus {
    /// Members that count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voters: Option<i32>,
    /// Those that answer, have caught up and are heard by the leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<i32>,
    /// How many a quorum needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed: Option<i32>,
    /// Log index of the newest configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_index: Option<i64>,
    /// The leader's term.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<i64>,
    /// Since when `state` is `True`, or has not been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// `True`, `False` or `Unknown`.
    #[schemars(length(max = 8))]
    pub state: String,
}

/// The leader.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LeaderStatus {
    /// Its member ID.
    #[schemars(length(max = 16))]
    pub member_id: String,
    /// Its pod or slot.
    #[schemars(length(max = 253))]
    pub pod: String,
}

/// One slot and who lives in it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MemberStatus {
    /// The slot.
    pub ordinal: i32,
    /// Its pod, or what stands for it.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// The member, if one lives here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub member_id: Option<String>,
    /// Which life of the slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<i64>,
    /// `Voter`, `Learner` or `None`.
    #[schemars(length(max = 16))]
    pub role: String,
    /// How it fares: `Running`, `Starting`, `CatchingUp`, `Unreachable`, `Dead`, `Unjoined`,
    /// `Removed`…
    #[schemars(length(max = 32))]
    pub state: String,
    /// It serves linearizable reads.
    pub ready: bool,
    /// Its own version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// Where clients reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    /// The life of the slot.
    #[serde(rename = "podUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub pod_uid: Option<String>,
    /// Its volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimStatus>,
    /// The machine it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// Log entries it lacks, rounded up to a power of two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Bytes of its history, rounded up to a mebibyte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub db_size_bytes: Option<i64>,
    /// When it was last heard of, to the minute; only while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Time>,
    /// The template revision of its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub revision: Option<String>,
}

/// A member's volume.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimStatus {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Its UID.
    #[schemars(length(max = 128))]
    pub uid: String,
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub capacity: Option<String>,
}

/// The operation in flight.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct OperationStatus {
    /// `ScaleUp`, `ScaleDown`, `Replace`, `Update`, `ExpandVolumes` or `Hibernate`.
    #[serde(rename = "type")]
    #[schemars(length(max = 32))]
    pub type_: String,
    /// Its ID.
    #[schemars(length(max = 16))]
    pub id: String,
    /// Voters when it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_replicas: Option<i32>,
    /// Voters wanted when it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_replicas: Option<i32>,
    /// The slot it works on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<i32>,
    /// The member that leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub member_id: Option<String>,
    /// The member that comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub new_member_id: Option<String>,
    /// Which life of the slot begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<i64>,
    /// The template that every pod is to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub revision: Option<String>,
    /// The number of slots it found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_replicas: Option<i32>,
    /// The size that every volume is to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// What ran in the slot when it began.
    #[serde(rename = "podUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub pod_uid: Option<String>,
    /// The volume in the slot when it began.
    #[serde(rename = "claimUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub claim_uid: Option<String>,
    /// The empty directory the new member is joined on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub directory_id: Option<String>,
    /// Why, for a replacement.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub evidence: Option<String>,
    /// Why it is being undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub abort: Option<String>,
    /// The term in which leadership was to be moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_term: Option<i64>,
    /// When that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_at: Option<Time>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// How often it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// What it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
}

/// A pause after an aborted operation.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackoffStatus {
    /// How many were aborted in a row.
    pub attempts: i32,
    /// When the next may begin.
    pub until: Time,
    /// Why the last was aborted.
    #[schemars(length(max = 2048))]
    pub message: String,
}

/// A recovery from a lost quorum.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RecoveryStatus {
    /// The member that survives.
    #[schemars(length(max = 64))]
    pub survivor: String,
    /// Its slot.
    pub ordinal: i32,
    /// The last entry of its log: what was acknowledged behind it is lost.
    pub last_index: i64,
    /// Members on machines that cannot be reached are not waited for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// The epoch that begins.
    pub new_epoch: i64,
    /// What was found on each member.
    #[schemars(length(max = 16))]
    pub evidence: Vec<String>,
    /// The request's token.
    #[schemars(length(max = 128))]
    pub token: String,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// Versions.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct VersionStatus {
    /// The lowest version that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub current: Option<String>,
    /// The version wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub target: Option<String>,
    /// The feature version that is replicated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub feature: Option<String>,
}

/// Volumes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageStatus {
    /// The size wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub requested: Option<String>,
    /// The smallest volume's size.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub capacity: Option<String>,
    /// Volumes are growing.
    pub resizing: bool,
}

/// Certificates.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificatesStatus {
    /// Between members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<CertificateStatus>,
    /// Between clients and members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<CertificateStatus>,
    /// The phase of a CA change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
}

/// One set of certificates.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateStatus {
    /// When the leaf expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Time>,
    /// When the CA expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_not_after: Option<Time>,
    /// Serial numbers in use.
    #[schemars(length(max = 16))]
    pub serials: Vec<String>,
}

/// Backups.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupStatus {
    /// The newest that succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<BackupSuccess>,
    /// The newest that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<BackupFailure>,
}

/// A backup that succeeded.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupSuccess {
    /// When.
    pub time: Time,
    /// The revision it holds.
    pub revision: i64,
    /// Where it is.
    #[schemars(length(max = 1024))]
    pub location: String,
    /// Its size.
    pub bytes: i64,
    /// Its digest.
    #[schemars(length(max = 64))]
    pub sha256: String,
}

/// A backup that failed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BackupFailure {
    /// When.
    pub time: Time,
    /// Why.
    #[schemars(length(max = 2048))]
    pub message: String,
}

/// A request by annotation that was carried out.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RequestStatus {
    /// The annotation.
    #[schemars(length(max = 64))]
    pub request: String,
    /// Its token.
    #[schemars(length(max = 128))]
    pub token: String,
    /// How it ended.
    #[schemars(length(max = 512))]
    pub result: String,
    /// When.
    pub time: Time,
}
