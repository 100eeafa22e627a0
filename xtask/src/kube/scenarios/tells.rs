//! What a newcomer reads when something is wrong: `kubectl get`, `kubectl describe` and no log. In
//! each situation both must name what happens and what to do, and the columns must not soothe.

use super::Bench;
use super::cluster::{Cluster, plain};
use super::follow::text;
use crate::kube::wait_until;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// How long the operator may take to say it. Kubelet needs some of it to give an image up.
const SAID_MAX: Duration = Duration::from_secs(90);
/// Pods of these clusters stay small: a cordoned node must not be short of room as well.
const SMALL: &str = "  resources: {requests: {cpu: 1m, memory: 16Mi}}\n";

/// What must be readable in one situation.
struct Expected {
    /// Type, status and reason of the condition that names it.
    condition: [&'static str; 3],
    /// The column PHASE.
    phase: &'static str,
    /// The column QUORUM.
    quorum: &'static str,
    /// Parts of what `kubectl describe` prints: what happens, and what to do.
    describe: &'static [&'static str],
    /// The reason of an event; empty when there is none to expect.
    event: &'static str,
}

/// A volume that nobody provides.
fn pending_volume(bench: &Bench) -> Result<()> {
    let manifest = plain("nowhere", 3, SMALL).replace(
        "storage: {size: 1Gi}",
        "storage: {size: 1Gi, storageClassName: no-such-class}",
    );
    let cluster = Cluster::create(bench, "tells-volume", &manifest)?;
    let expected = Expected {
        condition: ["MembersReady", "False", "VolumePending"],
        phase: "Bootstrapping",
        quorum: "Unknown",
        describe: &["StorageClass no-such-class", "kubectl describe pvc"],
        event: "VolumePending",
    };
    says(&cluster, &expected)?;
    cluster.clear()
}

/// An image that nobody has. The registry is one that refuses connections, so that nothing leaves
/// the machine.
fn missing_image(bench: &Bench) -> Result<()> {
    let image = "  image: {repository: 127.0.0.1:1/absent}\n";
    let manifest = plain("imageless", 3, &format!("{SMALL}{image}"));
    let cluster = Cluster::create(bench, "tells-image", &manifest)?;
    let expected = Expected {
        condition: ["MembersReady", "False", "ImagePullFailed"],
        phase: "Bootstrapping",
        quorum: "Unknown",
        describe: &["127.0.0.1:1/absent", "Correct spec.image"],
        event: "ImagePullFailed",
    };
    says(&cluster, &expected)?;
    cluster.clear()
}

/// Two of three members find no machine; nothing is done about it, and all is well when the
/// machine is back.
fn lost_quorum(bench: &Bench) -> Result<()> {
    let cluster = Cluster::create(bench, "tells-quorum", &plain("lost", 3, SMALL))?;
    cluster.wait_converged(3)?;
    cluster.quorate(&cluster.pod(0), &["put", "a", "b"])?;
    let uuid = cluster.object()["status"]["clusterUUID"].clone();
    let cordon = Cordon::of(bench)?;
    let pods = [cluster.pod(1), cluster.pod(2)];
    cluster.kubectl(&["delete", "pod", &pods[0], &pods[1]])?;
    let expected = Expected {
        condition: ["QuorumHealthy", "False", "QuorumLost"],
        phase: "QuorumLost",
        quorum: "False",
        describe: &[
            "1 of 3 voters can take part and 2 are needed",
            "in slot 0: it runs and has its data",
            "in slot 1: it cannot be started: no machine takes it",
            "Nothing is changed by itself",
        ],
        event: "QuorumLost",
    };
    says(&cluster, &expected)?;
    drop(cordon);
    cluster.wait_converged(3)?;
    let got = cluster.quorate(&cluster.pod(0), &["get", "a"])?;
    ensure!(
        got.lines().any(|line| line == "b") && cluster.object()["status"]["clusterUUID"] == uuid,
        "the cluster came back as another: {got:?}"
    );
    cluster.clear()
}

/// A new member that does not come up before its deadline.
fn stuck_learner(bench: &Bench) -> Result<()> {
    let deadline = format!("{SMALL}  repair: {{learnerDeadline: 5s}}\n");
    let cluster = Cluster::create(bench, "tells-learner", &plain("stuck", 1, &deadline))?;
    cluster.wait_converged(1)?;
    let cordon = Cordon::of(bench)?;
    cluster.scale(3)?;
    let expected = Expected {
        condition: ["Degraded", "True", "LearnerStuck"],
        phase: "Scaling",
        quorum: "True",
        describe: &[
            "did not catch up before its deadline",
            "Look at the slot's log and at its place to run",
        ],
        event: "LearnerStuck",
    };
    says(&cluster, &expected)?;
    drop(cordon);
    cluster.clear()
}

/// A spec that the API server cannot tell to be wrong.
fn invalid_spec(bench: &Bench) -> Result<()> {
    let config = "  config: {heartbeat-interval: \"2000\", election-timeout: \"1000\"}\n";
    let manifest = plain("wrong", 1, &format!("{SMALL}{config}"));
    let cluster = Cluster::create(bench, "tells-spec", &manifest)?;
    let expected = Expected {
        condition: ["Degraded", "True", "InvalidSpec"],
        phase: "Failed",
        quorum: "",
        describe: &["spec.config", "heartbeat-interval", "election-timeout"],
        event: "InvalidSpec",
    };
    says(&cluster, &expected)?;
    // What can neither be served nor be deleted would be a trap.
    cluster.kubectl(&["delete", "kvcluster", cluster.name(), "--timeout=60s"])?;
    cluster.clear()
}

/// A cluster that is left alone on request.
fn paused(bench: &Bench) -> Result<()> {
    let cluster = Cluster::create(bench, "tells-pause", &plain("calm", 1, SMALL))?;
    cluster.wait_converged(1)?;
    cluster.patch(r#"{"spec":{"paused":true}}"#)?;
    let expected = Expected {
        condition: ["Paused", "True", "PausedBySpec"],
        phase: "Paused",
        quorum: "True",
        describe: &[
            "Nothing is done while spec.paused is true. Set it to false",
            "Worth knowing: spec.tls.peer.mode: traffic is not encrypted",
        ],
        event: "Paused",
    };
    says(&cluster, &expected)?;
    cluster.clear()
}

/// All six.
pub fn everything(bench: &Bench) -> Result<()> {
    pending_volume(bench)?;
    missing_image(bench)?;
    stuck_learner(bench)?;
    invalid_spec(bench)?;
    paused(bench)?;
    lost_quorum(bench)
}

/// Waits until the condition is there, then reads what a person would.
fn says(cluster: &Cluster, expected: &Expected) -> Result<()> {
    let [type_, status, reason] = expected.condition;
    let what = format!("{} says {type_}={status} {reason}", cluster.name());
    let is_it = |condition: &Value| {
        condition["type"] == type_ && condition["status"] == status && condition["reason"] == reason
    };
    cluster.wait(&what, SAID_MAX, |object| {
        let conditions = object["status"]["conditions"].as_array();
        let all = conditions.into_iter().flatten();
        all.into_iter().any(is_it) && text(&object["status"]["phase"]) == expected.phase
    })?;
    let columns = columns(cluster)?;
    let column = |name: &str| columns.iter().find(|(title, _)| title == name);
    for (name, wanted) in [("PHASE", expected.phase), ("QUORUM", expected.quorum)] {
        let found = column(name).map_or("", |(_, value)| value);
        ensure!(
            found == wanted,
            "kubectl get shows {name} {found:?} instead of {wanted:?}"
        );
    }
    let describe = describe(cluster, expected.event)?;
    // Long sentences are one line there: what is looked for is not torn apart.
    for part in expected.describe {
        ensure!(
            describe.contains(part),
            "kubectl describe does not say {part:?}:\n{describe}"
        );
    }
    let shown: Vec<String> = columns
        .iter()
        .map(|(title, value)| format!("{title}={value}"))
        .collect();
    println!("  {reason:<16} {}", shown.join(" "));
    Ok(())
}

/// What `kubectl get kvc` prints: titles and values.
fn columns(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let table = cluster.kubectl(&["get", "kvc", cluster.name()])?;
    let (titles, values) = table.split_once('\n').context("kubectl get printed")?;
    // An empty column is blanks: values are cut where the titles begin.
    let starts: Vec<usize> = titles
        .char_indices()
        .filter(|(at, letter)| {
            *letter != ' ' && (*at == 0 || titles.as_bytes().get(at - 1) == Some(&b' '))
        })
        .map(|(at, _)| at)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    let cut = |line: &str, from: usize, to: usize| -> String {
        let line = line.trim_end();
        let to = to.min(line.len());
        line.get(from..to).unwrap_or_default().trim().to_owned()
    };
    Ok(starts
        .iter()
        .zip(ends)
        .map(|(from, to)| (cut(titles, *from, to), cut(values, *from, to)))
        .collect())
}

/// What `kubectl describe kvc` prints, once it has the event.
fn describe(cluster: &Cluster, event: &str) -> Result<String> {
    let mut said = String::new();
    let there = |said: &str| {
        let events = said.split("\nEvents:").nth(1).unwrap_or_default();
        event.is_empty() || events.contains(event)
    };
    wait_until(
        &format!("kubectl describe shows the event {event}"),
        SAID_MAX,
        || {
            let now = cluster.kubectl(&["describe", "kvc", cluster.name()]);
            said = now.unwrap_or_else(|error| format!("{error:#}"));
            there(&said)
        },
    )
    .with_context(|| said.clone())?;
    Ok(said)
}

/// No pod finds a machine for as long as this lives.
struct Cordon<'a> {
    bench: &'a Bench,
    node: String,
}

impl<'a> Cordon<'a> {
    fn of(bench: &'a Bench) -> Result<Self> {
        let nodes = bench.kubectl(&["get", "nodes", "--output=name"])?;
        let node = nodes.lines().next().context("a node")?.to_owned();
        bench.kubectl(&["cordon", &node])?;
        Ok(Self { bench, node })
    }
}

impl Drop for Cordon<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.bench.kubectl(&["uncordon", &self.node]) {
            eprintln!("kube test: {} stays cordoned: {error:#}", self.node);
        }
    }
}
