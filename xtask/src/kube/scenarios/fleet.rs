//! Many clusters at once: none waits for another, and at rest they cost next to nothing.

use super::cluster::{self, Cluster, plain};
use super::{Bench, chart, now, seconds_since, victims};
use crate::kube::wait_until;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// Clusters of one member.
const SINGLES: usize = 30;
/// Clusters of three.
const TRIPLES: usize = 5;
/// The namespace of all of them.
const NAMESPACE: &str = "fleet";
/// How long all together may take to be Available.
const AVAILABLE_MAX: Duration = Duration::from_secs(600);
/// How long the operator may take to settle before it is measured.
const SETTLED_MAX: Duration = Duration::from_secs(300);
/// How long is measured.
const REST: Duration = Duration::from_secs(60);
/// The most memory of the operator, in MiB.
const RESIDENT_MIB_MAX: u64 = 150;
/// The most of a core that it may use at rest, in percent.
const CPU_PERCENT_MAX: f64 = 5.0;
/// What the operator and the controllers that act on its word write. Leases are renewed by design.
const KINDS: &[&str] = &[
    "configmaps",
    "events",
    "kvclusters",
    "networkpolicies",
    "persistentvolumeclaims",
    "poddisruptionbudgets",
    "pods",
    "secrets",
    "serviceaccounts",
    "services",
    "statefulsets",
];

/// 30 clusters of one member, 5 of three, and one whose image does not exist.
pub fn at_rest(bench: &Bench) -> Result<()> {
    let more = "  resources: {requests: {cpu: 1m, memory: 16Mi}}\n";
    let absent = "  image: {repository: quorate/absent}\n";
    let start = now();
    let stuck = Cluster::create(
        bench,
        NAMESPACE,
        &plain("stuck", 1, &format!("{more}{absent}")),
    )?;
    let named = |prefix: &str, count: usize, replicas: usize| -> Vec<String> {
        let manifest = |number| plain(&format!("{prefix}-{number}"), replicas, more);
        (0..count).map(manifest).collect()
    };
    let all = [named("one", SINGLES, 1), named("three", TRIPLES, 3)].concat();
    let args = ["create", "--namespace", NAMESPACE, "--filename=-"];
    let output = bench.try_kubectl(&args, &all.join("---\n"))?;
    ensure!(output.status.success(), "{output:?}");
    wait_for(
        bench,
        "all other clusters are Available",
        AVAILABLE_MAX,
        |object| object["metadata"]["name"] == "stuck" || is_settled(object),
    )?;
    println!(
        "  {} clusters settled in {:.1} s, beside one that is never ready",
        SINGLES + TRIPLES,
        seconds_since(start)
    );
    ensure!(
        !cluster::has(&stuck.object(), "Available", "True"),
        "a cluster without an image is Available"
    );
    // Its kubelet writes for as long as it tries.
    stuck.kubectl(&["delete", "kvcluster", stuck.name(), "--timeout=60s"])?;
    measure(bench)?;
    bench.kubectl(&[
        "delete",
        "--namespace",
        NAMESPACE,
        "kvclusters",
        "--all",
        "--timeout=300s",
    ])?;
    bench
        .kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])
        .map(drop)
}

fn is_settled(object: &Value) -> bool {
    object["status"]["operation"].is_null()
        && cluster::has(object, "Available", "True")
        && cluster::has(object, "Progressing", "False")
}

fn wait_for(
    bench: &Bench,
    what: &str,
    longest: Duration,
    holds: impl Fn(&Value) -> bool,
) -> Result<()> {
    let get = ["get", "--namespace", NAMESPACE, "kvclusters"];
    let mut last = String::new();
    wait_until(what, longest, || {
        let Ok(list) = bench.json(&get) else {
            return false;
        };
        let objects = list["items"].as_array().map_or(&[][..], Vec::as_slice);
        let open: Vec<&Value> = objects.iter().filter(|object| !holds(object)).collect();
        last = open
            .first()
            .map(|object| cluster::conditions(object))
            .unwrap_or_default();
        !objects.is_empty() && open.is_empty()
    })
    .map_err(|error| error.context(format!("{last}\n{}", chart::operator_log(bench, 20))))
}

/// Waits for a minute without a write, at the longest until the deadline, and checks what the
/// operator used in it.
fn measure(bench: &Bench) -> Result<()> {
    let deadline = now() + SETTLED_MAX;
    loop {
        let before = (writes(bench)?, victims::operator_usage(bench)?);
        let start = now();
        wait_until("a minute is over", REST * 2, || now() - start >= REST)?;
        let seconds = seconds_since(start);
        let after = (writes(bench)?, victims::operator_usage(bench)?);
        let written: Vec<String> = before
            .0
            .iter()
            .zip(&after.0)
            .filter(|(before, after)| before.1 != after.1)
            .map(|(before, after)| format!("{} {}", after.1 - before.1, after.0))
            .collect();
        let cpu = (after.1.cpu_seconds - before.1.cpu_seconds) / seconds * 100.0;
        let resident = after.1.resident_bytes >> 20;
        println!(
            "  at rest for {seconds:.0} s: operator {resident} MiB, {cpu:.1} % of a core, writes: {}",
            if written.is_empty() {
                "none".to_owned()
            } else {
                written.join(", ")
            }
        );
        if !written.is_empty() && now() < deadline {
            continue;
        }
        ensure!(written.is_empty(), "there are writes at rest: {written:?}");
        ensure!(
            resident < RESIDENT_MIB_MAX,
            "the operator has {resident} MiB"
        );
        ensure!(
            cpu < CPU_PERCENT_MAX,
            "the operator uses {cpu:.1} % of a core"
        );
        return Ok(());
    }
}

/// Requests that write, by kind, as the API server has counted them.
fn writes(bench: &Bench) -> Result<Vec<(&'static str, u64)>> {
    let metrics = bench.kubectl(&["get", "--raw", "/metrics"])?;
    let mut counts: Vec<(&str, u64)> = KINDS.iter().map(|kind| (*kind, 0)).collect();
    for line in metrics.lines() {
        let Some(labels) = line.strip_prefix("apiserver_request_total{") else {
            continue;
        };
        let writes = ["POST", "PUT", "PATCH", "APPLY", "DELETE"]
            .iter()
            .any(|verb| labels.contains(&format!("verb=\"{verb}\"")));
        if !writes {
            continue;
        }
        let number = line
            .rsplit(' ')
            .next()
            .and_then(|text| text.parse::<f64>().ok());
        let number = number.with_context(|| format!("a count in {line}"))?;
        for (kind, count) in &mut counts {
            if labels.contains(&format!("resource=\"{kind}\"")) {
                *count += number as u64;
            }
        }
    }
    // All these clusters were written a moment ago: else this counts nothing, and proves nothing.
    let clusters = counts.iter().find(|(kind, _)| *kind == "kvclusters");
    ensure!(
        clusters.is_some_and(|(_, count)| *count > 0),
        "the API server's metrics count no write of a KvCluster"
    );
    Ok(counts)
}
