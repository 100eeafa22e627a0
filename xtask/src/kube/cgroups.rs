//! The run's own control group in every hierarchy: without one, two kubelets on a machine would
//! clean up each other's pods.
//!
//! Knows both layouts: one tree per controller (v1, also mixed) and the single tree (v2).

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often, 50 ms apart, a group is removed anew while its last processes are being buried.
const REMOVE_ATTEMPTS: usize = 100;

/// Creates the group. The kubelet wants it in every hierarchy before it starts.
///
/// # Errors
/// When the control groups are not writable: no root, or a container without them.
pub fn create(name: &str) -> Result<()> {
    let all = hierarchies(&std::fs::read_to_string("/proc/mounts")?);
    let separate: Vec<_> = all.iter().filter(|tree| !tree.single).collect();
    if separate.is_empty() {
        let tree = all.first().context("no control groups are mounted")?;
        delegate(&tree.path)?;
        make(&tree.path.join(name))?;
        return delegate(&tree.path.join(name));
    }
    for tree in separate {
        let group = tree.path.join(name);
        make(&group)?;
        // A new cpuset has no CPU and no memory node, and then accepts no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let from = tree.path.join(file);
            if from.exists() {
                std::fs::write(group.join(file), std::fs::read(from)?)?;
            }
        }
    }
    Ok(())
}

/// Removes the group and all below it; a group that is not there is no error.
///
/// # Errors
/// When processes still live in it.
pub fn remove(name: &str) -> Result<()> {
    for tree in hierarchies(&std::fs::read_to_string("/proc/mounts")?) {
        let group = tree.path.join(name);
        let mut attempts = 0;
        while group.exists() {
            if remove_below(&group).is_ok() {
                break;
            }
            attempts += 1;
            if attempts == REMOVE_ATTEMPTS {
                bail!("{} still holds processes", group.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

struct Hierarchy {
    path: PathBuf,
    /// The single tree of v2.
    single: bool,
}

fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let [_, path, kind @ ("cgroup" | "cgroup2"), ..] = fields[..] {
            found.push(Hierarchy {
                path: PathBuf::from(path),
                single: kind == "cgroup2",
            });
        }
    }
    found
}

fn make(group: &Path) -> Result<()> {
    std::fs::create_dir_all(group).with_context(|| {
        format!(
            "cannot create the control group {}: the bench needs root and writable control groups",
            group.display()
        )
    })
}

/// Hands every controller that a group of the single tree has down to its children.
fn delegate(group: &Path) -> Result<()> {
    let controllers = std::fs::read_to_string(group.join("cgroup.controllers"))?;
    let wanted: Vec<String> = controllers
        .split_whitespace()
        .map(|controller| format!("+{controller}"))
        .collect();
    std::fs::write(group.join("cgroup.subtree_control"), wanted.join(" "))
        .with_context(|| format!("cannot hand controllers down from {}", group.display()))
}

fn remove_below(group: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    std::fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_are_read_from_the_table_of_mounts() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = hierarchies(mounts);
        let shown: Vec<_> = found
            .iter()
            .map(|tree| (tree.path.to_string_lossy().into_owned(), tree.single))
            .collect();
        assert_eq!(
            shown,
            [
                ("/sys/fs/cgroup/memory".to_owned(), false),
                ("/sys/fs/cgroup/unified".to_owned(), true)
            ]
        );
    }
}
