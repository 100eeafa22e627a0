//! What can be seen of a node from outside.

use crate::membership::Membership;
use crate::node::{Node, Role};
use crate::output::{RoleKind, Status};
use crate::types::{EntryId, HardState, LogIndex, MemberId, Term};
use alloc::vec::Vec;

impl Node {
    /// Everything worth showing. Allocates; the getters below do not.
    #[must_use]
    pub fn status(&self) -> Status {
        let common = &self.common;
        let (transferring_to, peers) = match &self.role {
            Role::Leader(leader) => (
                leader.transfer.map(|transfer| transfer.to),
                leader.peer_status(common),
            ),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => (None, Vec::new()),
        };
        let membership_index = common.log.membership_index();
        let committed = membership_index <= common.commit();
        Status {
            id: common.id(),
            role: self.role(),
            term: common.term(),
            leader: common.leader(),
            commit: common.commit(),
            applied: common.applied(),
            last: common.log.last(),
            durable: common.log.durable(),
            first: common.log.base().index.next(),
            membership_index,
            membership_settled: committed && !common.log.membership().is_joint(),
            transferring_to,
            peers,
        }
    }

    /// The membership in force.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.common.log.membership()
    }

    /// The membership that was in force at `index`, and the index of its entry: what a snapshot
    /// that ends at `index` must carry (C10). `None` below the log in memory.
    #[must_use]
    pub fn membership_at(&self, index: LogIndex) -> Option<(&Membership, LogIndex)> {
        self.common.log.membership_at(index)
    }

    /// Term of the entry at `index`, as far as the log in memory reaches.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.common.log.term_at(index)
    }

    /// Who leads, as far as known.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        self.common.leader()
    }

    /// This member.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.common.id()
    }

    /// The term in memory; may be ahead of the disk.
    #[must_use]
    pub fn term(&self) -> Term {
        self.common.term()
    }

    /// Term and vote in memory; may be ahead of the disk.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.common.hard_state
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> RoleKind {
        match &self.role {
            Role::Follower => RoleKind::Follower,
            Role::PreCandidate(_) => RoleKind::PreCandidate,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        self.common.commit()
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.common.log.last()
    }

    /// Longest prefix of the log that is durable here; below the commit index while our own disk
    /// lags behind a quorum of others.
    #[must_use]
    pub fn durable(&self) -> LogIndex {
        self.common.log.durable()
    }
}
