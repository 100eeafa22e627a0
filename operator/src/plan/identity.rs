//! Rule 1: members and volumes that are not of this cluster, or not in their place, stop the plan.
//!
//! What looks like ours and is not must never be bound, joined or deleted by us: a human decides.

use super::{Decision, Facts, Reason, Verdict, note};
use crate::desired::Bootstrap;
use crate::ids::{ClusterUuid, Slot};
use crate::observed::{NodeState, Seen, Stamp, VolumeView};
use crate::planted::Bug;

/// A conflict of identities.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// What kind it is.
    pub reason: Reason,
    /// What was found where, and what to do.
    pub message: String,
}

pub(super) fn decide(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    match conflict(facts) {
        Some(Conflict { reason, message }) => Decision::Conflict(note(reason, message)),
        None => Decision::Pass,
    }
}

/// The first conflict, in the order of slots; nodes come before volumes.
#[must_use]
pub fn conflict(facts: &Facts) -> Option<Conflict> {
    let nodes = facts.observed.nodes.iter();
    let of_nodes = nodes.filter_map(|(slot, node)| Some((*slot, &node.known()?.state)));
    if let Some(conflict) = of_nodes
        .into_iter()
        .find_map(|(slot, state)| of_node(facts, slot, state))
    {
        return Some(conflict);
    }
    let Seen::Known(volumes) = &facts.observed.volumes else {
        return None;
    };
    volumes
        .iter()
        .find_map(|(slot, volume)| of_volume(facts, *slot, volume))
}

fn of_node(facts: &Facts, slot: Slot, state: &NodeState) -> Option<Conflict> {
    let theirs = match state {
        NodeState::Unjoined => return None,
        NodeState::Joined { cluster_uuid, .. } | NodeState::Removed { cluster_uuid, .. } => {
            Some(*cluster_uuid)
        }
        NodeState::Refusing { cluster_uuid, .. } => *cluster_uuid,
    }?;
    match facts.cluster() {
        Some(ours) if ours != theirs => Some(Conflict {
            reason: Reason::ClusterIdMismatch,
            message: format!(
                "The node in slot {slot} belongs to cluster {theirs}, not to {ours}. Give it back the \
                 data directory of this cluster, or an empty one. Nothing was changed."
            ),
        }),
        Some(_) => None,
        None => unlatched(facts, slot, theirs),
    }
}

fn of_volume(facts: &Facts, slot: Slot, volume: &VolumeView) -> Option<Conflict> {
    let stamp = volume.stamp.as_ref()?;
    let Some(ours) = facts.cluster() else {
        return unlatched(facts, slot, stamp.cluster_uuid);
    };
    if stamp.cluster_uuid != ours && !Bug::ForeignStampIsOurs.lives() {
        return Some(Conflict {
            reason: Reason::StaleVolume,
            message: format!(
                "Volume {} in slot {slot} belongs to cluster {}, not to {ours}. Move it away. Nothing \
                 was changed.",
                volume.uid, stamp.cluster_uuid
            ),
        });
    }
    misplaced(facts, slot, volume, stamp)
}

/// A volume of a present member in another slot than its own: deleting it would lose a voter (I6).
fn misplaced(facts: &Facts, slot: Slot, volume: &VolumeView, stamp: &Stamp) -> Option<Conflict> {
    let gone = facts.membership.is_some() && facts.member(stamp.member).is_none();
    if stamp.slot == slot || gone {
        return None;
    }
    // A copy, while the original is where it belongs, is no conflict: the slot has lost its own.
    let home = facts
        .volume(stamp.slot)
        .ok()
        .flatten()
        .and_then(|home| home.stamp.as_ref());
    if home.is_some_and(|home| home.slot == stamp.slot && home.member == stamp.member) {
        return None;
    }
    Some(Conflict {
        reason: Reason::StaleVolume,
        message: format!(
            "Volume {} in slot {slot} is that of member {} in slot {}. Stop the two slots and put the \
             volumes back in their places. Nothing was changed.",
            volume.uid, stamp.member, stamp.slot
        ),
    })
}

/// Something of a cluster is here, and no cluster is on record.
fn unlatched(facts: &Facts, slot: Slot, theirs: ClusterUuid) -> Option<Conflict> {
    if Bug::ForeignStampIsOurs.lives() {
        return None;
    }
    match facts.desired.bootstrap {
        Bootstrap::Adopt(wanted) if wanted == theirs => None,
        Bootstrap::Adopt(wanted) => Some(Conflict {
            reason: Reason::AdoptionRequired,
            message: format!(
                "Slot {slot} holds data of cluster {theirs}, and spec.bootstrap.adopt names {wanted}. \
                 Name the right cluster, or move the data away. Nothing was changed."
            ),
        }),
        Bootstrap::New => Some(Conflict {
            reason: Reason::AdoptionRequired,
            message: format!(
                "Slot {slot} holds data of cluster {theirs}, and this object has no record of it. To \
                 take it over, set spec.bootstrap.adopt.clusterUUID to {theirs}; to begin anew, move \
                 the data away. Nothing was changed."
            ),
        }),
    }
}
