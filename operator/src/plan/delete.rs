//! Deletion of the cluster (protocol 3.11): the set goes, then the volumes as the policy says.
//!
//! Asks no member and needs no quorum (H27). Touches only volumes stamped with this very object:
//! one of the same name that was made later is another owner (H32).

use super::{Decision, Facts, Note, Reason, Step, Verdict, note};
use crate::desired::VolumePolicy;
use crate::observed::{LifeState, Seen};
use crate::planted::Bug;

pub(super) fn decide(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    if !facts.observed.object.deleting {
        return Decision::Pass;
    }
    if Bug::DeletionNeedsQuorum.lives() && facts.membership.is_none() {
        return Decision::Halt(note(Reason::Deleting, "There is no quorum."));
    }
    match next(facts) {
        Ok(step) => Decision::Act(step),
        Err(note) => Decision::Halt(note),
    }
}

fn next(facts: &Facts) -> Result<Step, Note> {
    let waiting = |message: String| note(Reason::Deleting, message);
    let slots = match &facts.observed.slots {
        Seen::Known(slots) => slots,
        Seen::Unknown(why) => return Err(waiting(format!("The slots could not be read: {why}."))),
    };
    if slots.count.is_some() {
        return Ok(Step::DeleteSlots);
    }
    // Without a set that would stop it: the set was on its way to be made anew.
    let orphans = slots.lives.iter().filter(|(_, life)| life.orphan);
    let mut running = orphans.filter(|(_, life)| life.state != LifeState::Stopping);
    if let Some((slot, life)) = running.next() {
        return Ok(Step::StopSlot {
            slot: *slot,
            uid: life.uid.clone(),
            asking: None,
        });
    }
    if let Some(slot) = slots.lives.keys().find(|slot| facts.is_occupied(**slot)) {
        return Err(waiting(format!("Slot {slot} is stopping.")));
    }
    let volumes = match &facts.observed.volumes {
        Seen::Known(volumes) => volumes,
        Seen::Unknown(why) => {
            return Err(waiting(format!("The volumes could not be read: {why}.")));
        }
    };
    for (slot, volume) in volumes {
        let owner = &facts.observed.object.uid;
        if !volume
            .stamp
            .as_ref()
            .is_some_and(|stamp| stamp.is_owned_by(owner))
        {
            continue;
        }
        let (slot, uid) = (*slot, volume.uid.clone());
        match facts.desired.when_deleted {
            VolumePolicy::Delete if volume.deleting => {
                return Err(waiting(format!(
                    "The volume of slot {slot} is being deleted."
                )));
            }
            VolumePolicy::Delete => return Ok(Step::DeleteVolume { slot, uid }),
            VolumePolicy::Retain if !volume.released => {
                return Ok(Step::ReleaseVolume { slot, uid });
            }
            VolumePolicy::Retain => {}
        }
    }
    if facts.observed.object.finalizer {
        return Ok(Step::DropFinalizer);
    }
    Err(waiting(
        "Nothing of this cluster is left but its object.".to_owned(),
    ))
}
