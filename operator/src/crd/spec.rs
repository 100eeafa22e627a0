//! What a user writes: size, version, storage, repair, backup.
//!
//! Defaults are in the schema (the API server fills them in) and in serde (manifests without a
//! server); a test compares the two. Must not know: how any of it is carried out.

#![expect(
    clippy::duplicated_attributes,
    reason = "printer columns repeat type and priority"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EnvVar, PodSecurityContext, ResourceRequirements, SecurityContext,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{AuthSpec, NetworkPolicySpec, ServiceSpec, TlsSpec};
use super::schema;
use super::status::KvClusterStatus;
use super::workload::{
    DisruptionBudgetSpec, ExtraVolume, ImageSpec, MonitoringSpec, PodMetadata, SchedulingSpec,
    UpdateSpec,
};

/// A Quorate cluster: a replicated key-value store that speaks the etcd v3 API.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "quorate.dev",
    version = "v1alpha1",
    kind = "KvCluster",
    plural = "kvclusters",
    singular = "kvcluster",
    shortname = "kvc",
    category = "all",
    category = "quorate",
    namespaced,
    doc = "A Quorate cluster: a replicated key-value store that speaks the etcd v3 API.",
    status = "KvClusterStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    selectable = ".spec.version",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader.pod"),
    printcolumn(name = "Quorum", type_ = "string", json_path = ".status.quorum.state"),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version.current"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Epoch",
        type_ = "integer",
        json_path = ".status.epoch",
        priority = 1
    ),
    printcolumn(
        name = "Operation",
        type_ = "string",
        json_path = ".status.operation.type",
        priority = 1
    ),
    printcolumn(
        name = "DB",
        type_ = "string",
        json_path = ".status.dbSize",
        priority = 1
    ),
    printcolumn(
        name = "Cluster-UUID",
        type_ = "string",
        json_path = ".status.clusterUUID",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct KvClusterSpec {
    /// Voting members wanted, 1 to 7. An even size tolerates no more failures than the odd size
    /// below it.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 7))]
    pub replicas: i32,
    /// The node version, `major.minor.patch`. It is never derived from the image.
    #[serde(default = "default_version")]
    #[schemars(
        length(max = 64),
        regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$")
    )]
    pub version: String,
    /// The container image.
    #[serde(default)]
    pub image: ImageSpec,
    /// How the cluster comes to be. Immutable. Left out: a new, empty cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapSpec>,
    /// The members' volumes.
    #[serde(default)]
    pub storage: StorageSpec,
    /// Resources of the node's container. Left out: requests of 100m and 256Mi, a limit of 1Gi.
    #[serde(default = "schema::default_resources")]
    pub resources: ResourceRequirements,
    /// Where pods may run. Left out: spread over hosts and zones where that is possible.
    #[serde(default)]
    pub scheduling: SchedulingSpec,
    /// Labels and annotations added to pods.
    #[serde(default)]
    pub pod_metadata: PodMetadata,
    /// Overrides of the restricted pod security context, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,
    /// Overrides of the restricted container security context, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_security_context: Option<SecurityContext>,
    /// Environment variables of the node. Names that start with `QUORATE_` are the operator's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub env: Vec<EnvVar>,
    /// More volumes, mounted into the node's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub extra_volumes: Vec<ExtraVolume>,
    /// Seconds a stopping pod has to hand leadership over and to close its files.
    #[serde(default = "default_grace")]
    #[schemars(range(min = 10, max = 600))]
    pub termination_grace_period_seconds: i64,
    /// Settings of the node, by flag name without dashes in front. Those the operator renders
    /// itself are refused. `log-level` changes without a restart, all others by a rolling update.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub config: BTreeMap<String, String>,
    /// Bytes of history above which writes are refused with NOSPACE. Left out or 0: 2 GiB, as in
    /// etcd. Changes without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub quota_backend_bytes: Option<i64>,
    /// Compaction of old revisions. Changes without a restart.
    #[serde(default)]
    pub auto_compaction: AutoCompaction,
    /// Encryption of peer and client traffic.
    #[serde(default)]
    pub tls: TlsSpec,
    /// Users and roles.
    #[serde(default)]
    pub auth: AuthSpec,
    /// The client Service. The peer Service is not configurable.
    #[serde(default)]
    pub service: ServiceSpec,
    /// How members are updated.
    #[serde(default)]
    pub update: UpdateSpec,
    /// What is done about lost members.
    #[serde(default)]
    pub repair: RepairSpec,
    /// Parameters of the recovery from a lost quorum. Its trigger is an annotation.
    #[serde(default)]
    pub recovery: RecoverySpec,
    /// The budget that protects members from drains.
    #[serde(default)]
    pub pod_disruption_budget: DisruptionBudgetSpec,
    /// Who may reach the members.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
    /// Objects for Prometheus.
    #[serde(default)]
    pub monitoring: MonitoringSpec,
    /// Backups to object storage.
    #[serde(default)]
    pub backup: BackupSpec,
    /// Do nothing but report, and delete when asked to.
    #[serde(default)]
    pub paused: bool,
    /// Stop every member and keep the data. The size is frozen meanwhile.
    #[serde(default)]
    pub hibernate: bool,
    /// The DNS domain of the Kubernetes cluster. Left out: detected. Immutable once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub cluster_domain: Option<String>,
    /// The pods' service account. Left out: one is created. Its token is never mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub service_account_name: Option<String>,
}

fn default_replicas() -> i32 {
    3
}

/// The version this operator is released with.
fn default_version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

fn default_grace() -> i64 {
    60
}

/// How the cluster comes to be: exactly one of the fields.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapSpec {
    /// Empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<NewSpec>,
    /// From a backup, with a new identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreSpec>,
    /// From retained volumes of a cluster whose object was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<AdoptSpec>,
}

/// A new, empty cluster. It has no fields.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct NewSpec {}

/// A cluster restored from a backup.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreSpec {
    /// Where the backup is.
    pub source: Destination,
    /// The revision wanted. Left out: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub revision: Option<i64>,
}

/// A cluster taken over from its volumes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AdoptSpec {
    /// The UUID its volumes are stamped with.
    #[serde(rename = "clusterUUID")]
    #[schemars(
        length(max = 36),
        regex(pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    )]
    pub cluster_uuid: String,
}

/// A place for backups: exactly one kind.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// Amazon S3 or something that speaks its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<BucketLocation>,
    /// Google Cloud Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<BucketLocation>,
    /// Azure Blob Storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureLocation>,
    /// A claim in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimLocation>,
    /// Path below the place; `<cluster UUID>/` is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub path: Option<String>,
}

/// A bucket.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BucketLocation {
    /// The bucket's name.
    #[schemars(length(min = 1, max = 253))]
    pub bucket: String,
    /// Path inside the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub prefix: Option<String>,
    /// The bucket's region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
    /// The server's URL, for anything but the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub endpoint: Option<String>,
    /// The Secret with the credentials. Left out: those of the pod's identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub credentials_secret_name: Option<String>,
}

/// A container of an Azure storage account.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AzureLocation {
    /// The storage account.
    #[schemars(length(min = 1, max = 253))]
    pub account: String,
    /// The container in it.
    #[schemars(length(min = 1, max = 253))]
    pub container: String,
    /// Path inside the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub prefix: Option<String>,
    /// The Secret with the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub credentials_secret_name: Option<String>,
}

/// A claim.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimLocation {
    /// The claim's name.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
}

/// The members' volumes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageSpec {
    /// Size of each volume, as in `8Gi`. It can grow.
    #[schemars(length(max = 32))]
    pub size: String,
    /// The StorageClass. Left out: the default one; empty: none. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// How a volume may be mounted. Immutable.
    pub access_mode: AccessMode,
    /// What becomes of the volumes when the cluster is deleted.
    pub when_deleted: RetentionPolicy,
    /// What becomes of the volume of a member that scaling removed.
    pub when_scaled: RetentionPolicy,
}

impl Default for StorageSpec {
    fn default() -> StorageSpec {
        StorageSpec {
            size: "8Gi".to_owned(),
            storage_class_name: None,
            access_mode: AccessMode::default(),
            when_deleted: RetentionPolicy::Retain,
            when_scaled: RetentionPolicy::Delete,
        }
    }
}

/// How a volume may be mounted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// By one machine.
    #[default]
    ReadWriteOnce,
    /// By one pod.
    ReadWriteOncePod,
}

/// What becomes of a volume.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionPolicy {
    /// It is kept.
    Retain,
    /// It is deleted.
    Delete,
}

/// Compaction of old revisions.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoCompaction {
    /// What `retention` counts.
    pub mode: AutoCompactionMode,
    /// How much history to keep: a duration, or a number of revisions; `0` keeps all.
    #[schemars(length(max = 32))]
    pub retention: String,
}

impl Default for AutoCompaction {
    fn default() -> AutoCompaction {
        AutoCompaction {
            mode: AutoCompactionMode::Periodic,
            retention: "1h".to_owned(),
        }
    }
}

/// What the retention counts.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompactionMode {
    /// Time.
    Periodic,
    /// Revisions.
    Revision,
}

/// What is done about lost members.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RepairSpec {
    /// The volume is gone, empty or not this member's.
    pub lost_volume: RepairAction,
    /// The member says that its data is damaged.
    pub corrupt_member: RepairAction,
    /// The volume is tied to a machine that no longer exists.
    pub node_gone: RepairAction,
    /// The member's process ends again and again.
    pub crash_loop: RepairAction,
    /// From how many ends in a row on that is a crash loop.
    #[schemars(range(min = 2, max = 100))]
    pub crash_loop_threshold: i32,
    /// How long a new member may take to catch up before it is given up.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub learner_deadline: String,
}

impl Default for RepairSpec {
    fn default() -> RepairSpec {
        RepairSpec {
            lost_volume: RepairAction::Replace,
            corrupt_member: RepairAction::Report,
            node_gone: RepairAction::Report,
            crash_loop: RepairAction::Report,
            crash_loop_threshold: 5,
            learner_deadline: "15m".to_owned(),
        }
    }
}

/// What is done about one kind of loss.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairAction {
    /// The member is replaced in place, under a new ID.
    Replace,
    /// It is reported, and a human decides.
    Report,
}

/// Parameters of the recovery from a lost quorum.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct RecoverySpec {
    /// How long quorum must have been lost before a recovery is accepted.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub min_outage: String,
}

impl Default for RecoverySpec {
    fn default() -> RecoverySpec {
        RecoverySpec {
            min_outage: "5m".to_owned(),
        }
    }
}

/// Backups to object storage.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupSpec {
    /// When to back up: cron with five fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub schedule: Option<String>,
    /// Where to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Destination>,
    /// What to keep.
    pub retention: BackupRetention,
    /// Make a last backup when the cluster is deleted.
    pub on_delete: bool,
    /// Make none for now.
    pub suspend: bool,
}

/// Which backups to keep.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupRetention {
    /// How many.
    #[schemars(range(min = 1, max = 1000))]
    pub count: i32,
    /// How old.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub max_age: Option<String>,
}

impl Default for BackupRetention {
    fn default() -> BackupRetention {
        BackupRetention {
            count: 7,
            max_age: None,
        }
    }
}
