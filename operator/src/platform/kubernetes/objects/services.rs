//! The two Services: a headless one by which members find each other, and one for clients.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::names::{LABEL_EPOCH, LABEL_ROLE, PORT_ADMIN, PORT_CLIENT, PORT_PEER};
use super::{Inputs, Object, present};
use crate::crd::ServiceType;
use crate::planted::Bug;

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}

/// The headless Service. It publishes pods before they are ready: a member that does not serve yet
/// must find the others, and they it (H46).
pub(super) fn peers(inputs: &Inputs) -> Result<Object, String> {
    let names = inputs.names;
    let service = Service {
        metadata: names.metadata(names.peers()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(!Bug::HideUnready.lives()),
            selector: Some(names.selector()),
            ports: Some(vec![
                port("client", PORT_CLIENT),
                port("peer", PORT_PEER),
                port("admin", PORT_ADMIN),
            ]),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    present(&service, names.peers())
}

/// The Service for clients: voters of the current epoch only. A pod without a role label, new or
/// removed, gets no client.
pub(super) fn client(inputs: &Inputs) -> Result<Object, String> {
    let names = inputs.names;
    let wanted = &inputs.spec.service;
    let mut selector = names.selector();
    selector.insert(LABEL_ROLE.to_owned(), "voter".to_owned());
    selector.insert(LABEL_EPOCH.to_owned(), inputs.epoch.to_string());
    let type_ = match wanted.type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let service = Service {
        metadata: ObjectMeta {
            annotations: Some(wanted.annotations.clone()),
            ..names.metadata(names.client())
        },
        spec: Some(ServiceSpec {
            type_: Some(type_.to_owned()),
            selector: Some(selector),
            ports: Some(vec![port("client", PORT_CLIENT)]),
            load_balancer_class: wanted.load_balancer_class.clone(),
            external_traffic_policy: wanted.external_traffic_policy.clone(),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    present(&service, names.client())
}
