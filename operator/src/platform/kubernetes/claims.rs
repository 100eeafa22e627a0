//! Claims as volumes: how one is made with its stamp, and what a live one says.
//!
//! The stamp is in annotations, and a claim of ours is created with it in one request, before the
//! set wants the slot. The StatefulSet controller may still be faster after a claim was lost: then
//! there is a claim without a stamp, which is nobody's until the planner adopts it. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names::Names;
use crate::crd::{AccessMode, StorageSpec};
use crate::ids::{ObjectUid, Slot, VolumeUid};
use crate::ledger::unix_ms;
use crate::observed::{Growth, Stamp, VolumeView};
use crate::quantity;

const CLUSTER_UUID: &str = "quorate.dev/cluster-uuid";
const OWNER_UID: &str = "quorate.dev/owner-uid";
const ORDINAL: &str = "quorate.dev/ordinal";
const MEMBER_ID: &str = "quorate.dev/member-id";
const INCARNATION: &str = "quorate.dev/incarnation";
/// On a claim that was kept after its cluster: the cluster's name and UID.
pub const RETAINED_FROM: &str = "quorate.dev/retained-from";

/// What a claim of this storage asks for.
pub fn spec(storage: &StorageSpec) -> PersistentVolumeClaimSpec {
    let mode = match storage.access_mode {
        AccessMode::ReadWriteOnce => "ReadWriteOnce",
        AccessMode::ReadWriteOncePod => "ReadWriteOncePod",
    };
    let size = Quantity(storage.size.clone());
    PersistentVolumeClaimSpec {
        access_modes: Some(vec![mode.to_owned()]),
        storage_class_name: storage.storage_class_name.clone(),
        resources: Some(VolumeResourceRequirements {
            requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
            limits: None,
        }),
        ..PersistentVolumeClaimSpec::default()
    }
}

/// The claim of a slot, stamped. It has no owner: it outlives its cluster if that is asked for.
pub(super) fn claim(names: &Names, storage: &StorageSpec, stamp: &Stamp) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names.claim(stamp.slot)),
            namespace: Some(names.namespace.clone()),
            labels: Some(names.labels()),
            annotations: Some(annotations(stamp)),
            ..ObjectMeta::default()
        },
        spec: Some(spec(storage)),
        status: None,
    }
}

/// The stamp as annotations.
pub(super) fn annotations(stamp: &Stamp) -> BTreeMap<String, String> {
    let Stamp {
        cluster_uuid,
        owner_uid,
        slot,
        member,
        incarnation,
    } = stamp;
    BTreeMap::from([
        (CLUSTER_UUID.to_owned(), cluster_uuid.to_string()),
        (OWNER_UID.to_owned(), owner_uid.to_string()),
        (ORDINAL.to_owned(), slot.to_string()),
        (MEMBER_ID.to_owned(), member.to_hex()),
        (INCARNATION.to_owned(), incarnation.to_string()),
    ])
}

/// The stamp of a claim; `None` when it has none, or a part of it is missing or makes no sense.
pub(super) fn stamp(claim: &PersistentVolumeClaim) -> Option<Stamp> {
    let annotations = claim.metadata.annotations.as_ref()?;
    let text = |key: &str| annotations.get(key);
    Some(Stamp {
        cluster_uuid: text(CLUSTER_UUID)?.parse().ok()?,
        owner_uid: ObjectUid(text(OWNER_UID)?.clone()),
        slot: Slot(text(ORDINAL)?.parse().ok()?),
        member: text(MEMBER_ID)?.parse().ok()?,
        incarnation: text(INCARNATION)?.parse().ok()?,
    })
}

/// The bytes a claim asks for.
fn requested(claim: &PersistentVolumeClaim) -> Option<u64> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    let storage = resources.requests.as_ref()?.get("storage")?;
    quantity::bytes(&storage.0)
}

/// How far a claim is with its growth, by what is written on it. Whether its class lets it grow is
/// for whoever can read the class.
fn growth(claim: &PersistentVolumeClaim) -> Growth {
    let Some(status) = &claim.status else {
        return Growth::Possible;
    };
    let condition = |type_: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    let allocated = status.allocated_resource_statuses.as_ref();
    let stage = allocated.and_then(|stages| stages.get("storage"));
    let stage = stage.map_or("", String::as_str);
    for type_ in ["ControllerResizeError", "NodeResizeError"] {
        if let Some(error) = condition(type_) {
            return Growth::Failed(error.message.clone().unwrap_or_else(|| type_.to_owned()));
        }
    }
    // Said without a condition: `ControllerResizeInfeasible`, `NodeResizeFailed` and the like.
    if stage.ends_with("Infeasible") || stage.ends_with("Failed") {
        return Growth::Failed(stage.to_owned());
    }
    if let Some(pending) = condition("FileSystemResizePending") {
        let since = pending.last_transition_time.as_ref().map(unix_ms);
        return since.map_or(Growth::UnderWay, |since| Growth::Unmounted { since });
    }
    if condition("Resizing").is_some() || !stage.is_empty() {
        return Growth::UnderWay;
    }
    Growth::Possible
}

/// What the planner sees of a claim. `node_gone` is for whoever can look at machines.
pub(super) fn view(claim: &PersistentVolumeClaim) -> VolumeView {
    let meta = &claim.metadata;
    let status = claim.status.as_ref();
    let capacity = status
        .and_then(|status| status.capacity.as_ref())
        .and_then(|capacity| capacity.get("storage"));
    let released = meta
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(RETAINED_FROM));
    let bound = status.is_some_and(|status| status.phase.as_deref() == Some("Bound"));
    VolumeView {
        uid: VolumeUid(meta.uid.clone().unwrap_or_default()),
        stamp: stamp(claim),
        deleting: meta.deletion_timestamp.is_some(),
        released,
        capacity_bytes: capacity.and_then(|quantity| quantity::bytes(&quantity.0)),
        // Until it is bound, nothing of what a claim asks for can be changed.
        requested_bytes: requested(claim).filter(|_| bound),
        growth: growth(claim),
        node_gone: false,
        name: meta.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClusterUuid, MemberId};

    fn stamped() -> (Stamp, PersistentVolumeClaim) {
        let stamp = Stamp {
            cluster_uuid: ClusterUuid(uuid::Uuid::from_u128(7)),
            owner_uid: ObjectUid::from("owner"),
            slot: Slot(2),
            member: MemberId(u64::MAX),
            incarnation: 3,
        };
        let names = Names {
            namespace: "data".to_owned(),
            cluster: "orders".to_owned(),
            uid: ObjectUid::from("owner"),
            domain: None,
        };
        let claim = claim(&names, &StorageSpec::default(), &stamp);
        (stamp, claim)
    }

    #[test]
    fn a_stamp_survives_its_annotations() {
        let (expected, claim) = stamped();
        assert_eq!(stamp(&claim), Some(expected));
        assert_eq!(claim.metadata.name.as_deref(), Some("data-orders-2"));
        assert_eq!(claim.metadata.owner_references, None);
    }

    #[test]
    fn how_far_a_claim_is_with_its_growth_is_read_from_what_is_written_on_it() {
        let condition = |type_: &str| {
            serde_json::json!([{"type": type_, "status": "True", "message": "the pool is full",
                "lastTransitionTime": "1970-01-01T00:00:05Z"}])
        };
        let since = crate::ids::UnixMs(5_000);
        let failed = Growth::Failed("the pool is full".to_owned());
        for (type_, stage, expected) in [
            ("", "", Growth::Possible),
            ("Resizing", "", Growth::UnderWay),
            ("", "ControllerResizeInProgress", Growth::UnderWay),
            (
                "FileSystemResizePending",
                "NodeResizePending",
                Growth::Unmounted { since },
            ),
            (
                "ControllerResizeError",
                "ControllerResizeInProgress",
                failed.clone(),
            ),
            ("NodeResizeError", "", failed),
            (
                "",
                "NodeResizeInfeasible",
                Growth::Failed("NodeResizeInfeasible".to_owned()),
            ),
        ] {
            let mut status = serde_json::json!({"phase": "Bound", "conditions": condition(type_)});
            if !stage.is_empty() {
                status["allocatedResourceStatuses"] = serde_json::json!({"storage": stage});
            }
            let (_, mut claim) = stamped();
            claim.status = Some(serde_json::from_value(status).unwrap());
            assert_eq!(view(&claim).growth, expected, "{type_} {stage}");
            // The default size; before it is bound, nothing of a claim can be changed.
            assert_eq!(view(&claim).requested_bytes, Some(8 << 30));
        }
        let (_, unbound) = stamped();
        assert_eq!(view(&unbound).requested_bytes, None);
    }

    #[test]
    fn a_stamp_with_a_part_missing_or_damaged_is_no_stamp() {
        for key in [CLUSTER_UUID, OWNER_UID, ORDINAL, MEMBER_ID, INCARNATION] {
            let (_, mut claim) = stamped();
            let annotations = claim.metadata.annotations.as_mut().unwrap();
            annotations.remove(key);
            assert_eq!(stamp(&claim), None, "without {key}");
        }
        let (_, mut claim) = stamped();
        let annotations = claim.metadata.annotations.as_mut().unwrap();
        annotations.insert(MEMBER_ID.to_owned(), "0".to_owned());
        assert_eq!(stamp(&claim), None);
    }
}
