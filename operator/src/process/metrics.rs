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
use crate::crd::{CertificateStatus, KvClusterStatus};
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
    /// Calls of the Kubernetes API.
    pub api_requests: IntCounterVec,
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
    /// What a cluster was last shown with, so that it can be taken back.
    shown: BTreeMap<Key, Shown>,
}

#[derive(Default)]
struct Shown {
    /// Family and labels beside the cluster's name.
    series: Vec<(&'static str, Vec<String>)>,
    leader: Option<String>,
}

/// A family: its name without the prefix, its labels, what it says.
type Family = (&'static str, &'static [&'static str], &'static str);

const RECONCILES: Family = ("reconciles_total", &["result"], "Passes by outcome.");
const ERRORS: Family = (
    "reconcile_errors_total",
    &["category"],
    "Failures of passes and steps by kind.",
);
const DURATION: Family = ("reconcile_duration_seconds", &[], "How long a pass took.");
const STEPS: Family = (
    "steps_total",
    &["step", "result"],
    "Steps by name and outcome.",
);
const REFUSALS: Family = ("refusals_total", &["reason"], "Refusals by reason.");
const API_REQUESTS: Family = (
    "api_requests_total",
    &["verb", "code"],
    "Calls of the Kubernetes API by verb and status; `none` when no answer came.",
);
const QUEUE_DEPTH: Family = ("queue_depth", &[], "Clusters that wait for their turn.");
const QUEUE_RUNNING: Family = ("queue_running", &[], "Passes that run.");
const LEADER: Family = ("leader", &[], "1 while this operator works.");
const WATCH_ERRORS: Family = ("watch_errors_total", &[], "Watches that failed.");
const LEADER_CHANGES: Family = (
    "cluster_leader_changes_total",
    &["namespace", "cluster"],
    "Changes of a cluster's leader that were seen.",
);
/// Families that every cluster has exactly one series of; the label is its name.
const PLAIN: [Family; 9] = [
    ("members_desired", &[], "Voting members wanted."),
    ("members", &[], "Voting members."),
    ("members_ready", &[], "Voting members that are ready."),
    ("learners", &[], "Members that only receive."),
    (
        "has_quorum",
        &[],
        "1 while a quorum serves, by the last linearizable read.",
    ),
    ("has_leader", &[], "1 while a leader is known."),
    ("available", &[], "1 while the condition Available is True."),
    ("tls_ready", &[], "1 while the condition TLSReady is True."),
    (
        "version_skew",
        &[],
        "Voting members that do not run the wanted version with the newest template.",
    ),
];
/// Families that a cluster has series of when there is something to say.
const MORE: [Family; 3] = [
    (
        "operation_age_seconds",
        &["type"],
        "Age of the operation in flight.",
    ),
    (
        "condition",
        &["type", "status"],
        "1 for the status each condition has.",
    ),
    (
        "certificate_expiry_seconds",
        &["certificate"],
        "Time until a certificate that members use expires, or that of its authority.",
    ),
];

fn opts(family: &Family) -> Opts {
    Opts::new(format!("quorate_operator_{}", family.0), family.2)
}

fn counter(registry: &Registry, family: &Family) -> Result<IntCounterVec, prometheus::Error> {
    let counter = IntCounterVec::new(opts(family), family.1)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauge(registry: &Registry, family: &Family) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::with_opts(opts(family))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// Labels and help of a family about a cluster.
fn of_cluster((name, labels, help): &Family) -> (String, Vec<&'static str>, &'static str) {
    let labels = [&["namespace", "cluster"][..], labels].concat();
    (format!("quorate_operator_cluster_{name}"), labels, help)
}

impl Metrics {
    /// Registers all families.
    ///
    /// # Errors
    /// A name is used twice: a fault of this program.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let duration = HistogramOpts::from(opts(&DURATION)).buckets(BUCKETS.to_vec());
        let duration = Histogram::with_opts(duration)?;
        registry.register(Box::new(duration.clone()))?;
        let watch_errors = IntCounter::with_opts(opts(&WATCH_ERRORS))?;
        registry.register(Box::new(watch_errors.clone()))?;
        let mut clusters = BTreeMap::new();
        for family in PLAIN.iter().chain(&MORE) {
            let (name, labels, help) = of_cluster(family);
            let gauges = GaugeVec::new(Opts::new(name, help), &labels)?;
            registry.register(Box::new(gauges.clone()))?;
            clusters.insert(family.0, gauges);
        }
        Ok(Metrics {
            reconciles: counter(&registry, &RECONCILES)?,
            errors: counter(&registry, &ERRORS)?,
            duration,
            steps: counter(&registry, &STEPS)?,
            refusals: counter(&registry, &REFUSALS)?,
            api_requests: counter(&registry, &API_REQUESTS)?,
            queue_depth: gauge(&registry, &QUEUE_DEPTH)?,
            queue_running: gauge(&registry, &QUEUE_RUNNING)?,
            leader: gauge(&registry, &LEADER)?,
            watch_errors,
            leader_changes: counter(&registry, &LEADER_CHANGES)?,
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

    fn unset(&self, name: &str, key: &Key, more: &[String]) {
        if let Some(family) = self.clusters.get(name) {
            let more = more.iter().map(String::as_str);
            let labels: Vec<&str> = [key.namespace.as_str(), key.name.as_str()]
                .into_iter()
                .chain(more)
                .collect();
            // It may never have been shown.
            let _ = family.remove_label_values(&labels);
        }
    }

    /// A cluster as its status says.
    pub fn cluster(&mut self, key: &Key, desired: i32, status: &KvClusterStatus, now: UnixMs) {
        for ((name, _, _), value) in PLAIN.iter().zip(plain_values(desired, status)) {
            self.set(name, key, &[], value);
        }
        let last = self.shown.remove(key).unwrap_or_default();
        let series = more_series(status, now);
        for (name, labels) in &last.series {
            let goes_on =
                |(family, kept, _): &(&str, Vec<String>, f64)| family == name && kept == labels;
            if !series.iter().any(goes_on) {
                self.unset(name, key, labels);
            }
        }
        for (name, labels, value) in &series {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            self.set(name, key, &labels, *value);
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
        let series = series.into_iter();
        let shown = Shown {
            series: series.map(|(name, labels, _)| (name, labels)).collect(),
            leader: leader.or(last.leader),
        };
        self.shown.insert(key.clone(), shown);
    }

    /// A cluster is gone.
    pub fn forget(&mut self, key: &Key) {
        for (name, _, _) in PLAIN {
            self.unset(name, key, &[]);
        }
        let labels = [key.namespace.as_str(), key.name.as_str()];
        let _ = self.leader_changes.remove_label_values(&labels);
        for (name, labels) in self.shown.remove(key).unwrap_or_default().series {
            self.unset(name, key, &labels);
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

/// The values of [`PLAIN`], in its order.
fn plain_values(desired: i32, status: &KvClusterStatus) -> [f64; 9] {
    let is_true = |type_: &str| {
        let mut conditions = status.conditions.iter();
        conditions.any(|condition| condition.type_ == type_ && condition.status == "True")
    };
    let one = |holds: bool| if holds { 1.0 } else { 0.0 };
    let count = |number: Option<i32>| f64::from(number.unwrap_or(0));
    let learners = status.members.iter().filter(|row| row.role == "Learner");
    let learners = i32::try_from(learners.count()).ok();
    let quorum = status.quorum.as_ref().map(|quorum| quorum.state.as_str());
    let skew = count(status.replicas) - count(status.updated_replicas);
    [
        f64::from(desired),
        count(status.replicas),
        count(status.ready_replicas),
        count(learners),
        one(quorum == Some("True")),
        one(status.leader.is_some()),
        one(is_true("Available")),
        one(is_true("TLSReady")),
        skew.max(0.0),
    ]
}

/// The series of [`MORE`]: family, labels beside the cluster's name, value.
fn more_series(status: &KvClusterStatus, now: UnixMs) -> Vec<(&'static str, Vec<String>, f64)> {
    let conditions = status.conditions.iter().map(|condition| {
        let labels = vec![condition.type_.clone(), condition.status.clone()];
        ("condition", labels, 1.0)
    });
    let operation = status.operation.iter().map(|operation| {
        let since = operation.started_at.as_ref().map_or(now, unix_ms);
        let labels = vec![operation.type_.clone()];
        ("operation_age_seconds", labels, seconds(now.0 - since.0))
    });
    let certificates = status.certificates.iter().flat_map(|all| {
        let of = |leaf: &'static str, ca: &'static str, one: &Option<CertificateStatus>| {
            let one = one.clone().unwrap_or_default();
            [(leaf, one.not_after), (ca, one.ca_not_after)]
        };
        let peer = of("peer", "peer-ca", &all.peer);
        peer.into_iter()
            .chain(of("client", "client-ca", &all.client))
    });
    let certificates = certificates.filter_map(|(which, at)| {
        let left = seconds(unix_ms(&at?).0 - now.0);
        Some(("certificate_expiry_seconds", vec![which.to_owned()], left))
    });
    conditions.chain(operation).chain(certificates).collect()
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds fit into 53 bits")]
fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{CertificatesStatus, ConditionStatus, OperationStatus};
    use crate::ledger::time;

    /// Every family with its kind, labels and help, as dashboards and alerts may use them.
    const FAMILIES: &str = include_str!("families.txt");

    #[test]
    fn the_families_are_those_that_dashboards_know() {
        let counters = [
            &RECONCILES,
            &ERRORS,
            &STEPS,
            &REFUSALS,
            &API_REQUESTS,
            &WATCH_ERRORS,
            &LEADER_CHANGES,
        ];
        let gauges = [&QUEUE_DEPTH, &QUEUE_RUNNING, &LEADER];
        let kinds = counters.into_iter().map(|family| ("counter", family));
        let kinds = kinds.chain(gauges.map(|family| ("gauge", family)));
        let kinds = kinds.chain([("histogram", &DURATION)]);
        let row = |name: String, kind: &str, labels: &[&str], help: &str| match labels {
            [] => format!("{name} {kind} - {help}"),
            labels => format!("{name} {kind}_vec {} {help}", labels.join(",")),
        };
        let mut rows: Vec<String> = kinds
            .map(|(kind, (name, labels, help))| {
                row(format!("quorate_operator_{name}"), kind, labels, help)
            })
            .collect();
        rows.extend(PLAIN.iter().chain(&MORE).map(|family| {
            let (name, labels, help) = of_cluster(family);
            row(name, "gauge", &labels, help)
        }));
        rows.sort();
        let golden: Vec<&str> = FAMILIES.lines().collect();
        assert_eq!(rows, golden, "families.txt lists what is served");
    }

    #[test]
    fn a_fresh_operator_shows_every_family_that_has_no_labels() {
        let text = String::from_utf8(Metrics::new().unwrap().text().unwrap()).unwrap();
        for line in FAMILIES.lines().filter(|line| line.contains(" - ")) {
            let name = line.split(' ').next().unwrap();
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}: {text}");
        }
    }

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
            updated_replicas: Some(2),
            certificates: Some(CertificatesStatus {
                peer: Some(CertificateStatus {
                    not_after: Some(time(UnixMs(90_000))),
                    ..CertificateStatus::default()
                }),
                ..CertificatesStatus::default()
            }),
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
            format!("quorate_operator_cluster_version_skew{{{labels}}} 1"),
            format!(
                "quorate_operator_cluster_certificate_expiry_seconds{{certificate=\"peer\",{labels}}} \
                 86.5"
            ),
            format!(
                "quorate_operator_cluster_operation_age_seconds{{{labels},type=\"ScaleUp\"}} 2.5"
            ),
        ] {
            assert!(shown.contains(&line), "{line} is not in\n{shown}");
        }
        status.conditions = vec![condition("False")];
        status.operation = None;
        status.certificates = None;
        metrics.cluster(&key, 5, &status, UnixMs(3_500));
        let shown = text(&metrics);
        assert!(!shown.contains("status=\"True\""), "{shown}");
        assert!(!shown.contains("operation_age_seconds{"), "{shown}");
        assert!(!shown.contains("certificate_expiry_seconds{"), "{shown}");
        metrics.forget(&key);
        assert!(!text(&metrics).contains("orders"), "{}", text(&metrics));
    }
}
