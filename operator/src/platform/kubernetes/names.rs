//! Names, labels and addresses of a cluster's objects. Pure.
//!
//! A selector is made of three labels that never change. Must not know: clients, specs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::crd::{API_VERSION, KIND};
use crate::ids::{ObjectUid, Slot};
use crate::observed::Role;
use crate::planted::Bug;
use crate::platform::members::Addresses;

/// The name under which we own fields.
pub const FIELD_MANAGER: &str = "quorate-operator";
/// On every object of a cluster: the cluster's name.
pub const LABEL_CLUSTER: &str = "quorate.dev/cluster";
/// On a pod: the role of its member.
pub const LABEL_ROLE: &str = "quorate.dev/role";
/// On a pod: the epoch it was begun in.
pub const LABEL_EPOCH: &str = "quorate.dev/epoch";

/// The client port.
pub const PORT_CLIENT: u16 = 2379;
/// The port between members.
pub const PORT_PEER: u16 = 2380;
/// The port of the admin service.
pub const PORT_ADMIN: u16 = 2381;
/// The port of health and metrics, always in the clear.
pub const PORT_METRICS: u16 = 2382;

/// Who a cluster is in Kubernetes, and what its objects are called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    /// The namespace.
    pub namespace: String,
    /// The `KvCluster`'s name.
    pub cluster: String,
    /// The `KvCluster`'s UID.
    pub uid: ObjectUid,
    /// The DNS domain of the Kubernetes cluster, if the spec names it. Without it names end in
    /// `.svc`, which every pod's resolver completes.
    pub domain: Option<String>,
}

impl Names {
    /// The headless Service.
    #[must_use]
    pub fn peers(&self) -> String {
        format!("{}-peers", self.cluster)
    }

    /// The Service for clients.
    #[must_use]
    pub fn client(&self) -> String {
        format!("{}-client", self.cluster)
    }

    /// The pod of a slot.
    #[must_use]
    pub fn pod(&self, slot: Slot) -> String {
        format!("{}-{slot}", self.cluster)
    }

    /// The claim of a slot.
    #[must_use]
    pub fn claim(&self, slot: Slot) -> String {
        format!("data-{}-{slot}", self.cluster)
    }

    /// The slot of a pod.
    #[must_use]
    pub fn slot_of_pod(&self, pod: &str) -> Option<Slot> {
        slot_after(pod.strip_prefix(&self.cluster)?.strip_prefix('-')?)
    }

    /// The slot of a claim.
    #[must_use]
    pub fn slot_of_claim(&self, claim: &str) -> Option<Slot> {
        self.slot_of_pod(claim.strip_prefix("data-")?)
    }

    /// What follows a pod's name in its DNS name.
    #[must_use]
    pub fn peer_domain(&self) -> String {
        let (peers, namespace) = (self.peers(), &self.namespace);
        match &self.domain {
            _ if Bug::DomainIsFixed.lives() => format!("{peers}.{namespace}.svc.cluster.local"),
            Some(domain) => format!("{peers}.{namespace}.svc.{domain}"),
            None => format!("{peers}.{namespace}.svc"),
        }
    }

    /// The three labels that select a cluster's pods.
    #[must_use]
    pub fn selector(&self) -> BTreeMap<String, String> {
        let labels = [
            ("app.kubernetes.io/name", "quorate"),
            ("app.kubernetes.io/instance", self.cluster.as_str()),
            ("app.kubernetes.io/component", "node"),
        ];
        owned(&labels)
    }

    /// The same as text, for lists and for the scale subresource.
    #[must_use]
    pub fn selector_text(&self) -> String {
        let labels = self.selector();
        let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join(",")
    }

    /// The labels of every object.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.extend(owned(&[
            ("app.kubernetes.io/part-of", "quorate"),
            ("app.kubernetes.io/managed-by", FIELD_MANAGER),
            (LABEL_CLUSTER, self.cluster.as_str()),
        ]));
        labels
    }

    /// Of an object that goes with its cluster.
    #[must_use]
    pub fn metadata(&self, name: String) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }

    /// What makes the garbage collector remove an object after its cluster. Claims never have it.
    #[must_use]
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            name: self.cluster.clone(),
            uid: self.uid.0.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

fn owned(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    owned.collect()
}

/// A slot number as Kubernetes writes it: no sign, no leading zero.
fn slot_after(text: &str) -> Option<Slot> {
    let slot = Slot(text.parse().ok()?);
    (slot.to_string() == text).then_some(slot)
}

/// The role label's value.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Voter => "voter",
        Role::Learner => "learner",
    }
}

/// The addresses of a cluster's members as a pass saw them.
#[derive(Clone, Debug)]
pub struct PodAddresses {
    /// Names of the cluster.
    pub names: Names,
    /// Addresses of pods, by slot.
    pub ips: BTreeMap<Slot, String>,
    /// Members speak TLS to each other and to us.
    pub secure: bool,
}

impl PodAddresses {
    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

impl Addresses for PodAddresses {
    fn admin_url(&self, slot: Slot) -> Option<String> {
        let ip = self.ips.get(&slot)?;
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.clone()
        };
        Some(format!("{}://{host}:{PORT_ADMIN}", self.scheme()))
    }

    fn peer_url(&self, slot: Slot) -> String {
        let (pod, domain) = (self.names.pod(slot), self.names.peer_domain());
        format!("{}://{pod}.{domain}:{PORT_PEER}", self.scheme())
    }

    fn slot_of_peer_url(&self, url: &str) -> Option<Slot> {
        let host = url.split_once("://")?.1;
        let (pod, rest) = host.split_once('.')?;
        // The domain may have been named after the member was added.
        let service = format!("{}.{}.svc", self.names.peers(), self.names.namespace);
        let after = rest.strip_prefix(&service)?;
        if !after.starts_with(['.', ':']) {
            return None;
        }
        self.names.slot_of_pod(pod)
    }

    /// Pods are dialled by address, and certificates are made out for names.
    fn server_name(&self, slot: Slot) -> Option<String> {
        let (pod, domain) = (self.names.pod(slot), self.names.peer_domain());
        Some(format!("{pod}.{domain}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            namespace: "data".to_owned(),
            cluster: "orders".to_owned(),
            uid: ObjectUid::from("u"),
            domain: None,
        }
    }

    #[test]
    fn a_slot_is_read_from_exactly_its_own_names() {
        let names = names();
        assert_eq!(names.slot_of_pod("orders-10"), Some(Slot(10)));
        assert_eq!(names.slot_of_claim("data-orders-2"), Some(Slot(2)));
        for other in [
            "orders-01",
            "orders-x",
            "orders-",
            "orders2-1",
            "orders-1-2",
            "orders-+1",
        ] {
            assert_eq!(names.slot_of_pod(other), None, "{other}");
        }
    }

    #[test]
    fn a_peer_url_leads_back_to_its_slot_with_and_without_a_domain() {
        let mut addresses = PodAddresses {
            names: names(),
            ips: BTreeMap::new(),
            secure: false,
        };
        let short = addresses.peer_url(Slot(1));
        assert_eq!(short, "http://orders-1.orders-peers.data.svc:2380");
        assert_eq!(addresses.slot_of_peer_url(&short), Some(Slot(1)));
        addresses.names.domain = Some("example.org".to_owned());
        let long = addresses.peer_url(Slot(1));
        assert_eq!(
            long,
            "http://orders-1.orders-peers.data.svc.example.org:2380"
        );
        assert_eq!(addresses.slot_of_peer_url(&long), Some(Slot(1)));
        assert_eq!(addresses.slot_of_peer_url(&short), Some(Slot(1)));
        addresses.secure = true;
        let secure = addresses.peer_url(Slot(1));
        assert!(secure.starts_with("https://orders-1."), "{secure}");
        assert_eq!(addresses.slot_of_peer_url(&secure), Some(Slot(1)));
        for other in [
            "http://orders-1.orders-peers.other.svc:2380",
            "http://orders-1.else-peers.data.svc:2380",
            "http://10.0.0.1:2380",
            "http://orders-1.orders-peers.data.svcx:2380",
        ] {
            assert_eq!(addresses.slot_of_peer_url(other), None, "{other}");
        }
    }
}
