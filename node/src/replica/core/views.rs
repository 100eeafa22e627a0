//! Where the replica stands, as values for callers: status, membership, peers.
//!
//! Reads only; decides nothing.

use super::Core;
use crate::kv::Member;
use crate::replica::types::{MembershipView, PeerView, Phase, ReplicaStatus, Role};
use quorate_raft::RoleKind;
use std::sync::Arc;
use std::time::Duration;

impl Core {
    /// The membership as applied here.
    pub(in crate::replica) fn view(&self) -> MembershipView {
        let status = self.raft.status();
        MembershipView {
            index: status.membership_index.0,
            term: status.term.0,
            leader: status.leader.map_or(0, |id| id.0),
            commit: status.commit.0,
            members: Arc::clone(&self.members),
            peers: self.peers(&status),
        }
    }

    fn peers(&self, status: &quorate_raft::Status) -> Vec<PeerView> {
        let leads = status.role == RoleKind::Leader;
        let tick = Duration::from_millis(self.config.tick_ms);
        let view = |member: &Member| {
            let peer = status.peers.iter().find(|peer| peer.id.0 == member.id);
            PeerView {
                id: member.id,
                matched: peer.filter(|_| leads).map(|peer| peer.matched.0),
                last_contact: peer.filter(|_| leads).map(|peer| tick * peer.silent_ticks),
                snapshotting: peer.is_some_and(|peer| peer.snapshotting),
                connected: self.connected.contains_key(&member.id),
            }
        };
        let me = self.id();
        self.members
            .iter()
            .filter(|member| member.id != me || leads)
            .map(view)
            .collect()
    }

    /// A picture for everybody else.
    pub(in crate::replica) fn status(&self) -> ReplicaStatus {
        let status = self.raft.status();
        let learner = !self.raft.membership().voters.contains(&self.raft.id())
            && !self.raft.membership().outgoing.contains(&self.raft.id());
        ReplicaStatus {
            phase: if self.removed {
                Phase::Removed
            } else if self.stopping {
                Phase::Stopping
            } else if self.repair.is_some() {
                Phase::Repairing
            } else {
                Phase::Joined
            },
            cluster_id: self.config.cluster_id,
            cluster_uuid: Some(self.config.cluster_uuid),
            member_id: self.id(),
            directory_id: self.config.directory_id,
            incarnation: self.config.incarnation,
            epoch: self.config.epoch,
            term: status.term.0,
            leader: status.leader.map_or(0, |id| id.0),
            role: match status.role {
                RoleKind::Leader => Role::Leader,
                RoleKind::Candidate | RoleKind::PreCandidate => Role::Candidate,
                RoleKind::Follower if learner => Role::Learner,
                RoleKind::Follower => Role::Follower,
            },
            commit: status.commit.0,
            applied: self.applied().index.0,
            durable: status.durable.0,
            last: status.last.index.0,
            last_term: status.last.term.0,
            membership_index: status.membership_index.0,
            membership_settled: status.membership_settled,
            members: Arc::clone(&self.members),
            peers: self.peers(&status),
        }
    }
}
