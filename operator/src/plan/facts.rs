//! What rules and guards share: the world with its sets of members worked out once.
//!
//! A membership that is stale, or of another cluster, counts as unknown here, so that no rule can
//! forget to check. Must not know: what anybody decides.

use std::collections::BTreeSet;

use crate::desired::Desired;
use crate::ids::{ClusterUuid, MemberId, Slot};
use crate::observed::{
    LifeState, LifeView, MemberView, MembershipView, NodeState, Observed, Role, Seen, Stamp,
    VolumeView,
};
use crate::planted::Bug;
use crate::record::Operation;

/// A majority of `voters`.
#[must_use]
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// The world of one pass.
pub struct Facts<'a> {
    /// What was asked for.
    pub desired: &'a Desired,
    /// What was seen.
    pub observed: &'a Observed,
    /// The membership, if it can be trusted.
    pub membership: Option<&'a MembershipView>,
    /// Why not, otherwise.
    pub membership_problem: String,
    /// Members that count for quorum.
    pub voters: BTreeSet<MemberId>,
    /// Members that only receive.
    pub learners: BTreeSet<MemberId>,
    /// Voters that answer, have caught up and are heard by the leader.
    pub healthy: BTreeSet<MemberId>,
}

impl<'a> Facts<'a> {
    /// Works the sets out.
    #[must_use]
    pub fn new(desired: &'a Desired, observed: &'a Observed) -> Facts<'a> {
        let mut facts = Facts {
            desired,
            observed,
            membership: None,
            membership_problem: String::new(),
            voters: BTreeSet::new(),
            learners: BTreeSet::new(),
            healthy: BTreeSet::new(),
        };
        match trusted(observed) {
            Ok(membership) => facts.membership = Some(membership),
            Err(problem) => facts.membership_problem = problem,
        }
        for (id, member) in facts
            .membership
            .iter()
            .flat_map(|membership| &membership.members)
        {
            match member.role {
                Role::Voter => facts.voters.insert(*id),
                Role::Learner => facts.learners.insert(*id),
            };
            let answers = member.slot.is_some_and(|slot| facts.is_joined(slot, *id));
            if member.role == Role::Voter && answers && member.caught_up && member.in_contact {
                facts.healthy.insert(*id);
            }
        }
        facts
    }

    /// Why there is no membership to decide by, as a sentence.
    #[must_use]
    pub fn unread(&self) -> String {
        let why = &self.membership_problem;
        format!("The membership could not be read: {why}.")
    }

    /// What a change of the membership is bound to; while it is unknown 0, which no leader accepts.
    #[must_use]
    pub fn config_index(&self) -> u64 {
        let membership = self.membership;
        membership.map_or(0, |membership| membership.config_index)
    }

    /// The latched cluster.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterUuid> {
        self.observed.record.cluster_uuid
    }

    /// The operation in flight.
    #[must_use]
    pub fn operation(&self) -> Option<&'a Operation> {
        self.observed.record.operation.as_ref()
    }

    /// A member, if the membership is known and has it.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&'a MemberView> {
        self.membership?.members.get(&id)
    }

    /// The member whose address leads to this slot.
    #[must_use]
    pub fn member_in(&self, slot: Slot) -> Option<MemberId> {
        let mut members = self.membership?.members.iter();
        members
            .find(|(_, member)| member.slot == Some(slot))
            .map(|(id, _)| *id)
    }

    /// The node's own word on its state, if it answered.
    #[must_use]
    pub fn node(&self, slot: Slot) -> Option<&'a NodeState> {
        Some(&self.observed.nodes.get(&slot)?.known()?.state)
    }

    /// The node in this slot says that it is this member of our cluster.
    #[must_use]
    pub fn is_joined(&self, slot: Slot, id: MemberId) -> bool {
        match self.node(slot) {
            Some(NodeState::Joined {
                cluster_uuid,
                member,
            }) => Some(*cluster_uuid) == self.cluster() && *member == id,
            _ => false,
        }
    }

    /// The volume in a slot; `Err` when it could not be read.
    ///
    /// # Errors
    /// The reason why volumes are unknown.
    pub fn volume(&self, slot: Slot) -> Result<Option<&'a VolumeView>, &'a str> {
        match &self.observed.volumes {
            Seen::Known(volumes) => Ok(volumes.get(&slot)),
            Seen::Unknown(why) => Err(why),
        }
    }

    /// What runs, or ran last, in a slot.
    #[must_use]
    pub fn life(&self, slot: Slot) -> Option<&'a LifeView> {
        self.observed.slots.known()?.lives.get(&slot)
    }

    /// Something in the slot still holds on to its volume.
    #[must_use]
    pub fn is_occupied(&self, slot: Slot) -> bool {
        self.life(slot)
            .is_some_and(|life| !matches!(life.state, LifeState::Dead(_)))
    }

    /// One more than the highest slot with a member, by a known membership.
    #[must_use]
    pub fn bound(&self) -> Option<u32> {
        let members = self.membership?.members.values();
        Some(
            members
                .filter_map(|member| member.slot)
                .map(Slot::count)
                .max()
                .unwrap_or(0),
        )
    }

    /// Voters that live in slots below the size wanted.
    #[must_use]
    pub fn voters_in_range(&self) -> u32 {
        let wanted = |slot: &Slot| slot.0 < self.desired.replicas;
        let members = self
            .membership
            .iter()
            .flat_map(|membership| membership.members.values());
        let voters = members.filter(|member| member.role == Role::Voter);
        let count = voters
            .filter_map(|member| member.slot)
            .filter(wanted)
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The stamp a volume of ours carries.
    #[must_use]
    pub fn stamp(&self, cluster: ClusterUuid, slot: Slot, member: MemberId, life: u64) -> Stamp {
        let owner_uid = self.observed.object.uid.clone();
        Stamp {
            cluster_uuid: cluster,
            owner_uid,
            slot,
            member,
            incarnation: life,
        }
    }

    /// The incarnation that follows all that are known of a slot.
    #[must_use]
    pub fn next_incarnation(&self, slot: Slot) -> u64 {
        let stamp = self
            .volume(slot)
            .ok()
            .flatten()
            .and_then(|volume| volume.stamp.as_ref());
        let stamped = stamp
            .filter(|stamp| stamp.slot == slot)
            .map_or(0, |stamp| stamp.incarnation);
        let record = self.observed.record.last_members.get(&slot);
        stamped
            .max(record.map_or(0, |last| last.incarnation))
            .saturating_add(1)
    }

    /// The ID of an operation that begins now.
    #[must_use]
    pub fn fresh_operation_id(&self) -> String {
        format!("{:016x}", self.observed.entropy.operation_id)
    }
}

/// The membership, unless it is unknown, of another cluster, or older than one already seen (H16).
fn trusted(observed: &Observed) -> Result<&MembershipView, String> {
    let membership = match &observed.membership {
        Seen::Known(membership) => membership,
        Seen::Unknown(why) => return Err(why.clone()),
    };
    let record = &observed.record;
    if record
        .cluster_uuid
        .is_some_and(|uuid| uuid != membership.cluster_uuid)
    {
        return Err(format!(
            "the answer is of cluster {}",
            membership.cluster_uuid
        ));
    }
    if membership.epoch < record.epoch {
        return Err(format!(
            "the answer is of epoch {}, and {} has begun",
            membership.epoch, record.epoch
        ));
    }
    let older = membership.config_index < record.config_index_seen;
    if membership.epoch == record.epoch && older && !Bug::TrustStaleMembership.lives() {
        return Err(format!(
            "the answer is of config index {}, and {} was seen before",
            membership.config_index, record.config_index_seen
        ));
    }
    Ok(membership)
}
