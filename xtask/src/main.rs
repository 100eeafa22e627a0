//! All automation of the project: `cargo xtask --help`.

mod bench;
mod chart;
mod checks;
mod cluster;
mod codegen;
mod compat;
mod faults;
mod image;
mod kube;
mod nightly;
mod shell;
mod tidy;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Automation of Quorate: checks, code generation, simulation, comparison with real etcd.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every test that needs nothing but this repository and Rust.
    Test,
    /// All static checks: format, generated files, tidy, clippy, docs. Writes nothing.
    Ci,
    /// Formats the sources and regenerates what is generated.
    Fix,
    /// The project's own rules about layout, text and dependencies.
    Tidy,
    /// Compiles the protocol definitions of `api/proto` to `api/src/gen`.
    Codegen {
        /// Compare instead of writing; fails when a file is stale.
        #[arg(long)]
        check: bool,
    },
    /// Runs the simulator, optimised; arguments are its own (`cargo xtask sim -- --help`).
    Sim {
        /// Run the build with planted bugs, to prove that the simulator finds them.
        #[arg(long)]
        planted: bool,
        /// Arguments of the simulator.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Takes every guard of the operator out in turn: the tests of the fault matrix must fail.
    Faults(faults::Options),
    /// Compares etcdctl's output on Quorate with its output on real etcd (needs Go).
    Compat {
        /// Only the scripts whose name contains this.
        #[arg(default_value = "")]
        script: String,
    },
    /// Measures Quorate against real etcd in the same run (needs Go).
    Bench(bench::Options),
    /// Builds the container image without a registry, as the Dockerfile does.
    Image(image::Options),
    /// A real one-node Kubernetes in namespaces of its own, and the tests that need one.
    Kube {
        #[command(subcommand)]
        command: kube::KubeCommand,
    },
    /// Lints, tests and renders the Helm chart, tests the alerts (needs Go, kubectl, helm's cache).
    Chart(chart::Options),
    /// The long runs: all seeds, all planted bugs, many rounds of kill and heal.
    Nightly,
}

fn main() -> ExitCode {
    let result: Result<()> = match Cli::parse().command {
        Command::Test => checks::test(),
        Command::Ci => checks::ci(),
        Command::Fix => checks::fix(),
        Command::Tidy => tidy::run(),
        Command::Codegen { check } => codegen::run(check),
        Command::Sim { planted, args } => {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            if planted {
                checks::simulate_planted(&args)
            } else {
                checks::simulate(&args)
            }
        }
        Command::Faults(options) => faults::run(&options),
        Command::Compat { script } => compat::run(&script),
        Command::Bench(options) => bench::run(&options),
        Command::Image(options) => image::build(&options).map(drop),
        Command::Kube { command } => kube::run(command),
        Command::Chart(options) => chart::run(&options),
        Command::Nightly => nightly::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
