//! The chart as a user installs it, in a namespace that enforces restricted pod security.

use super::{Bench, manifests};
use crate::kube::wait_until;
use crate::shell;
use anyhow::{Context, Result, bail};
use std::time::Duration;

/// Namespace of the operator.
pub const SYSTEM: &str = "quorate-system";
/// Name of the release.
const RELEASE: &str = "quorate";
/// How long an operator that is Ready may take to its first pass: it may have to wait until the
/// Lease of one that was killed has run out.
const PASS_MAX: Duration = Duration::from_secs(60);
/// Selects the operator's pods.
const OPERATOR_LABEL: &str = "app.kubernetes.io/name=quorate-operator";

/// Installs the chart. A release that is there already, of a run that stayed, is brought to this
/// tree's chart, and its operator to this tree's image.
///
/// # Errors
/// When the operator does not become Ready; the error has its log.
pub fn ensure_installed(bench: &Bench) -> Result<()> {
    create_namespace(bench, SYSTEM)?;
    if helm(bench, &["status", RELEASE]).is_ok() {
        if upgrade(bench, &[]).is_ok() {
            return restart_operator(bench);
        }
        // A helm that was interrupted has left a release that it refuses to change.
        uninstall(bench)?;
        return install(bench);
    }
    // The chart brings the CRD and takes over none that others applied.
    bench.kubectl(&[
        "delete",
        "crd",
        manifests::CRD_NAME,
        "--ignore-not-found",
        "--timeout=60s",
    ])?;
    install(bench)
}

/// `helm install`, and waits until the operator is Ready.
///
/// # Errors
/// As [`ensure_installed`].
pub fn install(bench: &Bench) -> Result<()> {
    with_chart(bench, "install", &[], &[])
}

/// `helm upgrade` to the defaults and these values, as in `logLevel=debug`.
///
/// # Errors
/// As [`ensure_installed`].
pub fn upgrade(bench: &Bench, values: &[&str]) -> Result<()> {
    // The number of operators may have been set past the chart, which has the last word here.
    with_chart(bench, "upgrade", &["--force-conflicts"], values)
}

/// `helm uninstall`; the CRD and the clusters stay.
///
/// # Errors
/// When helm fails.
pub fn uninstall(bench: &Bench) -> Result<()> {
    helm(bench, &["uninstall", RELEASE, "--wait", "--timeout=60s"]).map(drop)
}

/// `helm test`.
///
/// # Errors
/// When the test's pod fails; the error has its log.
pub fn test(bench: &Bench) -> Result<()> {
    helm(bench, &["test", RELEASE, "--logs", "--timeout=60s"]).map(drop)
}

fn with_chart(bench: &Bench, verb: &str, flags: &[&str], values: &[&str]) -> Result<()> {
    let chart = shell::root().join("charts/quorate-operator");
    let chart = chart.to_string_lossy();
    let mut args = vec![verb, RELEASE, &chart, "--wait", "--timeout=90s"];
    args.extend(flags);
    for value in values {
        args.extend(["--set", value]);
    }
    helm(bench, &args).map(drop).map_err(|error| {
        let pods = bench.kubectl(&["describe", "pods", "--namespace", SYSTEM]);
        let pods = pods.unwrap_or_default();
        error.context(format!("{pods}\n{}", operator_log(bench, 30)))
    })
}

fn helm(bench: &Bench, args: &[&str]) -> Result<String> {
    let output = bench
        .command("helm")
        .args(args)
        .args(["--namespace", SYSTEM])
        .output()
        .context("cannot start helm")?;
    if !output.status.success() {
        bail!(
            "`helm {}`: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes a namespace that enforces restricted pod security, unless it is there.
pub fn create_namespace(bench: &Bench, name: &str) -> Result<()> {
    bench.apply(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: restricted\n"
    ))
}

/// Replaces the operator's pod and waits until the new one is Ready.
///
/// # Errors
/// When it does not become Ready.
pub fn restart_operator(bench: &Bench) -> Result<()> {
    let deployment = "deployment/quorate-operator";
    bench.kubectl(&["rollout", "restart", "--namespace", SYSTEM, deployment])?;
    wait_for_operator(bench)
}

/// Waits until as many operator pods are Ready as there should be.
///
/// # Errors
/// When they are not in time; the error has the log.
pub fn wait_for_operator(bench: &Bench) -> Result<()> {
    let args = [
        "rollout",
        "status",
        "--namespace",
        SYSTEM,
        "deployment/quorate-operator",
        "--timeout=90s",
    ];
    let waited = bench.kubectl(&args).map(drop);
    waited.map_err(|error| error.context(operator_log(bench, 30)))
}

/// Sets the number of operator pods, past the chart, and waits until all are Ready.
///
/// # Errors
/// As [`wait_for_operator`].
pub fn scale_operator(bench: &Bench, replicas: usize) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    let deployment = "deployment/quorate-operator";
    bench.kubectl(&["scale", "--namespace", SYSTEM, deployment, &replicas])?;
    wait_for_operator(bench)
}

/// Waits until the operator has made a pass since it started, by its metrics.
///
/// # Errors
/// When it makes none in time.
pub fn wait_for_passes(bench: &Bench) -> Result<()> {
    let path =
        format!("/api/v1/namespaces/{SYSTEM}/services/quorate-operator-metrics:8080/proxy/metrics");
    wait_until("the operator has made a pass", PASS_MAX, || {
        let metrics = bench.kubectl(&["get", "--raw", &path]).unwrap_or_default();
        let passes = metrics
            .lines()
            .filter(|line| line.starts_with("quorate_operator_reconciles_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        passes.sum::<f64>() >= 1.0
    })
    .map_err(|error| error.context(operator_log(bench, 30)))
}

/// Removes the operator's pods from Kubernetes, and lets the Deployment make new ones. One that
/// was killed would be started again too, but after a pause that doubles each time.
pub fn replace_pods(bench: &Bench) -> Result<()> {
    bench
        .kubectl(&[
            "delete",
            "pods",
            "--namespace",
            SYSTEM,
            "--selector",
            OPERATOR_LABEL,
            "--force",
            "--grace-period=0",
            "--wait=false",
        ])
        .map(drop)
}

/// The end of the operator's log.
pub fn operator_log(bench: &Bench, lines: u32) -> String {
    let tail = format!("--tail={lines}");
    let args = [
        "logs",
        "--namespace",
        SYSTEM,
        "--selector",
        OPERATOR_LABEL,
        &tail,
    ];
    bench.kubectl(&args).unwrap_or_default()
}
