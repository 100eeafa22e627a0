//! `cargo xtask image`: the container image, built without a registry or a container runtime, with
//! the same contents as the `Dockerfile` at the top of the repository.
//!
//! The constants here are the contract of both: tidy compares the `Dockerfile` with them. The
//! binary is linked statically against glibc and the image has nothing else to load, so that it
//! starts from an empty base. Two builds of one binary give identical bytes.
//!
//! For scenarios that are run many times there is an image that takes seconds: the program of the
//! tests with the libraries that it loads (`--profile tests`). It is no image for users.

pub mod archive;
mod dockerfile;
mod libraries;

pub use libraries::program_of_the_tests;

use crate::shell;
use anyhow::{Context, Result, bail};
use archive::{File, Image};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub use dockerfile::matches_the_contract;

/// The user and group that the process runs as; pods that demand non-root need the number.
pub const USER: &str = "65532:65532";
/// Where the program lies.
pub const PROGRAM: &str = "/usr/local/bin/quorate";
/// The same program under the name by which it behaves as etcd.
pub const ETCD_LINK: &str = "/usr/local/bin/etcd";
/// So that `kubectl exec POD -- quorate status` finds the program.
pub const PATH_VARIABLE: &str = "PATH=/usr/local/bin";
/// Client, peer, admin and metrics port.
pub const PORTS: &[u16] = &[2379, 2380, 2381, METRICS_PORT];
/// Where members serve health and metrics in the clear.
pub const METRICS_PORT: u16 = 2382;
/// The image's repository name; the tag is the version.
pub const REPOSITORY: &str = "quorate/quorate";
/// What names, users and groups the image knows: `id` in a debug container shows a name.
const PASSWD: &str = "quorate:x:65532:65532:quorate:/:/sbin/nologin\n";
const GROUP: &str = "quorate:x:65532:\n";

/// Labels that do not depend on the build.
pub const LABELS: &[(&str, &str)] = &[
    ("org.opencontainers.image.title", "quorate"),
    (
        "org.opencontainers.image.description",
        "A replicated key-value store that speaks the etcd v3 API, and its Kubernetes operator",
    ),
    ("org.opencontainers.image.licenses", "Apache-2.0"),
];

/// How a container of the image starts.
#[derive(Debug, Default)]
pub struct Config {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// User and group, as numbers; empty for root.
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// TCP ports it listens on.
    pub ports: Vec<u16>,
    /// Names and values.
    pub labels: Vec<(String, String)>,
}

/// Options of `cargo xtask image`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where the archive goes. Default: `target/image/quorate-<version>.tar`.
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Which program: `release` as users get it, `tests` for scenarios without a second build.
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// The image's name and tag. Default: `docker.io/quorate/quorate:<version>`.
    #[arg(long)]
    name: Option<String>,
}

/// A build profile.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Profile {
    /// Optimised and static, as users get it.
    Release,
    /// As the tests have built it, with the libraries it loads.
    Tests,
}

impl Options {
    /// The defaults, with a profile.
    pub fn with_profile(profile: Profile) -> Self {
        Self {
            output: None,
            profile,
            name: None,
        }
    }
}

/// Builds the image and returns the path of the archive.
///
/// # Errors
/// When the program does not compile or does not come out static.
pub fn build(options: &Options) -> Result<PathBuf> {
    let (program, libraries) = match options.profile {
        Profile::Release => (compile_static()?, Vec::new()),
        Profile::Tests => libraries::program_of_the_tests()?,
    };
    let version = version()?;
    let output = match &options.output {
        Some(path) => path.clone(),
        None => shell::target()
            .join("image")
            .join(format!("quorate-{version}.tar")),
    };
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| format!("docker.io/{REPOSITORY}:{version}"));
    let bytes =
        std::fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    if libraries.is_empty() && !is_static(&bytes) {
        bail!(
            "{} asks for a dynamic loader, which the image does not have",
            program.display()
        );
    }
    let mut image = image(&name, &version, bytes);
    image.files.extend(libraries);
    archive::write(&image, &output)?;
    let size = std::fs::metadata(&output)?.len() as f64 / 1e6;
    println!("image {name}: {} ({size:.1} MB)", output.display());
    Ok(output)
}

/// The whole image around a program.
fn image(name: &str, version: &str, program: Vec<u8>) -> Image {
    let relative = |path: &str| path.trim_start_matches('/').to_owned();
    let mut labels: Vec<(String, String)> = LABELS
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    labels.push((
        "org.opencontainers.image.version".to_owned(),
        version.to_owned(),
    ));
    Image {
        name: name.to_owned(),
        config: Config {
            entrypoint: vec![PROGRAM.to_owned()],
            user: USER.to_owned(),
            env: vec![PATH_VARIABLE.to_owned()],
            ports: PORTS.to_vec(),
            labels,
        },
        files: vec![
            File::text("etc/group", GROUP),
            File::text("etc/passwd", PASSWD),
            File::folder("tmp", 0o1777),
            File::program(&relative(PROGRAM), program),
            File::link(&relative(ETCD_LINK), "quorate"),
        ],
    }
}

/// Builds the program for the machine's own platform, statically linked. Naming the target keeps
/// the flag away from build scripts and macros, which must stay dynamic.
fn compile_static() -> Result<PathBuf> {
    let target = host_target()?;
    let args = [
        "build",
        "--locked",
        "--package",
        "quorate",
        "--release",
        "--target",
        &target,
    ];
    shell::run_with("cargo", &args, &[("RUSTFLAGS", STATIC_FLAGS)])?;
    program(Profile::Release)
}

/// Where the program of the image lies once the image is built.
///
/// # Errors
/// When the compiler does not say what this machine is.
pub fn program(profile: Profile) -> Result<PathBuf> {
    match profile {
        Profile::Release => Ok(shell::target().join(host_target()?).join("release/quorate")),
        Profile::Tests => Ok(shell::target().join("image/quorate")),
    }
}

/// Compiler flags of a program that loads nothing; the `Dockerfile` has the same.
pub const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C strip=debuginfo";

fn host_target() -> Result<String> {
    let version = shell::output("rustc", &["-vV"])?;
    version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc names no host")
}

/// The version of the workspace, which is the image's tag.
pub fn version() -> Result<String> {
    let manifest = shell::read(&shell::root().join("Cargo.toml"))?;
    let section = manifest
        .split("[workspace.package]")
        .nth(1)
        .context("Cargo.toml has no [workspace.package]")?;
    section
        .lines()
        .find_map(|line| line.strip_prefix("version = "))
        .map(|version| version.trim_matches('"').to_owned())
        .context("Cargo.toml has no version")
}

/// Whether an ELF file of this kind of machine asks for no interpreter.
fn is_static(elf: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, bytes: usize| -> Option<u64> {
        let mut value = [0_u8; 8];
        value[..bytes].copy_from_slice(elf.get(at..at + bytes)?);
        Some(u64::from_le_bytes(value))
    };
    // Little-endian 64-bit files only: offset, size and count of the program headers.
    let header = || Some((number(32, 8)?, number(54, 2)?, number(56, 2)?));
    let Some((offset, size, count)) = header().filter(|_| elf.starts_with(b"\x7fELF\x02\x01"))
    else {
        return false;
    };
    (0..count).all(|index| {
        let at = usize::try_from(offset + index * size).unwrap_or(usize::MAX - 4);
        number(at, 4).is_some_and(|kind| kind != u64::from(INTERPRETER))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_a_loader_is_told_from_one_that_does_not() {
        // This test itself is linked dynamically.
        let dynamic = std::fs::read("/proc/self/exe").expect("readable");
        assert!(!is_static(&dynamic));
        assert!(!is_static(b"#!/bin/sh\n"));
        // The smallest header: no program headers at all.
        let mut header = vec![0_u8; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert!(is_static(&header));
    }

    #[test]
    fn the_image_runs_as_a_number_and_not_as_root() {
        let image = image("n:1", "1", Vec::new());
        assert_eq!(image.config.user, "65532:65532");
        assert!(
            image
                .config
                .labels
                .iter()
                .any(|(name, _)| name.ends_with(".version"))
        );
    }
}
