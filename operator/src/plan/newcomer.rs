//! A member on its way in: rows 2 to 11 of protocol 3.4, shared by growth and replacement.
//!
//! Assumes that the intent is written. A learner first, always (H9); the leader's match decides
//! when it becomes a voter (H14); one that does not get there before its deadline is given up
//! (H15). An ID is joined on one directory only, which is written down before the ID is first used
//! (I5).

use super::guard::{ADD_LEARNER, PROMOTE, REMOVE_LEARNER, pass};
use super::operation::end;
use super::{Decision, Facts, Note, Outcome, Reason, Step, Verdict, note, unread, volumes};
use crate::ids::{DirectoryId, MemberId, Slot, VolumeUid};
use crate::observed::{LifeState, NodeState, NodeView, Refusing, Role, Seen};
use crate::planted::Bug;
use crate::record::{Abort, Backoff, Newcomer, Operation, OperationKind};

/// The pause after a learner was given up, doubling with each in a row.
const BACKOFF_MS: i64 = 30_000;
/// The longest such pause.
const BACKOFF_MS_MAX: i64 = 1_800_000;

/// What distinguishes the operations that bring a newcomer.
pub(super) struct Arrival<'a> {
    pub operation: &'a Operation,
    pub newcomer: &'a Newcomer,
    pub abort: Option<Abort>,
    /// The volume that the intent says is lost.
    pub condemned: Option<&'a VolumeUid>,
    /// The reason shown while it goes on.
    pub reason: Reason,
    /// The spec no longer wants it.
    pub reverted: bool,
}

/// The next step of an arrival.
pub(super) fn go_on(facts: &Facts, arrival: &Arrival, verdicts: &mut Vec<Verdict>) -> Decision {
    let (Some(cluster), Some(_)) = (facts.cluster(), facts.membership) else {
        return Decision::Wait(unread(facts));
    };
    let newcomer = arrival.newcomer;
    let member = facts.member(newcomer.member);
    if member.is_some_and(|member| member.role == Role::Voter) {
        // Past the point of no return, whatever was wished meanwhile: scaling down may follow.
        return label(facts, newcomer.slot, Role::Voter)
            .unwrap_or_else(|| end(arrival.operation, Outcome::Done));
    }
    if arrival.abort.is_some() {
        return undo(facts, arrival, verdicts);
    }
    if let Some(abort) = reason_to_abort(facts, arrival) {
        return Decision::Act(Step::WriteIntent(with_abort(arrival.operation, abort)));
    }
    if Bug::PromoteUnasked.lives() && member.is_some() {
        let expected = facts.config_index();
        let member = newcomer.member;
        return Decision::Act(Step::Promote { member, expected });
    }
    match volumes::fresh(facts, cluster, newcomer, arrival.condemned, arrival.reason) {
        Decision::Pass => {}
        other => return other,
    }
    if let Some(step) = slots(facts, newcomer.slot) {
        return Decision::Act(step);
    }
    let node = match node(facts, newcomer.slot, arrival.reason) {
        Ok(node) => node,
        Err(note) => return Decision::Wait(note),
    };
    let joined = facts.is_joined(newcomer.slot, newcomer.member);
    if member.is_none() {
        return add(facts, arrival, node, verdicts);
    }
    if !joined {
        return join(facts, arrival, &node.state);
    }
    promote(facts, newcomer.member, verdicts)
}

/// The gate, then the promotion.
pub(super) fn promote(facts: &Facts, member: MemberId, verdicts: &mut Vec<Verdict>) -> Decision {
    let expected = facts.config_index();
    match pass(PROMOTE, facts, member, verdicts) {
        Ok(()) => Decision::Act(Step::Promote { member, expected }),
        Err(note) => Decision::Wait(note),
    }
}

/// The platform's role label, where it has one and it is not right.
pub(super) fn label(facts: &Facts, slot: Slot, role: Role) -> Option<Decision> {
    let life = facts.life(slot)?;
    if !life.wants_role_label || life.role_label == Some(role) {
        return None;
    }
    Some(Decision::Act(Step::LabelSlot {
        slot,
        uid: life.uid.clone(),
        role: Some(role),
    }))
}

/// The set must have the slot; it is raised, never lowered.
pub(super) fn slots(facts: &Facts, slot: Slot) -> Option<Step> {
    let was = facts.observed.slots.known()?.count;
    (was.unwrap_or(0) < slot.count()).then(|| Step::SetSlots {
        count: slot.count(),
        was,
    })
}

/// The node's word, once it runs on the newcomer's volume.
fn node<'a>(facts: &Facts<'a>, slot: Slot, reason: Reason) -> Result<&'a NodeView, Note> {
    let wait = |message: String| Err(note(reason, message));
    let volume = facts.volume(slot).ok().flatten().map(|volume| &volume.uid);
    let Some(life) = facts.life(slot) else {
        return wait(format!("Slot {slot} is not started yet."));
    };
    if life.state != LifeState::Running || life.volume.as_ref() != volume {
        return wait(format!("Slot {slot} is starting on its volume."));
    }
    match facts.observed.nodes.get(&slot) {
        Some(Seen::Known(node)) => Ok(node),
        Some(Seen::Unknown(why)) => {
            wait(format!("The node in slot {slot} does not answer: {why}."))
        }
        None => wait(format!("The node in slot {slot} was not asked yet.")),
    }
}

/// Whether to give up, decided once and written down before anything is undone.
fn reason_to_abort(facts: &Facts, arrival: &Arrival) -> Option<Abort> {
    let newcomer = arrival.newcomer;
    let slot = newcomer.slot;
    if arrival.reverted && !Bug::RevertIsIgnored.lives() {
        return Some(Abort::Reverted);
    }
    if facts.desired.asks_to_abort(&arrival.operation.id) {
        return Some(Abort::Requested);
    }
    let node = facts.observed.nodes.get(&slot).and_then(Seen::known);
    if facts.member(newcomer.member).is_some() {
        let volume = facts.volume(slot).ok()?;
        let stamped = volume.and_then(|volume| volume.stamp.as_ref());
        let elsewhere = |directory: &Option<DirectoryId>| *directory != newcomer.directory;
        let emptied = node
            .is_some_and(|node| node.state == NodeState::Unjoined && elsewhere(&node.directory));
        if emptied || stamped.is_none_or(|stamp| stamp.member != newcomer.member) {
            return Some(Abort::VolumeLost);
        }
    } else if node.is_some_and(|node| has_been(&node.state, newcomer.member)) {
        // Joined, and not in a linearizable membership: it was a member and was removed.
        return Some(Abort::Removed);
    }
    let late = facts.observed.now >= newcomer.deadline && !Bug::LearnerForever.lives();
    late.then_some(Abort::LearnerStuck)
}

fn has_been(state: &NodeState, id: MemberId) -> bool {
    match state {
        NodeState::Joined { member, .. } | NodeState::Removed { member, .. } => *member == id,
        NodeState::Refusing { member, .. } => *member == Some(id),
        NodeState::Unjoined => false,
    }
}

fn with_abort(operation: &Operation, abort: Abort) -> Operation {
    let mut operation = operation.clone();
    match &mut operation.kind {
        OperationKind::ScaleUp(up) => up.abort = Some(abort),
        OperationKind::Replace(replace) => replace.abort = Some(abort),
        OperationKind::ScaleDown(_)
        | OperationKind::Hibernate(_)
        | OperationKind::Update(_)
        | OperationKind::ExpandVolumes(_) => {}
    }
    operation
}

fn with_directory(operation: &Operation, directory: Option<DirectoryId>) -> Operation {
    let mut operation = operation.clone();
    match &mut operation.kind {
        OperationKind::ScaleUp(up) => up.newcomer.directory = directory,
        OperationKind::Replace(replace) => replace.newcomer.directory = directory,
        OperationKind::ScaleDown(_)
        | OperationKind::Hibernate(_)
        | OperationKind::Update(_)
        | OperationKind::ExpandVolumes(_) => {}
    }
    operation
}

/// Writes the directory down, then adds the learner.
fn add(facts: &Facts, arrival: &Arrival, node: &NodeView, verdicts: &mut Vec<Verdict>) -> Decision {
    let newcomer = arrival.newcomer;
    let slot = newcomer.slot;
    let ready = match &node.state {
        NodeState::Unjoined => true,
        // A kept volume: its directory belongs to an ID that was removed and is displaced.
        NodeState::Removed { member, .. } | NodeState::Joined { member, .. } => {
            facts.member(*member).is_none()
        }
        // The same, of an epoch that has ended.
        NodeState::Refusing {
            why: Refusing::Fenced,
            member: Some(member),
            ..
        } => facts.member(*member).is_none(),
        NodeState::Refusing { .. } => false,
    };
    if !ready {
        let message = format!("The node in slot {slot} is not ready to join.");
        return Decision::Wait(note(arrival.reason, message));
    }
    if newcomer.directory != node.directory {
        let operation = with_directory(arrival.operation, node.directory.clone());
        return Decision::Act(Step::WriteIntent(operation));
    }
    if let Err(note) = pass(ADD_LEARNER, facts, newcomer.member, verdicts) {
        return Decision::Wait(note);
    }
    let expected = facts.config_index();
    let fresh = Bug::FreshIdOnRetry.lives();
    Decision::Act(Step::MemberAdd {
        slot,
        member: if fresh {
            facts.observed.entropy.member_id
        } else {
            newcomer.member
        },
        expected,
    })
}

/// Tells the node who it is.
fn join(facts: &Facts, arrival: &Arrival, state: &NodeState) -> Decision {
    let slot = arrival.newcomer.slot;
    let displaces = match state {
        NodeState::Unjoined => None,
        NodeState::Removed { member, .. }
        | NodeState::Joined { member, .. }
        | NodeState::Refusing {
            why: Refusing::Fenced,
            member: Some(member),
            ..
        } if facts.member(*member).is_none() => Some(*member),
        _ => {
            let message = format!("The node in slot {slot} is not ready to join.");
            return Decision::Wait(note(arrival.reason, message));
        }
    };
    let (Some(cluster_uuid), Some(membership)) = (facts.cluster(), facts.membership) else {
        return Decision::Pass;
    };
    let voters = membership
        .members
        .values()
        .filter(|member| member.role == Role::Voter);
    let mut seeds: Vec<Slot> = voters.filter_map(|member| member.slot).collect();
    seeds.sort_unstable();
    let member = arrival.newcomer.member;
    Decision::Act(Step::Join {
        slot,
        cluster_uuid,
        member,
        seeds,
        displaces,
    })
}

/// Undoes an arrival: the learner, then its slot, then its volume (3.5 steps 4 to 9).
fn undo(facts: &Facts, arrival: &Arrival, verdicts: &mut Vec<Verdict>) -> Decision {
    let newcomer = arrival.newcomer;
    if facts.member(newcomer.member).is_some() {
        let expected = facts.config_index();
        return match pass(REMOVE_LEARNER, facts, newcomer.member, verdicts) {
            Ok(()) => Decision::Act(Step::MemberRemove {
                member: newcomer.member,
                expected,
            }),
            Err(note) => Decision::Wait(note),
        };
    }
    match vacate(facts, newcomer.slot, newcomer.member, arrival.reason) {
        Decision::Pass => {}
        other => return other,
    }
    let id = arrival.operation.id.clone();
    let backoff = arrival
        .abort
        .and_then(|abort| backoff(facts, newcomer, abort));
    Decision::Act(Step::ClearIntent {
        id,
        outcome: Outcome::Aborted,
        backoff,
    })
}

/// Frees the slot of a member that is gone, if it is above what the others need; then its volume.
pub(super) fn vacate(facts: &Facts, slot: Slot, member: MemberId, reason: Reason) -> Decision {
    let wait = |message: String| Decision::Wait(note(reason, message));
    let (Some(bound), Seen::Known(slots)) = (facts.bound(), &facts.observed.slots) else {
        return wait("The slots could not be read.".to_owned());
    };
    // Ordinals are contiguous: a slot below another member's stays until its turn comes.
    if slot.0 < bound {
        return Decision::Pass;
    }
    if slots.count.is_some_and(|count| count > bound) {
        return Decision::Act(Step::SetSlots {
            count: bound,
            was: slots.count,
        });
    }
    if facts.is_occupied(slot) && !Bug::ClaimBeforePod.lives() {
        return wait(format!("Slot {slot} is stopping."));
    }
    let volume = match facts.volume(slot) {
        Ok(Some(volume)) => volume,
        Ok(None) => return Decision::Pass,
        Err(why) => return wait(format!("The volumes could not be read: {why}.")),
    };
    let is_theirs = volume
        .stamp
        .as_ref()
        .is_some_and(|stamp| stamp.member == member);
    if !is_theirs || facts.desired.when_scaled == crate::desired::VolumePolicy::Retain {
        return Decision::Pass;
    }
    if volume.deleting {
        return wait(format!("The volume of slot {slot} is being deleted."));
    }
    Decision::Act(Step::DeleteVolume {
        slot,
        uid: volume.uid.clone(),
    })
}

/// Only what may happen again by itself is followed by a pause.
fn backoff(facts: &Facts, newcomer: &Newcomer, abort: Abort) -> Option<Backoff> {
    if abort != Abort::LearnerStuck {
        return None;
    }
    let attempts = facts
        .observed
        .record
        .backoff
        .as_ref()
        .map_or(0, |backoff| backoff.attempts);
    let attempts = attempts.saturating_add(1);
    let pause = BACKOFF_MS
        .saturating_mul(1 << (attempts - 1).min(10))
        .min(BACKOFF_MS_MAX);
    let message = format!(
        "Member {} in slot {} did not catch up before its deadline. Look at the slot's log and at \
         its place to run; the next try follows by itself.",
        newcomer.member, newcomer.slot
    );
    Some(Backoff {
        attempts,
        until: facts.observed.now.plus(pause),
        message,
    })
}
