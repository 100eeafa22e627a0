//! Rule 5: objects around the cluster, and a set of slots that somebody else made too small.

use super::{Decision, Facts, Reason, Step, Verdict, note};
use crate::ids::Slot;
use crate::observed::Seen;
use crate::planted::Bug;
use crate::record::OperationKind;

/// One object that differs from what the spec renders to.
pub(super) fn decide(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    // Their content carries the cluster's identity, which must be latched first.
    if facts.cluster().is_none() {
        return Decision::Pass;
    }
    match &facts.observed.objects_due {
        Seen::Known(due) => match due.first() {
            Some(name) => Decision::Act(Step::EnsureObject { name: name.clone() }),
            None => Decision::Pass,
        },
        Seen::Unknown(why) => Decision::Wait(note(
            Reason::Unreachable,
            format!("The cluster's objects could not be read: {why}."),
        )),
    }
}

/// Raises the set to what the members need (H33, H60). It is never lowered here.
///
/// While no member can be asked, perhaps because somebody stopped them all, the members last
/// published say how far: a slot too many is harmless, a slot too few costs a voter.
pub(super) fn raise_slots(facts: &Facts, _: &mut Vec<Verdict>) -> Decision {
    let asleep = facts
        .operation()
        .is_some_and(|operation| matches!(operation.kind, OperationKind::Hibernate(_)));
    if !facts.observed.record.is_bootstrapped() || asleep {
        return Decision::Pass;
    }
    let Seen::Known(slots) = &facts.observed.slots else {
        return Decision::Pass;
    };
    let last = facts
        .observed
        .record
        .last_members
        .keys()
        .copied()
        .map(Slot::count)
        .max();
    let mut needed = facts.bound().or(last).unwrap_or(1);
    if Bug::SlotsFromSpec.lives() && slots.count.is_none() {
        needed = facts.desired.replicas;
    }
    let enough = slots.count.is_some_and(|count| count >= needed);
    if enough || Bug::SlotsAreNotRaised.lives() {
        return Decision::Pass;
    }
    Decision::Act(Step::SetSlots {
        count: needed,
        was: slots.count,
    })
}
