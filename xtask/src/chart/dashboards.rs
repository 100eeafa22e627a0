//! The dashboards of `deploy/dashboards`: every panel is complete, every query names metrics that
//! exist, and against a real Prometheus every query returns data.

use super::alerts;
use super::prometheus::Question;
use super::promql::{self, Selector};
use super::tools::Tools;
use crate::shell;
use crate::tidy::Finding;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

/// The list of metrics that dashboards and alerts use. Tests of the node and of the operator
/// compare it with what a running process reports.
pub const METRICS: &str = "deploy/metrics.txt";
const FOLDER: &str = "deploy/dashboards";

/// Labels that a scrape adds.
const TARGET_LABELS: [&str; 5] = ["job", "namespace", "cluster", "pod", "instance"];
/// Series that a cluster without certificates has none of.
const ONLY_WITH_TLS: &str = "quorate_operator_cluster_certificate_expiry_seconds";

/// One query of one panel.
struct Query {
    dashboard: String,
    panel: String,
    expression: String,
}

fn dashboards() -> Result<Vec<(PathBuf, Value)>> {
    let files = shell::files(FOLDER, ".json")?;
    files
        .into_iter()
        .map(|path| {
            let text = shell::read(&path)?;
            let value = serde_json::from_str(&text)
                .with_context(|| format!("{} is not valid JSON", shell::shown(&path)))?;
            Ok((path, value))
        })
        .collect()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().into_iter().flatten()
}

fn queries() -> Result<Vec<Query>> {
    let mut found = Vec::new();
    for (path, dashboard) in dashboards()? {
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                found.push(Query {
                    dashboard: shell::shown(&path),
                    panel: panel["title"].as_str().unwrap_or_default().to_owned(),
                    expression: target["expr"].as_str().unwrap_or_default().to_owned(),
                });
            }
        }
    }
    Ok(found)
}

/// The queries of etcd's own dashboard and alerts: what is shown, and the query.
fn mixin() -> Vec<(&'static str, &'static str)> {
    let lines = include_str!("mixin.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" | ")).collect()
}

/// Which series are used, and where first.
fn used() -> Result<BTreeMap<Selector, String>> {
    let mut used = BTreeMap::new();
    let mut add = |expression: &str, place: String| {
        for selector in promql::selectors(expression) {
            used.entry(selector).or_insert_with(|| place.clone());
        }
    };
    for query in queries()? {
        add(
            &query.expression,
            format!("{}, panel `{}`", query.dashboard, query.panel),
        );
    }
    for alert in alerts::all()? {
        add(&alert.expression, format!("alert {}", alert.name));
    }
    for (name, expression) in mixin() {
        add(expression, format!("etcd's mixin, {name}"));
    }
    for (path, dashboard) in dashboards()? {
        for variable in dashboard["templating"]["list"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let query = variable["query"]["query"].as_str().unwrap_or_default();
            if let Some((series, _)) = query
                .strip_prefix("label_values(")
                .and_then(|query| query.rsplit_once(','))
            {
                add(series, format!("{}, a variable", shell::shown(&path)));
            }
        }
    }
    Ok(used)
}

/// What a live Prometheus is asked: every query of every dashboard, every query of etcd's mixin,
/// and for every alert whether the series are there, with the labels, that it looks at. `of` says
/// which series are scraped.
pub fn questions(of: impl Fn(&str) -> bool, tls: bool) -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    let mut add = |place: String, expression: &str| {
        let expression = expression
            .replace("$__rate_interval", "10s")
            .replace("$namespace", "local")
            .replace("$cluster", "demo")
            .replace("$pod", ".*");
        questions.push(Question { place, expression });
    };
    let asked = |expression: &str| {
        let names = promql::metrics(expression);
        names
            .iter()
            .all(|name| of(name) && (tls || name != ONLY_WITH_TLS))
    };
    for query in queries()? {
        if asked(&query.expression) {
            let place = format!("{}, panel `{}`", query.dashboard, query.panel);
            add(place, &query.expression);
        }
    }
    for (name, expression) in mixin().into_iter().filter(|(_, query)| asked(query)) {
        add(format!("etcd's mixin, {name}"), expression);
    }
    for alert in alerts::all()? {
        for selector in promql::selectors(&alert.expression) {
            if !asked(&selector.name) {
                continue;
            }
            let each =
                selector
                    .matchers
                    .iter()
                    .map(|(label, operator, value)| match label == "job" {
                        true => format!("{label}{operator}{value}"),
                        false => format!("{label}!=\"\""),
                    });
            let labels = each.collect::<Vec<_>>().join(",");
            // An operation in flight is over before one looks.
            let expression = format!("last_over_time({}{{{labels}}}[5m])", selector.name);
            add(format!("alert {}", alert.name), &expression);
        }
    }
    Ok(questions)
}

/// Who reports a metric. `up` and `ALERTS` are Prometheus' own.
pub fn reporter(name: &str) -> &'static str {
    match name {
        "up" | "ALERTS" => "prometheus",
        _ if name.starts_with("quorate_operator_") => "operator",
        _ => "member",
    }
}

/// The content of [`METRICS`].
pub fn metrics_list() -> Result<String> {
    let mut list = String::from(
        "# The series that dashboards and alerts read, and who reports them. Generated by \
         `cargo xtask fix`;\n# tests compare it with what a running member and the operator report.\n",
    );
    let names: BTreeSet<String> = used()?.into_keys().map(|selector| selector.name).collect();
    for name in names {
        let _ = writeln!(list, "{} {name}", reporter(&name));
    }
    Ok(list)
}

/// A family as a process declares it.
struct Family {
    labels: Vec<String>,
    histogram: bool,
}

/// The families that node and operator declare; tests of those crates compare the lists with what
/// is served.
fn declared() -> Result<BTreeMap<String, Family>> {
    let mut families = BTreeMap::new();
    for path in [
        "node/src/metrics/families.txt",
        "operator/src/process/families.txt",
    ] {
        for line in shell::read(&shell::root().join(path))?.lines() {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default();
            let (name, kind, labels) = (word(), word(), word());
            let labels = labels.split(',').filter(|label| *label != "-");
            families.insert(
                name.to_owned(),
                Family {
                    labels: labels.map(str::to_owned).collect(),
                    histogram: kind.starts_with("histogram"),
                },
            );
        }
    }
    // What every process tells, and what Prometheus makes itself.
    for (name, labels) in [
        ("process_cpu_seconds_total", [].as_slice()),
        ("process_max_fds", &[]),
        ("process_open_fds", &[]),
        ("process_resident_memory_bytes", &[]),
        ("process_start_time_seconds", &[]),
        ("quorate_build_info", &["version"]),
        ("up", &[]),
        ("ALERTS", &["alertname", "alertstate", "severity"]),
    ] {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let histogram = false;
        families.insert(name.to_owned(), Family { labels, histogram });
    }
    Ok(families)
}

/// A tidy rule: node or operator declares every family that is used, and every label that is asked
/// of it. What a running process reports is compared by the tests of those crates, and by
/// `--scrape` and `--live`.
pub fn metrics_are_listed_and_exist() -> Result<Vec<Finding>> {
    let families = declared()?;
    let mut found = Vec::new();
    for (selector, place) in used()? {
        let name = &selector.name;
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| name.strip_suffix(part));
        let histogram = whole.and_then(|whole| families.get(whole));
        let family = match histogram.filter(|family| family.histogram) {
            Some(family) => Some(family),
            None => families.get(name).filter(|family| !family.histogram),
        };
        let Some(family) = family else {
            found.push(format!("{place}: no {} reports {name}", reporter(name)));
            continue;
        };
        for (label, _, _) in &selector.matchers {
            let known = family.labels.contains(label)
                || TARGET_LABELS.contains(&label.as_str())
                || (family.histogram && label == "le");
            if !known {
                found.push(format!("{place}: {name} has no label {label}"));
            }
        }
    }
    Ok(found)
}

/// A tidy rule: what makes a panel readable is there, and panels do not overlap.
pub fn panels_are_complete() -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for (path, dashboard) in dashboards()? {
        let shown = shell::shown(&path);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if dashboard["uid"] != *stem {
            found.push(format!("{shown}: uid must be `{stem}`, so that links hold"));
        }
        let (mut ids, mut taken) = (Vec::new(), Vec::new());
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap_or_default();
            if ids.contains(&panel["id"]) {
                found.push(format!("{shown}: `{title}`: its id is used twice"));
            }
            ids.push(panel["id"].clone());
            let place = Place::of(&panel["gridPos"]);
            if taken.iter().any(|other| place.overlaps(other)) || place.right > 24 {
                found.push(format!(
                    "{shown}: `{title}` overlaps another panel or the edge"
                ));
            }
            taken.push(place);
            if panel["type"] == "row" {
                continue;
            }
            let described = panel["description"]
                .as_str()
                .is_some_and(|text| text.len() > 10);
            let unit = panel["fieldConfig"]["defaults"]["unit"].is_string();
            let variable = panel["datasource"]["uid"] == "${datasource}";
            let queried = panel["targets"]
                .as_array()
                .is_some_and(|all| !all.is_empty());
            for (fine, what) in [
                (!title.is_empty(), "a title"),
                (
                    described,
                    "a description of what is shown and what to look for",
                ),
                (unit, "a unit"),
                (variable, "the data source ${datasource}"),
                (queried, "a query"),
            ] {
                if !fine {
                    found.push(format!(
                        "{shown}: panel {} `{title}` lacks {what}",
                        panel["id"]
                    ));
                }
            }
        }
    }
    Ok(found)
}

/// Where a panel lies, in units of the grid.
struct Place {
    left: u64,
    right: u64,
    top: u64,
    bottom: u64,
}

impl Place {
    fn of(position: &Value) -> Self {
        let number = |name: &str| position[name].as_u64().unwrap_or_default();
        Self {
            left: number("x"),
            right: number("x") + number("w"),
            top: number("y"),
            bottom: number("y") + number("h"),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

/// Lets promtool parse every query: each becomes a rule of a file that is thrown away.
pub fn parse(tools: &Tools) -> Result<()> {
    let mut rules = Vec::new();
    for (number, query) in queries()?.into_iter().enumerate() {
        let expression = query.expression.replace("$__rate_interval", "5m");
        rules.push(json!({"record": format!("panel:{number}"), "expr": expression}));
    }
    let count = rules.len();
    let text = json!({"groups": [{"name": "panels", "rules": rules}]}).to_string();
    let file = shell::root().join(format!("target/panels-{}.json", std::process::id()));
    std::fs::write(&file, text)?;
    let promtool = tools.promtool.to_string_lossy();
    let checked = shell::output(&promtool, &["check", "rules", &file.to_string_lossy()]);
    std::fs::remove_file(&file)?;
    checked?;
    println!("chart: {count} queries of panels are valid PromQL");
    Ok(())
}
