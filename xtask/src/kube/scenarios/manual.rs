//! The commands of the manual, given to a real API server as they are printed.
//!
//! What changes something is only tried (`--dry-run=server`): that it is accepted is shown here,
//! what it does by the other scenarios.

use super::Bench;
use super::chart::create_namespace;
use super::cluster::plain;
use crate::shell;
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// Where the commands stand.
const PAGES: &[&str] = &[
    "README.md",
    "docs/install.md",
    "docs/operate.md",
    "docs/runbook.md",
    "docs/security.md",
    "docs/troubleshooting.md",
];
/// The clusters that the pages speak of, and their namespace.
const CLUSTERS: &[&str] = &["demo", "orders", "example"];
const NAMESPACE: &str = "data";
/// Verbs that change something.
const CHANGES: &[&str] = &[
    "annotate", "apply", "delete", "drain", "label", "patch", "scale",
];
/// Verbs that only look, and end by themselves.
const LOOKS: &[&str] = &["describe", "get"];
/// What needs a member that runs, or an API server without the chart; other checks do it.
const ELSEWHERE: &[&str] = &[
    "deploy/install.yaml",
    "get secret",
    "logs",
    "port-forward",
    "rollout",
];

/// Every command that the manual prints is accepted.
pub fn commands(bench: &Bench) -> Result<()> {
    create_namespace(bench, NAMESPACE)?;
    // Nobody has to run for this: paused clusters have no pods.
    for name in CLUSTERS {
        let manifest = plain(name, 1, "  paused: true\n");
        let args = ["create", "--namespace", NAMESPACE, "--filename=-"];
        let output = bench.try_kubectl(&args, &manifest)?;
        ensure!(output.status.success(), "{output:?}");
    }
    let config = bench.run().join("tmp/manual.kubeconfig");
    std::fs::copy(bench.run().kubeconfig(), &config)?;
    let node = bench.kubectl(&[
        "get",
        "nodes",
        "--output=jsonpath={.items[0].metadata.name}",
    ])?;
    let mut tried = 0;
    let inside = format!("kubectl config set-context --current --namespace={NAMESPACE}");
    run(bench, &config, &inside).context("the namespace of the pages")?;
    for page in PAGES {
        let text = shell::read(&shell::root().join(page))?;
        for command in commands_of(&text) {
            let Some(command) = to_try(&command, &node) else {
                continue;
            };
            run(bench, &config, &command).with_context(|| format!("{page}: `{command}`"))?;
            tried += 1;
        }
    }
    ensure!(tried >= 20, "only {tried} commands were found");
    println!("  {tried} commands of {} pages are accepted", PAGES.len());
    let args = ["delete", "namespace", NAMESPACE, "--wait=false"];
    bench.kubectl(&args).map(drop)
}

/// Lines of blocks and code within sentences that are commands of kubectl.
fn commands_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if block {
            found.push(line.trim().to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    // `kubectl describe` alone names the command and is none.
    found.retain(|code| code.starts_with("kubectl ") && code.split(' ').count() > 2);
    found
}

/// A command as it can be tried: without what makes it wait, and without a change.
fn to_try(command: &str, node: &str) -> Option<String> {
    let command = command.split("  #").next().unwrap_or(command).trim();
    let command = command.trim_end_matches('&').trim_end();
    let command = command.trim_end_matches(" -w").replace("NODE", node);
    if ELSEWHERE.iter().any(|words| command.contains(words)) {
        return None;
    }
    let has = |verbs: &[&str]| {
        verbs
            .iter()
            .any(|verb| command.split(' ').any(|word| word == *verb))
    };
    match (has(CHANGES), has(LOOKS)) {
        // Here the chart has made the same objects before.
        (true, _) if command.contains("--server-side") => {
            Some(format!("{command} --force-conflicts --dry-run=server"))
        }
        (true, _) => Some(format!("{command} --dry-run=server")),
        (false, true) if !command.ends_with("pod") && !command.contains("NAME") => Some(command),
        (false, _) => None,
    }
}

/// Runs a line as a person's shell would, at the top of the tree.
fn run(bench: &Bench, config: &Path, line: &str) -> Result<()> {
    let output = bench
        .command("sh")
        .args(["-c", line])
        .env("KUBECONFIG", config)
        .current_dir(shell::root())
        .output()
        .context("cannot start a shell")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_blocks_and_sentences_and_only_tried() {
        let page = "Say `kubectl get kvc demo -o wide` or `kubectl describe`.\n\
                    ```\nkubectl get kvc -w\nkubectl scale kvc demo --replicas=5   # more\n\
                    kubectl port-forward svc/a 2379 &\nhelm list\n```\n";
        let found = commands_of(page);
        let tried: Vec<String> = found.iter().filter_map(|line| to_try(line, "n")).collect();
        assert_eq!(
            tried,
            [
                "kubectl get kvc demo -o wide",
                "kubectl get kvc",
                "kubectl scale kvc demo --replicas=5 --dry-run=server",
            ]
        );
        let drain = to_try("kubectl drain NODE --ignore-daemonsets", "n1").unwrap();
        assert_eq!(
            drain,
            "kubectl drain n1 --ignore-daemonsets --dry-run=server"
        );
    }
}
