//! The settings that members begin with: an immutable ConfigMap whose name is a digest of its
//! content.
//!
//! A running pod keeps the settings of the revision it began with (H43): a change makes another
//! ConfigMap, and the template names it. They reach the node as the variables etcd has for its
//! flags; flags on the command line, which are ours, win over them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, PodSpec};
use serde_json::json;

use super::{Inputs, Object, absent, digest, present};
use crate::crd::KvClusterSpec;
use crate::planted::Bug;
use crate::settings::{cold, hot};

/// The settings as variables.
fn data(spec: &KvClusterSpec) -> BTreeMap<String, String> {
    let mut settings = cold(spec);
    if Bug::HotSettingsInTemplate.lives() {
        settings.extend(hot(spec));
    }
    let variables = settings.into_iter();
    variables
        .map(|(name, value)| (variable(&name), value))
        .collect()
}

/// The variable that stands for a flag.
fn variable(flag: &str) -> String {
    format!("ETCD_{}", flag.to_uppercase().replace('-', "_"))
}

/// The ConfigMap's name.
pub(super) fn name(inputs: &Inputs) -> String {
    if Bug::ConfigInPlace.lives() {
        return format!("{}-config", inputs.names.cluster);
    }
    let content = json!(data(inputs.spec));
    format!(
        "{}-config-{}",
        inputs.names.cluster,
        &digest(&content)[..10]
    )
}

/// Those of our maps by name that are neither wanted nor named by a pod or by the live template.
/// A pod that is started again reads its map anew, so that one in use must stay (H43).
pub fn unused(cluster: &str, ours: &[String], wanted: &[Object], used: &[String]) -> Vec<Object> {
    let prefix = format!("{cluster}-config-");
    let is_wanted = |name: &String| {
        let map = absent::<ConfigMap>(name.clone());
        wanted.iter().any(|object| object.id == map.id)
    };
    let unused = ours
        .iter()
        .filter(|name| name.starts_with(&prefix) && !is_wanted(name) && !used.contains(name));
    unused.cloned().map(absent::<ConfigMap>).collect()
}

/// The maps that the containers of a pod read.
pub fn read_by(spec: &PodSpec) -> impl Iterator<Item = String> + '_ {
    let sources = spec.containers.iter();
    let sources = sources.flat_map(|container| container.env_from.iter().flatten());
    sources.filter_map(|source| Some(source.config_map_ref.as_ref()?.name.clone()))
}

/// The ConfigMap.
pub(super) fn render(inputs: &Inputs) -> Result<Object, String> {
    let names = inputs.names;
    let name = name(inputs);
    let map = ConfigMap {
        metadata: names.metadata(name.clone()),
        data: Some(data(inputs.spec)),
        immutable: Some(true),
        binary_data: None,
    };
    present(&map, name)
}
