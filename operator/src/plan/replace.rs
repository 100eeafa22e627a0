//! Replacement of one lost member in place (protocol 3.6), on positive evidence only.
//!
//! Unreachable is not absent: a timeout, a pending pod or a dead process is no evidence, however
//! long it lasts (H8, H59). Evidence is a volume that is not there or not the member's, a node that
//! says so itself, or a human's word.

use super::guard::{REMOVE_LEARNER, REMOVE_VOTER, pass};
use super::newcomer::{self, Arrival};
use super::operation::end;
use super::{Decision, Facts, Outcome, Reason, Step, Verdict, note, scale_up};
use crate::desired::RepairPolicy;
use crate::ids::{MemberId, Slot};
use crate::observed::{LifeState, NodeState, Refusing, Role};
use crate::planted::Bug;
use crate::record::{Operation, OperationKind, Replace};

/// Why a member is known to be lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// Where it lives.
    pub slot: Slot,
    /// The member.
    pub member: MemberId,
    /// What was found, in words.
    pub what: String,
    /// The policy is to replace it; otherwise it is reported.
    pub replace: bool,
}

/// The lost members, by slot.
#[must_use]
pub fn evidence(facts: &Facts) -> Vec<Evidence> {
    let members = facts
        .membership
        .into_iter()
        .flat_map(|membership| &membership.members);
    let mut found: Vec<Evidence> = members
        .filter_map(|(id, member)| about(facts, *id, member.slot?))
        .collect();
    found.sort_by_key(|evidence| evidence.slot);
    found
}

fn about(facts: &Facts, member: MemberId, slot: Slot) -> Option<Evidence> {
    let repair = &facts.desired.repair;
    let found = |what: String, policy: RepairPolicy| {
        Some(Evidence {
            slot,
            member,
            what,
            replace: policy == RepairPolicy::Replace,
        })
    };
    if facts.desired.asks_to_replace(slot, member) {
        return found("a human asked for it".to_owned(), RepairPolicy::Replace);
    }
    let silent = facts.node(slot).is_none() && Bug::TimeoutIsAbsence.lives();
    if silent || (facts.life(slot).is_none() && Bug::PodGoneIsMemberLost.lives()) {
        return found("nothing is heard of it".to_owned(), RepairPolicy::Replace);
    }
    if let Some(what) = by_volume(facts, member, slot) {
        return found(what, repair.lost_volume);
    }
    match facts.node(slot) {
        Some(NodeState::Unjoined) => {
            return found("its data directory is empty".to_owned(), repair.lost_volume);
        }
        Some(
            NodeState::Joined { member: other, .. } | NodeState::Removed { member: other, .. },
        ) if *other != member && facts.member(*other).is_none() => {
            return found(
                format!("its directory is that of former member {other}"),
                repair.lost_volume,
            );
        }
        Some(NodeState::Refusing {
            why: Refusing::RolledBack,
            message,
            ..
        }) => {
            return found(
                format!("its directory is an old copy: {message}"),
                repair.lost_volume,
            );
        }
        Some(NodeState::Refusing {
            why: Refusing::Corrupt,
            message,
            ..
        }) => {
            return found(
                format!("its data is damaged: {message}"),
                repair.corrupt_member,
            );
        }
        _ => {}
    }
    if facts
        .volume(slot)
        .ok()
        .flatten()
        .is_some_and(|volume| volume.node_gone)
    {
        return found(
            "its volume is tied to a machine that is gone".to_owned(),
            if Bug::NodeGoneIsReplaced.lives() {
                RepairPolicy::Replace
            } else {
                repair.node_gone
            },
        );
    }
    by_exits(facts, slot).and_then(|what| found(what, repair.crash_loop))
}

/// The volume is not there, or is not this member's.
fn by_volume(facts: &Facts, member: MemberId, slot: Slot) -> Option<String> {
    let Some(volume) = facts.volume(slot).ok()? else {
        return Some("its volume is gone".to_owned());
    };
    match &volume.stamp {
        None => Some("its volume carries no stamp".to_owned()),
        Some(stamp) if stamp.member != member => {
            Some(format!("its volume is stamped for member {}", stamp.member))
        }
        Some(_) => None,
    }
}

/// The process ends again and again, and not for want of memory.
fn by_exits(facts: &Facts, slot: Slot) -> Option<String> {
    let threshold = facts.desired.repair.crash_loop_threshold;
    let (ends, exit) = match &facts.life(slot)?.state {
        LifeState::CrashLooping {
            restarts,
            exit,
            out_of_memory: false,
        } => (*restarts, exit),
        LifeState::Dead(death) => (death.failures, &death.exit),
        _ => return None,
    };
    (ends >= threshold)
        .then(|| format!("its process ended {ends} times in a row, last with {exit}"))
}

/// Rule 9: begins, with the first lost member that is still wanted.
pub(super) fn decide(facts: &Facts, verdicts: &mut Vec<Verdict>) -> Decision {
    if !facts.observed.record.is_bootstrapped() || facts.operation().is_some() {
        return Decision::Pass;
    }
    let mut reported = None;
    for lost in evidence(facts) {
        let Evidence {
            slot,
            member,
            ref what,
            replace,
        } = lost;
        // What is surplus is removed by scaling down; what is a learner, by the leftovers rule.
        let voter = facts.voters.contains(&member);
        if slot.0 >= facts.desired.replicas || !voter {
            continue;
        }
        if !replace {
            let message = format!(
                "Member {member} in slot {slot} is lost: {what}. To replace it, annotate the cluster \
                 with quorate.dev/replace-member=ordinal={slot},id={}.",
                member.to_hex()
            );
            reported.get_or_insert(note(Reason::MemberLost, message));
            continue;
        }
        if let Err(refusal) = pass(REMOVE_VOTER, facts, member, verdicts) {
            let message = format!(
                "Member {member} in slot {slot} is lost: {what}. {}",
                refusal.message
            );
            return Decision::Wait(note(refusal.reason, message));
        }
        let mut newcomer = scale_up::newcomer_in(facts, slot);
        if Bug::SameIdOnNewDisk.lives() {
            newcomer.member = member;
        }
        return Decision::Act(Step::WriteIntent(Operation {
            id: facts.fresh_operation_id(),
            started_at: facts.observed.now,
            kind: OperationKind::Replace(Replace {
                old_member: member,
                old_life: facts.life(slot).map(|life| life.uid.clone()),
                old_volume: facts
                    .volume(slot)
                    .ok()
                    .flatten()
                    .map(|volume| volume.uid.clone()),
                evidence: what.clone(),
                newcomer,
                abort: None,
            }),
        }));
    }
    reported.map_or(Decision::Pass, Decision::Wait)
}

/// Rule 4: goes on.
pub(super) fn go_on(
    facts: &Facts,
    operation: &Operation,
    replace: &Replace,
    verdicts: &mut Vec<Verdict>,
) -> Decision {
    if facts.membership.is_some() && facts.member(replace.old_member).is_some() {
        return remove(facts, operation, replace, verdicts);
    }
    let arrival = Arrival {
        operation,
        newcomer: &replace.newcomer,
        abort: replace.abort,
        condemned: replace.old_volume.as_ref(),
        reason: Reason::Repairing,
        reverted: replace.newcomer.slot.0 >= facts.desired.replicas,
    };
    newcomer::go_on(facts, &arrival, verdicts)
}

/// Row 2: evidence and gate once more, live, then the removal. Afterwards there is no way back.
fn remove(
    facts: &Facts,
    operation: &Operation,
    replace: &Replace,
    verdicts: &mut Vec<Verdict>,
) -> Decision {
    let member = replace.old_member;
    let lost = evidence(facts)
        .into_iter()
        .any(|lost| lost.member == member && lost.replace);
    if !lost && facts.observed.volumes.known().is_some() {
        return end(operation, Outcome::Aborted);
    }
    if !lost {
        let message = format!("Whether member {member} is lost could not be read.");
        return Decision::Wait(note(Reason::Unreachable, message));
    }
    let is_learner = facts
        .member(member)
        .is_some_and(|member| member.role == Role::Learner);
    let gate = if is_learner {
        REMOVE_LEARNER
    } else {
        REMOVE_VOTER
    };
    let expected = facts.config_index();
    match pass(gate, facts, member, verdicts) {
        Ok(()) => Decision::Act(Step::MemberRemove { member, expected }),
        Err(note) => Decision::Wait(note),
    }
}
