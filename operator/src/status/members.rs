//! The members table: one row per slot that has a life, a volume or a member, by slot number.
//!
//! Matched by ID and slot, never by position (H57).

use std::collections::BTreeSet;

use super::Inputs;
use crate::crd::{ClaimStatus, KvClusterStatus, MemberStatus};
use crate::ids::Slot;
use crate::observed::{LifeState, NodeState, Pending, Refusing, Role, Seen};
use crate::plan::Facts;
use crate::quantity::show_bytes;

/// The rows, by slot.
pub(super) fn rows(
    facts: &Facts,
    inputs: &Inputs,
    previous: &KvClusterStatus,
) -> Vec<MemberStatus> {
    let mut slots = BTreeSet::new();
    slots.extend(
        facts
            .observed
            .slots
            .known()
            .into_iter()
            .flat_map(|slots| slots.lives.keys()),
    );
    let members = facts
        .membership
        .iter()
        .flat_map(|membership| membership.members.values());
    slots.extend(members.filter_map(|member| member.slot));
    let known = facts.membership.is_some();
    if !known {
        // Who lives where is kept while nobody can be asked; how they fare is not.
        slots.extend(
            previous
                .members
                .iter()
                .filter_map(|row| u32::try_from(row.ordinal).ok())
                .map(Slot),
        );
    }
    slots
        .into_iter()
        .map(|slot| row(facts, inputs, previous, slot))
        .collect()
}

fn row(facts: &Facts, inputs: &Inputs, previous: &KvClusterStatus, slot: Slot) -> MemberStatus {
    let ordinal = i32::try_from(slot.0).unwrap_or(i32::MAX);
    let last = previous.members.iter().find(|row| row.ordinal == ordinal);
    let life = facts.life(slot);
    let volume = facts.volume(slot).ok().flatten();
    let stamp = volume.and_then(|volume| volume.stamp.as_ref());
    let node = inputs.observed.nodes.get(&slot).and_then(Seen::known);
    let mut row = MemberStatus {
        ordinal,
        pod: life.map_or_else(|| format!("slot {slot}"), |life| life.label.clone()),
        role: "None".to_owned(),
        state: state(facts, slot).to_owned(),
        ready: node.is_some_and(|node| node.ready),
        version: node.map(|node| node.version.clone()),
        endpoint: life.and_then(|life| life.endpoint.clone()),
        node: life.and_then(|life| life.host.clone()),
        pod_uid: life.map(|life| life.uid.0.clone()),
        claim: volume.map(|volume| ClaimStatus {
            name: volume.name.clone(),
            uid: volume.uid.0.clone(),
            capacity: volume.capacity_bytes.map(show_bytes),
        }),
        ..MemberStatus::default()
    };
    if facts.membership.is_none() {
        if let Some(last) = last {
            row.role.clone_from(&last.role);
            row.member_id.clone_from(&last.member_id);
            row.incarnation = last.incarnation;
        }
        return row;
    }
    let Some(id) = facts.member_in(slot) else {
        return row;
    };
    let Some(member) = facts.member(id) else {
        return row;
    };
    row.member_id = Some(id.to_hex());
    row.role = match member.role {
        Role::Voter => "Voter".to_owned(),
        Role::Learner => "Learner".to_owned(),
    };
    let stamped = stamp
        .filter(|stamp| stamp.member == id)
        .map(|stamp| stamp.incarnation);
    row.incarnation = stamped
        .and_then(|incarnation| i64::try_from(incarnation).ok())
        .or_else(|| last.and_then(|last| last.incarnation));
    // Rounded up: while a cluster works, the exact figures are never the same twice.
    let lag = if member.caught_up {
        0
    } else {
        member.lag.max(1).next_power_of_two()
    };
    row.lag = i64::try_from(lag).ok();
    row.db_size_bytes = i64::try_from(member.db_size_bytes.div_ceil(1 << 20) << 20).ok();
    row
}

/// How a slot fares, in one word.
fn state(facts: &Facts, slot: Slot) -> &'static str {
    let Some(life) = facts.life(slot) else {
        return "Absent";
    };
    match &life.state {
        LifeState::Starting => return "Starting",
        LifeState::Pending(Pending::Unschedulable) => return "Unschedulable",
        LifeState::Pending(Pending::VolumeMissing) => return "VolumeMissing",
        LifeState::Pending(Pending::VolumeUnbound) => return "VolumePending",
        LifeState::Pending(Pending::Image) => return "ImagePull",
        LifeState::Pending(Pending::Other) => return "Pending",
        LifeState::Stopping => return "Stopping",
        LifeState::Dead(_) => return "Dead",
        LifeState::CrashLooping { .. } => return "CrashLooping",
        LifeState::Running => {}
    }
    match facts.node(slot) {
        None => "Unreachable",
        Some(NodeState::Unjoined) => "Unjoined",
        Some(NodeState::Removed { .. }) => "Removed",
        Some(NodeState::Refusing {
            why: Refusing::Busy,
            ..
        }) => "Repairing",
        Some(NodeState::Refusing { .. }) => "Refusing",
        Some(NodeState::Joined { member, .. }) => match facts.member(*member) {
            Some(member) if !member.caught_up => "CatchingUp",
            _ => "Running",
        },
    }
}
