//! Rule 6: a cluster comes to be (protocol 3.3), or is taken over from its volumes.
//!
//! Exactly one bootstrap instruction, to one volume and directory that are written down first.
//! Should another directory be found there afterwards, nobody can know whether writes were
//! acknowledged on the first, so the planner stops and a human decides.

use super::{Decision, Facts, Latch, Note, Reason, Step, Verdict, note};
use crate::desired::Bootstrap;
use crate::ids::{ClusterUuid, Slot};
use crate::observed::{LifeState, MembershipView, NodeState, NodeView, Seen, VolumeView};
use crate::planted::Bug;
use crate::record::{BootstrapRecord, BootstrapState};

/// The first member's slot.
const FIRST: Slot = Slot(0);

pub(super) fn decide(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    if facts.observed.record.is_bootstrapped() {
        return Decision::Pass;
    }
    match next(facts) {
        Ok(step) => Decision::Act(step),
        Err(note) => Decision::Wait(note),
    }
}

fn waiting(message: impl Into<String>) -> Note {
    note(Reason::Bootstrapping, message)
}

fn next(facts: &Facts) -> Result<Step, Note> {
    let record = &facts.observed.record;
    if !facts.observed.object.finalizer {
        return Ok(Step::AddFinalizer);
    }
    let (Some(cluster_uuid), Some(latch)) = (record.cluster_uuid, record.bootstrap.as_ref()) else {
        return begin(facts);
    };
    let volume = volume(facts, cluster_uuid, latch)?;
    let volume = match volume {
        Ok(volume) => volume,
        Err(step) => return Ok(step),
    };
    let slots = match &facts.observed.slots {
        Seen::Known(slots) => slots,
        Seen::Unknown(why) => return Err(waiting(format!("The slots could not be read: {why}."))),
    };
    if slots.count.is_none_or(|count| count == 0) {
        return Ok(Step::SetSlots {
            count: 1,
            was: slots.count,
        });
    }
    let node = node(facts, volume)?;
    match &node.state {
        NodeState::Unjoined => instruct(cluster_uuid, latch, volume, node),
        NodeState::Joined { member, .. } if *member == latch.member => {
            verify(facts, cluster_uuid, latch)
        }
        NodeState::Joined { member, .. } | NodeState::Removed { member, .. } => Err(note(
            Reason::BootstrapLost,
            format!(
                "The node in slot {FIRST} is member {member}, and member {} was to found the cluster. \
                 Delete the cluster and create it again.",
                latch.member
            ),
        )),
        NodeState::Refusing { message, .. } => Err(waiting(format!(
            "The node in slot {FIRST} does not take part: {message}."
        ))),
    }
}

/// Chooses the identities, or takes them over.
fn begin(facts: &Facts) -> Result<Step, Note> {
    // `identity` has looked at these volumes; here it matters that they could be read at all.
    if let Seen::Unknown(why) = &facts.observed.volumes {
        return Err(waiting(format!("The volumes could not be read: {why}.")));
    }
    match facts.desired.bootstrap {
        Bootstrap::New => Ok(Step::Latch(Latch::Identity {
            cluster_uuid: facts.observed.entropy.cluster_uuid,
            bootstrap: BootstrapRecord {
                state: BootstrapState::Pending,
                slot: FIRST,
                member: facts.observed.entropy.member_id,
                incarnation: 1,
                volume: None,
                directory: None,
                completed_at: None,
            },
        })),
        Bootstrap::Adopt(cluster_uuid) => adopt(facts, cluster_uuid),
    }
}

/// Takes a cluster over whose members run and agree on who they are.
fn adopt(facts: &Facts, cluster_uuid: ClusterUuid) -> Result<Step, Note> {
    let refused = |message: String| note(Reason::AdoptionRequired, message);
    let membership = match &facts.observed.membership {
        Seen::Known(membership) if membership.cluster_uuid == cluster_uuid => membership,
        Seen::Known(membership) => {
            return Err(refused(format!(
                "The members that answer are of cluster {}, not of {cluster_uuid}.",
                membership.cluster_uuid
            )));
        }
        Seen::Unknown(why) => {
            // The set must run before anybody can answer: as many slots as there are volumes.
            let Seen::Known(slots) = &facts.observed.slots else {
                return Err(waiting("The slots could not be read."));
            };
            let volumes = facts.observed.volumes.known().into_iter().flatten();
            let ours = volumes.filter(|(_, volume)| {
                volume
                    .stamp
                    .as_ref()
                    .is_some_and(|stamp| stamp.cluster_uuid == cluster_uuid)
            });
            let needed = ours.map(|(slot, _)| slot.count()).max();
            return match (slots.count, needed) {
                (None | Some(0), Some(count)) => Ok(Step::SetSlots {
                    count,
                    was: slots.count,
                }),
                _ => Err(refused(format!(
                    "No member of {cluster_uuid} answers: {why}."
                ))),
            };
        }
    };
    let first = membership
        .members
        .iter()
        .filter_map(|(id, member)| Some((member.slot?, *id)))
        .min();
    let Some((slot, member)) = first else {
        return Err(refused(
            "No member of that cluster lives in a slot of this object.".to_owned(),
        ));
    };
    Ok(Step::Latch(Latch::Done {
        cluster_uuid,
        bootstrap: BootstrapRecord {
            state: BootstrapState::Done,
            slot,
            member,
            incarnation: facts.next_incarnation(slot).saturating_sub(1),
            volume: None,
            directory: None,
            completed_at: Some(facts.observed.now),
        },
        cluster_id: membership.cluster_id,
        epoch: membership.epoch,
    }))
}

/// The first member's volume, or the step that makes it.
fn volume<'a>(
    facts: &Facts<'a>,
    cluster_uuid: ClusterUuid,
    latch: &BootstrapRecord,
) -> Result<Result<&'a VolumeView, Step>, Note> {
    let stamp = facts.stamp(cluster_uuid, FIRST, latch.member, latch.incarnation);
    let volume = facts
        .volume(FIRST)
        .map_err(|why| waiting(format!("The volumes could not be read: {why}.")))?;
    let issued = latch.state == BootstrapState::Issued;
    match volume {
        None if issued => Err(lost("its volume is gone")),
        None => Ok(Err(Step::EnsureVolume { stamp, adopt: None })),
        Some(volume) if issued && latch.volume.as_ref() != Some(&volume.uid) => {
            Err(lost("its volume is another one"))
        }
        Some(volume)
            if volume.stamp.as_ref() != Some(&stamp) && !Bug::ForeignStampIsOurs.lives() =>
        {
            Err(note(
                Reason::StaleVolume,
                format!(
                    "Volume {} in slot {FIRST} was not made for this cluster. Move it away. Nothing was \
                 changed.",
                    volume.uid
                ),
            ))
        }
        Some(volume) if volume.deleting => Err(waiting(format!(
            "The volume of slot {FIRST} is being deleted."
        ))),
        Some(volume) => Ok(Ok(volume)),
    }
}

/// The first node's word, once it runs on that volume.
fn node<'a>(facts: &Facts<'a>, volume: &VolumeView) -> Result<&'a NodeView, Note> {
    let life = facts.life(FIRST);
    let running = life.filter(|life| matches!(life.state, LifeState::Running));
    let Some(life) = running else {
        return Err(waiting(format!("Slot {FIRST} is starting.")));
    };
    if life.volume.as_ref() != Some(&volume.uid) {
        return Err(waiting(format!(
            "Slot {FIRST} does not run on its volume yet."
        )));
    }
    match facts.observed.nodes.get(&FIRST) {
        Some(Seen::Known(node)) => Ok(node),
        Some(Seen::Unknown(why)) => Err(waiting(format!(
            "The node in slot {FIRST} does not answer: {why}."
        ))),
        None => Err(waiting(format!(
            "The node in slot {FIRST} was not asked yet."
        ))),
    }
}

/// Writes down whom the instruction is for, then sends it.
fn instruct(
    cluster_uuid: ClusterUuid,
    latch: &BootstrapRecord,
    volume: &VolumeView,
    node: &NodeView,
) -> Result<Step, Note> {
    if latch.state == BootstrapState::Pending {
        return Ok(Step::Latch(Latch::Issued(BootstrapRecord {
            state: BootstrapState::Issued,
            volume: Some(volume.uid.clone()),
            directory: node.directory.clone(),
            ..latch.clone()
        })));
    }
    if latch.directory != node.directory && !Bug::BootstrapAgain.lives() {
        return Err(lost("its directory is another one"));
    }
    Ok(Step::Bootstrap {
        slot: FIRST,
        cluster_uuid,
        member: latch.member,
    })
}

/// Latches nothing but the exact answer: this member, alone, in this cluster (H7).
fn verify(facts: &Facts, cluster_uuid: ClusterUuid, latch: &BootstrapRecord) -> Result<Step, Note> {
    let Some(membership) = facts.membership else {
        return Err(waiting(facts.unread()));
    };
    if !is_alone(membership, latch) {
        return Err(note(
            Reason::BootstrapLost,
            format!(
                "The new cluster should consist of member {} alone, and its membership says otherwise. \
                 Somebody else has changed it: delete the cluster and create it again.",
                latch.member
            ),
        ));
    }
    Ok(Step::Latch(Latch::Done {
        cluster_uuid,
        bootstrap: BootstrapRecord {
            state: BootstrapState::Done,
            completed_at: Some(facts.observed.now),
            ..latch.clone()
        },
        cluster_id: membership.cluster_id,
        epoch: 1,
    }))
}

fn is_alone(membership: &MembershipView, latch: &BootstrapRecord) -> bool {
    let contains = membership.members.contains_key(&latch.member);
    membership.members.keys().eq([&latch.member]) || (Bug::LatchAnyMembership.lives() && contains)
}

fn lost(what: &str) -> Note {
    note(
        Reason::BootstrapLost,
        format!(
            "Slot {FIRST} may have founded the cluster, and {what}. It cannot be known whether writes \
             were acknowledged. Bring the volume back, or delete the cluster and create it again."
        ),
    )
}
