//! What is known of each voter while no quorum answers: a lost quorum is a fact or an open
//! question.
//!
//! A voter counts as out only by positive evidence: its node says so itself, its volume is gone, or
//! the platform cannot keep its process running. Silence is no evidence (H8), and neither is a pod
//! that starts or stops. Assumes the voters as last published: nobody is left who could say
//! otherwise. Must not know: what anybody decides; nothing is ever done because of this.

use super::Inputs;
use crate::ids::{MemberId, Slot};
use crate::observed::{LifeState, NodeState, Refusing};
use crate::plan::{Facts, quorum};
use crate::record::OperationKind;

/// Why a quorum cannot be there, voter by voter; `None` when there is one, or when that is not
/// known.
pub(super) fn lost_quorum(facts: &Facts, inputs: &Inputs) -> Option<String> {
    let operation = inputs.record.operation.as_ref();
    let asleep = operation.is_some_and(|operation| {
        matches!(operation.kind, OperationKind::Hibernate(_)) && inputs.desired.hibernate
    });
    if facts.membership.is_some() || asleep || inputs.observed.object.deleting {
        return None;
    }
    let voters = last_voters(inputs);
    let found: Vec<(bool, String)> = voters
        .iter()
        .map(|(slot, member)| about(facts, *slot, *member))
        .collect();
    let out = found.iter().filter(|(out, _)| *out).count();
    let (left, needed) = (voters.len() - out, quorum(voters.len()));
    if voters.is_empty() || left >= needed {
        return None;
    }
    let words: Vec<String> = found.into_iter().map(|(_, words)| words).collect();
    Some(format!(
        "{left} of {} voters can take part and {needed} are needed. {}. Nothing is changed by \
         itself: bring the volumes or machines of the others back.",
        voters.len(),
        words.join("; ")
    ))
}

/// The voters as last published, by slot.
fn last_voters(inputs: &Inputs) -> Vec<(Slot, MemberId)> {
    let rows = inputs
        .resource
        .status
        .iter()
        .flat_map(|status| &status.members);
    let voters = rows.filter(|row| row.role == "Voter");
    voters
        .filter_map(|row| {
            let slot = u32::try_from(row.ordinal).ok()?;
            Some((Slot(slot), row.member_id.as_ref()?.parse().ok()?))
        })
        .collect()
}

/// Whether this voter is out for certain, and what is known of it.
fn about(facts: &Facts, slot: Slot, member: MemberId) -> (bool, String) {
    let said = |out: bool, what: &str| (out, format!("Member {member} in slot {slot}: {what}"));
    match facts.node(slot) {
        Some(NodeState::Joined { .. }) if facts.is_joined(slot, member) => {
            return said(false, "it runs and has its data");
        }
        Some(NodeState::Unjoined) => return said(true, "its data directory is empty"),
        Some(NodeState::Joined { .. } | NodeState::Removed { .. }) => {
            return said(
                true,
                "its data directory is that of another or former member",
            );
        }
        Some(NodeState::Refusing {
            why: Refusing::Busy,
            ..
        }) => return said(false, "it repairs its data"),
        Some(NodeState::Refusing { message, .. }) => {
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
