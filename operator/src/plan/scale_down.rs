//! Shrinking by one member (protocol 3.5): gated on the configuration that results, the leader
//! last.

use super::guard::{CHOOSE_VICTIM, REMOVE_VOTER, pass};
use super::newcomer::vacate;
use super::operation::end;
use super::{Decision, Facts, Note, Outcome, Reason, Step, Verdict, evidence, unread};
use crate::ids::{MemberId, Slot};
use crate::observed::Role;
use crate::planted::Bug;
use crate::record::{Operation, OperationKind, ScaleDown, TransferAttempt};

/// How long one attempt to move leadership may take before the removal goes on without it.
const TRANSFER_MS: i64 = 2_000;
/// Where the transfer is required, from when on it is tried again in the same term.
const TRANSFER_AGAIN_MS: i64 = 10_000;

/// Rule 12: begins, when there are more voters than wanted.
pub(super) fn decide(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    let wanted = usize::try_from(facts.desired.replicas).unwrap_or(usize::MAX);
    if facts.voters.len() > wanted {
        begin(facts, verdicts)
    } else {
        Decision::Pass
    }
}

/// Rule 12: begins, when the size is right and a member lives above it; growth goes first.
pub(super) fn decide_out_of_range(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    begin(facts, verdicts)
}

fn begin(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    if !facts.observed.record.is_bootstrapped() || facts.operation().is_some() {
        return Decision::Pass;
    }
    let Some((slot, victim)) = choose(facts) else {
        return Decision::Pass;
    };
    if let Err(note) = pass(CHOOSE_VICTIM, facts, victim, verdicts) {
        return Decision::Wait(note);
    }
    Decision::Act(Step::WriteIntent(Operation {
        id: facts.fresh_operation_id(),
        started_at: facts.observed.now,
        kind: OperationKind::ScaleDown(ScaleDown {
            from: u32::try_from(facts.voters.len()).unwrap_or(u32::MAX),
            to: facts.desired.replicas,
            slot,
            victim,
            life: facts.life(slot).map(|life| life.uid.clone()),
            volume: facts
                .volume(slot)
                .ok()
                .flatten()
                .map(|volume| volume.uid.clone()),
            transfer: None,
        }),
    }))
}

/// Voters in slots that are no longer wanted.
fn surplus<'a>(facts: &'a Facts) -> impl Iterator<Item = (Slot, MemberId)> + 'a {
    let members = facts
        .membership
        .into_iter()
        .flat_map(|membership| &membership.members);
    let voters = members.filter(|(_, member)| member.role == Role::Voter);
    voters
        .filter_map(|(id, member)| Some((member.slot?, *id)))
        .filter(|(slot, _)| slot.0 >= facts.desired.replicas)
}

/// A voter that is not alive goes first, then followers from the top, the leader last.
fn choose(facts: &Facts) -> Option<(Slot, MemberId)> {
    let leader = facts.membership?.leader;
    surplus(facts).max_by_key(|(slot, id)| {
        let dead = !facts.healthy.contains(id);
        let text = Bug::SlotsAsText.lives().then(|| slot.to_string());
        (dead, leader != Some(*id), text, *slot)
    })
}

/// Rule 4: goes on.
pub(super) fn go_on(
    facts: &Facts,
    operation: &Operation,
    down: &ScaleDown,
    verdicts: &mut Vec<Verdict>,
) -> Decision {
    if facts.membership.is_none() {
        return Decision::Wait(unread(facts));
    }
    let was = facts.observed.slots.known().and_then(|slots| slots.count);
    if Bug::SlotsBeforeMembership.lives() && was.is_some_and(|was| was > down.slot.0) {
        let count = down.slot.0;
        return Decision::Act(Step::SetSlots { count, was });
    }
    if facts.member(down.victim).is_some() {
        return remove(facts, operation, down, verdicts);
    }
    // The victim is absent from a linearizable membership: from here there is no way back.
    match vacate(facts, down.slot, down.victim, Reason::ScalingDown) {
        Decision::Pass => end(operation, Outcome::Done),
        other => other,
    }
}

/// Rows 2 to 4: leadership moves off the surplus, the gate holds, the victim is removed.
fn remove(
    facts: &Facts,
    operation: &Operation,
    down: &ScaleDown,
    verdicts: &mut Vec<Verdict>,
) -> Decision {
    let requested = facts.desired.asks_to_abort(&operation.id);
    let reverted = down.slot.0 < facts.desired.replicas && !Bug::RevertIsIgnored.lives();
    if reverted || requested {
        // Nothing was changed yet: the spec wants this member again.
        return end(operation, Outcome::Aborted);
    }
    if let Some(decision) = transfer(facts, operation, down) {
        return decision;
    }
    let expected = facts.config_index();
    match pass(REMOVE_VOTER, facts, down.victim, verdicts) {
        Ok(()) => Decision::Act(Step::MemberRemove {
            member: down.victim,
            expected,
        }),
        Err(note) => give_way(facts, operation, down, note),
    }
}

/// The gate does not hold. If another victim would pass it, or a lost member waits to be replaced,
/// this intent must not stand in the way; nothing was changed yet.
fn give_way(facts: &Facts, operation: &Operation, down: &ScaleDown, note: Note) -> Decision {
    let other = choose(facts).filter(|(_, id)| *id != down.victim);
    let better =
        other.is_some_and(|(_, id)| pass(CHOOSE_VICTIM, facts, id, &mut Vec::new()).is_ok());
    let repairable = evidence(facts)
        .iter()
        .any(|evidence| evidence.replace && evidence.slot.0 < facts.desired.replicas);
    if note.reason == Reason::WouldLoseQuorum && (better || repairable) {
        return end(operation, Outcome::Aborted);
    }
    Decision::Wait(note)
}

/// Moves leadership to a voter that stays: one attempt per term, best effort, except that going
/// from two to one needs it (H24, H25). The attempt is written down before it is made.
fn transfer(facts: &Facts, operation: &Operation, down: &ScaleDown) -> Option<Decision> {
    let membership = facts.membership?;
    let leader = membership.leader?;
    let leads = facts.member(leader)?;
    let leaves = leads
        .slot
        .is_some_and(|slot| slot.0 >= facts.desired.replicas);
    let stays = |id: &&MemberId| {
        let slot = facts.member(**id).and_then(|member| member.slot);
        **id != leader && slot.is_some_and(|slot| slot.0 < facts.desired.replicas)
    };
    if !leaves {
        return None;
    }
    let to = *facts.healthy.iter().find(stays)?;
    let now = facts.observed.now;
    let required = facts.voters.len() == 2;
    let attempt = down
        .transfer
        .filter(|attempt| attempt.term == membership.term);
    match attempt {
        Some(attempt) if now < attempt.at.plus(TRANSFER_MS) || Bug::TransferForever.lives() => {
            Some(Decision::Act(Step::TransferLeader { from: leader, to }))
        }
        Some(attempt) if !required || now < attempt.at.plus(TRANSFER_AGAIN_MS) => None,
        _ => {
            let mut operation = operation.clone();
            if let OperationKind::ScaleDown(down) = &mut operation.kind {
                down.transfer = Some(TransferAttempt {
                    term: membership.term,
                    at: now,
                });
            }
            Some(Decision::Act(Step::WriteIntent(operation)))
        }
    }
}
