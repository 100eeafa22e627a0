//! How the members run on Kubernetes: image, scheduling, updates, budget, monitoring.
//!
//! The local platform takes none of it. Must not know: how pods are rendered.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint, Volume};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The container image.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageSpec {
    /// Registry and repository.
    #[schemars(length(min = 1, max = 512))]
    pub repository: String,
    /// The tag. Left out: `spec.version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub tag: Option<String>,
    /// The digest, which wins over the tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub digest: Option<String>,
    /// When to pull.
    pub pull_policy: PullPolicy,
    /// Secrets for the registry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub pull_secrets: Vec<LocalSecret>,
}

impl Default for ImageSpec {
    fn default() -> ImageSpec {
        ImageSpec {
            repository: "quorate/quorate".to_owned(),
            tag: None,
            digest: None,
            pull_policy: PullPolicy::IfNotPresent,
            pull_secrets: Vec::new(),
        }
    }
}

/// When to pull the image.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// When it is not on the machine.
    IfNotPresent,
    /// At every start.
    Always,
    /// Never.
    Never,
}

/// A Secret of the same namespace.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct LocalSecret {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A volume mounted into the node's container.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ExtraVolume {
    /// The volume.
    pub volume: Volume,
    /// Where it is mounted.
    #[schemars(length(min = 1, max = 512))]
    pub mount_path: String,
    /// It cannot be written to.
    #[serde(default)]
    pub read_only: bool,
}

/// Where pods may run.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct SchedulingSpec {
    /// Labels a machine must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Affinity. Left out: no two members on one machine where that is possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Spread. Left out: over zones where that is possible.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub priority_class_name: Option<String>,
    /// The scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub scheduler_name: Option<String>,
}

/// Labels and annotations added to pods.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PodMetadata {
    /// Labels. Prefixes `quorate.dev/` and `app.kubernetes.io/` are the operator's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// How members are updated.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateSpec {
    /// Seconds a member must have been ready before the next is touched.
    #[schemars(range(min = 0, max = 3600))]
    pub min_ready_seconds: i32,
    /// How long one member may take before the update is reported as stalled.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub progress_deadline: String,
    /// Who deletes outdated pods.
    pub strategy: UpdateStrategy,
    /// A new operator's defaults are taken over at once, and not with the next change of the spec.
    pub adopt_operator_changes: bool,
}

impl Default for UpdateSpec {
    fn default() -> UpdateSpec {
        UpdateSpec {
            min_ready_seconds: 10,
            progress_deadline: "10m".to_owned(),
            strategy: UpdateStrategy::RollingLeaderLast,
            adopt_operator_changes: false,
        }
    }
}

/// Who deletes outdated pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// The operator, one at a time, the leader last.
    RollingLeaderLast,
    /// A human.
    Manual,
}

/// The budget that protects members from drains.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct DisruptionBudgetSpec {
    /// A budget is kept. Sizes 1 and 2 then block drains.
    pub enabled: bool,
    /// Whether an unready pod may be evicted.
    pub unhealthy_pod_eviction_policy: EvictionPolicy,
}

impl Default for DisruptionBudgetSpec {
    fn default() -> DisruptionBudgetSpec {
        DisruptionBudgetSpec {
            enabled: true,
            unhealthy_pod_eviction_policy: EvictionPolicy::IfHealthyBudget,
        }
    }
}

/// Whether an unready pod may be evicted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// While the others meet the budget.
    IfHealthyBudget,
    /// Always.
    AlwaysAllow,
}

/// Objects for Prometheus.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MonitoringSpec {
    /// A PodMonitor for the members.
    pub pod_monitor: PodMonitorSpec,
    /// Alert rules.
    pub prometheus_rule: PrometheusRuleSpec,
}

/// A PodMonitor for the members.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PodMonitorSpec {
    /// It is kept, if the API exists.
    pub enabled: bool,
    /// How often to scrape.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    pub interval: String,
    /// Its labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
}

impl Default for PodMonitorSpec {
    fn default() -> PodMonitorSpec {
        PodMonitorSpec {
            enabled: false,
            interval: "30s".to_owned(),
            labels: BTreeMap::new(),
        }
    }
}

/// Alert rules.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PrometheusRuleSpec {
    /// They are kept, if the API exists.
    pub enabled: bool,
    /// Their labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
}
