//! The CustomResourceDefinition: the derived schema with rules and merge keys, bounded and slimmed.
//!
//! Every list, map and string gets a maximum, or the API server refuses the rules for their cost.
//! The descriptions of embedded Kubernetes types are left out, or the file would exceed what
//! client-side apply can store. Assumes the derive's output. Must not know: files; whoever calls
//! writes them.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::rules::{LIST_MAPS, RULES};
use super::spec::KvCluster;

/// Bounds of what has none of its own.
const ITEMS_MAX: u64 = 64;
const PROPERTIES_MAX: u64 = 64;
const LENGTH_MAX: u64 = 1024;
/// Fields whose types are Kubernetes' own: documented there.
const EMBEDDED: [&str; 12] = [
    "resources",
    "podSecurityContext",
    "containerSecurityContext",
    "env",
    "volume",
    "tolerations",
    "affinity",
    "topologySpreadConstraints",
    "clientFrom",
    "metricsFrom",
    "nodeSelector",
    "claims",
];

/// Requests and limits of the node's container when the user says nothing.
pub(super) fn default_resources() -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| {
        let quantity =
            |(name, size): &(&str, &str)| ((*name).to_owned(), Quantity((*size).to_owned()));
        Some(pairs.iter().map(quantity).collect())
    };
    ResourceRequirements {
        requests: quantities(&[("cpu", "100m"), ("memory", "256Mi")]),
        limits: quantities(&[("memory", "1Gi")]),
        claims: None,
    }
}

/// The CustomResourceDefinition of `KvCluster`, as JSON.
///
/// # Errors
/// Fails if the derived definition is no JSON, which would be a defect.
pub fn crd() -> Result<Value, serde_json::Error> {
    let mut crd = serde_json::to_value(KvCluster::crd())?;
    if let Some(schema) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        for rule in RULES {
            if let Some(node) = descend(schema, rule.path) {
                let rules = node
                    .entry("x-kubernetes-validations")
                    .or_insert_with(|| json!([]));
                if let Some(rules) = rules.as_array_mut() {
                    rules.push(json!({ "rule": rule.rule, "message": rule.message }));
                }
            }
        }
        for (path, key) in LIST_MAPS {
            if let Some(node) = descend(schema, path) {
                node.insert("x-kubernetes-list-type".to_owned(), json!("map"));
                node.insert("x-kubernetes-list-map-keys".to_owned(), json!([key]));
            }
        }
        bound(schema);
    }
    Ok(crd)
}

/// The schema of a `KvCluster`, against which manifests are checked.
///
/// # Errors
/// As [`crd`].
pub fn schema() -> Result<Value, serde_json::Error> {
    let mut crd = crd()?;
    let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema");
    Ok(schema.map_or(Value::Null, Value::take))
}

/// The CustomResourceDefinition as YAML, as it is committed in `deploy/crds.yaml`.
///
/// # Errors
/// Fails if the definition cannot be written, which would be a defect.
pub fn crd_yaml() -> Result<String, Box<dyn std::error::Error>> {
    let yaml = serde_saphyr::to_string(&crd()?)?;
    Ok(format!(
        "# Generated from operator/src/crd by `cargo xtask fix`. Do not edit.\n{yaml}"
    ))
}

/// The schema node at a path of field names.
fn descend<'a>(schema: &'a mut Value, path: &[&str]) -> Option<&'a mut Map<String, Value>> {
    let mut node = schema;
    for field in path {
        node = node.get_mut("properties")?.get_mut(*field)?;
    }
    node.as_object_mut()
}

/// Gives everything below a node a maximum.
fn bound(node: &mut Value) {
    let Some(map) = node.as_object_mut() else {
        return;
    };
    match map.get("type").and_then(Value::as_str) {
        Some("string") if !map.contains_key("enum") => {
            map.entry("maxLength").or_insert(json!(LENGTH_MAX));
        }
        Some("array") => {
            map.entry("maxItems").or_insert(json!(ITEMS_MAX));
        }
        Some("object") if map.contains_key("additionalProperties") => {
            map.entry("maxProperties").or_insert(json!(PROPERTIES_MAX));
        }
        _ => {}
    }
    // Numbers of unsigned types carry formats that API servers warn about.
    if map
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| format.starts_with("uint"))
    {
        map.remove("format");
    }
    if let Some(fields) = map.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, field) in fields {
            if EMBEDDED.contains(&name.as_str()) {
                strip(field, 0);
            }
            bound(field);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            bound(inner);
        }
    }
}

/// Drops the descriptions below a node, but not its own.
fn strip(node: &mut Value, depth: u32) {
    match node {
        Value::Object(map) => {
            // A field may itself be called `description`; then its value is a schema.
            if depth > 0 && map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(|inner| strip(inner, depth + 1));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| strip(inner, depth + 1)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_and_merge_key_stands_at_a_field_that_exists() {
        let mut crd = serde_json::to_value(KvCluster::crd()).expect("json");
        let schema = crd
            .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
            .expect("schema");
        for rule in RULES {
            assert!(
                descend(schema, rule.path).is_some(),
                "no field at {:?}",
                rule.path
            );
        }
        for (path, _) in LIST_MAPS {
            assert!(descend(schema, path).is_some(), "no list at {path:?}");
        }
    }

    #[test]
    fn the_file_is_small_enough_for_client_side_apply() {
        let yaml = crd_yaml().expect("yaml");
        let json = serde_json::to_string(&crd().expect("json")).expect("text");
        assert!(yaml.len() < 200 << 10, "{} bytes of YAML", yaml.len());
        assert!(json.len() < 200 << 10, "{} bytes of JSON", json.len());
    }

    #[test]
    fn the_committed_file_is_what_the_types_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds.yaml");
        let committed = std::fs::read_to_string(path).expect("deploy/crds.yaml");
        let current = committed == crd_yaml().expect("yaml");
        assert!(
            current,
            "deploy/crds.yaml is out of date: run `cargo xtask fix`"
        );
    }
}
