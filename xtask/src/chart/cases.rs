//! Values that the chart must refuse, and the word by which the refusal names them.

use super::chart;
use super::tools::Tools;
use anyhow::{Result, bail};

/// What is set, and what the message must contain.
const BAD: &[(&str, &str)] = &[
    ("replica=2", "replica"),
    ("replicas=two", "replicas"),
    ("replicas=-1", "replicas"),
    ("image.registry=example.com", "registry"),
    ("image.pullPolicy=Sometimes", "pullPolicy"),
    ("image.digest=sha256:beef", "digest"),
    ("image.repository=", "repository"),
    ("imagePullSecrets[0]=registry", "imagePullSecrets"),
    ("fullnameOverride=Capital", "fullnameOverride"),
    ("logLevel=verbose", "logLevel"),
    ("logFormat=xml", "logFormat"),
    ("watchNamespaces=all", "watchNamespaces"),
    ("watchNamespaces[0]=Not_A_Name", "watchNamespaces"),
    ("maxConcurrentReconciles=0", "maxConcurrentReconciles"),
    ("clusterDomain=under_score", "clusterDomain"),
    ("extraArgs[0]=positional", "extraArgs"),
    ("extraEnv[0].value=x", "extraEnv"),
    ("resources.limits.memory=lots", "memory"),
    ("resources.limit.memory=1Gi", "resources"),
    ("podSecurityContext.runAsUser=0", "runAsUser"),
    ("securityContext.privileged=true", "privileged"),
    (
        "securityContext.capabilities.add[0]=SYS_ADMIN",
        "capabilities",
    ),
    ("tolerations[0].effect=Never", "effect"),
    ("affinity.podAntiAffinity.preferred=x", "podAntiAffinity"),
    ("topologySpreadConstraints[0].maxSkew=1", "topologyKey"),
    ("serviceAccount.token=x", "serviceAccount"),
    ("rbac.wildcards=true", "rbac"),
    ("crds.keep=maybe", "keep"),
    ("metrics.serviceMonitor.interval=30", "interval"),
    ("metrics.podMonitor.enabled=yes-please", "podMonitor"),
    ("metrics.prometheusRule.runbookURL=a#b", "runbookURL"),
    ("networkPolicy.apiServerPorts[0]=70000", "apiServerPorts"),
    ("networkPolicy.metricsFrom[0].pods=x", "metricsFrom"),
    ("policies.deletionProtection=1", "deletionProtection"),
    // Combinations, refused by the templates.
    (
        "replicas=2,leaderElection.enabled=false",
        "leaderElection.enabled",
    ),
    (
        "metrics.service.enabled=false,metrics.serviceMonitor.enabled=true",
        "metrics.service.enabled",
    ),
];

/// Renders the chart with each bad value; every one must be refused by name.
pub fn refuses_bad_values(tools: &Tools) -> Result<()> {
    let chart = chart().to_string_lossy().into_owned();
    for (set, word) in BAD {
        let (accepted, text) = tools.try_helm(&["template", "x", &chart, "--set", set])?;
        if accepted {
            bail!(
                "the chart accepts `{set}`: close values.schema.json, or refuse it in a template"
            );
        }
        if !text.contains(word) {
            bail!("the refusal of `{set}` does not name `{word}`:\n{text}");
        }
    }
    println!("chart: {} bad values are refused by name", BAD.len());
    Ok(())
}
