//! Runs side by side, and the worst way to end one.

use super::Bench;
use crate::kube::traces::{Before, processes_of};
use crate::kube::{down, up, wait_until};
use anyhow::{Result, ensure};
use std::time::Duration;

/// How long the kernel may take to kill what hung on the holder.
const DEATH_MAX: Duration = Duration::from_secs(20);

/// Starts a second run with a pod in it, kills its holder, and finds that everything of it is dead,
/// that `down` removes the rest, and that the first run has noticed nothing.
pub fn killed_holder(bench: &Bench) -> Result<()> {
    let node = ["get", "node", "node-1", "--output=jsonpath={.metadata.uid}"];
    let ours = bench.kubectl(&node)?;
    let before = Before::look();
    let second = up::start(&up::Options::default())?;
    ensure!(second.bench.kubectl(&node)? != ours, "both runs are one");
    second.bench.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: idle}\nspec:\n  containers:\n  \
         - {name: idle, image: 'localhost/pause:1', imagePullPolicy: Never}\n",
    )?;
    second
        .bench
        .kubectl(&["wait", "--for=condition=Ready", "pod/idle", "--timeout=60s"])?;
    let run = second.bench.run().clone();
    second.kill_holder()?;
    wait_until(
        "all processes of the second run are dead",
        DEATH_MAX,
        || processes_of(&run.shown()).is_ok_and(|left| left.is_empty()),
    )?;
    down::end(&run)?;
    before.compare(&run)?;
    ensure!(
        bench.kubectl(&node)? == ours,
        "the first run is another one"
    );
    Ok(())
}
