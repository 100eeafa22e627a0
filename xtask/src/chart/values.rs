//! values.yaml, its schema and the README of the chart say the same.
//!
//! A value is described by the comment right above its key. A key without a comment groups those
//! below it. The schema is closed: a mistyped value is refused and not ignored.

use super::{chart, yaml};
use crate::shell;
use crate::tidy::Finding;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt::Write;

/// One described value.
struct Described {
    path: Vec<String>,
    comment: String,
}

fn values_text() -> Result<String> {
    shell::read(&chart().join("values.yaml"))
}

fn schema() -> Result<Value> {
    let text = shell::read(&chart().join("values.schema.json"))?;
    serde_json::from_str(&text).context("values.schema.json is not valid JSON")
}

/// Reads keys and the comments above them; the file uses nothing of YAML but nested keys at two
/// spaces, which the comparison with the parsed file proves.
fn described(text: &str) -> Vec<Described> {
    let (mut found, mut path, mut comment) = (Vec::new(), Vec::<String>::new(), Vec::new());
    for line in text.lines() {
        let content = line.trim_start();
        if let Some(words) = content.strip_prefix('#') {
            comment.push(words.trim().to_owned());
        } else if let Some((key, _)) = content.split_once(':') {
            path.truncate((line.len() - content.len()) / 2);
            path.push(key.trim_matches('"').to_owned());
            if !comment.is_empty() {
                let comment = std::mem::take(&mut comment).join(" ");
                found.push(Described {
                    path: path.clone(),
                    comment,
                });
            }
        } else {
            // A blank line ends a comment that belongs to no key.
            comment.clear();
        }
    }
    found
}

fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

fn resolve<'a>(schema: &'a Value, node: &'a Value) -> Option<&'a Value> {
    match node["$ref"].as_str() {
        Some(reference) => schema.pointer(reference.strip_prefix('#')?),
        None => Some(node),
    }
}

fn schema_of<'a>(schema: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(schema, |node, key| {
        let node = resolve(schema, node)?;
        let named = node["properties"].get(key);
        resolve(schema, named.or_else(|| node.get("additionalProperties"))?)
    })
}

/// A tidy rule: every value has a comment and a place in the schema, and the schema has no others.
pub fn values_are_described() -> Result<Vec<Finding>> {
    let text = values_text()?;
    let (values, schema) = (yaml(&text, "values.yaml")?, schema()?);
    let described = described(&text);
    let mut found = Vec::new();
    for value in &described {
        let name = value.path.join(".");
        if at(&values, &value.path).is_none() {
            found.push(format!(
                "values.yaml: `{name}` was not read as YAML reads it"
            ));
        }
        if schema_of(&schema, &value.path).is_none() {
            found.push(format!("values.schema.json: `{name}` is missing"));
        }
    }
    leaves(&values, &mut Vec::new(), &mut |path| {
        if !described.iter().any(|value| path.starts_with(&value.path)) {
            let name = path.join(".");
            found.push(format!("values.yaml: `{name}` has no comment above it"));
        }
    });
    for name in schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(|all| all.keys())
    {
        // Helm itself hands `global` to charts inside charts.
        if name != "global" && values.get(name).is_none() {
            found.push(format!(
                "values.yaml: `{name}` is in the schema and has no default"
            ));
        }
    }
    Ok(found)
}

fn leaves(value: &Value, path: &mut Vec<String>, visit: &mut impl FnMut(&[String])) {
    match value.as_object() {
        Some(map) if !map.is_empty() => {
            for (key, inner) in map {
                path.push(key.clone());
                leaves(inner, path, visit);
                path.pop();
            }
        }
        _ => visit(path),
    }
}

/// A tidy rule: no object of the schema takes a key that it does not name, but maps of text.
pub fn schema_is_closed() -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    open_objects(&schema()?, &mut String::from("#"), &mut found);
    Ok(found)
}

fn open_objects(node: &Value, path: &mut String, found: &mut Vec<Finding>) {
    if let Some(map) = node.as_object() {
        let rest = &node["additionalProperties"];
        let closed = *rest == Value::Bool(false) || rest["type"] == "string";
        // Helm itself hands `global` to charts inside charts.
        if node["type"] == "object" && !closed && path != "#/properties/global" {
            found.push(format!(
                "values.schema.json: {path} is open: add `\"additionalProperties\": false`"
            ));
        }
        for (key, inner) in map {
            let length = path.len();
            let _ = write!(path, "/{key}");
            open_objects(inner, path, found);
            path.truncate(length);
        }
    }
    for inner in node.as_array().into_iter().flatten() {
        open_objects(inner, path, found);
    }
}

/// The chart's README.
pub fn readme() -> Result<String> {
    let text = values_text()?;
    let (values, schema) = (yaml(&text, "values.yaml")?, schema()?);
    let mut out = String::from(INTRODUCTION);
    for value in described(&text) {
        let default = at(&values, &value.path).context("a described value exists")?;
        let kind = schema_of(&schema, &value.path)
            .and_then(|node| node["type"].as_str())
            .unwrap_or("quantity");
        let _ = writeln!(
            out,
            "| `{}` | {kind} | `{default}` | {} |",
            value.path.join("."),
            value.comment.replace('|', "\\|")
        );
    }
    Ok(out)
}

const INTRODUCTION: &str = "\
<!-- Generated from values.yaml by `cargo xtask fix`. Do not edit. -->
# quorate-operator

Installs the operator that keeps every `KvCluster` quorate: a replicated, durable key-value store that speaks the etcd v3
API. Needs Kubernetes 1.33 or newer and helm 3.14 or newer.

```
helm install quorate charts/quorate-operator -n quorate-system --create-namespace
kubectl apply -f deploy/examples/kvcluster.yaml
kubectl get kvc -w
```

- **Upgrades** take the CustomResourceDefinition along, because it is a template. Members are not restarted by a new operator.
- **Uninstalling** stops the operator and nothing else: the definition, every KvCluster, all members and all data stay
  (`crds.keep`). Installing again takes over where the last one stopped.
- **Rights** are listed one by one in `templates/_helpers.tpl`; there is no wildcard. With `watchNamespaces` there is a Role
  for each namespace and, but for `rbac.clusterReads`, nothing cluster-wide.
- **Pod Security**: the operator runs in a namespace that enforces `restricted`.

How to operate clusters is in `docs/operate.md`; what to do when an alert fires, in `docs/runbook.md`.

## Values

An unknown value is refused: `values.schema.json` is closed.

| Value | Type | Default | Meaning |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_comment_belongs_to_the_key_right_below_it() {
        let text = "# about the file\n\ngroup:\n  # one\n  # line\n  a: 1\n  b: 2\n# two\nc: 3\n";
        let found: Vec<(String, String)> = described(text)
            .into_iter()
            .map(|value| (value.path.join("."), value.comment))
            .collect();
        let expected = [("group.a", "one line"), ("c", "two")];
        assert_eq!(
            found,
            expected.map(|(path, comment)| (path.to_owned(), comment.to_owned()))
        );
    }

    #[test]
    fn an_open_object_is_found() {
        let mut found = Vec::new();
        let schema = json!({"type": "object", "additionalProperties": false,
            "properties": {"a": {"type": "object"}, "b": {"items": {"type": "object"}}}});
        open_objects(&schema, &mut String::from("#"), &mut found);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
