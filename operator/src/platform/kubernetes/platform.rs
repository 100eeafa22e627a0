//! One cluster on Kubernetes: [`Platform`] held together.
//!
//! Lives as long as the cluster is looked after by this process; what it remembers between passes
//! (connections, what was last applied, who led) saves work and decides nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{Api, Client};
use serde_json::Value;

use super::Error;
use super::names::{Names, PodAddresses};
use super::objects::{Object, Set};
use super::tls::{Caller, Stock};
use crate::crd::{KvCluster, KvClusterSpec, KvClusterStatus};
use crate::ids::Slot;
use crate::observed::Seen;
use crate::plan::Step;
use crate::platform::members::Members;
use crate::reconcile::{Observation, Platform};
use crate::validate::SettingsCheck;

/// One cluster, by namespace and name.
pub struct Kubernetes {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) name: String,
    /// The DNS domain of clusters whose spec names none.
    pub(super) domain: Option<String>,
    pub(super) settings: SettingsCheck,
    /// The spec that is in force while a newer one is not valid.
    pub(super) in_force: Option<KvClusterSpec>,
    pub(super) members: Option<Members<PodAddresses>>,
    /// What the operator shows members.
    pub(super) caller: Option<Caller>,
    /// The slot whose member led last: it is asked first.
    pub(super) leader: Option<Slot>,
    /// What this pass saw, with the UIDs and versions that effects are bound to.
    pub(super) sight: Option<Sight>,
    /// The status as this pass found it.
    pub(super) before: KvClusterStatus,
    /// By object: the digest we applied and the version that came of it. While both stand, the live
    /// object is what the API server made of ours.
    pub(super) applied: BTreeMap<String, (String, String)>,
}

/// What a pass saw, as the API server gave it.
pub(super) struct Sight {
    pub names: Names,
    /// The cluster's object, with the spec in force and the status last written.
    pub object: KvCluster,
    /// The set, if it is ours.
    pub set: Seen<Option<Value>>,
    pub claims: BTreeMap<Slot, PersistentVolumeClaim>,
    /// The objects around the set as they are to be.
    pub rendered: Vec<Object>,
    /// The set as it is to be.
    pub rendered_set: Option<Set>,
    /// The objects around the set as they are.
    pub live: BTreeMap<String, Value>,
    /// Secrets of certificates, if they could be read.
    pub stock: Option<Stock>,
    /// The time of the pass, s since 1970.
    pub now_s: i64,
}

impl Kubernetes {
    /// The cluster of that name.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        domain: Option<String>,
        settings: SettingsCheck,
    ) -> Kubernetes {
        Kubernetes {
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            domain,
            settings,
            in_force: None,
            before: KvClusterStatus::default(),
            members: None,
            caller: None,
            leader: None,
            sight: None,
            applied: BTreeMap::new(),
        }
    }

    pub(super) fn objects(&self) -> Api<KvCluster> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn sets(&self) -> Api<StatefulSet> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What this pass saw; a step without an observation is a fault of the caller.
    pub(super) fn sight(&self) -> Result<&Sight, Error> {
        self.sight
            .as_ref()
            .ok_or_else(|| Error::Refused("nothing was observed yet".to_owned()))
    }

    /// The object as it was last read or written, for events about it.
    #[must_use]
    pub fn object(&self) -> Option<&KvCluster> {
        self.sight.as_ref().map(|sight| &sight.object)
    }

    /// The status as the last pass found it, for events about what has changed.
    #[must_use]
    pub fn status_before(&self) -> &KvClusterStatus {
        &self.before
    }
}

impl Platform for Kubernetes {
    type Error = Error;

    async fn observe(&mut self) -> Result<Option<Observation>, Error> {
        self.look().await
    }

    async fn apply(&mut self, observation: &Observation, step: &Step) -> Result<(), Error> {
        self.effect(observation, step).await
    }

    fn is_patience(error: &Error) -> bool {
        matches!(error, Error::NotYet(_))
    }

    async fn publish(&mut self, status: &KvClusterStatus) -> Result<(), Error> {
        self.write_status(status).await
    }
}
