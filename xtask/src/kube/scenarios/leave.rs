//! How a cluster goes: what stays when its volumes are retained, and that nothing stays otherwise.

use super::Bench;
use super::cluster::{CONVERGED_MAX, Cluster, plain};
use super::follow::text;
use crate::kube::wait_until;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How long the garbage collector may take.
const GONE_MAX: Duration = Duration::from_secs(90);
/// Kinds of objects that a cluster has. Events are Kubernetes' own and expire by themselves.
const KINDS: &str = "kvclusters,statefulsets,pods,pvc,services,configmaps,secrets,serviceaccounts,\
                     poddisruptionbudgets,networkpolicies,controllerrevisions,endpointslices,\
                     rolebindings,roles";
/// What every namespace has.
const OF_THE_NAMESPACE: &[&str] = &["configmap/kube-root-ca.crt", "serviceaccount/default"];

/// Delete with Retain keeps every byte, and a new cluster of that name does not touch it.
pub fn retain(bench: &Bench) -> Result<()> {
    let manifest = plain("kept", 3, "");
    let cluster = Cluster::create(bench, "retain", &manifest)?;
    cluster.wait_converged(3)?;
    cluster.quorate(&cluster.pod(0), &["put", "a", "b"])?;
    delete(&cluster)?;
    let claims = claims(&cluster)?;
    ensure!(claims.len() == 3, "claims that stayed: {claims:?}");
    let files = files(bench, &cluster)?;
    drop(cluster);

    let again = Cluster::create(bench, "retain", &manifest)?;
    again.wait("it is refused for stale volumes", GONE_MAX, |object| {
        let conditions = object["status"]["conditions"].as_array();
        let mut all = conditions.into_iter().flatten();
        all.any(|condition| {
            condition["type"] == "StorageReady"
                && condition["status"] == "False"
                && condition["reason"] == "StaleVolume"
        })
    })?;
    ensure!(
        self::claims(&again)? == claims && self::files(bench, &again)? == files,
        "the volumes of the deleted cluster were touched"
    );
    delete(&again)?;
    ensure!(self::claims(&again)? == claims, "the claims went after all");
    again.kubectl(&["delete", "pvc", "--all"])?;
    println!("  3 claims and {} files stayed as they were", files.len());
    bench
        .kubectl(&["delete", "namespace", "retain", "--wait=false"])
        .map(drop)
}

/// Delete with Delete leaves nothing behind.
pub fn delete_all(bench: &Bench) -> Result<()> {
    let manifest = plain("gone", 3, "").replace("size: 1Gi", "size: 1Gi, whenDeleted: Delete");
    let cluster = Cluster::create(bench, "leave", &manifest)?;
    cluster.wait_converged(3)?;
    let there = objects(&cluster)?;
    delete(&cluster)?;
    let mut left = Vec::new();
    wait_until("nothing of the cluster is left", GONE_MAX, || {
        left = objects(&cluster).unwrap_or_else(|error| vec![format!("{error:#}")]);
        left.is_empty()
    })
    .with_context(|| format!("left behind: {left:?}"))?;
    println!("  {} objects were there, none is left", there.len());
    bench
        .kubectl(&["delete", "namespace", "leave", "--wait=false"])
        .map(drop)
}

fn delete(cluster: &Cluster) -> Result<()> {
    let timeout = format!("--timeout={}s", CONVERGED_MAX.as_secs());
    cluster
        .kubectl(&["delete", "kvcluster", cluster.name(), &timeout])
        .map_err(|error| error.context(cluster.evidence()))?;
    cluster.wait_pods("all pods are gone", GONE_MAX, |pods| pods.is_empty())
}

/// The claims: name and UID.
fn claims(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let list = cluster.json(&["get", "pvc"])?;
    let items = list["items"].as_array().context("a list of claims")?;
    let of = |claim: &Value| {
        let about = &claim["metadata"];
        (text(&about["name"]), text(&about["uid"]))
    };
    Ok(items.iter().map(of).collect())
}

/// Every file of the claims' volumes, with its size and the time of its last change.
fn files(bench: &Bench, cluster: &Cluster) -> Result<Vec<String>> {
    let list = cluster.json(&["get", "pvc"])?;
    let mut found = Vec::new();
    for claim in list["items"].as_array().context("a list of claims")? {
        let volume = text(&claim["spec"]["volumeName"]);
        collect(&bench.run().join("volumes").join(volume), &mut found)?;
    }
    found.sort();
    ensure!(!found.is_empty(), "the volumes have no files");
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_dir() {
            collect(&entry.path(), found)?;
        } else {
            let path = entry.path();
            found.push(format!(
                "{} {} {:?}",
                path.display(),
                about.len(),
                about.modified()?
            ));
        }
    }
    Ok(())
}

/// What is in the cluster's namespace, but for what every namespace has.
fn objects(cluster: &Cluster) -> Result<Vec<String>> {
    let all = cluster.kubectl(&["get", KINDS, "--output=name"])?;
    let ours = |line: &&str| !OF_THE_NAMESPACE.contains(line);
    Ok(all.lines().filter(ours).map(str::to_owned).collect())
}
