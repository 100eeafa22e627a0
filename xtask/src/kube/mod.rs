//! `cargo xtask kube`: a real one-node Kubernetes on this machine, for tests of the operator.
//!
//! The control plane, a kubelet with containerd, DNS and volumes, in a network, process and mount
//! namespace of its own: several runs exist side by side, nothing leads out of them, and nothing of
//! them is left. Needs root and Go; `packages` lists what it takes from Debian.
//!
//! Who does what: `up` starts the `holder`, which starts the first process of the namespaces
//! (`inside`), which starts the supervisor (`inside`), which starts the `processes`. Each of them
//! ends when the one before it does.
//!
//! It has not: a second node, enforcement of network policies, load balancers, a way to pull
//! images.

mod able;
mod bench;
mod build;
mod cgroups;
mod config;
mod down;
mod holder;
mod inside;
mod network;
mod packages;
mod processes;
mod provisioner;
mod run;
mod scenarios;
mod traces;
mod up;
mod versions;

use anyhow::{Context, Result, bail};
pub use bench::Bench;
use clap::Subcommand;
use run::Run;
pub use scenarios::install_crd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What to do with the bench.
#[derive(Debug, Subcommand)]
pub enum KubeCommand {
    /// Builds every program of the bench into a cache, once (about eight minutes).
    Build,
    /// Says whether this machine can run the bench; fails with what it lacks.
    Able,
    /// Starts a run and leaves it running.
    Up(up::Options),
    /// Ends runs and removes every trace of them.
    Down {
        /// Which run; all of them when left out.
        name: Option<String>,
    },
    /// Lists the runs.
    List,
    /// Runs a command in a run's network with its kubectl, helm and credentials.
    Exec {
        /// Which run; may be left out when there is only one.
        #[arg(long)]
        name: Option<String>,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Loads an image archive into a run's node.
    Load {
        /// Which run; may be left out when there is only one.
        #[arg(long)]
        name: Option<String>,
        /// The archive, as `cargo xtask image` writes it.
        archive: PathBuf,
    },
    /// Starts a run, loads the image, runs the scenarios, and removes the run.
    Test(scenarios::Options),
    /// A part of `up`: outside the namespaces, holds a run.
    #[command(hide = true)]
    Hold {
        /// The run.
        name: String,
    },
    /// A part of `up`: the first process inside.
    #[command(hide = true)]
    FirstProcess {
        /// The run.
        name: String,
    },
    /// A part of `up`: keeps the processes inside running.
    #[command(hide = true)]
    Supervise {
        /// The run.
        name: String,
    },
}

/// Does it.
///
/// # Errors
/// Whatever failed, with the logs' last lines where a process of the run is to blame.
pub fn run(command: KubeCommand) -> Result<()> {
    match command {
        KubeCommand::Build => {
            packages::install()?;
            let folder = build::build()?;
            println!("kube build: all programs are in {}", folder.display());
            Ok(())
        }
        KubeCommand::Able => {
            able::check()?;
            println!("kube able: this machine can run the bench");
            Ok(())
        }
        KubeCommand::Up(options) => up::stay(&options),
        KubeCommand::Down { name } => down::down(name.as_deref()),
        KubeCommand::List => {
            for run in Run::all() {
                match bench::Bench::attach(&run) {
                    Ok(bench) => println!("{}: running\n{}", run.name(), bench.how_to_enter()),
                    Err(_) => println!("{}: not running; `cargo xtask kube down`", run.name()),
                }
            }
            Ok(())
        }
        KubeCommand::Exec { name, command } => {
            let bench = bench::Bench::attach(&chosen(name)?)?;
            let (program, args) = command.split_first().context("a command")?;
            let status = bench.command(program).args(args).status();
            let status = status.with_context(|| format!("cannot start {program}"))?;
            if !status.success() {
                bail!("{program} ended with {status}");
            }
            Ok(())
        }
        KubeCommand::Load { name, archive } => {
            bench::Bench::attach(&chosen(name)?)?.load(&archive.canonicalize()?)
        }
        KubeCommand::Test(options) => scenarios::test(&options),
        KubeCommand::Hold { name } => holder::hold(&Run::named(&name)?),
        KubeCommand::FirstProcess { name } => inside::first_process(&Run::named(&name)?),
        KubeCommand::Supervise { name } => inside::supervise(&Run::named(&name)?),
    }
}

/// Every scenario, the long ones too, with the image as users get it.
///
/// # Errors
/// As `kube test`; or the machine cannot run the bench.
pub fn test_everything() -> Result<()> {
    scenarios::test(&scenarios::Options::everything())
}

/// Does some work on a run that is up, or on one that is started for it and ended; its node has the
/// image.
///
/// # Errors
/// Those of the work, or that there is no run.
pub fn with_bench(
    on: Option<&str>,
    image: &Path,
    work: impl FnOnce(&Bench) -> Result<()>,
) -> Result<()> {
    if let Some(name) = on {
        let bench = Bench::attach(&Run::named(name)?)?;
        bench.load(image)?;
        return work(&bench);
    }
    let started = up::start(&up::Options {
        images: vec![image.to_path_buf()],
        ..up::Options::default()
    })?;
    let done = work(&started.bench);
    done.and(started.end())
}

/// The run that was named, or the only one.
fn chosen(name: Option<String>) -> Result<Run> {
    if let Some(name) = name {
        return Run::named(&name);
    }
    let mut all = Run::all();
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => bail!("no run exists: start one with `cargo xtask kube up`"),
        (Some(_), false) => bail!("several runs exist: choose one of `cargo xtask kube list`"),
    }
}

/// Runs a small tool to its end, silently unless it fails.
fn shell_in(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}: is it installed?"))?;
    if !output.status.success() {
        bail!(
            "`{program} {}`: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// A short pause between two looks at a real process.
fn poll() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Looks again and again until `holds`, or fails after `longest` with a message that says what was
/// waited for.
fn wait_until(what: &str, longest: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    try_wait_until(what, longest, || Ok(holds()))
}

/// Like [`wait_until`], and gives up at the first error.
fn try_wait_until(
    what: &str,
    longest: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a deadline for real processes")]
    let deadline = Instant::now() + longest;
    while !holds()? {
        #[expect(clippy::disallowed_methods, reason = "a deadline for real processes")]
        if Instant::now() > deadline {
            bail!("waited {} s, in vain, until {what}", longest.as_secs());
        }
        poll();
    }
    Ok(())
}
