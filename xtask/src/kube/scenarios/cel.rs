//! Every CEL rule of the CRD, tried on a real API server: what it lets pass and what it refuses.

use super::cel_cases::{Before, CASES, Case};
use super::{Bench, in_namespace, manifests};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Tries every case, and looks for rules without one.
pub fn rules(bench: &Bench) -> Result<()> {
    manifests::install_crd(bench)?;
    let crd = bench.json(&["get", "crd", manifests::CRD_NAME])?;
    let mut wrong = without_case(&crd);
    in_namespace(bench, "cel", |namespace| {
        for case in CASES {
            if let Err(error) = check(bench, namespace, case) {
                wrong.push(format!(
                    "{} ({:?}): {error:#}",
                    shown(case.at),
                    case.message
                ));
            }
        }
        Ok(())
    })?;
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n  "));
    }
    println!(
        "  {} rules, one object accepted and one refused each",
        CASES.len()
    );
    Ok(())
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "the root" } else { path }
}

fn smallest() -> Value {
    json!({
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "KvCluster",
        "metadata": {"name": "case"},
        "spec": {},
    })
}

fn check(bench: &Bench, namespace: &str, case: &Case) -> Result<()> {
    match &case.before {
        None => {
            let create = |patch| try_create(bench, namespace, &patched(patch)?);
            judge(create(case.accepted)?, create(case.refused)?, case.message)
        }
        Some(before) => {
            let existing = patched(before.object)?;
            let name = existing["metadata"]["name"].as_str().unwrap_or_default();
            let result = check_change(bench, namespace, case, before, &existing);
            let target = format!("kvcluster/{name}");
            bench.kubectl(&[
                "delete",
                "--namespace",
                namespace,
                "--ignore-not-found",
                &target,
            ])?;
            result
        }
    }
}

fn check_change(
    bench: &Bench,
    namespace: &str,
    case: &Case,
    before: &Before,
    existing: &Value,
) -> Result<()> {
    let args = ["create", "--namespace", namespace, "--filename=-"];
    let created = bench.try_kubectl(&args, &existing.to_string())?;
    if !created.status.success() {
        bail!("the object before is refused: {}", text(&created.stderr));
    }
    if !before.status.is_empty() {
        let patch = format!("--patch={}", before.status);
        let args = [
            "patch",
            "--namespace",
            namespace,
            "kvcluster/case",
            "--subresource=status",
            "--type=merge",
            &patch,
        ];
        bench.kubectl(&args).context("the status before")?;
    }
    let change = |patch: &str| -> Result<Option<String>> {
        let patch = format!("--patch={patch}");
        let args = [
            "patch",
            "--namespace",
            namespace,
            "kvcluster/case",
            "--dry-run=server",
            "--type=merge",
            &patch,
        ];
        refusal(&bench.try_kubectl(&args, "")?)
    };
    judge(change(case.accepted)?, change(case.refused)?, case.message)
}

/// Creates an object without keeping it; the refusal, if it is refused.
fn try_create(bench: &Bench, namespace: &str, object: &Value) -> Result<Option<String>> {
    let args = [
        "create",
        "--namespace",
        namespace,
        "--dry-run=server",
        "--filename=-",
    ];
    refusal(&bench.try_kubectl(&args, &object.to_string())?)
}

fn refusal(output: &std::process::Output) -> Result<Option<String>> {
    if output.status.success() {
        // An unknown field is dropped with a warning, and the rule would not be tried at all.
        let warning = text(&output.stderr);
        if warning.contains("unknown field") {
            bail!("{warning}");
        }
        return Ok(None);
    }
    Ok(Some(text(&output.stderr)))
}

fn judge(accepted: Option<String>, refused: Option<String>, message: &str) -> Result<()> {
    if let Some(refusal) = accepted {
        bail!("refuses what it should accept: {refusal}");
    }
    match refused {
        None => bail!("accepts what it should refuse"),
        Some(refusal) if !refusal.contains(message) => {
            bail!("refuses for another reason: {refusal}")
        }
        Some(_) => Ok(()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn patched(patch: &str) -> Result<Value> {
    let mut object = smallest();
    let patch = serde_json::from_str(patch).with_context(|| format!("a case: {patch}"))?;
    merge(&mut object, &patch);
    Ok(object)
}

/// A JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, change) in changes {
        if change.is_null() {
            if let Some(fields) = target.as_object_mut() {
                fields.remove(name);
            }
        } else {
            merge(&mut target[name], change);
        }
    }
}

/// Rules of the CRD, as the API server has it, for which no case exists; and cases without a rule.
fn without_case(crd: &Value) -> Vec<String> {
    let mut rules = BTreeSet::new();
    for version in crd["spec"]["versions"].as_array().into_iter().flatten() {
        collect(&version["schema"]["openAPIV3Schema"], "", &mut rules);
    }
    let mut wrong = Vec::new();
    for (at, message) in &rules {
        if !CASES.iter().any(|case| covers(case, at, message)) {
            wrong.push(format!(
                "{} ({message:?}): no case tries this rule",
                shown(at)
            ));
        }
    }
    for case in CASES {
        if !rules.iter().any(|(at, message)| covers(case, at, message)) {
            wrong.push(format!(
                "{} ({:?}): a case of a rule that is not there",
                shown(case.at),
                case.message
            ));
        }
    }
    wrong
}

fn covers(case: &Case, at: &str, message: &str) -> bool {
    case.at == at && message.starts_with(case.message)
}

fn collect(node: &Value, at: &str, rules: &mut BTreeSet<(String, String)>) {
    for rule in node["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let message = rule["message"].as_str().unwrap_or_default();
        rules.insert((at.to_owned(), message.to_owned()));
    }
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        collect(child, &path, rules);
    }
    for inner in ["items", "additionalProperties"] {
        if node[inner].is_object() {
            collect(&node[inner], &format!("{at}[]"), rules);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_a_patch_and_its_two_sides_differ() {
        for case in CASES {
            let (accepted, refused) = (patched(case.accepted), patched(case.refused));
            assert_ne!(
                accepted.expect("JSON"),
                refused.expect("JSON"),
                "{}",
                case.message
            );
            if let Some(before) = &case.before {
                patched(before.object).expect("JSON");
                assert!(before.status.is_empty() || patched(before.status).is_ok());
            }
        }
    }

    #[test]
    fn a_rule_without_a_case_is_found_wherever_it_stands() {
        let crd = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "properties": {"spec": {"properties": {"things": {"items": {
                "x-kubernetes-validations": [{"message": "planted", "rule": "true"}],
            }}}}},
        }}}]}});
        let found = without_case(&crd);
        assert!(found[0].contains("spec.things[]"), "{found:?}");
        assert!(found[0].contains("no case tries this rule"), "{found:?}");
        // All cases, for which this schema has no rule, are reported as well.
        assert_eq!(found.len(), 1 + CASES.len());
    }

    #[test]
    fn null_in_a_patch_removes_a_field() {
        let mut value = json!({"a": {"b": 1, "c": 2}});
        merge(&mut value, &json!({"a": {"b": null}, "d": {"e": 3}}));
        assert_eq!(value, json!({"a": {"c": 2}, "d": {"e": 3}}));
    }
}
