//! `cargo xtask faults`: takes every guard of the operator out in turn, and demands that the tests
//! which the fault matrix names for it fail.
//!
//! The bugs are those of `operator/src/planted.rs`, compiled in by `--cfg planted` into a target
//! folder of their own, so that no shipped build ever sees the flag. Must not know: what a bug
//! does.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is to be proved.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Only bugs whose name, or hazards whose number (`H12`), is this.
    only: Option<String>,
    /// Look for the first seed of the random tests that finds each bug, instead.
    #[arg(long)]
    seeds: bool,
}

/// The document that lists the proofs.
const DOCUMENT: &str = "docs/fault-matrix.md";

/// Seeds that are tried before a bug counts as not found by chance.
const SEEDS_MAX: u32 = 200;

/// Runs the proofs, or looks for seeds.
///
/// # Errors
/// The operator does not build, or a test passes although its guard is gone; each is named.
pub fn run(options: &Options) -> Result<()> {
    let listed = print_matrix(&["--proofs"])?;
    let mut proofs: Vec<Proof> = listed.lines().filter_map(Proof::read).collect();
    if let Some(only) = &options.only {
        proofs.retain(|proof| proof.bug == *only || proof.hazard == *only);
    }
    if proofs.is_empty() {
        bail!("no row of {DOCUMENT} has that bug or hazard");
    }
    let build = Build::make()?;
    if options.seeds {
        return look_for_seeds(&build, &proofs);
    }
    let mut missed = Vec::new();
    for proof in &proofs {
        let found = build.fails(proof)?;
        let answer = if found { "found" } else { "MISSED" };
        println!(
            "{:>4}  {:<26} {answer}  {}",
            proof.hazard, proof.bug, proof.test
        );
        if !found {
            missed.push(format!("{} by {}", proof.bug, proof.test));
        }
    }
    if !missed.is_empty() {
        bail!(
            "{} guards can be taken out and the test named for them passes: {}. Mend the test, or \
             the row in operator/tests/matrix/rows.rs",
            missed.len(),
            missed.join("; ")
        );
    }
    println!(
        "{} proofs: each test fails without the guard it stands for",
        proofs.len()
    );
    Ok(())
}

/// Compares the document with the table, or writes it.
///
/// # Errors
/// With `check`: the document is not what the table says.
pub fn document(check: bool) -> Result<()> {
    let text = print_matrix(&[])?;
    let path = shell::root().join(DOCUMENT);
    if !check {
        return std::fs::write(&path, text).with_context(|| format!("writing {DOCUMENT}"));
    }
    if std::fs::read_to_string(&path).unwrap_or_default() != text {
        bail!("{DOCUMENT} is out of date: run `cargo xtask fix`");
    }
    Ok(())
}

fn print_matrix(more: &[&str]) -> Result<String> {
    // The whole workspace, so that it is what the tests have built.
    let args = [
        "build",
        "--quiet",
        "--locked",
        "--workspace",
        "--example",
        "fault_matrix",
    ];
    shell::run("cargo", &args)?;
    let program = shell::target().join("debug/examples/fault_matrix");
    shell::output(&program.to_string_lossy(), more)
}

/// One line of the list: while this bug lives, this test must fail.
struct Proof {
    hazard: String,
    bug: String,
    test: String,
}

impl Proof {
    fn read(line: &str) -> Option<Proof> {
        let mut parts = line.split('\t').map(str::to_owned);
        let (hazard, bug, test) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Proof { hazard, bug, test })
    }
}

/// A test: its program, its full name, and the variable that limits it.
type Place<'a> = (&'a Path, String, Option<(&'static str, String)>);

/// The operator's test programs with all bugs in them.
struct Build {
    /// Unit tests of the library.
    lib: PathBuf,
    /// `operator/tests/main.rs`.
    main: PathBuf,
}

impl Build {
    fn make() -> Result<Build> {
        eprintln!("faults: building the operator's tests with planted bugs");
        let mut command = shell::command("cargo");
        command.args([
            "test",
            "--locked",
            "--package",
            "quorate-operator",
            "--no-run",
        ]);
        command.args(["--lib", "--test", "main", "--target-dir", "target/planted"]);
        command.arg("--message-format=json-render-diagnostics");
        command
            .env("RUSTFLAGS", "--cfg planted")
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        command.stderr(Stdio::inherit());
        let output = command.output().context("starting cargo")?;
        if !output.status.success() {
            bail!("the operator does not build with --cfg planted");
        }
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        let program = |source: &str| {
            let ours = messages.lines().filter(|line| line.contains(source));
            let names = ours.filter_map(|line| line.split("\"executable\":\"").nth(1));
            let found = names.filter_map(|rest| rest.split('"').next()).next_back();
            found.map(PathBuf::from)
        };
        Ok(Build {
            lib: program("operator/src/lib.rs").context("no unit tests were built")?,
            main: program("operator/tests/main.rs").context("no integration tests were built")?,
        })
    }

    /// Whether the test fails while the bug lives.
    fn fails(&self, proof: &Proof) -> Result<bool> {
        let (program, name, variable) = self.locate(&proof.test)?;
        let mut command = Command::new(program);
        command.args(["--exact", &name]);
        if let Some((key, value)) = variable {
            command.env(key, value);
        }
        let text = said(command, &proof.bug)?;
        if text.contains("running 0 tests") {
            bail!("{}: there is no test of that name", proof.test);
        }
        Ok(text.contains("test result: FAILED"))
    }

    /// Program, name and variable of a test as the matrix names it.
    fn locate(&self, test: &str) -> Result<Place<'_>> {
        if let Some(seed) = test.strip_prefix("plan ") {
            let seed = Some(("QUORATE_PLAN_SEED", seed.to_owned()));
            return Ok((&self.main, PLANS.to_owned(), seed));
        }
        if let Some(seed) = test.strip_prefix("pass ") {
            let seed = Some(("QUORATE_PASS_SEED", seed.to_owned()));
            return Ok((&self.main, HISTORIES.to_owned(), seed));
        }
        if let Some(script) = test.strip_prefix("operator/tests/scripts/") {
            let name = "scripts::every_script_plans_as_it_says".to_owned();
            let script = script.trim_end_matches(".txt").to_owned();
            return Ok((&self.main, name, Some(("QUORATE_SCRIPT", script))));
        }
        let (file, name) = test
            .split_once("::")
            .with_context(|| format!("{test}: a script, or a file and a function"))?;
        let module = |root: &str| {
            let path = file.strip_prefix(root)?.strip_suffix(".rs")?;
            Some(path.replace('/', "::").replace("::mod", ""))
        };
        if let Some(module) = module("operator/tests/") {
            return Ok((&self.main, format!("{module}::{name}"), None));
        }
        let module = module("operator/src/")
            .with_context(|| format!("{test}: bugs of the operator are found by its own tests"))?;
        Ok((&self.lib, format!("{module}::tests::{name}"), None))
    }
}

const PLANS: &str = "convergence::the_cluster_ends_up_as_the_spec_says_after_any_mix_of_faults";
const HISTORIES: &str =
    "kubernetes::histories::any_mix_of_faults_on_kubernetes_ends_as_the_spec_says";

/// What a test program says while a bug lives.
fn said(mut command: Command, bug: &str) -> Result<String> {
    command
        .env("QUORATE_PLANTED", bug)
        .env("RUST_BACKTRACE", "0");
    command.current_dir(shell::root().join("operator"));
    let output = command.output().context("starting a test program")?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Prints the rows of `SEEDS`, as they go into the table.
fn look_for_seeds(build: &Build, proofs: &[Proof]) -> Result<()> {
    let mut bugs: Vec<&str> = proofs.iter().map(|proof| proof.bug.as_str()).collect();
    bugs.dedup();
    for bug in bugs {
        for (kind, name) in [("Plan", PLANS), ("Pass", HISTORIES)] {
            let mut command = Command::new(&build.main);
            command.args(["--exact", name]);
            command.env("QUORATE_PASS_SEEDS", SEEDS_MAX.to_string());
            let text = said(command, bug)?;
            let seed = text
                .split("seed ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            if let (true, Some(seed)) = (text.contains("test result: FAILED"), seed) {
                println!("    (Bug::{bug}, Seed::{kind}({seed})),");
                break;
            }
        }
    }
    Ok(())
}
