//! The CustomResourceDefinition: the derived schema, bounded and slimmed, as YAML.
//!
//! Assumes the derive's output. Must not know: files; whoever calls writes them.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResourceExt;

use super::spec::KvCluster;

/// Requests and limits of the node's container when the user says nothing.
pub(super) fn default_resources() -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| {
        let quantity = |(name, size): &(&str, &str)| ((*name).to_owned(), Quantity((*size).to_owned()));
        Some(pairs.iter().map(quantity).collect())
    };
    ResourceRequirements {
        requests: quantities(&[("cpu", "100m"), ("memory", "256Mi")]),
        limits: quantities(&[("memory", "1Gi")]),
        claims: None,
    }
}

/// The CustomResourceDefinition of `KvCluster`.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    KvCluster::crd()
}

/// The CustomResourceDefinition as YAML, as it is committed in `deploy/crds.yaml`.
///
/// # Errors
/// Fails if the definition cannot be written as YAML, which would be a defect.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&crd())
}
