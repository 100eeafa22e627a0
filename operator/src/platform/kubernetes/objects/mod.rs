//! The objects of a cluster as the spec renders to them: one file per kind. Pure.
//!
//! The same inputs give the same bytes, whatever the order of maps or the number of members
//! (H42), so that a quiet cluster is never written to. Must not know: clients, live objects.

mod account;
mod budget;
mod config;
mod issuer;
mod pod;
mod policy;
mod services;
mod set;
mod settings;
mod tls;

pub use config::{read_by, unused};

use k8s_openapi::Resource;
use kube::core::ApiResource;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::names::Names;
use crate::crd::KvClusterSpec;

pub use issuer::GROUP as ISSUER_GROUP;
pub use set::{INPUTS, Set, set};

/// Annotation: the digest of what we rendered.
pub const RENDERED: &str = "quorate.dev/rendered";

/// What the objects are made of.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// Who the cluster is.
    pub names: &'a Names,
    /// What is wanted.
    pub spec: &'a KvClusterSpec,
    /// The epoch of the cluster, from 1.
    pub epoch: u64,
    /// Voters as last seen; for the disruption budget.
    pub voters: u32,
    /// When a human last asked for all pods to begin anew.
    pub restarted_at: Option<&'a str>,
}

/// One object around the set, or the wish that there is none.
#[derive(Clone, PartialEq, Debug)]
pub struct Object {
    /// What it is called in plans: kind and name.
    pub id: String,
    /// Its kind.
    pub resource: ApiResource,
    /// Its name.
    pub name: String,
    /// Its content with the digest in it; `None` when it must not exist.
    pub body: Option<Value>,
    /// The digest of the content.
    pub digest: String,
}

/// Every object but the set, in the order in which they are applied: what a pod needs, and what
/// guards it, comes before the first pod.
///
/// # Errors
/// The name of the object that cannot be written as JSON, and why.
pub fn render(inputs: &Inputs) -> Result<Vec<Object>, String> {
    let mut objects = vec![
        policy::render(inputs)?,
        services::peers(inputs)?,
        services::client(inputs)?,
        config::render(inputs)?,
        settings::render(inputs)?,
        budget::render(inputs)?,
    ];
    if inputs.spec.service_account_name.is_none() {
        objects.push(account::render(inputs)?);
    }
    objects.extend(issuer::render(inputs));
    Ok(objects)
}

/// An object that is to exist.
fn present<K>(object: &K, name: String) -> Result<Object, String>
where
    K: Resource + Serialize,
{
    let mut body = json::<K>(&name, object)?;
    prune(&mut body);
    let digest = digest(&body);
    annotate(&mut body, RENDERED, &digest);
    Ok(Object {
        id: id::<K>(&name),
        resource: resource::<K>(),
        name,
        body: Some(body),
        digest,
    })
}

/// An object that must not exist.
fn absent<K: Resource>(name: String) -> Object {
    Object {
        id: id::<K>(&name),
        resource: resource::<K>(),
        name,
        body: None,
        digest: String::new(),
    }
}

fn id<K: Resource>(name: &str) -> String {
    format!("{}/{name}", K::KIND.to_lowercase())
}

fn resource<K: Resource>() -> ApiResource {
    ApiResource {
        group: K::GROUP.to_owned(),
        version: K::VERSION.to_owned(),
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        plural: K::URL_PATH_SEGMENT.to_owned(),
    }
}

fn json<K: Resource>(name: &str, object: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(object).map_err(|error| format!("{} {name}: {error}", K::KIND))
}

fn annotate(body: &mut Value, key: &str, value: &str) {
    body["metadata"]["annotations"][key] = Value::String(value.to_owned());
}

/// Takes out what is null or empty: the API server does not store it, and leaving it out says that
/// we do not own it.
pub(super) fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|key, value| !is_empty(value) || MEANT_EMPTY.contains(&key.as_str()));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Fields in which an empty object says "all".
const MEANT_EMPTY: [&str; 3] = ["namespaceSelector", "podSelector", "emptyDir"];

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A digest of content. Maps of ours are ordered, so that the same content gives the same digest.
pub(super) fn digest(value: &Value) -> String {
    let bytes = Sha256::digest(value.to_string().as_bytes());
    let hex: Vec<String> = bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    hex.concat()
}
