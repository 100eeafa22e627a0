//! Records, status and finalizer: everything we write to the cluster's own object.
//!
//! Every write carries the resourceVersion of what this pass saw, so that a decision on an older
//! object is refused by the API server (409) and planned again. Must not know: what a record says.

use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::Error;
use super::access::call;
use super::apply::merge;
use super::names::FIELD_MANAGER;
use super::platform::Kubernetes;
use crate::crd::{FINALIZER, KvCluster, KvClusterStatus};
use crate::plan::Step;
use crate::planted::Bug;
use crate::record::Record;

impl Kubernetes {
    /// Writes the records as they are after this step.
    pub(super) async fn write_record(&mut self, step: &Step) -> Result<(), Error> {
        let object = &self.sight()?.object;
        let mut status = object.status.clone().unwrap_or_default();
        let record = Record::from_status(&status)
            .map_err(|error| Error::Unreadable(error.to_string()))?
            .with(step)
            .ok_or_else(|| {
                Error::Conflict(format!("{} does not fit what is on record", step.name()))
            })?;
        record.write_to(&mut status);
        self.replace_status(status).await
    }

    /// Writes the status, if it says anything new.
    pub(super) async fn write_status(&mut self, status: &KvClusterStatus) -> Result<(), Error> {
        let sight = self.sight()?;
        let mut status = status.clone();
        status.selector = Some(sight.names.selector_text());
        let same = sight.object.status.as_ref() == Some(&status);
        if same && !Bug::StatusOnEveryPass.lives() {
            return Ok(());
        }
        self.replace_status(status).await
    }

    async fn replace_status(&mut self, status: KvClusterStatus) -> Result<(), Error> {
        let mut object = self.sight()?.object.clone();
        object.status = Some(status);
        // What others own of the metadata is not sent back.
        object.metadata.managed_fields = None;
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let objects = self.objects();
        if Bug::RecordWithoutVersion.lives() {
            let newest = objects.get(&self.name).await.ok();
            object.metadata.resource_version = newest.and_then(|it| it.metadata.resource_version);
        }
        let write = objects.replace_status(&self.name, &params, &object);
        let written = call("the status cannot be written", write).await?;
        self.remember(written)
    }

    fn remember(&mut self, object: KvCluster) -> Result<(), Error> {
        match &mut self.sight {
            Some(sight) => {
                sight.object = object;
                Ok(())
            }
            None => Err(Error::Refused("nothing was observed yet".to_owned())),
        }
    }

    /// Puts our finalizer on, or takes it off.
    pub(super) async fn finalize(&mut self, wanted: bool) -> Result<(), Error> {
        let object = &self.sight()?.object;
        let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = json!({"metadata": {
            "uid": object.metadata.uid,
            "resourceVersion": object.metadata.resource_version,
            "finalizers": finalizers,
        }});
        let doing = "the finalizer cannot be written";
        let written = merge(&self.objects(), &self.name, &patch, doing).await?;
        self.remember(written)
    }

    /// Takes a request off the object. The version makes sure that it is the one this pass saw.
    pub(super) async fn drop_request(
        &mut self,
        annotation: &str,
        value: &str,
    ) -> Result<(), Error> {
        let object = &self.sight()?.object;
        let annotations = object.metadata.annotations.as_ref();
        let found = annotations.and_then(|annotations| annotations.get(annotation));
        if found.is_none_or(|found| found != value) {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "uid": object.metadata.uid,
            "resourceVersion": object.metadata.resource_version,
            "annotations": {annotation: null},
        }});
        let doing = format!("annotation {annotation} cannot be taken off");
        let written = merge(&self.objects(), &self.name, &patch, &doing).await?;
        self.remember(written)
    }

    /// Says on the object itself that it cannot be understood; nothing else of it is touched.
    ///
    /// # Errors
    /// As for every write.
    pub async fn report_unreadable(&self, why: &str, now: &str) -> Result<(), Error> {
        let resource = kube::core::ApiResource::erase::<KvCluster>(&());
        let objects: kube::Api<kube::core::DynamicObject> =
            kube::Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let doing = "the status cannot be written";
        let Some(object) = call(doing, objects.get_opt(&self.name)).await? else {
            return Ok(());
        };
        let stored = &object.data["status"]["conditions"];
        let mut conditions: Vec<Value> = stored.as_array().cloned().unwrap_or_default();
        let is_ours = |condition: &Value| condition["type"] == "Degraded";
        let last = conditions.iter().find(|condition| is_ours(condition));
        let said = last.is_some_and(|last| last["message"] == why && last["status"] == "True");
        if said || Bug::UnreadableIsIgnored.lives() {
            return Ok(());
        }
        let since = last.filter(|last| last["status"] == "True");
        let since = since.map_or(json!(now), |last| last["lastTransitionTime"].clone());
        conditions.retain(|condition| !is_ours(condition));
        conditions.push(json!({
            "type": "Degraded",
            "status": "True",
            "reason": "InvalidSpec",
            "message": why,
            "lastTransitionTime": since,
            "observedGeneration": object.metadata.generation,
        }));
        let patch = json!({
            "metadata": {"resourceVersion": object.metadata.resource_version},
            "status": {"conditions": conditions},
        });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let change = Patch::Merge(&patch);
        let write = objects.patch_status(&self.name, &params, &change);
        call(doing, write).await.map(|_| ())
    }
}
