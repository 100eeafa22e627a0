//! The PodDisruptionBudget over the voters.
//!
//! A whole number, never a percentage: it is the quorum of the larger of what is there and what is
//! wanted, so that it rises before the cluster grows and falls only after it has shrunk (H37, H38).

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::names::LABEL_ROLE;
use super::{Inputs, Object, absent, present};
use crate::crd::EvictionPolicy;
use crate::planted::Bug;

/// The budget, or its absence where the spec disables it.
pub(super) fn render(inputs: &Inputs) -> Result<Object, String> {
    let names = inputs.names;
    let wanted = &inputs.spec.pod_disruption_budget;
    if !wanted.enabled {
        return Ok(absent::<PodDisruptionBudget>(names.cluster.clone()));
    }
    let target = u32::try_from(inputs.spec.replicas).unwrap_or(0);
    let living = Bug::BudgetFollowsTheLiving.lives();
    let size = if living {
        inputs.voters
    } else {
        inputs.voters.max(target)
    };
    let needed = size / 2 + 1;
    let mut selector = names.selector();
    selector.insert(LABEL_ROLE.to_owned(), "voter".to_owned());
    let policy = match wanted.unhealthy_pod_eviction_policy {
        EvictionPolicy::IfHealthyBudget if Bug::BudgetBlocksTheBroken.lives() => "",
        EvictionPolicy::IfHealthyBudget => "IfHealthyBudget",
        EvictionPolicy::AlwaysAllow => "AlwaysAllow",
    };
    let budget = PodDisruptionBudget {
        metadata: names.metadata(names.cluster.clone()),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(i32::try_from(needed).unwrap_or(i32::MAX))),
            selector: Some(LabelSelector {
                match_labels: Some(selector),
                match_expressions: None,
            }),
            unhealthy_pod_eviction_policy: Some(policy.to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    };
    present(&budget, names.cluster.clone())
}
