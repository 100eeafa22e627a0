//! The steps that are calls to members, and which member a call goes through: the same on every
//! platform.
//!
//! Assumes an observation of this pass. Must not know: processes, pods.

use crate::ids::{MemberId, Slot};
use crate::observed::MembershipView;
use crate::plan::Step;
use crate::reconcile::Observation;

use super::members::{Addresses, Error, Members};

/// The slot of the member that leads.
pub(super) fn leader_slot(view: &MembershipView) -> Option<Slot> {
    view.leader
        .and_then(|leader| view.members.get(&leader))
        .and_then(|member| member.slot)
}

/// The member to send changes through: the leader, or else any.
fn through(observation: &Observation) -> Result<Slot, Error> {
    let view = observation.observed.membership.known();
    view.and_then(|view| {
        leader_slot(view).or_else(|| view.members.values().find_map(|member| member.slot))
    })
    .ok_or_else(|| Error::Conflict("no member is known to send the change through".to_owned()))
}

impl<A: Addresses> Members<A> {
    /// Makes the call a step stands for. `name` is what the node in a slot is called.
    ///
    /// # Errors
    /// It was refused, came too late, or was not answered; a step that is no call is refused.
    pub async fn call(
        &mut self,
        observation: &Observation,
        step: &Step,
        name: impl Fn(Slot) -> String,
    ) -> Result<(), Error> {
        match step {
            Step::Bootstrap {
                slot,
                cluster_uuid,
                member,
            } => {
                self.bootstrap(*slot, *cluster_uuid, *member, name(*slot))
                    .await
            }
            Step::Recover {
                slot,
                cluster_uuid,
                epoch,
            } => self.recover(*slot, *cluster_uuid, *epoch).await,
            Step::MemberAdd {
                slot,
                member,
                expected,
            } => {
                let through = through(observation)?;
                self.member_add(through, *slot, *member, name(*slot), *expected)
                    .await
            }
            Step::Join {
                slot,
                cluster_uuid,
                member,
                seeds,
                displaces,
            } => {
                self.join(*slot, *cluster_uuid, *member, seeds, *displaces)
                    .await
            }
            Step::Promote { member, expected } => {
                self.member_promote(through(observation)?, *member, *expected)
                    .await
            }
            Step::TransferLeader { from: _, to } => {
                self.transfer_leader(through(observation)?, *to).await
            }
            Step::MemberRemove { member, expected } => {
                self.member_remove(through(observation)?, *member, *expected)
                    .await
            }
            other => Err(Error::Refused(format!(
                "{} is no call to a member",
                other.name()
            ))),
        }
    }

    /// Asks, right before a member's slot is stopped, whether that is safe; without a member there
    /// is nothing to ask.
    ///
    /// # Errors
    /// It is not, or nobody answered: then nothing may be stopped.
    pub async fn ask_to_stop(
        &mut self,
        observation: &Observation,
        member: Option<MemberId>,
    ) -> Result<(), Error> {
        match member {
            Some(member) => self.can_stop(through(observation)?, member).await,
            None => Ok(()),
        }
    }
}
