//! Manifests for people who do not use helm, rendered from the chart: `deploy/install.yaml` and the
//! folders of `deploy/kustomize`.
//!
//! Rendering needs helm. So that every test run can tell whether what is committed is current, each
//! rendered file carries the digest of the parts of the chart that it came from. The CRD is not
//! rendered: `install.yaml` takes it from `deploy/crds.yaml`, so a change of the Rust types needs
//! no helm.

use super::tools::Tools;
use super::{chart, settle};
use crate::shell;
use crate::tidy::Finding;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::process::Command;

const FIX: &str = "cargo xtask chart --fix";
/// The whole installation in one file.
pub const INSTALL: &str = "deploy/install.yaml";
const NAMESPACE: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: quorate-system
  labels:
    # The operator keeps to the strictest profile.
    pod-security.kubernetes.io/enforce: restricted
";

/// One rendered file.
struct Rendered {
    path: &'static str,
    about: &'static str,
    /// Values.
    set: &'static str,
    /// Templates; none: all.
    only: &'static [&'static str],
    namespace: bool,
}

const RENDERED: &[Rendered] = &[
    Rendered {
        path: "deploy/kustomize/operator/operator.yaml",
        about: "The operator for all namespaces.",
        set: "crds.enabled=false",
        only: &[],
        namespace: true,
    },
    Rendered {
        path: "deploy/kustomize/namespaced/operator.yaml",
        about: "The operator for the KvClusters of its own namespace, with Roles instead of ClusterRoles.",
        set: "crds.enabled=false,watchNamespaces={quorate-system},rbac.clusterReads=false,\
              rbac.aggregate=false,policies.warnings=false",
        only: &[],
        namespace: true,
    },
    Rendered {
        path: "deploy/kustomize/monitoring/monitoring.yaml",
        about: "Scraping and alerts, for the Prometheus operator.",
        set: "metrics.serviceMonitor.enabled=true,metrics.podMonitor.enabled=true,\
              metrics.prometheusRule.enabled=true",
        only: &[
            "templates/servicemonitor.yaml",
            "templates/podmonitor.yaml",
            "templates/prometheusrule.yaml",
        ],
        namespace: false,
    },
    Rendered {
        path: "deploy/kustomize/network-policy/network-policy.yaml",
        about: "What the operator may reach and who may reach it.",
        set: "networkPolicy.enabled=true",
        only: &["templates/networkpolicy.yaml"],
        namespace: false,
    },
];

/// Digest of what the rendered files depend on.
fn digest() -> Result<String> {
    let mut hash = Sha256::new();
    for path in shell::files("charts/quorate-operator", "")? {
        let shown = shell::shown(&path);
        let part = shown.trim_start_matches("charts/quorate-operator/");
        let rendered = part == "Chart.yaml"
            || part == "values.yaml"
            || part.starts_with("files/alerts")
            || (part.starts_with("templates/")
                && part != "templates/customresourcedefinition.yaml"
                && part != "templates/NOTES.txt"
                && !part.starts_with("templates/tests/"));
        if rendered {
            hash.update(part);
            hash.update(shell::read(&path)?);
        }
    }
    hash.update(include_str!("render.rs"));
    let mut text = String::new();
    for byte in hash.finalize().iter().take(8) {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// A tidy rule: what is committed was rendered from the chart as it is, and `install.yaml` is
/// definition plus operator.
pub fn rendered_manifests_are_current() -> Result<Vec<Finding>> {
    let mark = format!("digest {}", digest()?);
    let mut found = Vec::new();
    for file in RENDERED {
        let text = std::fs::read_to_string(shell::root().join(file.path)).unwrap_or_default();
        if !text.lines().nth(1).unwrap_or_default().contains(&mark) {
            found.push(format!(
                "{}: was rendered from another chart: run `{FIX}`",
                file.path
            ));
        }
    }
    if let Err(error) = settle(INSTALL, &install()?, false, "cargo xtask fix") {
        found.push(error.to_string());
    }
    Ok(found)
}

/// `install.yaml`: the definition and the operator, one after the other.
pub fn install() -> Result<String> {
    let crd = shell::read(&shell::root().join("deploy/crds.yaml"))?;
    let operator = RENDERED.first().context("the first file is the operator")?;
    let operator = shell::read(&shell::root().join(operator.path))?;
    let body = |text: &str| -> String {
        let lines = text.lines().skip_while(|line| line.starts_with('#'));
        lines.map(|line| format!("{line}\n")).collect()
    };
    Ok(format!(
        "# The KvCluster definition and the operator for all namespaces:\n\
         #   kubectl apply --server-side -f deploy/install.yaml\n\
         # Generated from deploy/crds.yaml and the chart by `cargo xtask fix`. Do not edit.\n\
         {}---\n{}",
        body(&crd),
        body(&operator)
    ))
}

/// Renders everything and compares it or, with `fix`, writes it; then builds every kustomization.
pub fn run(tools: &Tools, fix: bool) -> Result<()> {
    let mark = digest()?;
    for file in RENDERED {
        settle(file.path, &render(tools, file, &mark)?, fix, FIX)?;
    }
    settle(INSTALL, &install()?, fix, FIX)?;
    let folders = shell::files("deploy", "kustomization.yaml")?;
    for path in &folders {
        let folder = path.parent().context("a file lies in a folder")?;
        let output = Command::new("kubectl")
            .arg("kustomize")
            .arg(folder)
            .output()
            .context("cannot start kubectl: install Debian's kubernetes-client")?;
        if !output.status.success() {
            bail!(
                "kubectl kustomize {}:\n{}",
                shell::shown(folder),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    println!(
        "chart: {} rendered files, {} kustomizations",
        RENDERED.len() + 1,
        folders.len()
    );
    Ok(())
}

fn render(tools: &Tools, file: &Rendered, mark: &str) -> Result<String> {
    let folder = chart().to_string_lossy().into_owned();
    let mut args = vec![
        "template",
        "quorate-operator",
        &folder,
        "--namespace=quorate-system",
        "--skip-tests",
        "--set",
        file.set,
    ];
    for template in file.only {
        args.extend(["--show-only", template]);
    }
    let text = tools.helm(&args)?;
    let mut out = format!(
        "# {}\n# Rendered from charts/quorate-operator by `{FIX}`, digest {mark}. Do not edit.\n",
        file.about
    );
    if file.namespace {
        out.push_str(NAMESPACE);
    }
    let skip_first = !file.namespace;
    for (number, document) in documents(&text).enumerate() {
        if number > 0 || !skip_first {
            out.push_str("---\n");
        }
        out.push_str(&document);
    }
    Ok(out)
}

/// The objects of helm's output without what only helm needs.
fn documents(text: &str) -> impl Iterator<Item = String> {
    text.split("---\n").filter_map(|document| {
        let kept: String = document
            .lines()
            .filter(|line| !line.starts_with("# Source:") && !line.contains("helm.sh/chart:"))
            .map(|line| {
                let line = line.replace("managed-by: Helm", "managed-by: kubectl");
                format!("{}\n", line.trim_end())
            })
            .collect();
        kept.contains("kind:")
            .then(|| format!("{}\n", kept.trim_matches('\n')))
    })
}

#[cfg(test)]
mod tests {
    use super::documents;

    #[test]
    fn what_only_helm_needs_is_left_out() {
        let text = "---\n# Source: a\nkind: A\nmetadata:\n  labels:\n    helm.sh/chart: c-1\n---\n\n---\nkind: B\n";
        let found: Vec<String> = documents(text).collect();
        assert_eq!(found, ["kind: A\nmetadata:\n  labels:\n", "kind: B\n"]);
    }
}
