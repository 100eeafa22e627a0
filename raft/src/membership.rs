//! Who counts: voters, learners, and the outgoing voters while a change is joint (thesis §4.3).
//!
//! A membership takes effect when it is appended and is undone when its entry is cut. This file
//! knows which memberships may follow each other; *when* one may be proposed is `change.rs`.
//! Must not know: addresses, names, logs.

use crate::error::InvalidChange;
use crate::types::MemberId;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;

/// Voters and learners in force (the thesis says configuration).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Members that vote and count for quorum (the incoming set while joint).
    pub voters: BTreeSet<MemberId>,
    /// The voters being left behind; not empty exactly while the membership is joint.
    pub outgoing: BTreeSet<MemberId>,
    /// Members that only receive; disjoint from both voter sets.
    pub learners: BTreeSet<MemberId>,
    /// Outgoing voters that become learners when the joint phase ends.
    pub learners_next: BTreeSet<MemberId>,
    /// While joint: the command that the entry which leaves will carry as its context. It stands
    /// here, and so in every snapshot, because another leader may be the one who leaves. Empty
    /// while not joint.
    pub leave_context: Arc<[u8]>,
}

/// One wish about one member. Several form a change, decided together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add as a learner, or demote a voter to one.
    AddLearner(MemberId),
    /// Add as a voter, or promote a learner.
    AddVoter(MemberId),
    /// Remove a voter or learner.
    Remove(MemberId),
}

impl Change {
    /// The member it is about.
    #[must_use]
    pub const fn member(&self) -> MemberId {
        match self {
            Self::AddLearner(id) | Self::AddVoter(id) | Self::Remove(id) => *id,
        }
    }
}

impl Membership {
    /// A membership of voters alone, as a new cluster starts with.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = MemberId>) -> Self {
        Self {
            voters: voters.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether two voter sets decide together.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether it names nobody: a member that has not been told yet where it belongs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty() && self.outgoing.is_empty() && self.learners.is_empty()
    }

    /// Whether `id` votes, in either set.
    #[must_use]
    pub fn is_voter(&self, id: MemberId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether `id` is named at all.
    #[must_use]
    pub fn contains(&self, id: MemberId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// All voters of both sets, in order, each once.
    pub fn all_voters(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.voters.union(&self.outgoing).copied()
    }

    /// All members, each once: voters of both sets, then learners.
    pub fn members(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.all_voters().chain(self.learners.iter().copied())
    }

    /// Whether the sets fit together as their documentation says.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let roles_apart = self.learners.iter().all(|id| !self.is_voter(*id))
            && self.learners_next.is_disjoint(&self.voters)
            && self.learners_next.is_subset(&self.outgoing);
        let nobody_is_zero = !self.contains(MemberId(0));
        let has_voters = !self.voters.is_empty() || self.is_empty();
        let nothing_waits = self.is_joint() || self.leave_context.is_empty();
        roles_apart && nobody_is_zero && has_voters && nothing_waits
    }

    /// The membership that follows when `changes` are made together: simple when at most one voter
    /// differs, joint otherwise. `context` waits in a joint membership for the entry that leaves.
    ///
    /// # Errors
    /// [`InvalidChange`] when the changes do not fit.
    pub fn changed(&self, changes: &[Change], context: &Arc<[u8]>) -> Result<Self, InvalidChange> {
        assert!(
            !self.is_joint(),
            "a change was begun on a joint membership: {self:?}"
        );
        let (voters, learners) = self.targets(changes)?;
        let simple = self.voters.symmetric_difference(&voters).count() <= 1;
        let next = if simple {
            Self {
                voters,
                learners,
                ..Self::default()
            }
        } else {
            let (learners_next, learners) = learners
                .into_iter()
                .partition(|id| self.voters.contains(id));
            Self {
                voters,
                outgoing: self.voters.clone(),
                learners,
                learners_next,
                leave_context: Arc::clone(context),
            }
        };
        assert!(
            next.is_consistent(),
            "{changes:?} made of {self:?} the impossible {next:?}"
        );
        Ok(next)
    }

    /// The membership after the joint phase: the outgoing voters are gone or have become learners.
    #[must_use]
    pub fn left(&self) -> Self {
        assert!(
            self.is_joint(),
            "only a joint membership can be left: {self:?}"
        );
        Self {
            voters: self.voters.clone(),
            learners: self.learners.union(&self.learners_next).copied().collect(),
            ..Self::default()
        }
    }

    /// Voters and learners that `changes` lead to.
    fn targets(
        &self,
        changes: &[Change],
    ) -> Result<(BTreeSet<MemberId>, BTreeSet<MemberId>), InvalidChange> {
        let mut voters = self.voters.clone();
        let mut learners = self.learners.clone();
        let mut named = BTreeSet::new();
        for change in changes {
            let id = change.member();
            if id == MemberId(0) {
                return Err(InvalidChange::ZeroId);
            }
            if !named.insert(id) {
                return Err(InvalidChange::NamedTwice(id));
            }
            match change {
                Change::AddVoter(_) => {
                    if !voters.insert(id) {
                        return Err(InvalidChange::AlreadyVoter(id));
                    }
                    learners.remove(&id);
                }
                Change::AddLearner(_) => {
                    if !learners.insert(id) {
                        return Err(InvalidChange::AlreadyLearner(id));
                    }
                    voters.remove(&id);
                }
                Change::Remove(_) => {
                    if !voters.remove(&id) && !learners.remove(&id) {
                        return Err(InvalidChange::UnknownMember(id));
                    }
                }
            }
        }
        if named.is_empty() {
            return Err(InvalidChange::Nothing);
        }
        if voters.is_empty() {
            return Err(InvalidChange::NoVoters);
        }
        Ok((voters, learners))
    }
}
