//! Rule 7: what operations that are over, or were lost, have left behind.
//!
//! A learner no operation speaks of, slots above what the members need, volumes of removed members,
//! role labels. Assumes nothing about how they came to be: they are recognised by what they are.

use super::guard::{REMOVE_LEARNER, pass};
use super::{Decision, Facts, Step, Verdict, newcomer};
use crate::desired::VolumePolicy;
use crate::ids::{MemberId, Slot};
use crate::observed::{Role, Seen};
use crate::planted::Bug;

pub(super) fn decide(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    let Some(membership) = facts.membership else {
        return Decision::Pass;
    };
    if !facts.observed.record.is_bootstrapped() {
        return Decision::Pass;
    }
    for (id, member) in &membership.members {
        if let Some(decision) = member
            .slot
            .and_then(|slot| newcomer::label(facts, slot, member.role))
        {
            return decision;
        }
        if member.role == Role::Learner && is_abandoned(facts, *id, member.slot) {
            let expected = membership.config_index;
            return match pass(REMOVE_LEARNER, facts, *id, verdicts) {
                Ok(()) => Decision::Act(Step::MemberRemove {
                    member: *id,
                    expected,
                }),
                Err(note) => Decision::Wait(note),
            };
        }
    }
    if let Some(step) = label_of_nobody(facts)
        && !Bug::RemovedKeepsItsLabel.lives()
    {
        return Decision::Act(step);
    }
    if facts.operation().is_some() {
        return Decision::Pass;
    }
    above_bound(facts).map_or(Decision::Pass, Decision::Act)
}

/// A life that still shows the role of a member that was removed: clients and budget must not count
/// it (H38).
fn label_of_nobody(facts: &Facts) -> Option<Step> {
    let lives = &facts.observed.slots.known()?.lives;
    let labelled = lives.iter().filter(|(_, life)| life.role_label.is_some());
    let mut nobodys = labelled.filter(|(slot, _)| facts.member_in(**slot).is_none());
    let (slot, life) = nobodys.next()?;
    Some(Step::LabelSlot {
        slot: *slot,
        uid: life.uid.clone(),
        role: None,
    })
}

/// A learner in a slot of ours that no operation speaks of and that cannot simply be promoted. One
/// with a foreign address was added by somebody else: it is reported, not touched.
fn is_abandoned(facts: &Facts, id: MemberId, slot: Option<Slot>) -> bool {
    let Some(slot) = slot else { return false };
    let spoken_of = facts.operation().and_then(|operation| operation.newcomer());
    if spoken_of.is_some_and(|newcomer| newcomer.member == id) {
        return false;
    }
    let member = facts.member(id);
    let promotable = facts.operation().is_none()
        && facts.is_joined(slot, id)
        && member.is_some_and(|member| member.caught_up)
        && slot.0 < facts.desired.replicas
        && facts.voters_in_range() < facts.desired.replicas;
    !promotable
}

/// Slots above what the members need, then the volumes that removed members left there.
fn above_bound(facts: &Facts) -> Option<Step> {
    let bound = facts.bound()?;
    let slots = facts.observed.slots.known()?;
    let count = slots.count?;
    if count > bound {
        return Some(Step::SetSlots {
            count: bound,
            was: Some(count),
        });
    }
    if facts.desired.when_scaled == VolumePolicy::Retain {
        return None;
    }
    let Seen::Known(volumes) = &facts.observed.volumes else {
        return None;
    };
    volumes.range(Slot(count)..).find_map(|(slot, volume)| {
        let stamp = volume.stamp.as_ref()?;
        let ours = Some(stamp.cluster_uuid) == facts.cluster();
        let free = facts.member(stamp.member).is_none() && !facts.is_occupied(*slot);
        let (slot, uid) = (*slot, volume.uid.clone());
        (ours && free && !volume.deleting).then_some(Step::DeleteVolume { slot, uid })
    })
}
