//! `cargo xtask kube up`: starts a run and waits until its node is Ready.

use super::bench::Bench;
use super::holder::STAY;
use super::run::{self, Run};
use super::{able, build, poll, wait_until};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a run may take to be ready, or to be gone again.
const UP_MAX: Duration = Duration::from_secs(180);

/// Options of `up`.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// The run's name. Default: one that no other run has.
    #[arg(long)]
    pub name: Option<String>,
    /// Image archives to load into the node.
    #[arg(long = "image")]
    pub images: Vec<PathBuf>,
    /// Client URLs of the store behind the API server, such as Quorate's; they must be reachable
    /// from inside the run's network. Default: an etcd of the run's own.
    #[arg(long, default_value = "")]
    pub etcd_servers: String,
}

/// A run that ends with this value, or with this process.
pub struct Started {
    /// How to speak to it.
    pub bench: Bench,
    /// Seconds until the node was Ready.
    pub seconds: String,
    holder: Child,
}

impl Started {
    /// Lets the run outlive this process.
    fn stay(mut self) -> Result<()> {
        let mut lifeline = self.holder.stdin.take().context("a pipe to the holder")?;
        lifeline.write_all(&[STAY])?;
        Ok(())
    }

    /// Kills the holder, as nothing ought to, and leaves the rest to the kernel and to `down`.
    pub fn kill_holder(mut self) -> Result<()> {
        self.holder.kill()?;
        self.holder.wait()?;
        Ok(())
    }

    /// Ends the run and waits until nothing of it is left.
    pub fn end(mut self) -> Result<()> {
        drop(self.holder.stdin.take());
        let status = self.holder.wait()?;
        if !status.success() {
            bail!("the run did not end well: `cargo xtask kube down` tries again");
        }
        Ok(())
    }
}

/// Starts a run that stays, and says how to use it.
pub fn stay(options: &Options) -> Result<()> {
    let started = start(options)?;
    println!("kube up: node Ready in {} s", started.seconds);
    println!("{}", started.bench.how_to_enter());
    println!("  cargo xtask kube down {}", started.bench.run().name());
    started.stay()
}

/// Starts a run. It ends when the returned value or this process does.
///
/// # Errors
/// When something is missing, does not build, or does not start; the error carries the last lines
/// of the logs, and nothing of the run is left.
pub fn start(options: &Options) -> Result<Started> {
    able::check()?;
    let bin = build::build()?;
    let run = create(options)?;
    let prepared = prepare(&run, options, bin);
    let holder = prepared.and_then(|()| start_holder(&run));
    let mut holder = match holder {
        Ok(holder) => holder,
        Err(error) => {
            let _ = super::holder::clean(&run);
            return Err(error);
        }
    };
    if let Err(error) = wait_ready(&run, &mut holder) {
        let logs = run.log_tails(5);
        drop(holder.stdin.take());
        let _ = holder.wait();
        bail!("the run did not start: {error:#}\nthe last lines of its logs:\n{logs}");
    }
    let seconds = std::fs::read_to_string(run.join("ready"))?;
    Ok(Started {
        bench: Bench::attach(&run)?,
        seconds,
        holder,
    })
}

fn create(options: &Options) -> Result<Run> {
    match &options.name {
        Some(name) => Run::create(name),
        None => Run::create(&free_name(|name| {
            Run::named(name).is_ok_and(|run| run.exists())
        })),
    }
}

/// A name after this process, which may have started a run already.
fn free_name(is_taken: impl Fn(&str) -> bool) -> String {
    let first = format!("run-{}", std::process::id());
    let mut name = first.clone();
    let mut number = 1;
    while is_taken(&name) {
        number += 1;
        name = format!("{first}-{number}");
    }
    name
}

/// Puts a copy of this program into the run's folder: a build while the run lasts must not change
/// what its processes start.
fn prepare(run: &Run, options: &Options, bin: PathBuf) -> Result<()> {
    let mut images = Vec::new();
    for image in &options.images {
        let path = image.canonicalize();
        images.push(path.with_context(|| format!("no image archive {}", image.display()))?);
    }
    run.write_options(&run::Options {
        etcd_servers: options.etcd_servers.clone(),
        images,
        bin,
    })?;
    std::fs::copy("/proc/self/exe", run.join("xtask")).context("cannot copy this program")?;
    Ok(())
}

fn start_holder(run: &Run) -> Result<Child> {
    let log = std::fs::File::create(run.log("holder"))?;
    Command::new(run.join("xtask"))
        .args(["kube", "hold", &run.name()])
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the holder")
}

fn wait_ready(run: &Run, holder: &mut Child) -> Result<()> {
    let mut trouble = None;
    wait_until("the node is Ready", UP_MAX, || {
        if let Ok(text) = std::fs::read_to_string(run.join("failed")) {
            trouble = Some(text);
        } else if holder.try_wait().is_ok_and(|status| status.is_some()) {
            trouble = Some("its holder ended".to_owned());
        }
        trouble.is_some() || run.join("ready").exists()
    })?;
    match trouble {
        Some(trouble) => {
            // The logs are written by processes that may still be at it.
            poll();
            bail!("{trouble}")
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_of_one_process_has_another_name() {
        let first = free_name(|_| false);
        let second = free_name(|name| name == first);
        assert_ne!(first, second);
        assert!(Run::named(&second).is_ok());
    }
}
