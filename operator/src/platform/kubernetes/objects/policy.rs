//! The NetworkPolicy of the members: peers among themselves, the admin service for the operator,
//! clients as the spec says.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::names::{PORT_ADMIN, PORT_CLIENT, PORT_METRICS, PORT_PEER};
use super::{Inputs, Object, absent, present};

/// The policy, or its absence where the spec disables it.
pub(super) fn render(inputs: &Inputs) -> Result<Object, String> {
    let names = inputs.names;
    let wanted = &inputs.spec.network_policy;
    if !wanted.enabled {
        return Ok(absent::<NetworkPolicy>(names.cluster.clone()));
    }
    let members = || NetworkPolicyPeer {
        pod_selector: Some(labels(names.selector())),
        ..NetworkPolicyPeer::default()
    };
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(labels(BTreeMap::from([(
            "app.kubernetes.io/name".to_owned(),
            "quorate-operator".to_owned(),
        )]))),
        ip_block: None,
    };
    let from = |sources: &Vec<NetworkPolicyPeer>| (!sources.is_empty()).then(|| sources.clone());
    let policy = NetworkPolicy {
        metadata: names.metadata(names.cluster.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels(names.selector())),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some(vec![
                ingress(PORT_PEER, Some(vec![members()])),
                ingress(PORT_ADMIN, Some(vec![operator])),
                ingress(PORT_CLIENT, from(&wanted.client_from)),
                ingress(PORT_METRICS, from(&wanted.metrics_from)),
            ]),
            egress: Some(vec![
                NetworkPolicyEgressRule {
                    ports: Some(vec![port("UDP", 53), port("TCP", 53)]),
                    to: None,
                },
                NetworkPolicyEgressRule {
                    ports: Some(vec![port("TCP", PORT_PEER)]),
                    to: Some(vec![members()]),
                },
            ]),
        }),
    };
    present(&policy, names.cluster.clone())
}

fn labels(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}

fn port(protocol: &str, port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some(protocol.to_owned()),
        end_port: None,
    }
}

fn ingress(to: u16, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![port("TCP", to)]),
    }
}
