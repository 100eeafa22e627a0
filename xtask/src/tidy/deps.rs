//! Which crate and which module may use which: the architecture as data.

use super::Finding;
use crate::shell;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

/// What each crate of the workspace may use of the others. Normal dependencies only.
const MAY_USE: &[(&str, &[&str])] = &[
    ("quorate-raft", &[]),
    ("quorate-api", &[]),
    ("quorate-node", &["quorate-raft", "quorate-api"]),
    ("quorate-operator", &["quorate-api"]),
    (
        "quorate",
        &["quorate-api", "quorate-node", "quorate-operator"],
    ),
    (
        "quorate-sim",
        &["quorate-raft", "quorate-node", "quorate-operator"],
    ),
    ("xtask", &[]),
];

/// Folder, words its files must not contain, and the way out.
const MUST_NOT_NAME: &[(&str, &[&str], &str)] = &[
    (
        "node/src/server",
        &["crate::storage", "quorate_raft"],
        "server sees the replica through replica::Handle and plain values of kv",
    ),
    (
        "node/src/auto_compaction",
        &[
            "crate::storage",
            "crate::server",
            "crate::transport",
            "quorate_raft",
            "SystemTime",
        ],
        "auto_compaction proposes like any client: replica::Handle and plain values of kv",
    ),
    (
        "node/src/kv",
        &[
            "crate::replica",
            "crate::server",
            "crate::transport",
            "tokio",
            "tonic",
        ],
        "kv is the deterministic state machine: time and IDs arrive in the command",
    ),
    (
        "node/src/storage",
        &[
            "crate::kv",
            "crate::replica",
            "crate::server",
            "crate::transport",
            "tonic",
            "tokio",
        ],
        "storage knows files through env::Disk and nothing above it",
    ),
    (
        "node/src/transport",
        &[
            "crate::kv",
            "crate::server",
            "crate::storage::wal",
            "crate::storage::revision_log",
        ],
        "transport moves frames; of storage it knows the life of a peer, a plain value",
    ),
    (
        "node/src/tls",
        &[
            "crate::replica",
            "crate::server",
            "crate::transport",
            "tokio",
        ],
        "tls holds certificates and decides who is let in; it knows no connection",
    ),
    (
        "operator/src/certificates",
        &["kube::", "tokio", "std::fs", "Instant", "SystemTime"],
        "certificates are issued from arguments: read files and the clock elsewhere",
    ),
    (
        "operator/src/plan",
        &[
            "kube::Client",
            "kube::Api",
            "tokio",
            "std::fs",
            "std::time::Instant",
            "SystemTime",
        ],
        "plan is pure: read the value in observe and pass it",
    ),
    (
        "cli/src/commands",
        &["quorate_raft"],
        "commands speak to a server through the API",
    ),
];

/// Packages that `Cargo.lock` may hold at most; rises only with a reason in the commit.
const LOCKED_PACKAGES_MAX: usize = 400;

/// `raft` must not be able to reach a clock, a disk, a socket or hash order.
pub fn raft_is_pure() -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let manifest = shell::read(&shell::root().join("raft/Cargo.toml"))?;
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    if section
        .lines()
        .any(|line| !line.trim().is_empty() && !line.trim().starts_with('#'))
    {
        found.push("raft/Cargo.toml: [dependencies] must stay empty".to_owned());
    }
    let lib = shell::read(&shell::root().join("raft/src/lib.rs"))?;
    for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        if !lib.contains(attribute) {
            found.push(format!("raft/src/lib.rs: `{attribute}` is missing"));
        }
    }
    for path in shell::files("raft/src", ".rs")? {
        let text = shell::read(&path)?;
        for word in [
            "Cell<",
            "Atomic",
            "static mut",
            "extern crate std",
            "tracing::",
        ] {
            if text.contains(word) {
                found.push(format!(
                    "{}: names `{word}`; the core is pure",
                    shell::shown(&path)
                ));
            }
        }
    }
    Ok(found)
}

/// Compares [`MAY_USE`] with `cargo metadata`.
pub fn crates_follow_the_table() -> Result<Vec<Finding>> {
    let text = shell::output("cargo", &["metadata", "--no-deps", "--format-version=1"])?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let from = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == from) else {
            found.push(format!(
                "{from}: add a row to MAY_USE in xtask/src/tidy/deps.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let internal = MAY_USE.iter().any(|(name, _)| *name == to);
            if internal && dependency["kind"].is_null() && !allowed.contains(&to) {
                found.push(format!(
                    "{from} must not depend on {to}: move the shared type down, or change MAY_USE \
                     in xtask/src/tidy/deps.rs and say why in ARCHITECTURE.md"
                ));
            }
        }
    }
    Ok(found)
}

/// Compares [`MUST_NOT_NAME`] with the text of each file, comments left out.
pub fn modules_follow_the_table() -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for (folder, words, way_out) in MUST_NOT_NAME {
        for path in shell::files(folder, ".rs")? {
            if is_test_file(&path) {
                continue;
            }
            let text = shell::read(&path)?;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or_default();
                for word in words.iter().filter(|word| line.contains(**word)) {
                    found.push(format!(
                        "{}:{}: names `{word}`; {way_out}",
                        shell::shown(&path),
                        number + 1
                    ));
                }
            }
        }
    }
    Ok(found)
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let in_tests = path.components().any(|part| part.as_os_str() == "tests");
    in_tests || name == "tests.rs" || name.ends_with("_tests.rs") || name.ends_with("_test.rs")
}

/// A ceiling on locked packages.
pub fn lock_is_small() -> Result<Vec<Finding>> {
    let lock = shell::read(&shell::root().join("Cargo.lock"))?;
    let count = lock.lines().filter(|line| *line == "[[package]]").count();
    Ok((count > LOCKED_PACKAGES_MAX)
        .then(|| {
            format!("Cargo.lock holds {count} packages, more than {LOCKED_PACKAGES_MAX}: drop one")
        })
        .into_iter()
        .collect())
}

/// Every workspace dependency carries its reason on the same line.
pub fn every_dependency_says_why() -> Result<Vec<Finding>> {
    let manifest = shell::read(&shell::root().join("Cargo.toml"))?;
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    Ok(section
        .lines()
        .filter(|line| line.contains('=') && !line.starts_with('#'))
        .filter(|line| !line.contains("path = ") && !line.contains("  # "))
        .map(|line| format!("Cargo.toml: add `  # why` to `{}`", line.trim()))
        .collect())
}
