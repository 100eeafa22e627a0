//! `cargo xtask kube down`: ends runs, also those whose start failed halfway or whose holder died.
//! Doing it twice is doing it once.

use super::holder;
use super::run::Run;
use super::wait_until;
use anyhow::{Result, bail};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a holder may take to remove its run.
const DOWN_MAX: Duration = Duration::from_secs(60);

/// Ends one run, or all.
///
/// # Errors
/// When something of a run cannot be removed; the others are removed nevertheless.
pub fn down(name: Option<&str>) -> Result<()> {
    let runs = match name {
        Some(name) => vec![Run::named(name)?],
        None => Run::all(),
    };
    let mut failed = Vec::new();
    for run in runs.iter().filter(|run| run.exists()) {
        match end(run) {
            Ok(()) => println!("kube down: {} is gone", run.name()),
            Err(error) => failed.push(format!("{}: {error:#}", run.name())),
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// Ends one run: through its holder, or without it when there is none any more.
pub fn end(run: &Run) -> Result<()> {
    // The connection itself is the word; the holder closes it by ending.
    let connection = UnixStream::connect(run.control());
    if connection.is_ok() {
        let gone = wait_until("the run is gone", DOWN_MAX, || !run.exists());
        if gone.is_ok() {
            return Ok(());
        }
    }
    holder::kill_first_process(run)?;
    wait_until("its first process is dead", DOWN_MAX, || {
        run.first_process().is_none_or(|first| !first.is_alive())
    })?;
    holder::clean(run)
}
