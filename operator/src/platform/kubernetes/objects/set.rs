//! The StatefulSet: all pods at once, none stopped but by us, claims kept whatever happens.
//!
//! Its size is not part of what is rendered: it is written by its own step with a resourceVersion,
//! so that no template can ever shrink a cluster (I1).

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::{Value, json};

use super::super::claims;
use super::{Inputs, RENDERED, annotate, digest, pod, prune};
use crate::planted::Bug;
use crate::settings::cold;

/// Annotation: the digest of what the template was rendered from. While it stays, another
/// operator version does not roll the cluster (H42).
pub const INPUTS: &str = "quorate.dev/inputs";

/// The set as it is to be.
#[derive(Clone, PartialEq, Debug)]
pub struct Set {
    /// The whole object, without a size.
    pub body: Value,
    /// The digest of its template.
    pub digest: String,
    /// The digest of what the template was rendered from.
    pub inputs: String,
}

/// The set.
///
/// # Errors
/// It cannot be written as JSON, and why.
pub fn set(inputs: &Inputs) -> Result<Set, String> {
    let names = inputs.names;
    let template: PodTemplateSpec = pod::template(inputs);
    let order = if Bug::OneAfterTheOther.lives() {
        "OrderedReady"
    } else {
        "Parallel"
    };
    let set = StatefulSet {
        metadata: names.metadata(names.cluster.clone()),
        spec: Some(StatefulSetSpec {
            service_name: Some(names.peers()),
            // After an outage all start together: none waits for another (H41).
            pod_management_policy: Some(order.to_owned()),
            // Only we stop pods, each behind its gate (H36).
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some("Retain".to_owned()),
                    when_scaled: Some("Retain".to_owned()),
                },
            ),
            selector: LabelSelector {
                match_labels: Some(names.selector()),
                match_expressions: None,
            },
            template,
            volume_claim_templates: Some(vec![claim_template(inputs)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    };
    let mut body = serde_json::to_value(&set).map_err(|error| format!("StatefulSet: {error}"))?;
    prune(&mut body);
    let digest = digest(&body["spec"]["template"]);
    let inputs = inputs_digest(inputs)?;
    annotate(&mut body, RENDERED, &digest);
    annotate(&mut body, INPUTS, &inputs);
    Ok(Set {
        body,
        digest,
        inputs,
    })
}

fn claim_template(inputs: &Inputs) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            labels: Some(inputs.names.labels()),
            ..ObjectMeta::default()
        },
        spec: Some(claims::spec(&inputs.spec.storage)),
        status: None,
    }
}

/// The parts of the spec that a template is made of, and nothing of how it is made.
fn inputs_digest(inputs: &Inputs) -> Result<String, String> {
    let mut spec =
        serde_json::to_value(inputs.spec).map_err(|error| format!("the spec: {error}"))?;
    if let Value::Object(fields) = &mut spec {
        // These change no pod.
        for field in [
            "quotaBackendBytes",
            "replicas",
            "storage",
            "bootstrap",
            "update",
            "repair",
            "recovery",
            "podDisruptionBudget",
            "networkPolicy",
            "monitoring",
            "backup",
            "service",
            "autoCompaction",
            "auth",
            "paused",
            "hibernate",
        ] {
            fields.remove(field);
        }
        if !Bug::HotSettingsInTemplate.lives() {
            fields.insert("config".to_owned(), json!(cold(inputs.spec)));
        }
    }
    let (epoch, restarted_at) = (inputs.epoch, inputs.restarted_at);
    Ok(digest(
        &json!({"spec": spec, "epoch": epoch, "restartedAt": restarted_at}),
    ))
}
