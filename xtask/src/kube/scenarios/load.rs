//! A cluster under a writer: one thing is done to it, it converges, and the figures are checked.

use super::cluster::Cluster;
use super::writer::Writer;
use super::{Bench, now, seconds_since};
use anyhow::{Result, ensure};
use std::time::Duration;

/// One election timeout, which is etcd's default, and a second.
pub const GAP_MAX: Duration = Duration::from_millis(1_000 + 1_000);
/// How long the first write may take after the cluster is there.
const FIRST_WRITE_MAX: Duration = Duration::from_secs(30);

/// A cluster with clients that write to it all the time.
pub struct UnderLoad {
    /// The cluster.
    pub cluster: Cluster,
    writer: Writer,
    /// What was there from the beginning and may not change: the identity of the history.
    cluster_id: String,
}

/// What one step is allowed to do.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The longest time without an acknowledged write; none: a quorum is taken away.
    pub gap_max: Option<Duration>,
    /// The most voters that may be down at once.
    pub down_max: usize,
}

impl Allowed {
    /// What clients hardly notice: one voter at a time.
    pub const ONE_DOWN: Self = Self {
        gap_max: Some(GAP_MAX),
        down_max: 1,
    };
    /// Nobody may go down.
    pub const NONE_DOWN: Self = Self {
        gap_max: Some(GAP_MAX),
        down_max: 0,
    };
    /// The quorum is taken away on purpose; nothing may be lost all the same.
    pub const OUTAGE: Self = Self {
        gap_max: None,
        down_max: usize::MAX,
    };
}

/// Whether a gap beyond its bound is a failure. On a machine that others slow down a gap says
/// little about us: with `QUORATE_KUBE_GAPS=shown` it is printed, and only what is lost is judged.
fn gaps_judged() -> bool {
    std::env::var_os("QUORATE_KUBE_GAPS").is_none_or(|how| how != "shown")
}

impl UnderLoad {
    /// Makes a cluster and begins to write.
    ///
    /// # Errors
    /// When it does not become ready, or no write is acknowledged.
    pub fn create(bench: &Bench, namespace: &str, manifest: &str, replicas: usize) -> Result<Self> {
        let cluster = Cluster::create(bench, namespace, manifest)?;
        cluster.wait_converged(replicas)?;
        let cluster_id = identity(&cluster);
        let writer = Writer::start(bench, cluster.client_address()?)?;
        writer.wait_for_a_write(FIRST_WRITE_MAX)?;
        Ok(Self {
            cluster,
            writer,
            cluster_id,
        })
    }

    /// Does one thing, waits until the cluster has converged to so many voters, and checks: all
    /// that was acknowledged is there, the membership has no other members, the history is the
    /// same one, and no more was disturbed than allowed.
    ///
    /// # Errors
    /// Names the step, and what did not hold.
    pub fn step(
        &self,
        name: &str,
        replicas: usize,
        allowed: Allowed,
        work: impl FnOnce(&Cluster) -> Result<()>,
    ) -> Result<()> {
        let result = self.try_step(name, replicas, allowed, work);
        result.map_err(|error| error.context(format!("step {name:?}")))
    }

    fn try_step(
        &self,
        name: &str,
        replicas: usize,
        allowed: Allowed,
        work: impl FnOnce(&Cluster) -> Result<()>,
    ) -> Result<()> {
        self.cluster.mark();
        self.writer.mark();
        let start = now();
        work(&self.cluster)?;
        self.cluster.wait_converged(replicas)?;
        let seconds = seconds_since(start);
        if replicas > 0 {
            self.writer.wait_for_a_write(FIRST_WRITE_MAX)?;
        }
        let figures = self.writer.figures();
        let (down, order) = self.cluster.went_down();
        let kept = self.writer.verify()?;
        println!(
            "  {name:<32} {seconds:5.1} s  gap {:4} ms  voters down at once {down}  \
             acknowledged {:4}, tried again {:3}, of all {kept} none lost",
            figures.gap.as_millis(),
            figures.acknowledged,
            figures.failed
        );
        if let Some(gap_max) = allowed.gap_max.filter(|_| gaps_judged()) {
            ensure!(
                figures.gap <= gap_max,
                "no write was acknowledged for {:?}, longer than {gap_max:?}, until {:.1} s after \
                 the step began {seconds:.1} s before its end\n{}",
                figures.gap,
                figures.gap_end.as_secs_f64(),
                self.cluster.evidence()
            );
        }
        ensure!(
            down <= allowed.down_max,
            "{down} voters were down at once, in the order {order:?}\n{}",
            self.cluster.evidence()
        );
        self.no_ghosts(replicas)
    }

    /// The members are as many as there should be, by their own account, and of the same history.
    fn no_ghosts(&self, replicas: usize) -> Result<()> {
        let pod = self.cluster.pod(0);
        let members = self.cluster.quorate(&pod, &["member", "list"])?;
        // The first line names the columns.
        ensure!(
            members.lines().count() == replicas + 1,
            "the membership has others than {replicas} members:\n{members}"
        );
        let now = identity(&self.cluster);
        ensure!(
            now == self.cluster_id,
            "the cluster was {} and is {now}: founded a second time",
            self.cluster_id
        );
        Ok(())
    }

    /// Waits until a write is acknowledged.
    ///
    /// # Errors
    /// When none is.
    pub fn still_writes(&self) -> Result<()> {
        self.writer.wait_for_a_write(FIRST_WRITE_MAX)
    }

    /// Stops writing and removes the cluster.
    ///
    /// # Errors
    /// When it does not go.
    pub fn clear(self) -> Result<()> {
        drop(self.writer);
        self.cluster.clear()
    }
}

/// Identity of the history, in the operator's words and in the members'.
fn identity(cluster: &Cluster) -> String {
    let status = &cluster.object()["status"];
    format!("{} {}", status["clusterUUID"], status["clusterId"])
}
