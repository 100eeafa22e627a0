//! What is derived from other files of the repository and committed: the CRD as a template of the
//! chart, copies of dashboards and alerts inside the chart (helm reads no file outside of it), the
//! table of values in the chart's README, and the list of metrics that dashboards and alerts use.

use super::{dashboards, render, values};
use crate::shell;
use crate::tidy::Finding;
use anyhow::{Context, Result};

const FIX: &str = "cargo xtask fix";

/// Every generated file with its content.
fn generated() -> Result<Vec<(String, String)>> {
    let mut files = vec![
        (
            "charts/quorate-operator/templates/customresourcedefinition.yaml".to_owned(),
            crd_template()?,
        ),
        (
            // kustomize reads no file outside of its folder.
            "deploy/kustomize/crd/crds.yaml".to_owned(),
            shell::read(&shell::root().join("deploy/crds.yaml"))?,
        ),
        (
            "charts/quorate-operator/README.md".to_owned(),
            values::readme()?,
        ),
        (dashboards::METRICS.to_owned(), dashboards::metrics_list()?),
    ];
    for (from, suffix) in [("deploy/dashboards", ".json"), ("deploy/alerts", ".yaml")] {
        for path in shell::files(from, suffix)? {
            // Tests of the alerts are no part of the chart.
            if path.parent() != Some(shell::root().join(from).as_path()) {
                continue;
            }
            let name = path
                .file_name()
                .context("a file has a name")?
                .to_string_lossy();
            let folder = from.trim_start_matches("deploy/");
            let copy = format!("charts/quorate-operator/files/{folder}/{name}");
            files.push((copy, shell::read(&path)?));
        }
    }
    Ok(files)
}

/// Writes every generated file; needs no program of another project.
pub fn write_generated() -> Result<()> {
    write_parts()?;
    super::settle(render::INSTALL, &render::install()?, true, FIX)
}

/// Writes what the chart is rendered from.
pub(super) fn write_parts() -> Result<()> {
    for (path, text) in generated()? {
        super::settle(&path, &text, true, FIX)?;
    }
    Ok(())
}

/// A tidy rule: generated files are what would be generated.
pub fn generated_files_are_current() -> Result<Vec<Finding>> {
    let files = generated()?;
    let mut found = Vec::new();
    for (path, text) in &files {
        if let Err(error) = super::settle(path, text, false, FIX) {
            found.push(error.to_string());
        }
    }
    let copies = shell::files("charts/quorate-operator/files", "")?;
    for copy in copies.iter().map(|path| shell::shown(path)) {
        if !files.iter().any(|(path, _)| *path == copy) {
            found.push(format!("{copy}: is a copy of nothing: delete it"));
        }
    }
    Ok(found)
}

/// The CustomResourceDefinition as a template: helm never upgrades what lies in `crds/`.
fn crd_template() -> Result<String> {
    let crd = shell::read(&shell::root().join("deploy/crds.yaml"))?;
    let metadata = "metadata:\n  name: kvclusters.quorate.dev\n";
    let (head, body) = crd
        .split_once(metadata)
        .context("deploy/crds.yaml has no metadata of kvclusters.quorate.dev")?;
    let head: String = head
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    // What helm would take for its own is written as a literal.
    let body = body.replace("{{", "{{ \"{{\" }}");
    Ok(format!(
        "{{{{/* Generated from deploy/crds.yaml by `{FIX}`. Do not edit. */}}}}\n\
         {{{{- if .Values.crds.enabled }}}}\n\
         {head}{metadata}\
         \x20 labels:\n\
         \x20   {{{{- include \"quorate.labels\" . | nindent 4 }}}}\n\
         \x20 {{{{- if .Values.crds.keep }}}}\n\
         \x20 annotations:\n\
         \x20   # An uninstalled chart must not take every cluster with it.\n\
         \x20   helm.sh/resource-policy: keep\n\
         \x20 {{{{- end }}}}\n\
         {body}\
         {{{{- end }}}}\n"
    ))
}
