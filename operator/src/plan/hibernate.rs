//! Sleep and wake (protocol 3.10): every slot stops, volumes and membership stay.
//!
//! Waking never founds a cluster: it starts the same slots on the same volumes.

use super::guard::{Guard, REMOVE_LEARNER, pass};
use super::operation::end;
use super::{Decision, Facts, Outcome, Reason, Step, Verdict, note, quorum};
use crate::ids::{MemberId, Slot};
use crate::observed::Seen;
use crate::record::{Hibernate, Operation, OperationKind};

/// Before going to sleep: the members must be known, settled and in good health.
const SLEEP: &[Guard] = REMOVE_LEARNER;

/// Rule 12: begins.
pub(super) fn decide(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    let awake = facts.observed.record.is_bootstrapped() && facts.operation().is_none();
    if !awake || !facts.desired.hibernate {
        return Decision::Pass;
    }
    let nobody = MemberId(u64::MAX);
    if let Err(note) = pass(SLEEP, facts, nobody, verdicts) {
        return Decision::Wait(note);
    }
    let bound = facts.bound().unwrap_or(1);
    Decision::Act(Step::WriteIntent(Operation {
        id: facts.fresh_operation_id(),
        started_at: facts.observed.now,
        kind: OperationKind::Hibernate(Hibernate {
            size: u32::try_from(facts.voters.len()).unwrap_or(u32::MAX),
            top: Slot(bound.saturating_sub(1)),
        }),
    }))
}

/// Rule 4: sleeps, stays asleep, or wakes.
pub(super) fn go_on(facts: &Facts, operation: &Operation, hibernate: &Hibernate) -> Decision {
    let slots = match &facts.observed.slots {
        Seen::Known(slots) => slots,
        Seen::Unknown(why) => {
            let message = format!("The slots could not be read: {why}.");
            return Decision::Wait(note(Reason::Unreachable, message));
        }
    };
    if facts.desired.hibernate {
        if slots.count != Some(0) {
            return Decision::Act(Step::SetSlots {
                count: 0,
                was: slots.count,
            });
        }
        if let Some(slot) = slots.lives.keys().find(|slot| facts.is_occupied(**slot)) {
            return Decision::Wait(note(
                Reason::Hibernating,
                format!("Slot {slot} is stopping."),
            ));
        }
        let message = "Every slot is stopped. Set spec.hibernate to false to wake the cluster.";
        return Decision::Halt(note(Reason::Hibernated, message));
    }
    let count = hibernate.top.count();
    if slots.count.is_none_or(|live| live < count) {
        return Decision::Act(Step::SetSlots {
            count,
            was: slots.count,
        });
    }
    let (alive, voters) = (facts.healthy.len(), facts.voters.len());
    if facts.membership.is_none() || alive < quorum(voters) {
        let message = format!("The cluster is waking: {alive} voters are healthy.");
        return Decision::Wait(note(Reason::Hibernating, message));
    }
    end(operation, Outcome::Done)
}
