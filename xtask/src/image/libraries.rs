//! The program of the tests, which is linked dynamically, and the libraries that it loads.

use super::archive::File;
use crate::shell;
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

/// Builds the program as the tests do, takes out what only a debugger reads, and returns it with
/// its libraries.
///
/// # Errors
/// When it does not compile, or a library is missing.
pub fn program_of_the_tests() -> Result<(PathBuf, Vec<File>)> {
    // The example makes cargo choose the same features of dependencies as for tests, so that
    // nothing is compiled a second time.
    let args = [
        "build",
        "--locked",
        "--workspace",
        "--bin",
        "quorate",
        "--example",
        "crd",
    ];
    shell::run("cargo", &args)?;
    let built = shell::target().join("debug/quorate");
    let built = built.to_string_lossy();
    let folder = shell::target().join("image");
    std::fs::create_dir_all(&folder)?;
    let small = folder.join("quorate");
    shell::run(
        "strip",
        &["--output-file", &small.to_string_lossy(), &built],
    )
    .context("is binutils installed?")?;
    let mut libraries = Vec::new();
    for path in loaded(&shell::output("ldd", &[&built])?)? {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {path}"))?;
        libraries.push(File::program(path.trim_start_matches('/'), bytes));
    }
    ensure!(!libraries.is_empty(), "{built} loads no library");
    Ok((small, libraries))
}

/// The files that `ldd` names, as in `libc.so.6 => /lib/libc.so.6 (0x…)`. What the kernel itself
/// brings has no path.
fn loaded(ldd: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for line in ldd.lines() {
        ensure!(!line.contains("not found"), "a library is missing: {line}");
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        paths.extend(path.map(str::to_owned));
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_with_a_path_are_taken_and_a_missing_one_is_an_error() {
        let ldd =
            "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so (0x3)\n";
        assert_eq!(
            loaded(ldd).expect("all found"),
            ["/lib/libc.so.6", "/lib64/ld.so"]
        );
        assert!(loaded("\tlibz.so => not found\n").is_err());
    }
}
