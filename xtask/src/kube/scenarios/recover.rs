//! A quorum is lost for good, and one survivor becomes the cluster again, on a human's word.

use super::cluster::{Cluster, has, plain};
use super::follow::text;
use super::life::delete_pod;
use super::writer::Writer;
use super::{Bench, now, seconds_since};
use crate::kube::{poll, wait_until};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long a quorum must be missing in this scenario before a recovery begins.
const OUTAGE: Duration = Duration::from_secs(10);
/// How long a step may take that waits for pods to end and to begin.
const STEP_MAX: Duration = Duration::from_secs(120);
/// Writes that are acknowledged before the harm is done.
const WRITES: u64 = 200;
/// The slot whose volume stays.
const SURVIVOR: usize = 1;

/// Two of three claims are destroyed with their pods: that is said with evidence, and nothing is
/// done. The command in the condition recovers all that the survivor holds, and the cluster is
/// three voters again. A data directory of the old epoch that comes back stays out.
pub fn lost_quorum(bench: &Bench) -> Result<()> {
    let more = format!("  recovery: {{minOutage: {}s}}\n", OUTAGE.as_secs());
    let cluster = Cluster::create(bench, "recover", &plain("recover", 3, &more))?;
    cluster.wait_converged(3)?;
    let mut writer = Writer::start(bench, cluster.client_address()?)?;
    wait_until("writes are acknowledged", STEP_MAX, || {
        writer.figures().acknowledged >= WRITES
    })?;
    writer.stop();
    // A linearizable read through the survivor: it holds all that was acknowledged.
    cluster.quorate(&cluster.pod(SURVIVOR), &["get", "w0-000000000"])?;
    let old = OldDirectory::copy(bench, &cluster, 2)?;

    destroy(&cluster, &[0, 2])?;
    let words = evidence(&cluster)?;
    nothing_happens(&cluster)?;
    let start = now();
    let request = words
        .rsplit_once("annotate kvc recover ")
        .with_context(|| format!("the condition names no command: {words}"))?;
    cluster.kubectl(&["annotate", "kvc", "recover", request.1.trim()])?;
    cluster.wait("epoch 2 has begun", STEP_MAX, |object| {
        object["status"]["epoch"] == 2 && object["status"]["recovery"].is_null()
    })?;
    println!(
        "  epoch 2 began {:.1} s after the annotation",
        seconds_since(start)
    );
    cluster.wait_converged(3)?;
    println!("  three voters again after {:.1} s", seconds_since(start));
    let kept = writer.verify()?;
    println!("  all {kept} writes that the survivor held are there");
    let annotations = &cluster.object()["metadata"]["annotations"];
    ensure!(
        annotations["quorate.dev/recover-quorum"].is_null(),
        "the request is still on the object"
    );
    let events = cluster.kubectl(&["get", "events"])?;
    for reason in ["QuorumLost", "QuorumRecovered"] {
        ensure!(events.contains(reason), "no event {reason} in:\n{events}");
    }
    old.comes_back(&cluster)?;
    cluster.clear()
}

/// Deletes claims and their pods.
fn destroy(cluster: &Cluster, slots: &[usize]) -> Result<()> {
    for slot in slots {
        let claim = format!("data-{}", cluster.pod(*slot));
        cluster.kubectl(&["delete", "pvc", &claim, "--wait=false"])?;
    }
    for slot in slots {
        cluster.kubectl(&["delete", "pod", &cluster.pod(*slot), "--wait=false"])?;
    }
    Ok(())
}

/// Waits until the lost quorum is said with what is known of each voter; returns the words.
fn evidence(cluster: &Cluster) -> Result<String> {
    let words = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array();
        let mut all = conditions.into_iter().flatten();
        let found = all.find(|condition| condition["type"] == "QuorumHealthy");
        found.map(|found| text(&found["message"]))
    };
    cluster.wait("the lost quorum is said", STEP_MAX, |object| {
        let said = words(object).unwrap_or_default();
        has(object, "QuorumHealthy", "False")
            && said.matches("its data directory is empty").count() == 2
            && said.contains("it runs and has its data")
    })?;
    let said = words(&cluster.object()).unwrap_or_default();
    println!("  said: {said}");
    Ok(said)
}

/// For longer than the outage has to last, nothing is done about it.
fn nothing_happens(cluster: &Cluster) -> Result<()> {
    let start = now();
    let members = cluster.object()["status"]["members"].clone();
    let ids = |members: &Value| -> Vec<Value> {
        let rows = members.as_array().into_iter().flatten();
        rows.map(|row| row["memberId"].clone()).collect()
    };
    while now() - start < OUTAGE + Duration::from_secs(3) {
        let object = cluster.object();
        let status = &object["status"];
        ensure!(
            status["epoch"] == 1
                && status["recovery"].is_null()
                && status["operation"].is_null()
                && ids(&status["members"]) == ids(&members),
            "something was done by itself: {status}"
        );
        poll();
    }
    Ok(())
}

/// A copy of a member's data directory, as somebody may find it on a disk.
struct OldDirectory {
    bench: Bench,
    slot: usize,
    copy: PathBuf,
}

impl OldDirectory {
    fn copy(bench: &Bench, cluster: &Cluster, slot: usize) -> Result<Self> {
        let old = Self {
            bench: Bench::attach(bench.run())?,
            slot,
            copy: bench.run().join("old-directory"),
        };
        copy_dir(&old.place(cluster)?, &old.copy)?;
        Ok(old)
    }

    /// Where the slot's data directory lies now.
    fn place(&self, cluster: &Cluster) -> Result<PathBuf> {
        let claim = format!("data-{}", cluster.pod(self.slot));
        let claim = cluster.json(&["get", "pvc", &claim])?;
        let volume = text(&claim["spec"]["volumeName"]);
        ensure!(!volume.is_empty(), "the claim has no volume");
        Ok(self.bench.run().join("volumes").join(volume).join("data"))
    }

    /// Put in the place of the member's own: its node stays out, the others serve, and the member
    /// is whole when it has its own back.
    fn comes_back(&self, cluster: &Cluster) -> Result<()> {
        let (place, pod) = (self.place(cluster)?, cluster.pod(self.slot));
        let aside = place.with_file_name("data.aside");
        std::fs::rename(&place, &aside).context("cannot move the data aside")?;
        copy_dir(&self.copy, &place)?;
        delete_pod(cluster, &pod)?;
        let mut log = String::new();
        wait_until("the old directory is fenced", STEP_MAX, || {
            log = cluster.kubectl(&["logs", &pod]).unwrap_or_default();
            log.contains("is of an epoch that has ended")
        })
        .with_context(|| format!("the log of {pod}:\n{log}"))?;
        let read = cluster.quorate(&pod, &["get", "w0-000000000", "--serializable"]);
        if let Ok(answer) = read {
            bail!("a fenced member served a read: {answer}");
        }
        cluster.quorate(&cluster.pod(SURVIVOR), &["put", "meanwhile", "served"])?;
        std::fs::remove_dir_all(&place).context("cannot take the old data away")?;
        std::fs::rename(&aside, &place).context("cannot put the data back")?;
        delete_pod(cluster, &pod)?;
        cluster.wait_converged(3)?;
        println!("  a directory of epoch 1 stayed out, and the cluster served");
        Ok(())
    }
}

fn copy_dir(from: &PathBuf, to: &PathBuf) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    let status = status.context("cannot start cp")?;
    ensure!(status.success(), "cp of {} failed", from.display());
    Ok(())
}
