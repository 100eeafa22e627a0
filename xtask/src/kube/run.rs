//! One run of the bench: a folder that holds all of its state, and the names of what is in it.
//!
//! The folder's name is the run's name. Several runs exist side by side; whoever creates the folder
//! owns it. Must not know: what the processes are.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Longest name of a run: it becomes part of socket paths, which Linux keeps under 108 bytes.
const NAME_MAX: usize = 24;

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct Run {
    path: PathBuf,
}

/// What the holder was told, once, before anything starts.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Options {
    /// Client URLs of the store behind the API server; empty: an etcd of the run's own.
    pub etcd_servers: String,
    /// Image archives to load into the node.
    pub images: Vec<PathBuf>,
    /// The folder of the built programs.
    pub bin: PathBuf,
}

/// The first process of the run's namespaces, as the host sees it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct FirstProcess {
    /// Its process ID.
    pub pid: u32,
    /// When it started, in clock ticks since boot: a process ID alone may be used again.
    pub start_ticks: u64,
}

impl FirstProcess {
    /// Whether this very process still lives.
    pub fn is_alive(&self) -> bool {
        start_ticks(self.pid).is_some_and(|ticks| ticks == self.start_ticks)
    }
}

/// Start time of a process, from `/proc`; none when there is no such process, or only its remains.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields are counted after the command name, which may itself contain spaces: the state is the
    // third field of the line and the start time the 22nd.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

impl Run {
    /// The folder of all runs: `QUORATE_KUBE_RUN`, or a folder of the system's temporary one.
    pub fn base() -> PathBuf {
        std::env::var_os("QUORATE_KUBE_RUN")
            .map_or_else(|| std::env::temp_dir().join("quorate-bench"), PathBuf::from)
    }

    /// Creates the folder of a new run.
    ///
    /// # Errors
    /// When the name is taken or unusable, or the folder lies where the run hides the host's files.
    pub fn create(name: &str) -> Result<Self> {
        let run = Self::named(name)?;
        std::fs::create_dir_all(Self::base())?;
        let base = Self::base().canonicalize()?;
        // The run's processes see their own /run, and writes to /var stay with them.
        if base.starts_with("/run") || base.starts_with("/var") {
            bail!(
                "{} cannot hold a run: it is below /run or /var; name another folder in \
                 QUORATE_KUBE_RUN",
                base.display()
            );
        }
        std::fs::create_dir(&run.path)
            .with_context(|| format!("is there a run called {name:?} already? {}", run.shown()))?;
        std::fs::create_dir(run.path.join("log"))?;
        Ok(run)
    }

    /// A run by its name, whether it exists or not.
    ///
    /// # Errors
    /// When the name has other characters than lower-case letters, digits and dashes, or too many.
    pub fn named(name: &str) -> Result<Self> {
        let usable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(usable) {
            bail!("{name:?} is no name for a run: use up to {NAME_MAX} of a-z, 0-9 and dashes");
        }
        Ok(Self {
            path: Self::base().join(name),
        })
    }

    /// All runs that have left a folder, by name.
    pub fn all() -> Vec<Self> {
        let entries = std::fs::read_dir(Self::base());
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
            .iter()
            .filter_map(|name| Self::named(name).ok())
            .collect()
    }

    /// The run's name.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder, for messages.
    pub fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether the folder is there.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// The administrator's credentials.
    pub fn kubeconfig(&self) -> PathBuf {
        self.join("kubeconfig")
    }

    /// The socket on which the holder hears that the run shall end.
    pub fn control(&self) -> PathBuf {
        self.join("control.sock")
    }

    /// What a process of the run has written.
    pub fn log(&self, process: &str) -> PathBuf {
        self.join("log").join(format!("{process}.log"))
    }

    /// The container runtime's socket.
    pub fn containerd(&self) -> PathBuf {
        self.join("containerd/c.sock")
    }

    /// Name of the run's control group in every hierarchy.
    pub fn cgroup(&self) -> String {
        format!("quorate-bench-{}", self.name())
    }

    /// Keeps what the holder and its children must know.
    pub fn write_options(&self, options: &Options) -> Result<()> {
        let text = serde_json::to_string_pretty(options)?;
        std::fs::write(self.join("options.json"), text).context("cannot write the options")
    }

    /// Reads what [`Self::write_options`] wrote.
    pub fn options(&self) -> Result<Options> {
        let path = self.join("options.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Keeps who the first process is; written by that process.
    pub fn write_first_process(&self, first: FirstProcess) -> Result<()> {
        let whole = self.join("first-process.json");
        let part = self.join("first-process.part");
        std::fs::write(&part, serde_json::to_string(&first)?)?;
        std::fs::rename(part, whole).context("cannot note the first process")
    }

    /// The first process; none before it has started.
    pub fn first_process(&self) -> Option<FirstProcess> {
        let text = std::fs::read_to_string(self.join("first-process.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The last lines of every log, for a message about a failure.
    pub fn log_tails(&self, lines: usize) -> String {
        let mut text = String::new();
        let entries = std::fs::read_dir(self.join("log"));
        let mut paths: Vec<PathBuf> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        for path in paths {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let log = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = log.lines().collect();
            let tail = &all[all.len().saturating_sub(lines)..];
            if !tail.is_empty() {
                let name = path.file_name().unwrap_or_default().display();
                text.push_str(&format!("--- {name}\n{}\n", tail.join("\n")));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_cannot_be_named_out_of_its_folder() {
        for name in [
            "",
            "..",
            "a/b",
            "A",
            "a b",
            "a23456789012345678901234567890",
        ] {
            assert!(Run::named(name).is_err(), "{name:?} was accepted");
        }
        assert!(Run::named("b-17").is_ok());
    }

    #[test]
    fn a_process_is_known_by_its_start_and_not_by_its_number_alone() {
        let pid = std::process::id();
        let start_ticks = start_ticks(pid).expect("this test is a process");
        assert!(FirstProcess { pid, start_ticks }.is_alive());
        let other = FirstProcess {
            pid,
            start_ticks: start_ticks + 1,
        };
        assert!(!other.is_alive());
    }
}
