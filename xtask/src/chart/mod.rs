//! `cargo xtask chart`: everything a Kubernetes user installs and looks at, checked.
//!
//! Two halves. What needs nothing but the text of the repository is a tidy rule and runs in every
//! test: generated copies, closed schema, names of metrics, anchors of the runbook. What needs
//! helm, helm-unittest, kubectl and promtool runs here, in about ten seconds once the tools exist.
//! Must not know: how the operator or a node is built; it reads their text and their manifests.

mod alerts;
mod cases;
mod dashboards;
mod docs;
mod generate;
mod prometheus;
mod promql;
mod render;
mod scrape;
mod tools;
mod values;

use crate::{image, shell};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use std::path::PathBuf;

pub use alerts::every_alert_is_tested_and_explained;
pub use dashboards::{metrics_are_listed_and_exist, panels_are_complete};
pub use docs::{documents_name_what_exists, every_reason_is_explained};
pub use generate::{generated_files_are_current, write_generated};
pub use render::rendered_manifests_are_current;
pub use values::{schema_is_closed, values_are_described};

/// Options of `cargo xtask chart`.
#[derive(Args)]
pub struct Options {
    /// Write what is generated and rendered instead of comparing it.
    #[arg(long)]
    fix: bool,
    /// Also scrape three members on loopback with a real Prometheus, and ask every query about
    /// members.
    #[arg(long)]
    scrape: bool,
    /// Also scrape an operator and its cluster on the Kubernetes bench, and ask every query.
    #[arg(long)]
    live: bool,
    /// With `--live`: use this run, instead of starting one.
    #[arg(long, requires = "live")]
    on: Option<String>,
    /// With `--live`: how the image's program is compiled.
    #[arg(long, value_enum, default_value_t = image::Profile::Release)]
    profile: image::Profile,
}

/// The chart's folder.
fn chart() -> PathBuf {
    shell::root().join("charts/quorate-operator")
}

/// Lints, tests and renders the chart, tests the alerts, and compares what is rendered.
///
/// # Errors
/// The first check that fails, with its output.
pub fn run(options: &Options) -> Result<()> {
    if options.fix {
        generate::write_parts()?;
    }
    let tools = tools::Tools::ready()?;
    println!("chart: helm lint --strict");
    tools.helm(&["lint", "--strict", &chart().to_string_lossy()])?;
    println!("chart: unit tests");
    tools.unit_tests(&chart())?;
    cases::refuses_bad_values(&tools)?;
    render::run(&tools, options.fix)?;
    println!("chart: alerts");
    alerts::test(&tools)?;
    dashboards::parse(&tools)?;
    if options.scrape {
        scrape::local(&tools)?;
    }
    if options.live {
        scrape::live(&tools, options.on.as_deref(), options.profile)?;
    }
    println!("chart: done");
    Ok(())
}

/// A YAML file as a JSON value.
fn yaml(text: &str, name: &str) -> Result<Value> {
    serde_saphyr::from_str(text).with_context(|| format!("{name} is not valid YAML"))
}

/// Compares `wanted` with the file at `path` (relative to the root), or writes it.
fn settle(path: &str, wanted: &str, fix: bool, remedy: &str) -> Result<()> {
    let file = shell::root().join(path);
    if fix {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        return std::fs::write(&file, wanted).with_context(|| format!("cannot write {path}"));
    }
    if std::fs::read_to_string(&file).unwrap_or_default() != wanted {
        bail!("{path} is out of date: run `{remedy}`");
    }
    Ok(())
}
