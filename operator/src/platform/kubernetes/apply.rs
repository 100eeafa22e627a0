//! One step, one effect. Nothing is decided here.
//!
//! Every delete names a UID and every change a UID or a resourceVersion from this pass, so that an
//! effect that comes late meets nothing but what it was meant for (I7, H51). What is there already,
//! or gone already, is success (H52).

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Error;
use super::access::{call, failed};
use super::claims::{self, RETAINED_FROM};
use super::names::{FIELD_MANAGER, LABEL_ROLE, PodAddresses, role_name};
use super::objects::{INPUTS, ISSUER_GROUP, Object, RENDERED};
use super::platform::Kubernetes;
use crate::ids::{Slot, SlotUid, VolumeUid};
use crate::observed::{Role, Stamp};
use crate::plan::Step;
use crate::planted::Bug;
use crate::platform::members::Members;
use crate::quantity;
use crate::reconcile::Observation;

/// The most slots a set may be given: more than any cluster has members.
const SLOTS_MAX: u32 = 16;

fn post() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn patch() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// Changes what `change` names and nothing else. It carries the UID or the version it is meant for.
pub(super) async fn merge<K>(
    api: &Api<K>,
    name: &str,
    change: &Value,
    doing: &str,
) -> Result<K, Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let (params, change) = (patch(), Patch::Merge(change));
    call(doing, api.patch(name, &params, &change)).await
}

/// Deletes the object of that UID; another one in its place, or none, is left as it is.
async fn delete<K>(api: &Api<K>, name: &str, uid: &str, params: DeleteParams) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut uid = uid.to_owned();
    if Bug::DeleteWhateverIsThere.lives()
        && let Ok(live) = api.get_metadata(name).await
    {
        uid = live.metadata.uid.unwrap_or_default();
    }
    let params = params.preconditions(Preconditions {
        uid: Some(uid),
        resource_version: None,
    });
    match call(
        &format!("{name} cannot be deleted"),
        api.delete(name, &params),
    )
    .await
    {
        Ok(_) | Err(Error::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Kubernetes {
    pub(super) async fn effect(
        &mut self,
        observation: &Observation,
        step: &Step,
    ) -> Result<(), Error> {
        match step {
            Step::AddFinalizer => self.finalize(true).await,
            Step::DropFinalizer => self.finalize(false).await,
            Step::Latch(_)
            | Step::WriteIntent(_)
            | Step::ClearIntent { .. }
            | Step::WriteRecovery(_)
            | Step::ClearRecovery { .. }
            | Step::NoteRequest { .. } => self.write_record(step).await,
            Step::DropRequest { annotation, value } => self.drop_request(annotation, value).await,
            Step::EnsureObject { name } => self.ensure_object(name).await,
            Step::Certify { of, step } => self.certify(*of, step).await,
            Step::EnsureVolume { stamp, adopt } => match adopt {
                Some(uid) => self.adopt_volume(stamp, uid).await,
                None => self.ensure_volume(stamp).await,
            },
            Step::DeleteVolume { slot, uid } => {
                let name = self.sight()?.names.claim(*slot);
                delete(&self.claims(), &name, &uid.0, DeleteParams::default()).await
            }
            Step::ReleaseVolume { slot, uid } => self.release_volume(*slot, uid).await,
            Step::ResizeVolume { slot, uid, bytes } => self.resize_volume(*slot, uid, *bytes).await,
            Step::SetSlots { count, was } => self.set_slots(*count, *was).await,
            Step::DeleteSlots => self.delete_set(DeleteParams::background()).await,
            Step::OrphanSlots if Bug::SetTakesItsPods.lives() => {
                self.delete_set(DeleteParams::background()).await
            }
            Step::OrphanSlots => self.delete_set(DeleteParams::orphan()).await,
            Step::StopSlot { slot, uid, asking } => {
                if asking.is_some() {
                    let members = self.members()?;
                    members.ask_to_stop(observation, *asking).await?;
                }
                self.stop(*slot, uid).await
            }
            // The set starts its pods again by itself.
            Step::RestartSlot { slot, uid } => self.stop(*slot, uid).await,
            Step::LabelSlot { slot, uid, role } => self.label(*slot, uid, *role).await,
            Step::Bootstrap { .. }
            | Step::Recover { .. }
            | Step::MemberAdd { .. }
            | Step::Join { .. }
            | Step::Promote { .. }
            | Step::TransferLeader { .. }
            | Step::MemberRemove { .. } => {
                let names = self.sight()?.names.clone();
                let name = |slot| names.pod(slot);
                Ok(self.members()?.call(observation, step, name).await?)
            }
        }
    }

    /// Whom this pass asked; a call without them is refused, never left out.
    fn members(&mut self) -> Result<&mut Members<PodAddresses>, Error> {
        self.members
            .as_mut()
            .ok_or_else(|| Error::Refused("no member was asked yet".to_owned()))
    }

    async fn stop(&self, slot: Slot, uid: &SlotUid) -> Result<(), Error> {
        let name = self.sight()?.names.pod(slot);
        delete(&self.pods(), &name, &uid.0, DeleteParams::default()).await
    }

    async fn label(&self, slot: Slot, uid: &SlotUid, role: Option<Role>) -> Result<(), Error> {
        let name = self.sight()?.names.pod(slot);
        let label = role.map(role_name);
        let change = json!({"metadata": {"uid": uid.0, "labels": {LABEL_ROLE: label}}});
        let doing = format!("pod {name} cannot be labelled");
        merge(&self.pods(), &name, &change, &doing).await?;
        Ok(())
    }

    /// One object around the set, or the template of the set.
    async fn ensure_object(&mut self, id: &str) -> Result<(), Error> {
        let sight = self.sight()?;
        if id == set_id(&sight.names.cluster) {
            return self.patch_set().await;
        }
        let wanted = sight.rendered.iter().find(|object| object.id == id);
        let Some(wanted) = wanted.cloned() else {
            return Err(Error::Conflict(format!("{id} is not rendered any more")));
        };
        let live = sight.live.get(id).cloned();
        if let Some(live) = &live
            && !is_ours(live, &sight.names.uid.0)
        {
            return Err(Error::Refused(format!(
                "{id} exists and was not made for this cluster. Remove or rename it, or wait until \
                 the cluster it belongs to is gone. Nothing was changed"
            )));
        }
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &wanted.resource);
        match (&wanted.body, live) {
            (Some(body), _) => self.apply_object(&api, &wanted, body).await,
            (None, Some(live)) => {
                let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
                delete(&api, &wanted.name, uid, DeleteParams::background()).await
            }
            (None, None) => Ok(()),
        }
    }

    async fn apply_object(
        &mut self,
        api: &Api<DynamicObject>,
        wanted: &Object,
        body: &Value,
    ) -> Result<(), Error> {
        let params = PatchParams::apply(FIELD_MANAGER)
            .force()
            .validation_strict();
        let change = Patch::Apply(body);
        let write = api.patch(&wanted.name, &params, &change);
        let written = call(&format!("{} cannot be applied", wanted.id), write).await;
        let written = written.map_err(|error| match error {
            // An object is created by this: what is not there is its kind.
            Error::Conflict(why) if wanted.resource.group == ISSUER_GROUP => {
                Error::Refused(format!(
                    "{why}. Is cert-manager installed? Install it, or choose another \
                     spec.tls.*.mode"
                ))
            }
            error => error,
        })?;
        let version = written.metadata.resource_version.unwrap_or_default();
        let digest = wanted.digest.clone();
        self.applied.insert(wanted.id.clone(), (digest, version));
        Ok(())
    }

    /// The live set's UID and version; `None` when there is no set.
    fn set_version(&self) -> Result<Option<(String, String)>, Error> {
        let set = self.sight()?.set.known();
        let set = set.ok_or_else(|| Error::Conflict("the set was not read".to_owned()))?;
        let text = |key: &str| {
            let value = set.as_ref()?["metadata"][key].as_str()?;
            Some(value.to_owned())
        };
        Ok(text("uid").zip(text("resourceVersion")))
    }

    /// The template as it is to be, in place of the one there is. The size is not touched, and the
    /// version makes sure that the set is the one this pass saw. Replaced and not merged: what
    /// somebody else has put into it goes (H60).
    async fn patch_set(&mut self) -> Result<(), Error> {
        let sight = self.sight()?;
        let wanted = sight.rendered_set.clone();
        let (Some(wanted), Some((_, version))) = (wanted, self.set_version()?) else {
            return Err(Error::Conflict("there is no set to change".to_owned()));
        };
        let set = sight.set.known().cloned().flatten().unwrap_or_default();
        let mut annotations = set["metadata"]["annotations"].clone();
        if !annotations.is_object() {
            annotations = json!({});
        }
        annotations[RENDERED] = json!(wanted.digest);
        annotations[INPUTS] = json!(wanted.inputs);
        let operations = json!([
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/metadata/annotations", "value": annotations},
            {"op": "add", "path": "/metadata/labels", "value": wanted.body["metadata"]["labels"]},
            {"op": "replace", "path": "/spec/template", "value": wanted.body["spec"]["template"]},
            {"op": "replace", "path": "/spec/updateStrategy",
             "value": wanted.body["spec"]["updateStrategy"]},
            {"op": "add", "path": "/spec/persistentVolumeClaimRetentionPolicy",
             "value": wanted.body["spec"]["persistentVolumeClaimRetentionPolicy"]},
        ]);
        let operations = serde_json::from_value(operations)
            .map_err(|error| Error::Refused(format!("the change of the set: {error}")))?;
        let name = sight.names.cluster.clone();
        let sets = self.sets();
        let (params, change) = (patch(), Patch::Json::<()>(operations));
        let write = sets.patch(&name, &params, &change);
        let written = call(&format!("StatefulSet {name} cannot be changed"), write).await?;
        let version = written.metadata.resource_version.unwrap_or_default();
        self.applied.insert(set_id(&name), (wanted.digest, version));
        Ok(())
    }

    async fn set_slots(&mut self, count: u32, was: Option<u32>) -> Result<(), Error> {
        if count > SLOTS_MAX {
            let text = format!("{count} slots are more than {SLOTS_MAX}");
            return Err(Error::Refused(text));
        }
        let name = self.sight()?.names.cluster.clone();
        let live = self.set_version()?;
        let sets = self.sets();
        match (was, live) {
            (None, None) => {
                let wanted = self.sight()?.rendered_set.clone();
                let Some(wanted) = wanted else {
                    return Err(Error::Refused("the set cannot be rendered".to_owned()));
                };
                let mut body = wanted.body;
                body["spec"]["replicas"] = json!(count);
                let set = serde_json::from_value(body)
                    .map_err(|error| Error::Refused(format!("the set: {error}")))?;
                // Created and never applied: a set that somebody made meanwhile keeps its size.
                let doing = format!("StatefulSet {name} cannot be created");
                let params = post();
                let written = call(&doing, sets.create(&params, &set)).await?;
                let version = written.metadata.resource_version.unwrap_or_default();
                self.applied.insert(set_id(&name), (wanted.digest, version));
                Ok(())
            }
            (Some(_), Some((uid, version))) => {
                let mut change = json!({
                    "metadata": {"uid": uid, "resourceVersion": version},
                    "spec": {"replicas": count},
                });
                if Bug::SizeWithoutVersion.lives() {
                    change["metadata"] = json!({"uid": uid});
                }
                let doing = format!("the size of StatefulSet {name} cannot be set");
                let written = merge(&sets, &name, &change, &doing).await?;
                // Only the size was changed: what was applied stands under the new version.
                let now = written.metadata.resource_version.unwrap_or_default();
                if let Some((_, applied)) = self.applied.get_mut(&set_id(&name))
                    && *applied == version
                {
                    *applied = now;
                }
                Ok(())
            }
            (was, live) => Err(Error::Conflict(format!(
                "the set had {was:?} slots, and {} now",
                if live.is_some() { "exists" } else { "is gone" }
            ))),
        }
    }

    async fn delete_set(&self, params: DeleteParams) -> Result<(), Error> {
        let name = &self.sight()?.names.cluster;
        match self.set_version()? {
            Some((uid, _)) => delete(&self.sets(), name, &uid, params).await,
            None => Ok(()),
        }
    }

    async fn ensure_volume(&self, stamp: &Stamp) -> Result<(), Error> {
        let sight = self.sight()?;
        let claim = claims::claim(&sight.names, &sight.object.spec.storage, stamp);
        let name = sight.names.claim(stamp.slot);
        let doing = format!("claim {name} cannot be created");
        let claims = self.claims();
        let Err(error) = call(&doing, async { Ok(claims.create(&post(), &claim).await) }).await?
        else {
            return Ok(());
        };
        let exists = matches!(&error, kube::Error::Api(status) if status.is_already_exists());
        if !exists {
            return Err(failed(&doing, &error));
        }
        let live: Option<PersistentVolumeClaim> = call(&doing, claims.get_opt(&name)).await?;
        let same = live.as_ref().is_some_and(|live| {
            live.meta().deletion_timestamp.is_none() && claims::stamp(live).as_ref() == Some(stamp)
        });
        match same {
            true => Ok(()),
            false => Err(Error::Conflict(format!("another claim {name} is there"))),
        }
    }

    /// Stamps a claim that somebody else made, the StatefulSet controller for one.
    async fn adopt_volume(&self, stamp: &Stamp, uid: &VolumeUid) -> Result<(), Error> {
        let annotations = claims::annotations(stamp);
        let change = json!({"metadata": {"annotations": annotations}});
        self.change_claim(stamp.slot, uid, change).await
    }

    async fn release_volume(&self, slot: Slot, uid: &VolumeUid) -> Result<(), Error> {
        let names = &self.sight()?.names;
        let from = format!("{}/{}", names.cluster, names.uid);
        let change = json!({"metadata": {"annotations": {RETAINED_FROM: from}}});
        self.change_claim(slot, uid, change).await
    }

    async fn resize_volume(&self, slot: Slot, uid: &VolumeUid, bytes: u64) -> Result<(), Error> {
        // In the user's words, as long as they mean this size.
        let text = &self.sight()?.object.spec.storage.size;
        let size = match quantity::bytes(text) == Some(bytes) {
            true => text.clone(),
            false => bytes.to_string(),
        };
        let change = json!({"spec": {"resources": {"requests": {"storage": size}}}});
        self.change_claim(slot, uid, change).await
    }

    /// Changes the claim of that UID, if nobody has changed it since it was read.
    async fn change_claim(
        &self,
        slot: Slot,
        uid: &VolumeUid,
        mut change: Value,
    ) -> Result<(), Error> {
        let sight = self.sight()?;
        let name = sight.names.claim(slot);
        let seen = sight.claims.get(&slot).map(|claim| &claim.metadata);
        let Some(seen) = seen.filter(|seen| seen.uid.as_ref() == Some(&uid.0)) else {
            return Err(Error::Conflict(format!("claim {name} is another one")));
        };
        change["metadata"]["uid"] = json!(uid.0);
        change["metadata"]["resourceVersion"] = json!(seen.resource_version);
        let doing = format!("claim {name} cannot be changed");
        merge(&self.claims(), &name, &change, &doing).await?;
        Ok(())
    }
}

/// What the set's template is called in plans.
pub(super) fn set_id(cluster: &str) -> String {
    format!("statefulset/{cluster}")
}

/// The object has our cluster for an owner.
pub(super) fn is_ours(live: &Value, uid: &str) -> bool {
    let owners = live["metadata"]["ownerReferences"].as_array();
    owners
        .into_iter()
        .flatten()
        .any(|owner| owner["uid"] == uid)
}
