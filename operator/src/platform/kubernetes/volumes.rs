//! What is known of volumes: their claims, and two questions that only a claim in need raises.
//!
//! May it grow? Is the machine gone that it is tied to? Neither is asked of a claim that is well:
//! a quiet cluster costs no reads for it. Must not know: what follows from the answers.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;

use super::access::call;
use super::claims;
use super::platform::Kubernetes;
use crate::ids::Slot;
use crate::observed::{Growth, LifeState, Pending, Seen, SlotsView, VolumeView};
use crate::quantity;

impl Kubernetes {
    /// The volumes, by what their claims say and by what had to be asked besides.
    pub(super) async fn volumes(
        &self,
        claims: &Seen<BTreeMap<Slot, PersistentVolumeClaim>>,
        slots: &Seen<SlotsView>,
    ) -> Seen<BTreeMap<Slot, VolumeView>> {
        let claims = match claims {
            Seen::Known(claims) => claims,
            Seen::Unknown(why) => return Seen::Unknown(why.clone()),
        };
        let size = &self
            .sight()
            .map(|sight| sight.object.spec.storage.size.clone());
        let wanted = size.as_ref().ok().and_then(|size| quantity::bytes(size));
        let views = claims.iter().map(|(slot, claim)| async move {
            let mut view = claims::view(claim);
            // Asked only for a claim that is to grow and does not yet.
            let small = view
                .requested_bytes
                .zip(wanted)
                .is_some_and(|(is, to)| is < to);
            if small && view.growth == Growth::Possible {
                view.growth = self.permission_to_grow(claim).await;
            }
            let life = slots.known().and_then(|slots| slots.lives.get(slot));
            // Asked only for a pod that finds no place: everywhere else it has one.
            if life.is_some_and(|life| life.state == LifeState::Pending(Pending::Unschedulable)) {
                view.node_gone = self.is_on_lost_machine(claim).await;
            }
            (*slot, view)
        });
        Seen::Known(join_all(views).await.into_iter().collect())
    }

    /// What the claim's class says about growing.
    async fn permission_to_grow(&self, claim: &PersistentVolumeClaim) -> Growth {
        let class = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.as_ref());
        let Some(class) = class.filter(|class| !class.is_empty()) else {
            return Growth::Refused("it has no storage class".to_owned());
        };
        let classes: Api<StorageClass> = Api::all(self.client.clone());
        let doing = format!("storage class {class} cannot be read");
        match call(&doing, classes.get_opt(class)).await {
            Ok(Some(found)) if found.allow_volume_expansion == Some(true) => Growth::Possible,
            Ok(Some(_)) => {
                Growth::Refused(format!("storage class {class} has no allowVolumeExpansion"))
            }
            Ok(None) => Growth::Refused(format!("storage class {class} does not exist")),
            Err(error) => Growth::Unknown(error.to_string()),
        }
    }

    /// The claim's volume can only be used on machines of which none exists any more (H34).
    /// Whatever cannot be read is no evidence.
    async fn is_on_lost_machine(&self, claim: &PersistentVolumeClaim) -> bool {
        let Some(volume) = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.as_ref())
        else {
            return false;
        };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let doing = "the volume cannot be read";
        let Ok(Some(volume)) = call(doing, volumes.get_opt(volume)).await else {
            return false;
        };
        let machines = machines(&volume);
        let nodes: Api<Node> = Api::all(self.client.clone());
        let reads = machines.iter().map(|name| call(doing, nodes.get_opt(name)));
        let found = join_all(reads).await;
        !found.is_empty() && found.iter().all(|node| matches!(node, Ok(None)))
    }
}

/// The machines a volume is tied to; empty when it is not.
fn machines(volume: &PersistentVolume) -> Vec<String> {
    let required = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    let terms = required
        .into_iter()
        .flat_map(|required| &required.node_selector_terms);
    let expressions = terms.flat_map(|term| {
        let by_label = term.match_expressions.iter().flatten();
        by_label.chain(term.match_fields.iter().flatten())
    });
    let by_name = expressions.filter(|expression| {
        let keys = ["kubernetes.io/hostname", "metadata.name"];
        keys.contains(&expression.key.as_str()) && expression.operator == "In"
    });
    by_name
        .flat_map(|expression| expression.values.clone().unwrap_or_default())
        .collect()
}
