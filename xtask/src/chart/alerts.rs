//! The alerts of `deploy/alerts`: every one is tested, explained and explained once.

use super::tools::Tools;
use super::yaml;
use crate::shell;
use crate::tidy::Finding;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::PathBuf;

const FOLDER: &str = "deploy/alerts";
const RUNBOOK: &str = "docs/runbook.md";

/// One alert: its name, its expression, its runbook entry.
pub struct Alert {
    /// Its name.
    pub name: String,
    /// When it fires, in PromQL.
    pub expression: String,
    runbook: String,
    severity: String,
}

fn rule_files() -> Result<Vec<PathBuf>> {
    let folder = shell::root().join(FOLDER);
    let files = shell::files(FOLDER, ".yaml")?;
    Ok(files
        .into_iter()
        .filter(|path| path.parent() == Some(&folder))
        .collect())
}

/// Every alert of every file.
pub fn all() -> Result<Vec<Alert>> {
    let mut alerts = Vec::new();
    for path in rule_files()? {
        let shown = shell::shown(&path);
        let file = yaml(&shell::read(&path)?, &shown)?;
        for group in file["groups"].as_array().into_iter().flatten() {
            for rule in group["rules"].as_array().into_iter().flatten() {
                let text = |value: &Value, what: &str| -> Result<String> {
                    let text = value.as_str();
                    Ok(text
                        .with_context(|| format!("{shown}: {rule}: no {what}"))?
                        .to_owned())
                };
                alerts.push(Alert {
                    name: text(&rule["alert"], "alert")?,
                    expression: text(&rule["expr"], "expr")?,
                    runbook: text(&rule["annotations"]["runbook_url"], "runbook_url")?,
                    severity: text(&rule["labels"]["severity"], "severity")?,
                });
            }
        }
    }
    Ok(alerts)
}

/// Runs promtool on the rules and on their tests.
pub fn test(tools: &Tools) -> Result<()> {
    let promtool = tools.promtool.to_string_lossy().into_owned();
    let shown = |paths: Vec<PathBuf>| -> Vec<String> {
        paths.iter().map(|path| shell::shown(path)).collect()
    };
    let rules = shown(rule_files()?);
    let tests = shown(shell::files(&format!("{FOLDER}/tests"), ".yaml")?);
    let run = |verb: &[&str], files: &[String]| {
        let files = files.iter().map(String::as_str);
        let args: Vec<&str> = verb.iter().copied().chain(files).collect();
        shell::run(&promtool, &args)
    };
    run(&["check", "rules"], &rules)?;
    run(&["test", "rules"], &tests)
}

/// A tidy rule: every alert has a test in which it fires, and an entry in the runbook; the runbook
/// has no entry of an alert that does not exist.
pub fn every_alert_is_tested_and_explained() -> Result<Vec<Finding>> {
    let mut tests = String::new();
    for path in shell::files(&format!("{FOLDER}/tests"), ".yaml")? {
        tests.push_str(&shell::read(&path)?);
    }
    let runbook = shell::read(&shell::root().join(RUNBOOK))?;
    let entries: Vec<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(str::to_lowercase)
        .collect();
    let (mut found, mut used) = (Vec::new(), Vec::new());
    for alert in all()? {
        let name = &alert.name;
        if !tests.contains(&format!("alertname=\"{name}\"")) {
            found.push(format!(
                "{FOLDER}: {name} fires in no test of {FOLDER}/tests"
            ));
        }
        if !matches!(alert.severity.as_str(), "warning" | "critical") {
            found.push(format!("{FOLDER}: {name}: severity is warning or critical"));
        }
        match alert.runbook.strip_prefix("docs/runbook.md#") {
            Some(anchor) if entries.iter().any(|entry| entry == anchor) => {
                used.push(anchor.to_owned());
            }
            _ => found.push(format!(
                "{FOLDER}: {name}: `{}` is no entry (`### …`) of {RUNBOOK}",
                alert.runbook
            )),
        }
    }
    for entry in entries.iter().filter(|entry| !used.contains(entry)) {
        found.push(format!("{RUNBOOK}: no alert leads to `### {entry}`"));
    }
    Ok(found)
}
