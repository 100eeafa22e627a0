//! The process outside that a run hangs on: it starts the first process of the run's namespaces,
//! waits for a reason to end, and removes what the kernel does not remove by itself: the control
//! groups and the run's folder.
//!
//! Reasons to end: a word on the control socket; the death of whoever started the run, unless that
//! one had said before that the run shall stay; the end of the first process. If the holder itself
//! is killed, everything in the namespaces dies with it, and `down` removes the rest.

use super::cgroups;
use super::run::Run;
use anyhow::{Context, Result, bail};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

/// What the starter writes when the run shall outlive it.
pub const STAY: u8 = b'+';
/// How long the first process may take to end before it is killed.
const END_MAX: Duration = Duration::from_secs(10);

/// Why a run ends.
#[derive(Debug)]
enum Reason {
    Asked,
    StarterGone,
    FirstProcessEnded,
}

/// Holds a run until there is a reason to end it, then removes every trace.
pub fn hold(run: &Run) -> Result<()> {
    // Out of the terminal's reach: its interrupt is for the starter, whose death we notice.
    let _ = rustix::process::setsid();
    let held = hold_until_end(run);
    if let Err(error) = &held {
        eprintln!("{error:#}");
    }
    clean(run).and(held)
}

fn hold_until_end(run: &Run) -> Result<()> {
    let prepared = prepare(run);
    let (listener, mut first) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            fail(run, &format!("{error:#}"));
            // The starter reads why, and the logs, and then lets go.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            return Err(error);
        }
    };
    let lifeline = first.stdin.take().context("a pipe to the first process")?;
    let (reasons, reason) = sync_channel(4);
    watch_starter(reasons.clone());
    watch_control(listener, reasons.clone());
    let waiter = watch_first_process(first, reasons);
    let mut why = reason.recv().context("all watchers are gone")?;
    if matches!(why, Reason::FirstProcessEnded) && !run.join("ready").exists() {
        fail(run, "the first process ended; log/holder.log says why");
        why = reason.recv().context("all watchers are gone")?;
    }
    eprintln!("ending: {why:?}");
    end(run, lifeline, &waiter)
}

fn prepare(run: &Run) -> Result<(UnixListener, Child)> {
    let listener = UnixListener::bind(run.control()).context("cannot listen for the end")?;
    cgroups::create(&run.cgroup())?;
    Ok((listener, start_first_process(run)?))
}

/// Tells the starter that the run will not be ready.
fn fail(run: &Run, why: &str) {
    let _ = std::fs::write(run.join("failed"), why);
}

fn start_first_process(run: &Run) -> Result<Child> {
    Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["--propagation", "private", "--"])
        .arg(run.join("xtask"))
        .args(["kube", "first-process", &run.name()])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start unshare")
}

fn watch_starter(reasons: SyncSender<Reason>) {
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut said);
        if !said.contains(&STAY) {
            let _ = reasons.send(Reason::StarterGone);
        }
    });
}

fn watch_control(listener: UnixListener, reasons: SyncSender<Reason>) {
    std::thread::spawn(move || {
        if listener.accept().is_ok() {
            let _ = reasons.send(Reason::Asked);
        }
    });
}

/// Reports the end of the first process twice: as a reason, and to whoever waits for it.
fn watch_first_process(
    mut first: Child,
    reasons: SyncSender<Reason>,
) -> std::sync::mpsc::Receiver<()> {
    let (ended, waiter) = sync_channel(1);
    std::thread::spawn(move || {
        let _ = first.wait();
        let _ = ended.send(());
        let _ = reasons.send(Reason::FirstProcessEnded);
    });
    waiter
}

/// Lets the first process go and waits until it, and with it every process of the run, is dead.
fn end(run: &Run, lifeline: ChildStdin, ended: &std::sync::mpsc::Receiver<()>) -> Result<()> {
    drop(lifeline);
    if ended.recv_timeout(END_MAX).is_ok() {
        return Ok(());
    }
    kill_first_process(run)?;
    if ended.recv_timeout(END_MAX).is_err() {
        bail!("the first process of {} does not end", run.name());
    }
    Ok(())
}

/// Kills the first process if it is still the one that was noted; the kernel kills the rest.
pub fn kill_first_process(run: &Run) -> Result<()> {
    let Some(first) = run.first_process().filter(|first| first.is_alive()) else {
        return Ok(());
    };
    let pid = i32::try_from(first.pid).context("a process ID beyond i32")?;
    let pid = rustix::process::Pid::from_raw(pid).context("no process has the ID 0")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        .context("cannot kill the first process")
}

/// Removes control groups and folder. All processes of the run are dead by now.
pub fn clean(run: &Run) -> Result<()> {
    cgroups::remove(&run.cgroup())?;
    // The mounts went with the last process, and the host never saw them: only files are here.
    let mut last = Ok(());
    for _ in 0..50 {
        last = match std::fs::remove_dir_all(run.path()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        if last.is_ok() {
            break;
        }
        super::poll();
    }
    last.with_context(|| format!("cannot remove {}", run.shown()))?;
    // Fails while other runs are there, as it should.
    let _ = std::fs::remove_dir(Run::base());
    Ok(())
}
