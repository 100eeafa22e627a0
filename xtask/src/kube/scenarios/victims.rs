//! Processes of containers, found from outside by the control group that the kubelet gave them, and
//! killed as a crash or the kernel would.

use super::Bench;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Kills the program of a pod's container with SIGKILL, and returns its process ID.
///
/// # Errors
/// When no process of ours belongs to that pod.
pub fn kill_container(bench: &Bench, pod_uid: &str) -> Result<u32> {
    let pid = find(bench, |group, command| {
        let uid = pod_uid.replace('-', "_");
        (group.contains(pod_uid) || group.contains(&uid)) && command.starts_with(PROGRAM)
    })?;
    kill(pid)
}

/// Kills every operator of the run with SIGKILL, and returns how many there were.
///
/// # Errors
/// When the table of processes cannot be read.
pub fn kill_operators(bench: &Bench) -> Result<usize> {
    let found = all(bench, |_, command| command.contains(OPERATOR))?;
    // One that has ended meanwhile is as dead as one that was killed.
    Ok(found.into_iter().filter(|pid| kill(*pid).is_ok()).count())
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU time, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

/// What the only operator has used.
///
/// # Errors
/// When there is none, or another one too.
pub fn operator_usage(bench: &Bench) -> Result<Usage> {
    let pid = find(bench, |_, command| command.contains(OPERATOR))?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields are counted after the command name, which may itself contain spaces.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let number = |at: usize| -> Result<u64> {
        let field = fields.get(at).context("a field of /proc/PID/stat")?;
        Ok(field.parse()?)
    };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    Ok(Usage {
        cpu_seconds: (number(11)? + number(12)?) as f64 / ticks,
        resident_bytes: number(21)? * rustix::param::page_size() as u64,
    })
}

/// How the operator's command line begins, behind the program.
const OPERATOR: &str = "quorate\0operator\0run";
/// Where the image has the program.
const PROGRAM: &str = crate::image::PROGRAM;

fn find(bench: &Bench, is_it: impl Fn(&str, &str) -> bool) -> Result<u32> {
    let found = all(bench, is_it)?;
    ensure!(found.len() <= 1, "several processes fit: {found:?}");
    found.first().copied().context("no such process")
}

/// Processes of the run's containers that fit, by control group and command line.
fn all(bench: &Bench, is_it: impl Fn(&str, &str) -> bool) -> Result<Vec<u32>> {
    let ours = bench.run().cgroup();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("cannot list processes")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Ok(pid) = name.parse() else { continue };
        // Processes that end meanwhile have no files any more.
        let read = |file: &str| std::fs::read(path.join(file)).unwrap_or_default();
        let group = String::from_utf8_lossy(&read("cgroup")).into_owned();
        let command = String::from_utf8_lossy(&read("cmdline")).into_owned();
        if group.contains(&ours) && is_it(&group, &command) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn kill(pid: u32) -> Result<u32> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = raw.context("a process ID")?;
    kill_process(process, Signal::KILL).with_context(|| format!("cannot kill {pid}"))?;
    Ok(pid)
}
