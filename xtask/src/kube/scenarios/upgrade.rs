//! The operator changes, goes and comes back; the members of a cluster notice nothing of it.

use super::cluster::{Cluster, plain};
use super::load::{Allowed, UnderLoad};
use super::{Bench, chart, manifests};
use anyhow::{Result, ensure};

/// `helm upgrade` with a changed value, `helm uninstall`, `helm install`.
pub fn helm(bench: &Bench) -> Result<()> {
    let load = UnderLoad::create(bench, "upgrade", &plain("upgrade", 3, ""), 3)?;
    let undisturbed = |name: &str, work: &dyn Fn(&Cluster) -> Result<()>| {
        load.step(name, 3, Allowed::NONE_DOWN, |cluster| {
            let before = cluster.pods();
            work(cluster)?;
            let after = cluster.pods();
            ensure!(before == after, "members were {before:?} and are {after:?}");
            Ok(())
        })
    };
    undisturbed("helm upgrade", &|_| {
        chart::upgrade(bench, &["logLevel=debug"])?;
        chart::wait_for_passes(bench)
    })?;
    undisturbed("helm uninstall", &|cluster| {
        chart::uninstall(bench)?;
        bench.kubectl(&["get", "crd", manifests::CRD_NAME])?;
        load.still_writes()?;
        cluster
            .kubectl(&["get", "kvcluster", cluster.name()])
            .map(drop)
    })?;
    undisturbed("helm install", &|_| {
        chart::install(bench)?;
        chart::wait_for_passes(bench)
    })?;
    load.step("scale 3 to 1 afterwards", 1, Allowed::ONE_DOWN, |cluster| {
        cluster.scale(1)
    })?;
    load.clear()
}
