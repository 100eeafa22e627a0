//! The catalogue of scenarios: every core-level number has a test or script that carries it.

use super::Finding;
use crate::shell;
use anyhow::Result;

/// Letter and how many numbers it has (A elections, B replication, C membership, D snapshots,
/// E reads, F durability). G, the state machine and watches, follows with those services.
const CATALOGUE: &[(char, u32)] = &[('a', 20), ('b', 17), ('c', 16), ('d', 11), ('e', 7)];

/// Items whose feature does not exist here: lease reads (E5, E6) are an opt-in that is not built.
const NOT_BUILT: &[&str] = &["e05", "e06"];

/// Looks for `a05_…` in the names of scripts and of test functions.
pub fn catalogue_is_covered() -> Result<Vec<Finding>> {
    let mut names = String::new();
    for folder in ["raft", "node", "sim"] {
        for path in shell::files(folder, ".txt")? {
            names.push_str(&format!(
                "{}\n",
                path.file_name().unwrap_or_default().display()
            ));
        }
        for path in shell::files(folder, ".rs")? {
            let text = shell::read(&path)?;
            for line in text
                .lines()
                .filter(|line| line.trim_start().contains("fn "))
            {
                let name = line.split("fn ").nth(1).unwrap_or_default();
                names.push_str(&format!("{name}\n"));
            }
        }
    }
    let mut found = Vec::new();
    for (letter, count) in CATALOGUE {
        for number in 1..=*count {
            let id = format!("{letter}{number:02}");
            let present = names
                .lines()
                .any(|name| name.starts_with(&format!("{id}_")));
            if !present && !NOT_BUILT.contains(&id.as_str()) {
                found.push(format!(
                    "scenario {}{number}: no script or test is named `{id}_…`",
                    letter.to_ascii_uppercase()
                ));
            }
        }
    }
    Ok(found)
}
