//! A fresh volume for a newcomer, in a slot that may still hold another member's.
//!
//! A volume of a present member is never deleted (I6). A volume nobody stamped is deleted only if
//! an intent names it; otherwise it is taken over if the node on it says that it is empty, and left
//! to a human if not. Assumes a known membership.

use super::{Decision, Facts, Reason, Step, newcomer, note};
use crate::desired::VolumePolicy;
use crate::ids::{ClusterUuid, Slot, VolumeUid};
use crate::observed::{LifeState, NodeState, Pending, Stamp, VolumeView};
use crate::planted::Bug;
use crate::record::Newcomer;

/// Whether the slot's volume is the newcomer's, or the step towards that.
///
/// `condemned` is the volume that the intent says is lost.
pub(super) fn fresh(
    facts: &Facts,
    cluster: ClusterUuid,
    newcomer: &Newcomer,
    condemned: Option<&VolumeUid>,
    reason: Reason,
) -> Decision {
    let slot = newcomer.slot;
    let wanted = facts.stamp(cluster, slot, newcomer.member, newcomer.incarnation);
    let volume = match facts.volume(slot) {
        Ok(volume) => volume,
        Err(why) => {
            return Decision::Wait(note(
                reason,
                format!("The volumes could not be read: {why}."),
            ));
        }
    };
    match volume {
        None => Decision::Act(Step::EnsureVolume {
            stamp: wanted,
            adopt: None,
        }),
        Some(volume) if volume.deleting => release(facts, slot, volume, reason),
        Some(volume) if volume.stamp.as_ref() == Some(&wanted) => mounted(facts, slot, volume),
        Some(volume) if Bug::AnyVolumeOfOurs.lives() && volume.stamp.is_some() => {
            mounted(facts, slot, volume)
        }
        Some(volume) => displace(facts, wanted, volume, condemned),
    }
}

/// A volume that goes as soon as nothing runs on it.
fn release(facts: &Facts, slot: Slot, volume: &VolumeView, reason: Reason) -> Decision {
    match facts.life(slot) {
        Some(life)
            if facts.is_occupied(slot)
                && life.state != LifeState::Stopping
                && life.volume.as_ref() == Some(&volume.uid) =>
        {
            Decision::Act(Step::StopSlot {
                slot,
                uid: life.uid.clone(),
                asking: None,
            })
        }
        _ => Decision::Wait(note(
            reason,
            format!("The volume of slot {slot} is being deleted."),
        )),
    }
}

/// The right volume is there; a life that began without it must begin again.
fn mounted(facts: &Facts, slot: Slot, volume: &VolumeView) -> Decision {
    let Some(life) = facts.life(slot) else {
        return Decision::Pass;
    };
    let elsewhere = life.volume.as_ref().is_some_and(|held| *held != volume.uid);
    // kubernetes/kubernetes#74374: a pod that was created while its claim went stays pending.
    let orphaned = life.state == LifeState::Pending(Pending::VolumeMissing);
    let leaving = matches!(life.state, LifeState::Stopping | LifeState::Dead(_));
    if (elsewhere || orphaned) && !leaving {
        return Decision::Act(Step::StopSlot {
            slot,
            uid: life.uid.clone(),
            asking: None,
        });
    }
    Decision::Pass
}

/// Another volume than the newcomer's is in the slot.
fn displace(
    facts: &Facts,
    wanted: Stamp,
    volume: &VolumeView,
    condemned: Option<&VolumeUid>,
) -> Decision {
    let (slot, uid) = (wanted.slot, volume.uid.clone());
    let Some(stamp) = &volume.stamp else {
        if condemned == Some(&uid) {
            return Decision::Act(Step::DeleteVolume { slot, uid });
        }
        let on_it = facts
            .life(slot)
            .is_some_and(|life| life.volume.as_ref() == Some(&uid));
        match facts.node(slot).filter(|_| on_it) {
            Some(NodeState::Unjoined) => {
                return Decision::Act(Step::EnsureVolume {
                    stamp: wanted,
                    adopt: Some(uid),
                });
            }
            // Ours, and of a former member: it has only lost its stamp.
            Some(
                NodeState::Joined {
                    cluster_uuid,
                    member,
                }
                | NodeState::Removed {
                    cluster_uuid,
                    member,
                },
            ) if *cluster_uuid == wanted.cluster_uuid && facts.member(*member).is_none() => {
                return Decision::Act(Step::DeleteVolume { slot, uid });
            }
            // Only a node can tell whether it is empty, and none runs here yet.
            _ => {
                if let Some(step) = newcomer::slots(facts, slot) {
                    return Decision::Act(step);
                }
            }
        }
        return Decision::Wait(note(
            Reason::StaleVolume,
            format!(
                "Volume {uid} in slot {slot} carries no stamp and is not known to be empty. Move it \
                 away. Nothing was changed."
            ),
        ));
    };
    let home = facts
        .volume(stamp.slot)
        .ok()
        .flatten()
        .and_then(|home| home.stamp.as_ref());
    let is_copy = stamp.slot != slot && home.is_some_and(|home| home.member == stamp.member);
    if facts.member(stamp.member).is_some() && !is_copy {
        return Decision::Wait(note(
            Reason::StaleVolume,
            format!(
                "Volume {uid} in slot {slot} is that of member {}, who is still a member. Put it back \
                 where it belongs. Nothing was changed.",
                stamp.member
            ),
        ));
    }
    let is_kept = facts.desired.when_scaled == VolumePolicy::Retain
        && stamp.slot == slot
        && condemned != Some(&uid);
    if is_kept {
        return Decision::Act(Step::EnsureVolume {
            stamp: wanted,
            adopt: Some(uid),
        });
    }
    Decision::Act(Step::DeleteVolume { slot, uid })
}
