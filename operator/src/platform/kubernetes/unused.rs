//! Settings that nobody reads any more: ConfigMaps of earlier revisions, found so that they go.
//!
//! Assumes that pods and set were read in this pass. What cannot be read keeps everything: a map
//! too many is harmless, one too few keeps a pod from starting. Must not know: what settings mean.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodSpec};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::access::call;
use super::names::Names;
use super::objects::{Object, read_by, unused};
use super::platform::Kubernetes;
use crate::ids::Slot;
use crate::observed::Seen;

/// The pods of a pass.
pub(super) type Pods = Seen<BTreeMap<Slot, Pod>>;

impl Kubernetes {
    /// The wish that maps which nobody reads are not there.
    pub(super) async fn unused_settings(&self, wanted: &[Object], pods: &Pods) -> Vec<Object> {
        let (Ok(sight), Seen::Known(pods)) = (self.sight(), pods) else {
            return Vec::new();
        };
        let Seen::Known(set) = &sight.set else {
            return Vec::new();
        };
        let Some(ours) = self.settings_of(&sight.names).await else {
            return Vec::new();
        };
        let mut specs: Vec<PodSpec> = pods.values().filter_map(|pod| pod.spec.clone()).collect();
        if let Some(set) = set {
            // Pods that are about to begin have the template that stands there now.
            let template = set["spec"]["template"]["spec"].clone();
            let Ok(spec) = serde_json::from_value(template) else {
                return Vec::new();
            };
            specs.push(spec);
        }
        let used: Vec<String> = specs.iter().flat_map(read_by).collect();
        unused(&sight.names.cluster, &ours, wanted, &used)
    }

    /// Our maps by name; `None` when they cannot be listed.
    async fn settings_of(&self, names: &Names) -> Option<Vec<String>> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = ListParams::default().labels(&names.selector_text());
        let list = call("the ConfigMaps cannot be listed", maps.list(&params)).await;
        let is_ours = |map: &ConfigMap| {
            let mut owners = map.metadata.owner_references.iter().flatten();
            owners.any(|owner| owner.uid == names.uid.0)
        };
        let ours = list.ok()?.into_iter().filter(is_ours);
        Some(ours.map(|map| map.name_any()).collect())
    }
}
