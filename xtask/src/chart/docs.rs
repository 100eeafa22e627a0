//! The documents that people read when something is wrong name what exists: every reason of every
//! condition, every file, every command of this repository.

use crate::shell;
use crate::tidy::Finding;
use anyhow::Result;
use std::collections::BTreeSet;

const TROUBLESHOOTING: &str = "docs/troubleshooting.md";
/// Where conditions get their reasons.
const SOURCES: [&str; 2] = [
    "operator/src/status/conditions.rs",
    "operator/src/plan/mod.rs",
];
const DOCUMENTS: [&str; 5] = [
    "docs/install.md",
    "docs/operate.md",
    "docs/troubleshooting.md",
    "docs/runbook.md",
    "charts/quorate-operator/README.md",
];

/// Words in quotes that look like a reason and are none: statuses and types of conditions.
fn no_reasons(conditions: &str) -> BTreeSet<String> {
    let types = conditions
        .split_once("const TYPES")
        .and_then(|(_, rest)| rest.split_once("];"))
        .map_or("", |(list, _)| list);
    let mut words: BTreeSet<String> = quoted(types).collect();
    words.extend(["True", "False"].map(str::to_owned));
    words
}

/// Words in quotes that begin with a capital letter and hold nothing but letters.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('"')
        .filter(|word| {
            word.starts_with(|c: char| c.is_ascii_uppercase())
                && word.len() > 2
                && word.chars().all(|c| c.is_ascii_alphanumeric())
        })
        .map(str::to_owned)
}

/// A tidy rule: every reason that a condition can carry has an entry, and every entry is of a
/// reason that the operator gives.
pub fn every_reason_is_explained() -> Result<Vec<Finding>> {
    let mut reasons = BTreeSet::new();
    let mut types = BTreeSet::new();
    for path in SOURCES {
        let text = shell::read(&shell::root().join(path))?;
        let production = text.split("#[cfg(test)]").next().unwrap_or_default();
        types.extend(no_reasons(production));
        reasons.extend(quoted(production));
    }
    let text = shell::read(&shell::root().join(TROUBLESHOOTING))?;
    let explained: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .flat_map(|line| line.split(", "))
        .collect();
    let mut found = Vec::new();
    for reason in reasons.difference(&types) {
        if !explained.contains(reason.as_str()) {
            found.push(format!("{TROUBLESHOOTING}: no entry `### {reason}`"));
        }
    }
    let mut given = BTreeSet::new();
    for path in shell::files("operator/src", ".rs")? {
        given.extend(quoted(&shell::read(&path)?));
    }
    for reason in explained {
        if !given.contains(reason) {
            found.push(format!(
                "{TROUBLESHOOTING}: `### {reason}` is no reason that the operator gives"
            ));
        }
    }
    Ok(found)
}

/// A tidy rule: a path of this repository that a document names exists.
pub fn documents_name_what_exists() -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for document in DOCUMENTS {
        let text = shell::read(&shell::root().join(document))?;
        for word in text.split([' ', '`', '(', ')', '\n', ',', ';', '"']) {
            let path = word.split('#').next().unwrap_or_default();
            let path = path.trim_end_matches(['.', ':']);
            let ours = ["deploy/", "docs/", "charts/"]
                .iter()
                .any(|folder| path.starts_with(folder));
            if ours && !shell::root().join(path).exists() {
                found.push(format!("{document}: `{path}` does not exist"));
            }
        }
    }
    Ok(found)
}
