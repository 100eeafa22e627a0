//! What a leader does about membership calls: etcd's rules, compare-and-set, the steps of a
//! change, the transfer of leadership, and whether a member may stop.
//!
//! Checks come first and change nothing; then one proposal. Must not know: who asked, how answers
//! travel.

use super::core::Core;
use super::input::AdminReply;
use super::members::RunningTransfer;
use super::types::{AdminError, CanStop};
use crate::kv::{self, Command, Member, MemberOp, Op, RequestId};
use crate::transport::{Call, CallRefusal};
use quorate_raft::{
    Change, ChangeError, InvalidChange, LogIndex, MemberId, PeerStatus, TransferError,
};
use std::sync::Arc;

/// A connection younger than this does not count in etcd's rules.
const CONNECTION_AGE_MS_MIN: u64 = 5000;

/// What a change waits for.
pub(super) enum Step {
    /// A voter on its way out becomes a learner first (C6).
    Demote,
    /// The last entry of the change.
    Finish,
    /// A plain command of ours.
    Command(u64),
}

/// A refusal, or "not now, try again with the next turn".
pub(super) enum Held {
    Refused(CallRefusal),
    Later,
}

enum Strict {
    Add { learner: bool },
    RemoveVoter(u64),
    Promote,
}

impl Core {
    /// Begins a change; `None`: it is in force already.
    pub(super) fn start(&mut self, request: &Call) -> Result<Option<Step>, Held> {
        // Whatever earlier leaders have left must be applied, or the checks would be blind to it.
        if self.applied_term != self.raft.term() {
            return Err(Held::Later);
        }
        if self.is_in_force(request) {
            return Ok(None);
        }
        match request {
            Call::Add {
                id,
                peer_urls,
                learner,
                expected,
            } => {
                let member = Member {
                    id: *id,
                    peer_urls: peer_urls.clone(),
                    learner: *learner,
                    ..Member::default()
                };
                self.start_add(member, *expected).map(Some)
            }
            Call::Promote { id, expected } => self.start_promote(*id, *expected).map(Some),
            Call::Remove { id, expected } => self.start_remove(*id, *expected).map(Some),
            Call::Update { id, peer_urls } => {
                let op = MemberOp::Update {
                    id: *id,
                    peer_urls: peer_urls.clone(),
                };
                self.check_members(&op)?;
                Ok(Some(Step::Command(self.propose_member_op(op))))
            }
        }
    }

    fn start_add(&mut self, member: Member, expected: Option<u64>) -> Result<Step, Held> {
        let (id, learner) = (MemberId(member.id), member.learner);
        let op = MemberOp::Add(member);
        self.check_expected(expected)?;
        // In etcd's order: the health of the cluster comes first, because the rest is decided by
        // what is applied.
        self.check_strict(expected, Strict::Add { learner })?;
        self.check_members(&op)?;
        let learners = self.members.iter().filter(|member| member.learner).count();
        if learner && learners >= self.config.max_learners {
            return Err(Held::Refused(CallRefusal::TooManyLearners));
        }
        let change = if learner {
            Change::AddLearner(id)
        } else {
            Change::AddVoter(id)
        };
        self.propose_change(change, expected, Some(op))
            .map(|()| Step::Finish)
    }

    fn start_promote(&mut self, id: u64, expected: Option<u64>) -> Result<Step, Held> {
        let op = MemberOp::Promote { id };
        self.check_expected(expected)?;
        if !self.store().reader().members().members.contains_key(&id) {
            return Err(Held::Refused(CallRefusal::MemberNotFound));
        }
        // In etcd's order: whether the member keeps up comes before whether it is a learner. In a
        // short log nobody is far behind: a learner that was never there is told from one that has
        // everything by its first acknowledgement.
        let status = self.raft.status();
        let there = |peer: &PeerStatus| peer.id.0 == id && peer.matched > LogIndex(0);
        if id != self.id() && !status.peers.iter().any(there) {
            return Err(Held::Refused(CallRefusal::LearnerNotReady));
        }
        self.check_strict(expected, Strict::Promote)?;
        self.check_members(&op)?;
        let change = Change::AddVoter(MemberId(id));
        self.propose_change(change, expected, Some(op))
            .map(|()| Step::Finish)
    }

    fn start_remove(&mut self, id: u64, expected: Option<u64>) -> Result<Step, Held> {
        let op = MemberOp::Remove { id };
        self.check_expected(expected)?;
        self.check_members(&op)?;
        let voter = self.raft.membership().voters.contains(&MemberId(id));
        if voter {
            self.check_strict(expected, Strict::RemoveVoter(id))?;
        }
        if voter && id != self.id() {
            let change = Change::AddLearner(MemberId(id));
            return self
                .propose_change(change, expected, None)
                .map(|()| Step::Demote);
        }
        // A leader goes in one step: demoted, it would no longer lead to finish the second.
        let change = Change::Remove(MemberId(id));
        self.propose_change(change, expected, Some(op))
            .map(|()| Step::Finish)
    }

    /// What the state machine would say.
    fn check_members(&self, op: &MemberOp) -> Result<(), Held> {
        let members = self.store().reader().members();
        members
            .check(op)
            .map_err(|error| Held::Refused(refusal(&error)))
    }

    /// The second step of a removal: the learner goes, and its ID with it.
    pub(super) fn remove_learner(&mut self, request: &Call) -> Result<Step, Held> {
        let Call::Remove { id, .. } = request else {
            return Ok(Step::Finish);
        };
        let op = MemberOp::Remove { id: *id };
        self.propose_change(Change::Remove(MemberId(*id)), None, Some(op))
            .map(|()| Step::Finish)
    }

    fn propose_change(
        &mut self,
        change: Change,
        expected: Option<u64>,
        op: Option<MemberOp>,
    ) -> Result<(), Held> {
        let context = match op {
            None => Arc::default(),
            Some(op) => {
                let request = RequestId {
                    member: self.config.boot_nonce,
                    counter: 0,
                };
                Command {
                    request,
                    op: Op::Member(op),
                }
                .encode()
            }
        };
        let expected = expected.map_or(self.raft.status().membership_index, LogIndex);
        match self
            .raft
            .propose_membership(&[change], expected, context, &mut self.out)
        {
            Ok(_) => Ok(()),
            Err(error) => Err(held(error)),
        }
    }

    /// Proposes a plain command about members; returns our counter of it.
    fn propose_member_op(&mut self, op: MemberOp) -> u64 {
        let counter = self.next_own_counter();
        let request = RequestId {
            member: self.config.boot_nonce,
            counter,
        };
        let command = Command {
            request,
            op: Op::Member(op),
        }
        .encode();
        self.proposals.add(
            counter,
            command,
            super::pending::Waiter::Nobody,
            self.now_ms,
        );
        counter
    }

    fn check_expected(&self, expected: Option<u64>) -> Result<(), Held> {
        let current = self.raft.status().membership_index.0;
        match expected {
            Some(expected) if expected != current => {
                Err(Held::Refused(CallRefusal::ConfigChanged(current)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a compare-and-set call asks for what is there already.
    fn is_in_force(&self, request: &Call) -> bool {
        let members = self.store().reader().members();
        match request {
            Call::Add {
                id,
                peer_urls,
                expected: Some(_),
                ..
            } => members
                .members
                .get(id)
                .is_some_and(|member| member.peer_urls == *peer_urls),
            Call::Promote {
                id,
                expected: Some(_),
            } => members
                .members
                .get(id)
                .is_some_and(|member| !member.learner),
            Call::Remove {
                id,
                expected: Some(_),
            } => members.removed.contains(id),
            Call::Add { .. } | Call::Promote { .. } | Call::Remove { .. } | Call::Update { .. } => {
                false
            }
        }
    }

    /// etcd's strict reconfiguration check. Compare-and-set callers bring their own gates, and the
    /// core refuses what would cost the quorum in any case.
    fn check_strict(&self, expected: Option<u64>, change: Strict) -> Result<(), Held> {
        if expected.is_some() || !self.config.strict_reconfig_check {
            return Ok(());
        }
        let members = self.store().reader().members();
        let voters: Vec<&Member> = members
            .members
            .values()
            .filter(|member| !member.learner)
            .collect();
        let started = voters
            .iter()
            .filter(|member| !member.name.is_empty())
            .count();
        let connected = voters
            .iter()
            .filter(|member| self.is_connected(member.id))
            .count();
        let quorum = |voters: usize| voters / 2 + 1;
        let few_started = match change {
            Strict::Add { learner: true } => false,
            Strict::Add { learner: false } => {
                started < quorum(voters.len() + 1) && !(started == 1 && voters.len() == 1)
            }
            Strict::RemoveVoter(id) => {
                let others = voters.iter().filter(|member| member.id != id);
                let started = others.filter(|member| !member.name.is_empty()).count();
                started < quorum(voters.len() - 1)
            }
            Strict::Promote => started + 1 < quorum(voters.len() + 1),
        };
        if few_started {
            return Err(Held::Refused(CallRefusal::NotEnoughStarted));
        }
        let unhealthy = match change {
            Strict::Add { .. } => voters.len() > 1 && connected < quorum(voters.len() + 1),
            // Who is not connected at all is no part of the quorum that answers. A connection too
            // young to count is one: that member may be the one the others need.
            Strict::RemoveVoter(id) => {
                (id == self.id() || self.connected.contains_key(&id))
                    && connected.saturating_sub(1) < 1 + (voters.len() - 1) / 2
            }
            Strict::Promote => false,
        };
        if unhealthy {
            Err(Held::Refused(CallRefusal::Unhealthy))
        } else {
            Ok(())
        }
    }

    /// Connected for long enough to count in etcd's rules; we always are to ourselves.
    fn is_connected(&self, id: u64) -> bool {
        let old_enough = |since: &u64| since + CONNECTION_AGE_MS_MIN <= self.now_ms;
        id == self.id() || self.connected.get(&id).is_some_and(old_enough)
    }

    pub(super) fn transfer(&mut self, to: Option<u64>, reply: AdminReply<u64>) {
        let answer = |reply: AdminReply<u64>, result| {
            let _ = reply.send(result);
        };
        if !self.leads() {
            return answer(reply, Err(AdminError::NotLeader));
        }
        if self.calls.transfer.is_some() {
            return answer(reply, Err(AdminError::ChangePending));
        }
        let Some(to) = to.map(MemberId).or_else(|| self.best_successor()) else {
            return answer(reply, Err(AdminError::BadTransferee));
        };
        match self.raft.transfer_leadership(to, &mut self.out) {
            Ok(()) => {
                let since_ms = self.now_ms;
                self.calls.transfer = Some(RunningTransfer {
                    to,
                    reply,
                    since_ms,
                });
            }
            Err(TransferError::AlreadyLeader) => answer(reply, Ok(to.0)),
            Err(TransferError::NotLeader(_)) => answer(reply, Err(AdminError::NotLeader)),
            Err(TransferError::NotVoter(_)) => answer(reply, Err(AdminError::BadTransferee)),
            Err(TransferError::Running(_)) => answer(reply, Err(AdminError::ChangePending)),
        }
    }

    /// The voter that holds most and answers.
    pub(super) fn best_successor(&self) -> Option<MemberId> {
        let voters = &self.raft.membership().voters;
        let status = self.raft.status();
        let others = status.peers.iter().filter(|peer| peer.id != status.id);
        let able = others
            .filter(|peer| voters.contains(&peer.id) && self.connected.contains_key(&peer.id.0));
        able.max_by_key(|peer| (std::cmp::Reverse(peer.silent_ticks / 10), peer.matched))
            .map(|peer| peer.id)
    }

    /// Whether a quorum of voters is connected, this member counted where it is one.
    pub(super) fn reaches_quorum(&self) -> bool {
        let membership = self.raft.membership();
        let reached = |id: &&MemberId| **id == self.raft.id() || self.connected.contains_key(&id.0);
        [&membership.voters, &membership.outgoing]
            .into_iter()
            .filter(|voters| !voters.is_empty())
            .all(|voters| voters.iter().filter(reached).count() > voters.len() / 2)
    }

    pub(super) fn transfer_observed(&mut self, leader: Option<MemberId>) {
        self.calls_after_leader_change(leader);
        let Some(leader) = leader else { return };
        if let Some(transfer) = self.calls.transfer.take() {
            let arrived = transfer.to == leader;
            let _ = transfer.reply.send(if arrived {
                Ok(leader.0)
            } else {
                Err(AdminError::TransferTimeout)
            });
        }
    }

    pub(super) fn transfer_aborted(&mut self) {
        if let Some(transfer) = self.calls.transfer.take() {
            let _ = transfer.reply.send(Err(AdminError::TransferTimeout));
        }
    }

    /// Whether the voters that answer and hold what is committed are a quorum without `id`.
    pub(super) fn can_stop(&self, id: u64) -> Result<CanStop, AdminError> {
        if !self.leads() {
            return Err(AdminError::NotLeader);
        }
        let status = self.raft.status();
        let voters = &self.raft.membership().voters;
        if !voters.contains(&MemberId(id)) {
            return Ok(CanStop {
                allowed: true,
                reason: String::new(),
            });
        }
        let silent_ms_max = 2 * self.config.election_ms;
        let healthy = |voter: &&MemberId| {
            **voter == status.id
                || status.peers.iter().any(|peer| {
                    peer.id == **voter
                        && u64::from(peer.silent_ticks) * self.config.tick_ms <= silent_ms_max
                        && peer.matched.0 + super::PROMOTE_LAG_MAX >= status.commit.0
                })
        };
        let answering: Vec<&MemberId> = voters.iter().filter(healthy).collect();
        let left = answering.iter().filter(|voter| voter.0 != id).count();
        let needed = voters.len() / 2 + 1;
        // With one or two voters no member can ever be spared: then all must be there to come back
        // to.
        let small = voters.len() <= 2 && answering.len() == voters.len();
        if left >= needed || small {
            return Ok(CanStop {
                allowed: true,
                reason: String::new(),
            });
        }
        let reason = format!(
            "without member {id:x}, {left} of {} voters would be healthy and {needed} are needed",
            voters.len()
        );
        Ok(CanStop {
            allowed: false,
            reason,
        })
    }
}

pub(super) fn refusal(error: &kv::Error) -> CallRefusal {
    match error {
        kv::Error::MemberIdExists => CallRefusal::MemberIdExists,
        kv::Error::MemberIdRemoved => CallRefusal::MemberIdRemoved,
        kv::Error::PeerUrlExists => CallRefusal::PeerUrlExists,
        kv::Error::MemberNotFound => CallRefusal::MemberNotFound,
        kv::Error::NotLearner => CallRefusal::NotLearner,
        _ => CallRefusal::Invalid,
    }
}

fn held(error: ChangeError) -> Held {
    Held::Refused(match error {
        ChangeError::NotLeader(_) => CallRefusal::NotLeader,
        ChangeError::Transferring(_) | ChangeError::Pending | ChangeError::TermNotCommitted => {
            return Held::Later;
        }
        ChangeError::StaleIndex { current } => CallRefusal::ConfigChanged(current.0),
        ChangeError::LearnerBehind { .. } => CallRefusal::LearnerNotReady,
        ChangeError::QuorumAtRisk { .. } => CallRefusal::Unhealthy,
        ChangeError::Invalid(InvalidChange::UnknownMember(_)) => CallRefusal::MemberNotFound,
        ChangeError::Invalid(InvalidChange::AlreadyVoter(_)) => CallRefusal::NotLearner,
        ChangeError::Invalid(InvalidChange::AlreadyLearner(_)) => CallRefusal::MemberIdExists,
        ChangeError::Invalid(
            InvalidChange::Nothing
            | InvalidChange::NoVoters
            | InvalidChange::NamedTwice(_)
            | InvalidChange::ZeroId,
        ) => CallRefusal::Invalid,
    })
}
