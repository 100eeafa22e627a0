//! Gates: what must hold, by facts read in this pass, before the membership is changed.
//!
//! A gate is an ordered slice of named guards. The first that fails is the reason given, so the
//! same world always gives the same reason. Guards fail closed: what is not known does not hold.
//! The node repeats the arithmetic when it is asked; these guards exist so that it is not asked in
//! vain, and so that people are told why.
//!
//! Words: `V` voters, `A` voters that answer, have caught up and are heard by the leader, `q(n)` a
//! majority of n.

use super::facts::{Facts, quorum};
use super::{Note, Reason, note};
use crate::ids::MemberId;
use crate::planted::Bug;

/// The answer of one guard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The guard's name.
    pub guard: &'static str,
    /// Whether it lets the step pass.
    pub passed: bool,
    /// The figures behind the answer.
    pub why: String,
}

/// A named check. `target` is the member the step is about.
pub(super) struct Guard {
    name: &'static str,
    /// The reason shown when it fails.
    reason: Reason,
    check: fn(&Facts, MemberId) -> (bool, String),
}

const MEMBERSHIP_KNOWN: Guard = Guard {
    name: "membership-known",
    reason: Reason::Unreachable,
    check: membership_known,
};
const SETTLED: Guard = Guard {
    name: "settled",
    reason: Reason::Unreachable,
    check: settled,
};
const QUORUM_PRESENT: Guard = Guard {
    name: "quorum-present",
    reason: Reason::QuorumLost,
    check: quorum_present,
};
const QUORUM_WITHOUT: Guard = Guard {
    name: "quorum-without",
    reason: Reason::WouldLoseQuorum,
    check: quorum_without,
};
const LAST_TWO_ALIVE: Guard = Guard {
    name: "last-two-alive",
    reason: Reason::WouldLoseQuorum,
    check: last_two_alive,
};
const SURVIVOR_LEADS: Guard = Guard {
    name: "survivor-leads",
    reason: Reason::ScalingDown,
    check: survivor_leads,
};
const NO_LEARNER: Guard = Guard {
    name: "no-learner",
    reason: Reason::ScalingUp,
    check: no_learner,
};
const CAUGHT_UP: Guard = Guard {
    name: "caught-up",
    reason: Reason::ScalingUp,
    check: caught_up,
};
const QUORUM_WITH: Guard = Guard {
    name: "quorum-with",
    reason: Reason::WouldLoseQuorum,
    check: quorum_with,
};

const QUORUM_WHILE_STOPPED: Guard = Guard {
    name: "quorum-while-stopped",
    reason: Reason::WouldLoseQuorum,
    check: quorum_while_stopped,
};

/// Before a learner is added.
pub(super) const ADD_LEARNER: &[Guard] = &[MEMBERSHIP_KNOWN, SETTLED, QUORUM_PRESENT, NO_LEARNER];
/// Before a learner becomes a voter.
pub(super) const PROMOTE: &[Guard] = &[
    MEMBERSHIP_KNOWN,
    SETTLED,
    QUORUM_PRESENT,
    CAUGHT_UP,
    QUORUM_WITH,
];
/// Before a voter is chosen for removal.
pub(super) const CHOOSE_VICTIM: &[Guard] = &[
    MEMBERSHIP_KNOWN,
    QUORUM_PRESENT,
    QUORUM_WITHOUT,
    LAST_TWO_ALIVE,
];
/// Before a voter is removed.
pub(super) const REMOVE_VOTER: &[Guard] = &[
    MEMBERSHIP_KNOWN,
    SETTLED,
    QUORUM_PRESENT,
    QUORUM_WITHOUT,
    LAST_TWO_ALIVE,
    SURVIVOR_LEADS,
];
/// Before a voter that serves is stopped and begun anew.
pub(super) const STOP: &[Guard] = &[MEMBERSHIP_KNOWN, SETTLED, QUORUM_WHILE_STOPPED];
/// Before a learner is removed: it counts for nothing, but the change must commit.
pub(super) const REMOVE_LEARNER: &[Guard] = &[MEMBERSHIP_KNOWN, SETTLED, QUORUM_PRESENT];

/// Asks the guards in order, stops at the first that fails, and notes every answer.
pub(super) fn pass(
    gate: &[Guard],
    facts: &Facts,
    target: MemberId,
    verdicts: &mut Vec<Verdict>,
) -> Result<(), Note> {
    for guard in gate {
        let (passed, why) = (guard.check)(facts, target);
        verdicts.push(Verdict {
            guard: guard.name,
            passed,
            why: why.clone(),
        });
        if !passed {
            return Err(note(guard.reason, why));
        }
    }
    Ok(())
}

fn membership_known(facts: &Facts, _: MemberId) -> (bool, String) {
    match facts.membership {
        Some(membership) => (true, format!("config index {}", membership.config_index)),
        None => (false, facts.unread()),
    }
}

fn settled(facts: &Facts, _: MemberId) -> (bool, String) {
    match facts.membership {
        Some(membership) if !membership.changing => (true, "no change in flight".to_owned()),
        _ => (
            false,
            "Another change of the membership is in flight.".to_owned(),
        ),
    }
}

fn quorum_present(facts: &Facts, _: MemberId) -> (bool, String) {
    let (alive, needed) = (facts.healthy.len(), quorum(facts.voters.len()));
    let voters = facts.voters.len();
    let sick = Bug::EverybodyMustBeWell.lives() && alive < voters;
    let enough = alive >= needed || Bug::RemoveWithoutQuorum.lives();
    if enough && voters > 0 && !sick {
        (
            true,
            format!("{alive} of {voters} voters are healthy, {needed} needed"),
        )
    } else {
        (
            false,
            format!("{alive} of {voters} voters are healthy and {needed} are needed."),
        )
    }
}

/// The quorum of the configuration that would result, over those who are alive in it (H22).
fn quorum_without(facts: &Facts, target: MemberId) -> (bool, String) {
    let alive = facts.healthy.iter().filter(|id| **id != target).count();
    let voters = facts.voters.iter().filter(|id| **id != target).count();
    let needed = quorum(voters);
    if (alive >= needed && voters > 0) || Bug::OldMembershipOnly.lives() {
        (
            true,
            format!(
                "without member {target}, {alive} of {voters} voters are healthy, {needed} needed"
            ),
        )
    } else {
        let why = format!(
            "Without member {target}, {alive} of {voters} voters would be healthy and {needed} are needed."
        );
        (false, why)
    }
}

/// The quorum of the same configuration, without the one that is stopped (H36). One or two voters
/// have no such quorum: then all must be well, and there is a pause in service.
fn quorum_while_stopped(facts: &Facts, target: MemberId) -> (bool, String) {
    let voters = facts.voters.len();
    let others = facts.healthy.iter().filter(|id| **id != target).count();
    let needed = quorum(voters);
    if Bug::StopWithoutGate.lives() {
        return (true, "nobody looked".to_owned());
    }
    if voters <= 2 {
        let all = facts.healthy.len() == voters && voters > 0;
        let why = if all {
            format!("all {voters} voters are healthy; there is no redundancy")
        } else {
            let alive = facts.healthy.len();
            format!("{alive} of {voters} voters are healthy; all must be before one is stopped.")
        };
        return (all, why);
    }
    if others >= needed {
        (
            true,
            format!(
                "while member {target} is stopped, {others} of {voters} serve, {needed} needed"
            ),
        )
    } else {
        let why = format!(
            "While member {target} is stopped, {others} of {voters} voters would serve and {needed} \
             are needed."
        );
        (false, why)
    }
}

/// If one of two dies before the other learns of the removal, the change can never commit (H24).
fn last_two_alive(facts: &Facts, _: MemberId) -> (bool, String) {
    let alive = facts.healthy.len();
    if facts.voters.len() != 2 {
        (true, format!("{} voters", facts.voters.len()))
    } else if alive == 2 {
        (true, "both voters are healthy".to_owned())
    } else {
        (
            false,
            format!("Going from 2 to 1 needs both voters healthy, and {alive} is."),
        )
    }
}

fn survivor_leads(facts: &Facts, target: MemberId) -> (bool, String) {
    let leader = facts.membership.and_then(|membership| membership.leader);
    if facts.voters.len() != 2 {
        (true, format!("{} voters", facts.voters.len()))
    } else if leader.is_some_and(|leader| leader != target) || Bug::SurvivorNeedNotLead.lives() {
        (true, "the survivor leads".to_owned())
    } else {
        (
            false,
            format!("Going from 2 to 1 needs the survivor to lead, not member {target}."),
        )
    }
}

fn no_learner(facts: &Facts, _: MemberId) -> (bool, String) {
    match facts.learners.first() {
        None => (true, "no learner".to_owned()),
        Some(_) if Bug::TwoLearners.lives() || Bug::TwoAtOnce.lives() => {
            (true, "nobody looked".to_owned())
        }
        Some(learner) => (
            false,
            format!("Member {learner} is a learner; one at a time."),
        ),
    }
}

fn caught_up(facts: &Facts, target: MemberId) -> (bool, String) {
    match facts.member(target) {
        _ if Bug::PromoteWithoutMatch.lives() => (true, "nobody looked".to_owned()),
        Some(member) if member.caught_up && member.in_contact => {
            (true, format!("member {target} has caught up"))
        }
        Some(member) => (
            false,
            format!(
                "Member {target} is catching up; it lacks {} entries.",
                member.lag
            ),
        ),
        None => (false, format!("Member {target} is not in the membership.")),
    }
}

fn quorum_with(facts: &Facts, target: MemberId) -> (bool, String) {
    let (alive, voters) = (facts.healthy.len() + 1, facts.voters.len() + 1);
    let needed = quorum(voters);
    if alive >= needed {
        (
            true,
            format!(
                "with member {target}, {alive} of {voters} voters are healthy, {needed} needed"
            ),
        )
    } else {
        let why = format!(
            "With member {target}, {alive} of {voters} voters would be healthy and {needed} are needed."
        );
        (false, why)
    }
}
