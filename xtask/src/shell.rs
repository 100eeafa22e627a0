//! Runs commands and finds files for all other parts of xtask.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace, wherever xtask is called from.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies inside the workspace")
        .to_path_buf()
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A command in the workspace root, in the environment that xtask itself was called in: without
/// what `cargo run` adds about this package. Build scripts that look at it (that of ring does)
/// would otherwise run again, with all that stands on them, whenever somebody calls cargo by hand.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let of_this_package = |prefix: &&str| name.to_string_lossy().starts_with(*prefix);
        if ["CARGO_MANIFEST_", "CARGO_PKG_"]
            .iter()
            .any(of_this_package)
        {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command in the workspace root with its output shown, and fails when it fails.
pub fn run(program: &str, args: &[&str]) -> Result<()> {
    run_with(program, args, &[])
}

/// Like [`run`], with extra environment variables.
pub fn run_with(program: &str, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    eprintln!("$ {program} {}", args.join(" "));
    let status = command(program)
        .args(args)
        .envs(env.iter().copied())
        .status()
        .with_context(|| format!("cannot start {program}: is it installed and on the PATH?"))?;
    if !status.success() {
        bail!("`{program} {}` failed: {status}", args.join(" "));
    }
    Ok(())
}

/// The standard output of a command that must succeed.
pub fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = command(program)
        .args(args)
        .output()
        .with_context(|| format!("cannot start {program}: is it installed and on the PATH?"))?;
    if !output.status.success() {
        bail!(
            "`{program} {}` failed: {}\n{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).context("output is not UTF-8")
}

/// Every file under `dir` (relative to the root) whose name ends in `suffix`, sorted, generated
/// code and build output left out. A folder that does not exist has no files.
pub fn files(dir: &str, suffix: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(&root().join(dir), suffix, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(dir: &Path, suffix: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "gen" | ".git") {
                collect(&path, suffix, found)?;
            }
        } else if name.ends_with(suffix) {
            found.push(path);
        }
    }
    Ok(())
}

/// `path` relative to the workspace root, for messages.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// Reads a text file; the error names it.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
