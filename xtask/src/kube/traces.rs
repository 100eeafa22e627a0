//! What a run may not leave on the host: `test` looks for it after every run.
//!
//! Looks only for what belongs to one run, so that other runs on the machine do not matter, and for
//! folders that the run's programs make where nobody told them not to.

use super::inside::KERNEL_SETTINGS;
use super::run::Run;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::path::Path;

/// Folders that Kubernetes, containerd and the network plug-ins use unless told otherwise.
const USUAL_FOLDERS: &[&str] = &[
    "/etc/cni",
    "/etc/kubernetes",
    "/opt/cni",
    "/opt/containerd",
    "/opt/nri",
    "/run/containerd",
    "/run/netns",
    "/run/nri",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/var/run/kubernetes",
];

/// The host before a run.
pub struct Before {
    folders: BTreeSet<&'static str>,
    settings: Vec<String>,
}

impl Before {
    /// Notes what is there already.
    pub fn look() -> Self {
        Self {
            folders: usual_folders(),
            settings: kernel_settings(),
        }
    }

    /// Fails if the run has left something.
    ///
    /// # Errors
    /// Names each trace.
    pub fn compare(&self, run: &Run) -> Result<()> {
        let mut traces: Vec<String> = usual_folders()
            .difference(&self.folders)
            .map(|folder| format!("the folder {folder}"))
            .collect();
        let folder = run.shown();
        if run.exists() {
            traces.push(format!("the folder {folder}"));
        }
        for line in std::fs::read_to_string("/proc/mounts")?.lines() {
            if line.contains(&format!("{folder}/")) {
                traces.push(format!("the mount {line}"));
            }
            let path = line.split(' ').nth(1).unwrap_or_default();
            let group = Path::new(path).join(run.cgroup());
            if path.starts_with("/sys/fs/cgroup") && group.exists() {
                traces.push(format!("the control group {}", group.display()));
            }
        }
        for (now, before) in kernel_settings().iter().zip(&self.settings) {
            if now != before {
                traces.push(format!("the setting {now}, which was {before}"));
            }
        }
        traces.extend(processes_of(&folder)?);
        if !traces.is_empty() {
            bail!("{} has left behind:\n  {}", run.name(), traces.join("\n  "));
        }
        Ok(())
    }
}

/// Settings that a kubelet likes to change, as lines.
fn kernel_settings() -> Vec<String> {
    let read = |(name, _): &(&str, &str)| {
        let value = std::fs::read_to_string(Path::new("/proc/sys").join(name));
        format!("{name} = {}", value.unwrap_or_default().trim())
    };
    KERNEL_SETTINGS.iter().map(read).collect()
}

fn usual_folders() -> BTreeSet<&'static str> {
    let there = |folder: &&&str| Path::new(**folder).exists();
    USUAL_FOLDERS.iter().filter(there).copied().collect()
}

/// Processes whose command line or working folder names the run's folder.
pub fn processes_of(folder: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        // Processes that end meanwhile have no files any more.
        let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let at = std::fs::read_link(path.join("cwd")).unwrap_or_default();
        if command.contains(&format!("{folder}/")) || at.starts_with(folder) {
            found.push(format!("the process {}: {command}", path.display()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_that_stayed_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let shown = folder.path().to_string_lossy().into_owned();
        assert_eq!(processes_of(&shown).expect("/proc"), Vec::<String>::new());
        // Waits for its input, which ends with the test at the latest.
        let mut child = Command::new("cat")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat starts");
        let found = processes_of(&shown).expect("/proc");
        child.kill().expect("killed");
        child.wait().expect("dead");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
