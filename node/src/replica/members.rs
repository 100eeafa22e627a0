//! Membership changes, leadership transfer and the question whether a member may stop.
//!
//! A call is taken on any member, carried out on the leader one at a time, and answered when its
//! effect is applied on the member that took it. With `expected` it is compare-and-set and
//! idempotent: what is in force already counts as done, so it may be repeated after any failure.
//! Without, it follows etcd's rules (2.6.1). Must not know: HTTP, sockets, files.

use super::core::Core;
use super::input::{AdminCall, AdminReply};
use super::types::{AdminError, CanStop, MembershipView, RequestError};
use crate::kv::{self, Applied, Command, Member, MemberOp, Op, RequestId};
use crate::transport::{Call, CallRefusal, PeerMessage, authority};
use quorate_raft::{Change, ChangeError, InvalidChange, LogIndex, MemberId, Term, TransferError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Calls that wait, on the member that took them and again on the leader.
const CALLS_MAX: usize = 256;
/// A connection younger than this does not count in etcd's rules.
const CONNECTION_AGE_MS_MIN: u64 = 5000;
/// Election timeouts that a change waits for an earlier one, or for a young leader.
const PENDING_ELECTIONS: u64 = 2;

enum LocalState {
    Unsent,
    Sent { leader: MemberId, term: Term },
    InForce(LogIndex),
}

/// A call that this node took.
struct LocalCall {
    request: Call,
    reply: AdminReply<MembershipView>,
    since_ms: u64,
    state: LocalState,
}

#[derive(Clone, Copy)]
enum Origin {
    Local(u64),
    Remote { from: u64, call: u64 },
}

struct Requested {
    origin: Origin,
    request: Call,
    since_ms: u64,
}

enum Step {
    /// A voter on its way out becomes a learner first (C6).
    Demote,
    /// The last entry of the change.
    Finish,
    /// A plain command of ours.
    Command(u64),
}

struct Active {
    origin: Origin,
    request: Call,
    step: Step,
}

struct RunningTransfer {
    to: MemberId,
    reply: AdminReply<u64>,
    since_ms: u64,
}

/// Calls under way.
#[derive(Default)]
pub(super) struct Calls {
    next: u64,
    local: BTreeMap<u64, LocalCall>,
    queue: VecDeque<Requested>,
    active: Option<Active>,
    transfer: Option<RunningTransfer>,
}

/// A refusal, or "not now, try again with the next turn".
enum Held {
    Refused(CallRefusal),
    Later,
}

impl Core {
    /// Takes a call of this node.
    pub(super) fn membership_call(&mut self, call: AdminCall) {
        let (request, reply) = match call {
            AdminCall::MemberAdd { id, add, reply } => {
                if let Err(error) = check_urls(&add.peer_urls) {
                    let _ = reply.send(Err(error));
                    return;
                }
                let (peer_urls, learner, expected) = (add.peer_urls, add.learner, add.expected);
                (
                    Call::Add {
                        id,
                        peer_urls,
                        learner,
                        expected,
                    },
                    reply,
                )
            }
            AdminCall::MemberPromote {
                id,
                expected,
                reply,
            } => (Call::Promote { id, expected }, reply),
            AdminCall::MemberRemove {
                id,
                expected,
                reply,
            } => (Call::Remove { id, expected }, reply),
            AdminCall::MemberUpdate {
                id,
                peer_urls,
                reply,
            } => (Call::Update { id, peer_urls }, reply),
            AdminCall::TransferLeader { to, reply } => return self.transfer(to, reply),
            AdminCall::CanStop { id, reply } => {
                let _ = reply.send(self.can_stop(id));
                return;
            }
            // Answered by the caller of this function.
            AdminCall::Bootstrap { .. } | AdminCall::Join { .. } | AdminCall::Membership { .. } => {
                return;
            }
        };
        if self.calls.local.len() >= CALLS_MAX {
            let _ = reply.send(Err(RequestError::TooManyRequests.into()));
            return;
        }
        self.calls.next += 1;
        let since_ms = self.now_ms;
        let call = LocalCall {
            request,
            reply,
            since_ms,
            state: LocalState::Unsent,
        };
        self.calls.local.insert(self.calls.next, call);
    }

    /// Takes a call that a follower has handed to us.
    pub(super) fn remote_call(&mut self, from: u64, call: u64, request: Call) {
        let origin = Origin::Remote { from, call };
        if !self.leads() || self.calls.queue.len() >= CALLS_MAX {
            return self.finish(origin, Err(CallRefusal::NotLeader));
        }
        self.calls.queue.push_back(Requested {
            origin,
            request,
            since_ms: self.now_ms,
        });
    }

    /// Moves every call on as far as it goes now.
    pub(super) fn advance_calls(&mut self) {
        if self.calls.local.is_empty() && self.calls.queue.is_empty() && self.calls.active.is_none()
        {
            return;
        }
        self.send_local_calls();
        self.advance_active();
        while self.calls.active.is_none()
            && self.leads()
            && let Some(requested) = self.calls.queue.pop_front()
        {
            match self.start(&requested.request) {
                Ok(Some(step)) => {
                    let Requested {
                        origin, request, ..
                    } = requested;
                    self.calls.active = Some(Active {
                        origin,
                        request,
                        step,
                    });
                }
                Ok(None) => {
                    let index = self.raft.status().membership_index;
                    self.finish(requested.origin, Ok(index));
                }
                Err(Held::Refused(why)) => self.finish(requested.origin, Err(why)),
                Err(Held::Later) => {
                    let patience_ms = PENDING_ELECTIONS * self.config.election_ms;
                    if requested.since_ms + patience_ms > self.now_ms {
                        self.calls.queue.push_front(requested);
                        break;
                    }
                    self.finish(requested.origin, Err(CallRefusal::Pending));
                }
            }
        }
        self.answer_in_force();
    }

    fn send_local_calls(&mut self) {
        let (leads, term) = (self.leads(), self.raft.term());
        let Some(leader) = self.raft.leader() else {
            return;
        };
        if !leads && !self.connected.contains_key(&leader.0) {
            return;
        }
        let mut messages = Vec::new();
        for (&call, local) in &mut self.calls.local {
            if !matches!(local.state, LocalState::Unsent) {
                continue;
            }
            local.state = LocalState::Sent { leader, term };
            let request = local.request.clone();
            if leads {
                let (origin, since_ms) = (Origin::Local(call), self.now_ms);
                self.calls.queue.push_back(Requested {
                    origin,
                    request,
                    since_ms,
                });
            } else {
                messages.push(PeerMessage::Call { call, request });
            }
        }
        for message in messages {
            self.send(leader.0, message);
        }
    }

    fn advance_active(&mut self) {
        let Some(active) = &self.calls.active else {
            return;
        };
        let status = self.raft.status();
        let applied = self.applied().index >= status.membership_index;
        if matches!(active.step, Step::Command(_)) || !status.membership_settled || !applied {
            return;
        }
        let Some(active) = self.calls.active.take() else {
            return;
        };
        match active.step {
            Step::Demote => match self.remove_learner(&active.request) {
                Ok(step) => self.calls.active = Some(Active { step, ..active }),
                Err(Held::Later) => self.calls.active = Some(active),
                Err(Held::Refused(why)) => self.finish(active.origin, Err(why)),
            },
            Step::Finish | Step::Command(_) => {
                self.finish(active.origin, Ok(status.membership_index));
            }
        }
    }

    /// Begins a change; `None`: it is in force already.
    fn start(&mut self, request: &Call) -> Result<Option<Step>, Held> {
        // Whatever earlier leaders have left must be applied, or the checks would be blind to it.
        if self.applied_term != self.raft.term() {
            return Err(Held::Later);
        }
        if self.is_in_force(request) {
            return Ok(None);
        }
        let members = self.store().reader().members();
        let refused = |error: kv::Error| Held::Refused(refusal(&error));
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
                let op = MemberOp::Add(member);
                self.check_expected(*expected)?;
                members.check(&op).map_err(refused)?;
                let learners = members
                    .members
                    .values()
                    .filter(|member| member.learner)
                    .count();
                if *learner && learners >= self.config.max_learners {
                    return Err(Held::Refused(CallRefusal::TooManyLearners));
                }
                self.check_strict(*expected, Strict::Add { learner: *learner })?;
                let id = MemberId(*id);
                let change = if *learner {
                    Change::AddLearner(id)
                } else {
                    Change::AddVoter(id)
                };
                self.propose_change(change, *expected, Some(op))
                    .map(|()| Some(Step::Finish))
            }
            Call::Promote { id, expected } => {
                self.check_expected(*expected)?;
                let op = MemberOp::Promote { id: *id };
                members.check(&op).map_err(refused)?;
                self.check_strict(*expected, Strict::Promote)?;
                // In a short log nobody is far behind: a learner that was never there is told from
                // one that has everything by its first acknowledgement.
                let status = self.raft.status();
                let there = |peer: &quorate_raft::PeerStatus| {
                    peer.id.0 == *id && peer.matched > LogIndex(0)
                };
                if !status.peers.iter().any(there) {
                    return Err(Held::Refused(CallRefusal::LearnerNotReady));
                }
                let change = Change::AddVoter(MemberId(*id));
                self.propose_change(change, *expected, Some(op))
                    .map(|()| Some(Step::Finish))
            }
            Call::Remove { id, expected } => {
                self.check_expected(*expected)?;
                members
                    .check(&MemberOp::Remove { id: *id })
                    .map_err(refused)?;
                let voter = self.raft.membership().voters.contains(&MemberId(*id));
                if voter {
                    self.check_strict(*expected, Strict::RemoveVoter(*id))?;
                }
                if voter && *id != self.id() {
                    let change = Change::AddLearner(MemberId(*id));
                    return self
                        .propose_change(change, *expected, None)
                        .map(|()| Some(Step::Demote));
                }
                // A leader goes in one step: demoted, it would no longer lead to finish the second.
                let op = MemberOp::Remove { id: *id };
                let change = Change::Remove(MemberId(*id));
                self.propose_change(change, *expected, Some(op))
                    .map(|()| Some(Step::Finish))
            }
            Call::Update { id, peer_urls } => {
                let op = MemberOp::Update {
                    id: *id,
                    peer_urls: peer_urls.clone(),
                };
                members.check(&op).map_err(refused)?;
                Ok(Some(Step::Command(self.propose_member_op(op))))
            }
        }
    }

    /// The second step of a removal: the learner goes, and its ID with it.
    fn remove_learner(&mut self, request: &Call) -> Result<Step, Held> {
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

    /// One of our own commands was applied.
    pub(super) fn own_command_applied(&mut self, counter: u64, applied: &Applied) {
        let ours = matches!(
            &self.calls.active,
            Some(Active { step: Step::Command(own), .. }) if *own == counter
        );
        if ours && let Some(active) = self.calls.active.take() {
            let outcome = match &applied.result {
                Ok(_) => Ok(self.applied().index),
                Err(error) => Err(refusal(error)),
            };
            self.finish(active.origin, outcome);
        }
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
            Strict::RemoveVoter(id) => {
                self.is_connected(id) && connected - 1 < 1 + (voters.len() - 1) / 2
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

    fn finish(&mut self, origin: Origin, outcome: Result<LogIndex, CallRefusal>) {
        match origin {
            Origin::Local(call) => self.call_answered(call, outcome),
            Origin::Remote { from, call } => {
                self.send(from, PeerMessage::CallReply { call, outcome });
            }
        }
    }

    /// The leader has answered a call of this node.
    pub(super) fn call_answered(&mut self, call: u64, outcome: Result<LogIndex, CallRefusal>) {
        let Some(local) = self.calls.local.get_mut(&call) else {
            return;
        };
        match outcome {
            Ok(index) => local.state = LocalState::InForce(index),
            // A definite "no": it goes to whoever leads next.
            Err(CallRefusal::NotLeader) => local.state = LocalState::Unsent,
            Err(why) => {
                let expected = expected(&local.request);
                self.end_call(call, Err(admin_error(why, expected)));
            }
        }
    }

    /// Answers calls whose effect is applied here.
    fn answer_in_force(&mut self) {
        let applied = self.applied().index;
        let done = |local: &LocalCall| matches!(local.state, LocalState::InForce(index) if index <= applied);
        let done: Vec<u64> = self
            .calls
            .local
            .iter()
            .filter(|(_, local)| done(local))
            .map(|(call, _)| *call)
            .collect();
        for call in done {
            let view = self.view();
            self.end_call(call, Ok(view));
        }
    }

    fn end_call(&mut self, call: u64, result: Result<MembershipView, AdminError>) {
        if let Some(local) = self.calls.local.remove(&call) {
            // A caller that has gone away is no error.
            let _ = local.reply.send(result);
        }
    }

    /// We lead no more: what was not begun is refused, what was begun is unknown.
    pub(super) fn refuse_calls_of_lost_leadership(&mut self) {
        for requested in std::mem::take(&mut self.calls.queue) {
            self.finish(requested.origin, Err(CallRefusal::NotLeader));
        }
        if let Some(Active {
            step: Step::Command(counter),
            ..
        }) = self.calls.active.take()
        {
            self.proposals
                .answer(counter, Err(RequestError::LeaderChanged));
        }
    }

    /// The leader is another one: calls sent to the old one have an unknown outcome. Those with
    /// compare-and-set are repeated, which is harmless; others end.
    fn calls_after_leader_change(&mut self, leader: Option<MemberId>) {
        let term = self.raft.term();
        let mut unknown = Vec::new();
        for (&call, local) in &mut self.calls.local {
            let LocalState::Sent {
                leader: asked,
                term: then,
            } = local.state
            else {
                continue;
            };
            if Some(asked) == leader && then == term {
                continue;
            }
            if expected(&local.request).is_some() {
                local.state = LocalState::Unsent;
            } else {
                unknown.push(call);
            }
        }
        for call in unknown {
            self.end_call(call, Err(RequestError::LeaderChanged.into()));
        }
    }

    pub(super) fn expire_calls(&mut self, ms_max: u64) {
        let now_ms = self.now_ms;
        let late = |local: &LocalCall| local.since_ms + ms_max <= now_ms;
        let late: Vec<u64> = self
            .calls
            .local
            .iter()
            .filter(|(_, local)| late(local))
            .map(|(call, _)| *call)
            .collect();
        for call in late {
            let unsent = matches!(
                self.calls.local.get(&call),
                Some(LocalCall {
                    state: LocalState::Unsent,
                    ..
                })
            );
            let error = if unsent {
                RequestError::NoLeader
            } else {
                RequestError::Timeout
            };
            self.end_call(call, Err(error.into()));
        }
        let late = |transfer: &mut RunningTransfer| transfer.since_ms + ms_max <= now_ms;
        if let Some(transfer) = self.calls.transfer.take_if(late) {
            let _ = transfer.reply.send(Err(AdminError::TransferTimeout));
        }
    }

    pub(super) fn fail_calls(&mut self, error: &RequestError) {
        let all: Vec<u64> = self.calls.local.keys().copied().collect();
        for call in all {
            self.end_call(call, Err(error.clone().into()));
        }
        if let Some(transfer) = self.calls.transfer.take() {
            let _ = transfer.reply.send(Err(error.clone().into()));
        }
    }

    fn transfer(&mut self, to: Option<u64>, reply: AdminReply<u64>) {
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
    fn can_stop(&self, id: u64) -> Result<CanStop, AdminError> {
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

enum Strict {
    Add { learner: bool },
    RemoveVoter(u64),
    Promote,
}

const fn expected(request: &Call) -> Option<u64> {
    match request {
        Call::Add { expected, .. }
        | Call::Promote { expected, .. }
        | Call::Remove { expected, .. } => *expected,
        Call::Update { .. } => None,
    }
}

fn check_urls(urls: &[String]) -> Result<(), AdminError> {
    let invalid = |url: &str| AdminError::InvalidPeerUrls {
        url: url.to_owned(),
    };
    if urls.is_empty() {
        return Err(invalid(""));
    }
    match urls.iter().find(|url| authority(url).is_err()) {
        Some(url) => Err(invalid(url)),
        None => Ok(()),
    }
}

fn refusal(error: &kv::Error) -> CallRefusal {
    match error {
        kv::Error::MemberIdExists => CallRefusal::MemberIdExists,
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

fn admin_error(refusal: CallRefusal, expected: Option<u64>) -> AdminError {
    match refusal {
        CallRefusal::NotLeader => AdminError::NotLeader,
        CallRefusal::ConfigChanged(current) => AdminError::ConfigChanged {
            expected: expected.unwrap_or(0),
            current,
        },
        CallRefusal::Pending => AdminError::ChangePending,
        CallRefusal::MemberNotFound => AdminError::MemberNotFound,
        CallRefusal::MemberIdExists => AdminError::MemberIdExists,
        CallRefusal::PeerUrlExists => AdminError::PeerUrlExists,
        CallRefusal::NotLearner => AdminError::NotLearner,
        CallRefusal::LearnerNotReady => AdminError::LearnerNotReady,
        CallRefusal::TooManyLearners => AdminError::TooManyLearners,
        CallRefusal::NotEnoughStarted => AdminError::NotEnoughStarted,
        CallRefusal::Unhealthy => AdminError::Unhealthy,
        CallRefusal::Invalid => AdminError::Invalid(
            "the change would leave no voter, or names a member in an impossible way; \
             read the membership and decide anew"
                .to_owned(),
        ),
    }
}
