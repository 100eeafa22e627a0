//! What happens to a cluster in its life, under a writer: wanted changes, and harm.

use super::cluster::{CONVERGED_MAX, Cluster, Pod, plain};
use super::follow::text;
use super::load::{Allowed, UnderLoad};
use super::{Bench, victims};
use crate::kube::{try_wait_until, wait_until};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a pod may take to be gone or to be there.
const POD_MAX: Duration = Duration::from_secs(60);

/// Updates go on a second after a member is Ready, and not ten.
pub const QUICK: &str = "  update: {minReadySeconds: 1}\n";

/// Three members grow to five, shrink to one, grow again.
pub fn scale(bench: &Bench) -> Result<()> {
    let load = UnderLoad::create(bench, "scale", &plain("scale", 3, ""), 3)?;
    scale_all(&load)?;
    load.clear()
}

/// 3 → 5 → 3 → 1 → 3.
pub fn scale_all(load: &UnderLoad) -> Result<()> {
    for (from, to) in [(3, 5), (5, 3), (3, 1), (1, 3)] {
        let name = format!("scale {from} to {to}");
        load.step(&name, to, Allowed::ONE_DOWN, |cluster| cluster.scale(to))?;
    }
    Ok(())
}

/// Pods, a claim and the leader's process are taken away.
pub fn harm(bench: &Bench) -> Result<()> {
    let load = UnderLoad::create(bench, "harm", &plain("harm", 3, ""), 3)?;
    harm_all(bench, &load)?;
    load.clear()
}

/// Each pod is deleted, one with its claim, the leader is killed, all are evicted.
pub fn harm_all(bench: &Bench, load: &UnderLoad) -> Result<()> {
    for slot in 0..3 {
        let name = format!("delete pod {slot}");
        load.step(&name, 3, Allowed::ONE_DOWN, |cluster| {
            delete_pod(cluster, &cluster.pod(slot))
        })?;
    }
    load.step("delete claim and pod 1", 3, Allowed::ONE_DOWN, |cluster| {
        delete_with_claim(cluster, 1)
    })?;
    load.step(
        "kill the leader's process",
        3,
        Allowed::ONE_DOWN,
        |cluster| kill_leader(bench, cluster),
    )?;
    load.step("drain by evictions", 3, Allowed::ONE_DOWN, drain)
}

/// Changes by the spec and by hand.
pub fn changes(bench: &Bench) -> Result<()> {
    let load = UnderLoad::create(bench, "changes", &plain("changes", 3, QUICK), 3)?;
    changes_all(&load)?;
    load.clear()
}

/// A rolling update, larger volumes, edits of the StatefulSet by hand, sleep.
pub fn changes_all(load: &UnderLoad) -> Result<()> {
    load.step("change a resource", 3, Allowed::ONE_DOWN, update)?;
    load.step("settings by file", 3, Allowed::NONE_DOWN, settings)?;
    load.step("grow the volumes", 3, Allowed::NONE_DOWN, grow)?;
    load.step(
        "edit the template by hand",
        3,
        Allowed::NONE_DOWN,
        edit_template,
    )?;
    load.step("StatefulSet to 0 by hand", 3, Allowed::OUTAGE, |cluster| {
        let before = cluster.pods();
        cluster.kubectl(&["scale", "statefulset", cluster.name(), "--replicas=0"])?;
        cluster.wait_pods("all pods are others", POD_MAX, |pods| {
            pods.len() == 3
                && pods
                    .iter()
                    .all(|(name, pod)| before.get(name).is_some_and(|old| old.uid != pod.uid))
        })
    })?;
    load.step("hibernate and wake", 3, Allowed::OUTAGE, |cluster| {
        cluster.patch(r#"{"spec":{"hibernate":true}}"#)?;
        cluster.wait_pods("all pods are gone", POD_MAX, |pods| pods.is_empty())?;
        cluster.wait("it says that it sleeps", POD_MAX, |object| {
            let conditions = object["status"]["conditions"].as_array();
            let mut all = conditions.into_iter().flatten();
            all.any(|condition| condition["reason"] == "Hibernated")
        })?;
        cluster.patch(r#"{"spec":{"hibernate":false}}"#)
    })
}

/// A quota, a retention and a level that members take while they run: every one of them does, the
/// history is cut by the new retention, and no pod ends.
fn settings(cluster: &Cluster) -> Result<()> {
    let lives = |pods: &BTreeMap<String, Pod>| -> Vec<(String, i64)> {
        let each = pods.values();
        each.map(|pod| (pod.uid.clone(), pod.restarts)).collect()
    };
    let before = cluster.pods();
    cluster.patch(
        r#"{"spec":{"quotaBackendBytes":3221225472,"autoCompaction":{"retention":"5s"},"config":{"log-level":"warn"}}}"#,
    )?;
    let wanted = "etcd_server_quota_backend_bytes 3221225472";
    let is_compacted = |line: &str| {
        let compacted = line.strip_prefix("etcd_debugging_mvcc_compact_revision ");
        compacted
            .is_some_and(|revision| revision.parse::<f64>().is_ok_and(|revision| revision > 1.0))
    };
    for pod in before.keys() {
        let what = format!("{pod} has the quota and has compacted");
        wait_until(&what, CONVERGED_MAX, || {
            let metrics = cluster.metrics(pod).unwrap_or_default();
            metrics.lines().any(|line| line == wanted) && metrics.lines().any(is_compacted)
        })?;
    }
    let after = cluster.pods();
    ensure!(
        lives(&before) == lives(&after),
        "a pod ended for settings that change while it runs"
    );
    Ok(())
}

/// Deletes a pod and waits until another has its name.
pub fn delete_pod(cluster: &Cluster, pod: &str) -> Result<()> {
    let before = uid(cluster, pod)?;
    cluster.kubectl(&["delete", "pod", pod, "--wait=false"])?;
    wait_for_another(cluster, pod, &before)
}

fn uid(cluster: &Cluster, pod: &str) -> Result<String> {
    let pods = cluster.pods();
    let found = pods.get(pod).with_context(|| format!("no pod {pod}"))?;
    Ok(found.uid.clone())
}

fn wait_for_another(cluster: &Cluster, pod: &str, before: &str) -> Result<()> {
    let what = format!("{pod} is another pod");
    cluster.wait_pods(&what, POD_MAX, |pods| {
        pods.get(pod).is_some_and(|pod| pod.uid != before)
    })
}

/// Takes a member's disk away. The member that comes back is another one, on another claim.
pub fn delete_with_claim(cluster: &Cluster, slot: usize) -> Result<()> {
    let (pod, claim) = (cluster.pod(slot), format!("data-{}", cluster.pod(slot)));
    let row = |cluster: &Cluster| cluster.object()["status"]["members"][slot].clone();
    let before = row(cluster);
    cluster.kubectl(&["delete", "pvc", &claim, "--wait=false"])?;
    cluster.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
    let what = format!("slot {slot} has another member on another claim");
    cluster.wait(&what, CONVERGED_MAX, |object| {
        let now = &object["status"]["members"][slot];
        now["role"] == "Voter"
            && now["memberId"] != before["memberId"]
            && now["claim"]["uid"] != before["claim"]["uid"]
    })
}

/// Kills the leader's process, which its container survives no more than a crash.
pub fn kill_leader(bench: &Bench, cluster: &Cluster) -> Result<()> {
    let leader = cluster.leader()?;
    let before = cluster.pods();
    let old = before
        .get(&leader)
        .context("the leader has no pod")?
        .clone();
    victims::kill_container(bench, &old.uid)?;
    cluster.wait_pods("the container has started again", POD_MAX, |pods| {
        pods.get(&leader)
            .is_some_and(|pod| pod.uid == old.uid && pod.restarts > old.restarts)
    })
}

/// Asks again and again to evict each pod, as a drain does; the budget must refuse some of it.
fn drain(cluster: &Cluster) -> Result<()> {
    let before = cluster.pods();
    let mut left: BTreeSet<String> = before.keys().cloned().collect();
    let mut refused = 0_u32;
    try_wait_until("all pods are evicted", CONVERGED_MAX, || {
        for pod in before.keys() {
            if !left.contains(pod) {
                continue;
            }
            if cluster.evict(pod)? {
                left.remove(pod);
            } else {
                refused += 1;
            }
        }
        Ok(left.is_empty())
    })
    .map_err(|error| error.context(cluster.evidence()))?;
    ensure!(refused > 0, "the budget let all pods go at once");
    for (name, pod) in &before {
        wait_for_another(cluster, name, &pod.uid)?;
    }
    Ok(())
}

/// A changed resource restarts all members, one at a time, and who leads then comes last.
pub fn update(cluster: &Cluster) -> Result<()> {
    let before = cluster.pods();
    let leader = cluster.leader()?;
    let object = cluster.object();
    let memory = text(&object["spec"]["resources"]["requests"]["memory"]);
    let memory = if memory == "48Mi" { "56Mi" } else { "48Mi" };
    cluster.patch(&format!(
        r#"{{"spec":{{"resources":{{"requests":{{"memory":"{memory}"}}}}}}}}"#
    ))?;
    cluster.wait_pods("all pods are others", CONVERGED_MAX, |pods| {
        let another = |(name, pod): (&String, &super::cluster::Pod)| {
            before.get(name).is_some_and(|old| old.uid != pod.uid)
        };
        pods.len() == before.len() && pods.iter().all(another)
    })?;
    let (_, order) = cluster.went_down();
    if order.last() != Some(&leader) {
        bail!("{leader} led and was not the last that went down: {order:?}");
    }
    Ok(())
}

/// Every volume is made larger, while it is in use, under the pods that use it.
fn grow(cluster: &Cluster) -> Result<()> {
    let before = cluster.pods();
    cluster.patch(r#"{"spec":{"storage":{"size":"2Gi"}}}"#)?;
    let set = ["get", "statefulset", cluster.name()];
    let grown = || -> Result<bool> {
        let claims = cluster.json(&["get", "pvc"])?;
        let claims = claims["items"].as_array().context("a list of claims")?;
        let has_grown = |claim: &Value| claim["status"]["capacity"]["storage"] == "2Gi";
        let set = cluster.json(&set)?;
        let wanted = &set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"];
        Ok(claims.len() == 3
            && claims.iter().all(has_grown)
            && wanted["requests"]["storage"] == "2Gi")
    };
    // Between the old set and the new one there is none.
    wait_until(
        "the volumes and their template have grown",
        CONVERGED_MAX,
        || grown().unwrap_or(false),
    )
    .map_err(|error| error.context(cluster.evidence()))?;
    let after = cluster.pods();
    ensure!(before == after, "members were {before:?} and are {after:?}");
    Ok(())
}

/// Somebody changes the template; it is set back and nobody restarts.
fn edit_template(cluster: &Cluster) -> Result<()> {
    let set = ["get", "statefulset", cluster.name()];
    let template = |cluster: &Cluster| -> Result<String> {
        Ok(cluster.json(&set)?["spec"]["template"]["spec"].to_string())
    };
    let (before, pods) = (template(cluster)?, cluster.pods());
    let edit = r#"[{"op":"replace","path":"/spec/template/spec/terminationGracePeriodSeconds","value":7}]"#;
    let edit = format!("--patch={edit}");
    cluster.kubectl(&["patch", "statefulset", cluster.name(), "--type=json", &edit])?;
    wait_until("the template is what it was", POD_MAX, || {
        template(cluster).is_ok_and(|now| now == before)
    })
    .map_err(|error| error.context(cluster.evidence()))?;
    let same = |(name, pod): (&String, &super::cluster::Pod)| {
        cluster
            .pods()
            .get(name)
            .is_some_and(|now| now.uid == pod.uid)
    };
    ensure!(pods.iter().all(same), "a member was restarted");
    Ok(())
}
