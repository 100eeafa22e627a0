//! `test`, `ci` and `fix`: what runs before every change lands.

use crate::{chart, codegen, faults, shell, tidy};
use anyhow::{Result, bail};
use std::time::Instant;

/// Every test that needs nothing but this repository and Rust.
pub fn test() -> Result<()> {
    stage("tidy", tidy::run)?;
    stage("tests and scripts", || {
        shell::run("cargo", &["test", "--workspace", "--locked", "--quiet"])
    })?;
    stage("simulator, regression seeds", || {
        simulate(&["--regression", "--seeds", "200"])
    })
}

/// All static checks; writes nothing.
pub fn ci() -> Result<()> {
    stage("format", || {
        shell::run("cargo", &["fmt", "--all", "--check"])
    })?;
    stage("generated files", || codegen::run(true))?;
    stage("manifests", || manifests(true))?;
    stage("fault matrix", || faults::document(true))?;
    stage("tidy", tidy::run)?;
    stage("clippy", || {
        let args = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ];
        shell::run("cargo", &args)
    })?;
    stage("docs", || {
        let args = [
            "doc",
            "--workspace",
            "--no-deps",
            "--locked",
            "--document-private-items",
        ];
        shell::run_with("cargo", &args, &[("RUSTDOCFLAGS", "-D warnings")])
    })
}

/// Formats and regenerates what is generated.
pub fn fix() -> Result<()> {
    codegen::run(false)?;
    manifests(false)?;
    faults::document(false)?;
    chart::write_generated()?;
    shell::run("cargo", &["fmt", "--all"])
}

/// The simulator has a profile of its own: optimised as a release, but a panic of the code under
/// test is a finding and not the end of the run.
const SIMULATOR: &[&str] = &[
    "run",
    "--quiet",
    "--profile",
    "sim",
    "--locked",
    "--package",
    "quorate-sim",
];

/// Runs the simulator, optimised.
pub fn simulate(args: &[&str]) -> Result<()> {
    shell::run("cargo", &[SIMULATOR, &["--"], args].concat())
}

/// The same simulator with the planted bugs of `docs/simulation.md` compiled in. It has a target
/// folder of its own, so that no shipped build ever sees the flag.
pub fn simulate_planted(args: &[&str]) -> Result<()> {
    let all = [SIMULATOR, &["--target-dir", "target/planted", "--"], args].concat();
    shell::run_with("cargo", &all, &[("RUSTFLAGS", "--cfg planted")])
}

/// Renders the CRD from the Rust types and compares or writes `deploy/crds.yaml`.
fn manifests(check: bool) -> Result<()> {
    // The whole workspace, so that it is what the tests have built: one package alone would have
    // other features, and every dependency would be compiled again.
    let args = [
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--example",
        "crd",
    ];
    shell::run("cargo", &args)?;
    let program = shell::target().join("debug/examples/crd");
    let rendered = shell::output(&program.to_string_lossy(), &[])?;
    let path = shell::root().join("deploy/crds.yaml");
    if !check {
        std::fs::write(&path, rendered)?;
        return Ok(());
    }
    if std::fs::read_to_string(&path).unwrap_or_default() != rendered {
        bail!("deploy/crds.yaml is out of date: run `cargo xtask fix`");
    }
    Ok(())
}

fn stage(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "progress for people; decides nothing"
    )]
    let start = Instant::now();
    eprintln!("== {name}");
    work()?;
    eprintln!("== {name}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
