//! What is too long for every change: run it before an issue is called done.

use crate::{bench, checks, compat, faults, kube, shell};
use anyhow::Result;
use clap::Parser;

/// Dependencies, simulation in breadth, every planted bug, long process tests, compatibility,
/// the operator on Kubernetes, and benchmarks.
pub fn run() -> Result<()> {
    dependencies()?;
    checks::simulate(&["--seeds", "50000"])?;
    checks::simulate_planted(&["--planted", "all", "--seeds", "20000"])?;
    faults()?;
    compat::run("")?;
    kube::test_everything()?;
    let args = [
        "test",
        "--release",
        "--locked",
        "--package",
        "quorate",
        "--",
        "--nocapture",
    ];
    shell::run_with("cargo", &args, &[("QUORATE_TEST_ROUNDS", "20")])?;
    bench::run(&BenchCommand::parse_from(["bench", "--million"]).options)
}

/// Every fault at every write of an operator, more histories, and every guard taken out in turn.
fn faults() -> Result<()> {
    let all = [("QUORATE_ALL_FAULTS", "1"), ("QUORATE_PASS_SEEDS", "1000")];
    let args = [
        "test",
        "--workspace",
        "--locked",
        "--test",
        "main",
        "kubernetes::",
    ];
    shell::run_with("cargo", &args, &all)?;
    faults::run(&faults::Options::default())
}

/// What `deny.toml` asks of everything that we lock.
fn dependencies() -> Result<()> {
    if shell::output("cargo", &["deny", "--version"]).is_err() {
        shell::run("cargo", &["install", "cargo-deny", "--locked"])?;
    }
    shell::run("cargo", &["deny", "check", "bans", "licenses", "sources"])?;
    // The advisories live in a repository of their own, which a closed network does not reach.
    if let Err(error) = shell::run("cargo", &["deny", "fetch", "db"]) {
        println!("the published advisories are NOT checked, they cannot be fetched: {error:#}");
        return Ok(());
    }
    shell::run("cargo", &["deny", "check", "--disable-fetch", "advisories"])
}

#[derive(Parser)]
struct BenchCommand {
    #[command(flatten)]
    options: bench::Options,
}
