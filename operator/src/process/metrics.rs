//! What Prometheus sees: about the operator, and about each cluster as its status says.
//!
//! Label values are closed sets, but for the clusters' names; the series of a cluster go with it.
//! Must not know: who reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::{
    Encoder as _, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use super::queue::Key;
use crate::crd::KvClusterStatus;
use crate::ids::UnixMs;
use crate::ledger::unix_ms;
use crate::plan::Plan;

/// Bounds of the duration of a pass, in seconds.
const BUCKETS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

/// All families.
pub struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    errors: IntCounterVec,
    duration: Histogram,
    steps: IntCounterVec,
    refusals: IntCounterVec,
    /// Clusters that wait for their turn.
    pub queue_depth: IntGauge,
    /// Passes that run.
    pub queue_running: IntGauge,
    /// This operator works.
    pub leader: IntGauge,
    /// Failures of watches.
    pub watch_errors: IntCounter,
    clusters: BTreeMap<&'static str, GaugeVec>,
    leader_changes: IntCounterVec,
    /// Conditions and operations a cluster was last shown with, so that they can be taken back.
    shown: BTreeMap<Key, Shown>,
}

#[derive(Default)]
struct Shown {
    conditions: Vec<(String, String)>,
    operation: Option<String>,
    leader: Option<String>,
}

/// Families about a cluster that have no labels but its name.
const PLAIN: [(&str, &str); 8] = [
    ("members_desired", "Voting members wanted."),
    ("members", "Voting members."),
    ("members_ready", "Voting members that are ready."),
    ("learners", "Members that only receive."),
    (
        "has_quorum",
        "1 while a quorum serves, by the last linearizable read.",
    ),
    ("has_leader", "1 while a leader is known."),
    ("available", "1 while the condition Available is True."),
    ("tls_ready", "1 while the condition TLSReady is True."),
];

impl Metrics {
    /// Registers all families.
    ///
    /// # Errors
    /// A name is used twice: a fault of this program.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(opts(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::with_opts(opts(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "quorate_operator_reconcile_duration_seconds",
                "How long a pass took.",
            )
            .buckets(BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(duration.clone()))?;
        let watch_errors =
            IntCounter::with_opts(opts("watch_errors_total", "Watches that failed."))?;
        registry.register(Box::new(watch_errors.clone()))?;
        let mut clusters = BTreeMap::new();
        let plain = PLAIN.iter().map(|(name, help)| (*name, *help, &[][..]));
        let with_labels: [(&str, &str, &[&str]); 2] = [
            (
                "operation_age_seconds",
                "Age of the operation in flight.",
                &["type"],
            ),
            (
                "condition",
                "1 for the status each condition has.",
                &["type", "status"],
            ),
        ];
        for (name, help, labels) in plain.chain(with_labels) {
            let all = [&["namespace", "cluster"][..], labels].concat();
            let family = GaugeVec::new(opts(&format!("cluster_{name}"), help), &all)?;
            registry.register(Box::new(family.clone()))?;
            clusters.insert(name, family);
        }
        Ok(Metrics {
            reconciles: counter("reconciles_total", "Passes by outcome.", &["result"])?,
            errors: counter(
                "reconcile_errors_total",
                "Failures of passes and steps by kind.",
                &["category"],
            )?,
            duration,
            steps: counter(
                "steps_total",
                "Steps by name and outcome.",
                &["step", "result"],
            )?,
            refusals: counter("refusals_total", "Refusals by reason.", &["reason"])?,
            queue_depth: gauge("queue_depth", "Clusters that wait for their turn.")?,
            queue_running: gauge("queue_running", "Passes that run.")?,
            leader: gauge("leader", "1 while this operator works.")?,
            watch_errors,
            leader_changes: counter(
                "cluster_leader_changes_total",
                "Changes of a cluster's leader that were seen.",
                &["namespace", "cluster"],
            )?,
            clusters,
            shown: BTreeMap::new(),
            registry,
        })
    }

    /// A pass has ended.
    pub fn pass(&self, result: &str, took: Duration) {
        self.reconciles.with_label_values(&[result]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A pass or a step failed.
    pub fn error(&self, category: &str) {
        self.errors.with_label_values(&[category]).inc();
    }

    /// What was decided, and whether its step succeeded.
    pub fn plan(&self, plan: &Plan, failed: bool) {
        if let Some(step) = &plan.step {
            let result = if failed { "failed" } else { "done" };
            self.steps.with_label_values(&[step.name(), result]).inc();
        }
        for note in plan.notes.iter().filter(|note| note.reason.is_refusal()) {
            self.refusals.with_label_values(&[note.reason.name()]).inc();
        }
    }

    fn set(&self, name: &str, key: &Key, more: &[&str], value: f64) {
        if let Some(family) = self.clusters.get(name) {
            let labels = [&[key.namespace.as_str(), key.name.as_str()][..], more].concat();
            family.with_label_values(&labels).set(value);
        }
    }

    fn unset(&self, name: &str, key: &Key, more: &[&str]) {
        if let Some(family) = self.clusters.get(name) {
            let labels = [&[key.namespace.as_str(), key.name.as_str()][..], more].concat();
            // It may never have been shown.
            let _ = family.remove_label_values(&labels);
        }
    }

    /// A cluster as its status says.
    pub fn cluster(&mut self, key: &Key, desired: i32, status: &KvClusterStatus, now: UnixMs) {
        let is_true = |type_: &str| {
            let mut conditions = status.conditions.iter();
            conditions.any(|condition| condition.type_ == type_ && condition.status == "True")
        };
        let one = |holds: bool| if holds { 1.0 } else { 0.0 };
        let count = |number: Option<i32>| f64::from(number.unwrap_or(0));
        let learners = status.members.iter().filter(|row| row.role == "Learner");
        let learners = i32::try_from(learners.count()).ok();
        let quorum = status.quorum.as_ref().map(|quorum| quorum.state.as_str());
        let values = [
            f64::from(desired),
            count(status.replicas),
            count(status.ready_replicas),
            count(learners),
            one(quorum == Some("True")),
            one(status.leader.is_some()),
            one(is_true("Available")),
            one(is_true("TLSReady")),
        ];
        for ((name, _), value) in PLAIN.iter().zip(values) {
            self.set(name, key, &[], value);
        }
        let last = self.shown.remove(key).unwrap_or_default();
        for (type_, state) in &last.conditions {
            self.unset("condition", key, &[type_, state]);
        }
        if let Some(operation) = &last.operation {
            self.unset("operation_age_seconds", key, &[operation]);
        }
        let mut shown = Shown::default();
        for condition in &status.conditions {
            self.set(
                "condition",
                key,
                &[&condition.type_, &condition.status],
                1.0,
            );
            shown
                .conditions
                .push((condition.type_.clone(), condition.status.clone()));
        }
        if let Some(operation) = &status.operation {
            let since = operation.started_at.as_ref().map_or(now, unix_ms);
            let age_ms = i32::try_from(now.0.saturating_sub(since.0)).unwrap_or(i32::MAX);
            let age = f64::from(age_ms) / 1_000.0;
            self.set("operation_age_seconds", key, &[&operation.type_], age);
            shown.operation = Some(operation.type_.clone());
        }
        let leader = status
            .leader
            .as_ref()
            .map(|leader| leader.member_id.clone());
        let changes = &self.leader_changes;
        let changes = changes.with_label_values(&[&key.namespace, &key.name]);
        if last.leader.is_some() && leader.is_some() && last.leader != leader {
            changes.inc();
        }
        shown.leader = leader.or(last.leader);
        self.shown.insert(key.clone(), shown);
    }

    /// A cluster is gone.
    pub fn forget(&mut self, key: &Key) {
        for (name, _) in PLAIN {
            self.unset(name, key, &[]);
        }
        let labels = [key.namespace.as_str(), key.name.as_str()];
        let _ = self.leader_changes.remove_label_values(&labels);
        if let Some(last) = self.shown.remove(key) {
            for (type_, state) in &last.conditions {
                self.unset("condition", key, &[type_, state]);
            }
            if let Some(operation) = &last.operation {
                self.unset("operation_age_seconds", key, &[operation]);
            }
        }
    }

    /// The families as text.
    ///
    /// # Errors
    /// A family cannot be written: a fault of this program.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("quorate_operator_{name}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{ConditionStatus, OperationStatus};
    use crate::ledger::time;

    #[test]
    fn the_series_of_a_cluster_follow_its_status_and_go_with_it() {
        let mut metrics = Metrics::new().unwrap();
        let key = Key {
            namespace: "data".to_owned(),
            name: "orders".to_owned(),
        };
        let condition = |status: &str| ConditionStatus {
            type_: "Available".to_owned(),
            status: status.to_owned(),
            reason: "Serving".to_owned(),
            message: String::new(),
            last_transition_time: time(UnixMs(0)),
            observed_generation: None,
        };
        let mut status = KvClusterStatus {
            replicas: Some(3),
            conditions: vec![condition("True")],
            operation: Some(OperationStatus {
                type_: "ScaleUp".to_owned(),
                started_at: Some(time(UnixMs(1_000))),
                ..OperationStatus::default()
            }),
            ..KvClusterStatus::default()
        };
        metrics.cluster(&key, 5, &status, UnixMs(3_500));
        let text = |metrics: &Metrics| String::from_utf8(metrics.text().unwrap()).unwrap();
        let labels = "cluster=\"orders\",namespace=\"data\"";
        let shown = text(&metrics);
        for line in [
            format!("quorate_operator_cluster_members_desired{{{labels}}} 5"),
            format!("quorate_operator_cluster_members{{{labels}}} 3"),
            format!("quorate_operator_cluster_available{{{labels}}} 1"),
            format!(
                "quorate_operator_cluster_operation_age_seconds{{{labels},type=\"ScaleUp\"}} 2.5"
            ),
        ] {
            assert!(shown.contains(&line), "{line} is not in\n{shown}");
        }
        status.conditions = vec![condition("False")];
        status.operation = None;
        metrics.cluster(&key, 5, &status, UnixMs(3_500));
        let shown = text(&metrics);
        assert!(!shown.contains("status=\"True\""), "{shown}");
        assert!(!shown.contains("operation_age_seconds{"), "{shown}");
        metrics.forget(&key);
        assert!(!text(&metrics).contains("orders"), "{}", text(&metrics));
    }
}
