//! Recovery from a lost quorum (protocol 3.9): never by itself, only by a human's annotation, and
//! called off as long as the old quorum may still come back.
//!
//! The survivor is written down first, with what was found on every voter. Then every life begins
//! anew under the new epoch, the survivor's last, in which data of the old one stays out by itself.
//! Only then is the survivor told to begin the epoch alone: that is the point of no return, and it
//! is behind the end of every life that could still have served the old epoch (H59). The others are
//! replaced by the rules for growth afterwards.
//! Assumes that a linearizable membership was asked of every node that says it is a member.

use super::{
    Decision, Facts, Latch, Note, Reason, Step, Verdict, certificates, note, objects, restart,
};
use crate::desired::RecoverRequest;
use crate::ids::{MemberId, Slot};
use crate::observed::{LifeState, LogEnd, MembershipView, NodeState, NodeView, Refusing, Seen};
use crate::planted::Bug;
use crate::record::Recovery;

/// Rule 3: a recovery on record goes on; without one, a request for one is looked at.
pub(super) fn decide(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    match (
        &facts.observed.record.recovery,
        &facts.desired.recover_request,
    ) {
        (Some(recovery), _) => go_on(facts, recovery, verdicts),
        (None, asked) => match called_off(facts, verdicts) {
            Decision::Pass => asked
                .as_ref()
                .map_or_else(|| by_itself(facts), |asked| begin(facts, asked)),
            other => other,
        },
    }
}

/// What a recovery that was called off has left: lives that wait for an epoch that has not begun.
/// Their data is of the present one and they would stay out of it. The template comes first, or
/// they would begin as they are.
fn called_off(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    let due = facts.observed.record.epoch_due();
    let lives = facts.observed.slots.known().map(|slots| &slots.lives);
    let mut lives = lives.into_iter().flatten();
    let waits = lives.find(|(_, life)| {
        let ends = matches!(life.state, LifeState::Stopping | LifeState::Dead(_));
        life.epoch.is_some_and(|epoch| epoch > due) && !ends
    });
    let Some((slot, life)) = waits.filter(|_| facts.observed.record.is_bootstrapped()) else {
        return Decision::Pass;
    };
    match objects::decide(facts, verdicts) {
        Decision::Pass => Decision::Act(Step::StopSlot {
            slot: *slot,
            uid: life.uid.clone(),
            asking: None,
        }),
        other => other,
    }
}

/// What a human may choose, from what is known of each voter while no quorum answers.
struct Candidate {
    slot: Slot,
    member: MemberId,
    log: LogEnd,
}

fn refuse(message: impl Into<String>) -> Decision {
    Decision::Mention(note(Reason::RecoveryRefused, message))
}

/// The planted bug of H59: an outage is enough.
fn by_itself(facts: &Facts) -> Decision {
    let epoch = facts.observed.record.epoch;
    if !Bug::RecoverUnasked.lives() || outage_ms(facts).is_none() {
        return Decision::Pass;
    }
    let request = RecoverRequest {
        from: None,
        epoch,
        force: true,
        text: "nobody".to_owned(),
    };
    survivor(facts, &request).map_or(Decision::Pass, |found| write(facts, &request, &found))
}

/// Rows 1 and 2: the request is refused with the reason, or the survivor is written down.
fn begin(facts: &Facts, asked: &Result<RecoverRequest, String>) -> Decision {
    let record = &facts.observed.record;
    let request = match asked {
        Ok(request) => request,
        Err(why) => return refuse(why.clone()),
    };
    if request.epoch < record.epoch {
        // It was done, or is as old: repeating it is harmless.
        return take_off(facts, &request.text).unwrap_or(Decision::Pass);
    }
    if !record.is_bootstrapped() {
        return refuse("There is nothing to recover: the cluster was never founded.");
    }
    if request.epoch > record.epoch {
        return refuse(format!(
            "The recovery names epoch {}, and the cluster is in epoch {}. Name that one.",
            request.epoch, record.epoch
        ));
    }
    if facts.membership.is_some() {
        return refuse("A quorum answers, so nothing is recovered. Take the annotation off.");
    }
    let voters = record.last_voters().count();
    if voters < 2 {
        return refuse(format!(
            "{voters} voters are known: there is no quorum to recover from one member to another. \
             Restore a backup."
        ));
    }
    let wanted = facts.desired.min_outage_ms;
    let lasted = outage_ms(facts).unwrap_or(0);
    if lasted < wanted && !Bug::RecoverAtOnce.lives() {
        return Decision::Wait(note(
            Reason::Recovering,
            format!(
                "No quorum has answered for {} s; a recovery begins after {} s \
                 (spec.recovery.minOutage).",
                lasted / 1_000,
                wanted / 1_000
            ),
        ));
    }
    match survivor(facts, request) {
        Ok(found) => write(facts, request, &found),
        Err(why) => refuse(why),
    }
}

fn outage_ms(facts: &Facts) -> Option<i64> {
    let since = facts.observed.record.quorum_absent_since?;
    Some(facts.observed.now.0 - since.0)
}

fn write(facts: &Facts, request: &RecoverRequest, found: &Candidate) -> Decision {
    let voters = facts.observed.record.last_voters();
    let evidence = voters.map(|(slot, member)| what_is_known(facts, slot, member).1);
    Decision::Act(Step::WriteRecovery(Recovery {
        slot: found.slot,
        member: found.member,
        new_epoch: facts.observed.record.epoch + 1,
        last_index: found.log.index,
        evidence: evidence.collect(),
        token: request.text.clone(),
        force: request.force,
        started_at: facts.observed.now,
    }))
}

/// The member that is to survive: the one named, or the one whose log is furthest.
fn survivor(facts: &Facts, request: &RecoverRequest) -> Result<Candidate, String> {
    let Some(slot) = request.from else {
        let voters = facts.observed.record.last_voters();
        let found = voters.filter_map(|(slot, member)| candidate(facts, slot, member).ok());
        // Of equals the lowest slot.
        let best = found.max_by_key(|found| (found.log, std::cmp::Reverse(found.slot)));
        return best.ok_or_else(|| {
            "No voter answers with data of its own, so none can survive. Bring the volume of one \
             back, or restore a backup."
                .to_owned()
        });
    };
    let mut voters = facts.observed.record.last_voters();
    let Some((_, member)) = voters.find(|(at, _)| *at == slot) else {
        return Err(format!(
            "Slot {slot} had no voter when the members were last seen, so it cannot survive. Name \
             another one."
        ));
    };
    candidate(facts, slot, member)
}

/// Whether the voter last seen in a slot can survive.
fn candidate(facts: &Facts, slot: Slot, member: MemberId) -> Result<Candidate, String> {
    let (_, words) = what_is_known(facts, slot, member);
    let node = facts.observed.nodes.get(&slot).and_then(Seen::known);
    let joined = node.filter(|_| facts.is_joined(slot, member));
    let epoch = facts.observed.record.epoch;
    let Some(node) = joined.filter(|node| node.epoch == epoch && node.log.index > 0) else {
        return Err(format!("{words}: it cannot survive. Name another slot."));
    };
    let volume = facts.volume(slot).ok().flatten();
    let stamp = volume.and_then(|volume| volume.stamp.as_ref());
    if stamp.is_none_or(|stamp| stamp.member != member || stamp.slot != slot) {
        return Err(format!(
            "The volume in slot {slot} carries no stamp of member {member}: it cannot survive."
        ));
    }
    Ok(Candidate {
        slot,
        member,
        log: node.log,
    })
}

/// Rows 3 to 8.
fn go_on(facts: &Facts, recovery: &Recovery, verdicts: &mut Vec<Verdict>) -> Decision {
    if let Some(Ok(request)) = &facts.desired.recover_request
        && request.text == recovery.token
        && let Some(decision) = take_off(facts, &request.text)
    {
        return decision;
    }
    if let Some(forced) = forced(facts, recovery) {
        return Decision::Act(Step::WriteRecovery(forced));
    }
    let node = facts.observed.nodes.get(&recovery.slot);
    let node = node.and_then(Seen::known);
    let begun = node.is_some_and(|node| node.epoch >= recovery.new_epoch);
    match facts.membership {
        Some(view) if view.epoch >= recovery.new_epoch => return finish(facts, recovery, view),
        // The old quorum is there after all, and nobody has begun a new epoch.
        Some(_) if !begun => return cancel(facts, recovery),
        _ => {}
    }
    if facts.desired.asks_to_abort(&recovery.token) && !begun {
        return cancel(facts, recovery);
    }
    // A recovery may wait for long, and certificates do not.
    if let Decision::Act(step) = certificates::decide(facts, verdicts) {
        return Decision::Act(step);
    }
    // The template first: every life that begins from here on begins in the new epoch.
    match objects::decide(facts, verdicts) {
        Decision::Pass => {}
        Decision::Wait(why) => return Decision::Halt(why),
        other => return other,
    }
    match objects::raise_slots(facts, verdicts) {
        Decision::Pass => {}
        other => return other,
    }
    if let Some(decision) = begin_anew(facts, recovery) {
        return decision;
    }
    match node {
        Some(node) => tell(facts, recovery, node),
        None => wait(recovery, "does not answer yet".to_owned()),
    }
}

/// The same recovery, repeated with force.
fn forced(facts: &Facts, recovery: &Recovery) -> Option<Recovery> {
    let asked = facts.desired.recover_request.as_ref()?;
    let request = asked.as_ref().ok()?;
    let same = request.epoch + 1 == recovery.new_epoch
        && request.from.is_none_or(|from| from == recovery.slot);
    (same && request.force && !recovery.force).then(|| Recovery {
        token: request.text.clone(),
        force: true,
        ..recovery.clone()
    })
}

fn wait(recovery: &Recovery, what: String) -> Decision {
    Decision::Halt(recovering(recovery, format!("it {what}.")))
}

fn recovering(recovery: &Recovery, what: String) -> Note {
    note(
        Reason::Recovering,
        format!(
            "Epoch {} is to begin from member {} in slot {}; {what}",
            recovery.new_epoch, recovery.member, recovery.slot
        ),
    )
}

fn cancel(facts: &Facts, recovery: &Recovery) -> Decision {
    Decision::Act(Step::ClearRecovery {
        token: recovery.token.clone(),
        at: facts.observed.now,
    })
}

/// The annotation goes once it is on record; from a file, which is the user's own, it does not.
fn take_off(facts: &Facts, text: &str) -> Option<Decision> {
    (!facts.observed.object.requests_stay).then(|| {
        Decision::Act(Step::DropRequest {
            annotation: crate::crd::ANNOTATION_RECOVER_QUORUM,
            value: text.to_owned(),
        })
    })
}

/// Row 8: the survivor answers as the only member of the new epoch.
fn finish(facts: &Facts, recovery: &Recovery, view: &MembershipView) -> Decision {
    let alone = view.members.len() == 1 && view.members.contains_key(&recovery.member);
    if !alone {
        return Decision::Halt(recovering(
            recovery,
            "another membership answers in that epoch. A human has to look.".to_owned(),
        ));
    }
    Decision::Act(Step::Latch(Latch::Recovered {
        epoch: view.epoch,
        at: facts.observed.now,
    }))
}

/// Row 6: lives of the old epoch end, the survivor's last, once all others are gone.
fn begin_anew(facts: &Facts, recovery: &Recovery) -> Option<Decision> {
    let Seen::Known(slots) = &facts.observed.slots else {
        return Some(wait(
            recovery,
            "waits: the slots could not be read".to_owned(),
        ));
    };
    let old = |epoch: Option<u64>| epoch.is_none_or(|epoch| epoch < recovery.new_epoch);
    let lives = slots.lives.iter();
    let mut old_lives: Vec<_> = lives
        .filter(|(_, life)| old(life.epoch) && !matches!(life.state, LifeState::Dead(_)))
        .collect();
    old_lives.sort_by_key(|(slot, _)| **slot == recovery.slot);
    let skip = Bug::RecoverBesideOthers.lives();
    old_lives.retain(|(slot, _)| **slot == recovery.slot || !skip);
    for (slot, life) in &old_lives {
        let leaving = life.state == LifeState::Stopping;
        if !leaving {
            let survives = **slot == recovery.slot;
            // What another machine may still run could be serving with others (H59).
            let others = old_lives.iter().any(|(at, _)| **at != recovery.slot);
            if survives && others && !recovery.force {
                break;
            }
            return Some(Decision::Act(Step::StopSlot {
                slot: **slot,
                uid: life.uid.clone(),
                asking: None,
            }));
        }
    }
    // The survivor stands last: while others are left, it has not been told to end.
    let (own, others): (Vec<_>, Vec<_>) = old_lives
        .into_iter()
        .partition(|(slot, _)| **slot == recovery.slot);
    let left = if recovery.force || others.is_empty() {
        own
    } else {
        others
    };
    let left: Vec<String> = left.iter().map(|(_, life)| life.label.clone()).collect();
    if !left.is_empty() {
        return Some(wait(
            recovery,
            format!(
                "waits until these have ended: {}. One on a machine that cannot be reached may \
                 still serve: remove its Node object once the machine is off, or repeat the request \
                 with force=true",
                left.join(", ")
            ),
        ));
    }
    match restart::decide(facts, &mut Vec::new()) {
        Decision::Act(step) => Some(Decision::Act(step)),
        _ => None,
    }
}

/// Row 7: the survivor, fenced like all data of the old epoch, begins the new one.
fn tell(facts: &Facts, recovery: &Recovery, node: &NodeView) -> Decision {
    let Some(cluster_uuid) = facts.cluster() else {
        return Decision::Pass;
    };
    match &node.state {
        NodeState::Refusing {
            why: Refusing::Fenced,
            member: Some(member),
            ..
        } if *member == recovery.member => Decision::Act(Step::Recover {
            slot: recovery.slot,
            cluster_uuid,
            epoch: recovery.new_epoch,
        }),
        NodeState::Joined { member, .. }
            if *member == recovery.member && node.epoch >= recovery.new_epoch =>
        {
            wait(
                recovery,
                "has begun it, and is not heard as its leader yet".to_owned(),
            )
        }
        _ => wait(
            recovery,
            format!(
                "does not hold the member's data any more. Bring it back, or take the recovery back: \
                 {}={}",
                crate::crd::ANNOTATION_ABORT_OPERATION,
                recovery.token
            ),
        ),
    }
}

/// Whether a voter is out for certain, and what is known of it: for people, and for the record.
#[must_use]
pub fn what_is_known(facts: &Facts, slot: Slot, member: MemberId) -> (bool, String) {
    let said = |out: bool, what: &str| (out, format!("Member {member} in slot {slot}: {what}"));
    let node = facts.observed.nodes.get(&slot).and_then(Seen::known);
    match node.map(|node| (&node.state, node.log)) {
        Some((NodeState::Joined { .. }, log)) if facts.is_joined(slot, member) => {
            return said(
                false,
                &format!(
                    "it runs and has its data, up to entry {} of term {}",
                    log.index, log.term
                ),
            );
        }
        Some((NodeState::Unjoined, _)) => return said(true, "its data directory is empty"),
        Some((NodeState::Joined { .. } | NodeState::Removed { .. }, _)) => {
            return said(
                true,
                "its data directory is that of another or former member",
            );
        }
        Some((
            NodeState::Refusing {
                why: Refusing::Busy,
                ..
            },
            _,
        )) => return said(false, "it repairs its data"),
        Some((NodeState::Refusing { message, .. }, _)) => {
            return said(true, &format!("it does not take part: {message}"));
        }
        None => {}
    }
    let runs = facts.is_occupied(slot);
    if !runs && facts.volume(slot) == Ok(None) {
        return said(true, "its volume is gone");
    }
    let Some(life) = facts.life(slot) else {
        return said(false, "it is not started yet");
    };
    let trouble = life.trouble.as_deref().unwrap_or("see its events");
    let trouble = trouble.trim_end_matches('.');
    match &life.state {
        LifeState::Dead(death) => said(true, &format!("its process ended with {}", death.exit)),
        LifeState::CrashLooping { exit, .. } => said(
            true,
            &format!("its process ends again and again, with {exit}"),
        ),
        LifeState::Pending(_) => said(true, &format!("it cannot be started: {trouble}")),
        LifeState::Starting => said(false, "it starts"),
        LifeState::Stopping => said(false, "it stops"),
        LifeState::Running => said(false, "it runs and does not answer"),
    }
}
