//! Growth by one member (protocol 3.4): the intent, and what is special about it.

use super::guard::{ADD_LEARNER, pass};
use super::newcomer::{self, Arrival};
use super::{Decision, Facts, Reason, Step, Verdict, note, unread};
use crate::ids::Slot;
use crate::planted::Bug;
use crate::record::{Newcomer, Operation, OperationKind, ScaleUp};

/// Rule 12: begins, in the lowest free slot.
pub(super) fn decide(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    let busy = facts.operation().is_some() && !Bug::TwoAtOnce.lives();
    if !facts.observed.record.is_bootstrapped() || busy {
        return Decision::Pass;
    }
    if facts.membership.is_none() {
        return Decision::Wait(unread(facts));
    }
    if facts.voters_in_range() >= facts.desired.replicas {
        return Decision::Pass;
    }
    let mut slots = (0..facts.desired.replicas).map(Slot);
    let Some(slot) = slots.find(|slot| facts.member_in(*slot).is_none()) else {
        return Decision::Pass;
    };
    if let Some(backoff) = &facts.observed.record.backoff
        && facts.observed.now < backoff.until
    {
        return Decision::Wait(note(Reason::LearnerStuck, backoff.message.clone()));
    }
    let member = facts.observed.entropy.member_id;
    if let Err(note) = pass(ADD_LEARNER, facts, member, verdicts) {
        return Decision::Wait(note);
    }
    Decision::Act(Step::WriteIntent(Operation {
        id: facts.fresh_operation_id(),
        started_at: facts.observed.now,
        kind: OperationKind::ScaleUp(ScaleUp {
            from: u32::try_from(facts.voters.len()).unwrap_or(u32::MAX),
            to: facts.desired.replicas,
            newcomer: newcomer_in(facts, slot),
            abort: None,
        }),
    }))
}

/// A newcomer that begins now.
pub(super) fn newcomer_in(facts: &Facts, slot: Slot) -> Newcomer {
    Newcomer {
        slot,
        member: facts.observed.entropy.member_id,
        incarnation: facts.next_incarnation(slot),
        deadline: facts
            .observed
            .now
            .plus(facts.desired.repair.learner_deadline_ms),
        directory: None,
    }
}

/// Rule 4: goes on.
pub(super) fn go_on(
    facts: &Facts,
    operation: &Operation,
    up: &ScaleUp,
    verdicts: &mut Vec<Verdict>,
) -> Decision {
    let arrival = Arrival {
        operation,
        newcomer: &up.newcomer,
        abort: up.abort,
        condemned: None,
        reason: Reason::ScalingUp,
        // The spec went back far enough that this slot is not wanted any more.
        reverted: up.newcomer.slot.0 >= facts.desired.replicas,
    };
    newcomer::go_on(facts, &arrival, verdicts)
}

/// Rule 10: a learner in a slot of ours that no operation speaks of, ready and wanted.
pub(super) fn promote(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    if facts.operation().is_some() || facts.voters_in_range() >= facts.desired.replicas {
        return Decision::Pass;
    }
    let ready = facts.learners.iter().copied().find(|id| {
        let member = facts.member(*id);
        member.is_some_and(|member| {
            let wanted = |slot: Slot| slot.0 < facts.desired.replicas && facts.is_joined(slot, *id);
            member.caught_up && member.slot.is_some_and(wanted)
        })
    });
    match ready {
        Some(member) => newcomer::promote(facts, member, verdicts),
        None => Decision::Pass,
    }
}
