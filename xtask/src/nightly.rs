//! What is too long for every change: run it before an issue is called done.

use crate::{bench, checks, compat, shell};
use anyhow::Result;
use clap::Parser;

/// Simulation in breadth, every planted bug, long process tests, compatibility and benchmarks.
pub fn run() -> Result<()> {
    checks::simulate(&["--seeds", "50000"])?;
    checks::simulate_planted(&["--planted", "all", "--seeds", "20000"])?;
    compat::run("")?;
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

#[derive(Parser)]
struct BenchCommand {
    #[command(flatten)]
    options: bench::Options,
}
