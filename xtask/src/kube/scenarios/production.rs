//! `deploy/examples/production.yaml` as it is: five members with everything on, also encryption.
//!
//! Only what this machine does not have is made to fit: the example's processors and memory. Its
//! StorageClass and a zone for the node are made here. Must not know: how certificates change;
//! `tls` does that.

use super::cluster::{CONVERGED_MAX, Cluster};
use super::tls::{Client, Files};
use super::{Bench, now, seconds_since};
use crate::shell;
use anyhow::{Result, ensure};

const NAMESPACE: &str = "production";
const MEMBERS: usize = 5;

/// The class that the example asks for.
const CLASS: &str = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: fast}\n\
    provisioner: bench.quorate.dev\nreclaimPolicy: Delete\nallowVolumeExpansion: true\n";

/// What the example says, and what it says here.
const FITTED: &[(&str, &str)] = &[
    ("  namespace: data\n", "  namespace: production\n"),
    (
        "requests: {cpu: \"1\", memory: 2Gi}",
        "requests: {cpu: 20m, memory: 64Mi}",
    ),
];

/// Applies the example, uses it as an application does, and replaces a member.
pub fn example(bench: &Bench) -> Result<()> {
    bench.apply(CLASS)?;
    bench.kubectl(&[
        "label",
        "nodes",
        "--all",
        "--overwrite",
        "topology.kubernetes.io/zone=here",
    ])?;
    let start = now();
    let cluster = Cluster::create(bench, NAMESPACE, &manifest()?)?;
    cluster.wait_converged(MEMBERS)?;
    println!(
        "  five voters Ready {:.1} s after the apply",
        seconds_since(start)
    );
    wait_encrypted(&cluster)?;
    let folder = bench.run().join("tmp").join(NAMESPACE);
    std::fs::create_dir_all(&folder)?;
    let credentials = Files::of(&cluster, &folder, "orders-client-credentials", "orders")?;
    let client = Client::new()?;
    let to = cluster.client_address()?;
    client.succeed(bench, &to, &credentials, &["put", "a", "b"])?;
    // A member whose volume is gone comes back with another identity, by way of the peer port.
    let pod = cluster.pod(MEMBERS - 1);
    let gone = cluster.pods().get(&pod).map(|pod| pod.uid.clone());
    let claim = format!("pvc/data-{pod}");
    cluster.kubectl(&["delete", "--wait=false", &claim, &format!("pod/{pod}")])?;
    cluster.wait_pods("the pod is another", CONVERGED_MAX, |pods| {
        let there = pods.get(&pod).map(|pod| &pod.uid);
        there.is_some() && there != gone.as_ref()
    })?;
    cluster.wait_converged(MEMBERS)?;
    wait_encrypted(&cluster)?;
    let got = client.succeed(bench, &to, &credentials, &["get", "a"])?;
    ensure!(got.lines().any(|line| line == "b"), "the value is {got:?}");
    cluster.clear()
}

/// The example for this machine.
fn manifest() -> Result<String> {
    let mut text = shell::read(&shell::root().join("deploy/examples/production.yaml"))?;
    for (from, to) in FITTED {
        ensure!(
            text.contains(from),
            "the example does not say {from:?} any more"
        );
        text = text.replace(from, to);
    }
    Ok(text)
}

fn wait_encrypted(cluster: &Cluster) -> Result<()> {
    cluster.wait("TLSReady is True/Ready", CONVERGED_MAX, |object| {
        let conditions = object["status"]["conditions"].as_array();
        let mut all = conditions.into_iter().flatten();
        all.any(|condition| condition["type"] == "TLSReady" && condition["reason"] == "Ready")
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_still_says_what_is_made_to_fit() {
        let manifest = super::manifest().unwrap();
        assert!(manifest.contains("namespace: production") && manifest.contains("20m"));
    }
}
