//! Membership changes, leadership transfer and the question whether a member may stop.
//!
//! A call is taken on any member, carried out on the leader one at a time, and answered when its
//! effect is applied on the member that took it. With `expected` it is compare-and-set and
//! idempotent: what is in force already counts as done, so it may be repeated after any failure.
//! Without, it follows etcd's rules (2.6.1). Must not know: HTTP, sockets, files.

use super::changes::{Held, Step, refusal};
use super::core::Core;
use super::input::{AdminCall, AdminReply};
use super::types::{AdminError, MembershipView, RequestError};
use crate::kv::Applied;
use crate::transport::{Call, CallRefusal, PeerMessage, authority};
use quorate_raft::{LogIndex, MemberId, Term};
use std::collections::{BTreeMap, VecDeque};

/// Calls that wait, on the member that took them and again on the leader.
const CALLS_MAX: usize = 256;
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

struct Active {
    origin: Origin,
    request: Call,
    step: Step,
}

pub(super) struct RunningTransfer {
    pub(super) to: MemberId,
    pub(super) reply: AdminReply<u64>,
    pub(super) since_ms: u64,
}

/// Calls under way.
pub(super) struct Calls {
    next: u64,
    local: BTreeMap<u64, LocalCall>,
    queue: VecDeque<Requested>,
    active: Option<Active>,
    pub(super) transfer: Option<RunningTransfer>,
}

impl Calls {
    /// Names calls from `first` on.
    pub(super) const fn new(first: u64) -> Self {
        Self {
            next: first,
            local: BTreeMap::new(),
            queue: VecDeque::new(),
            active: None,
            transfer: None,
        }
    }
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
            AdminCall::Bootstrap { .. }
            | AdminCall::Join { .. }
            | AdminCall::Recover { .. }
            | AdminCall::Membership { .. } => {
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
        // The member that took the call has checked it; the log must not depend on that.
        if let Call::Add { peer_urls, .. } = &request
            && check_urls(peer_urls).is_err()
        {
            return self.finish(origin, Err(CallRefusal::Invalid));
        }
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
                Err(Held::Refused(why)) => {
                    self.count_refused(&requested.request, why);
                    self.finish(requested.origin, Err(why));
                }
                Err(Held::Later) => {
                    let patience_ms = PENDING_ELECTIONS * self.config.election_ms;
                    if requested.since_ms + patience_ms > self.now_ms {
                        self.calls.queue.push_front(requested);
                        break;
                    }
                    self.count_refused(&requested.request, CallRefusal::Pending);
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
                let promotes = matches!(active.request, Call::Promote { .. });
                self.counts.promoted += u64::from(promotes);
                self.finish(active.origin, Ok(status.membership_index));
            }
        }
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

    /// For the metrics: only promotions are counted.
    fn count_refused(&mut self, request: &Call, why: CallRefusal) {
        if matches!(request, Call::Promote { .. }) {
            self.counts.promotes_refused.push(why.name());
        }
    }

    fn finish(&mut self, origin: Origin, outcome: Result<LogIndex, CallRefusal>) {
        match origin {
            Origin::Local(call) => self.call_answered(call, outcome),
            Origin::Remote { from, call } => {
                self.send(from, PeerMessage::CallReply { call, outcome });
            }
        }
    }

    /// A peer answers a call of this node: to be believed from whom it was sent to. What an earlier
    /// leader says about a call that another one has taken meanwhile is no answer (G16).
    pub(super) fn call_reply(
        &mut self,
        from: u64,
        call: u64,
        outcome: Result<LogIndex, CallRefusal>,
    ) {
        let state = self.calls.local.get(&call).map(|local| &local.state);
        if matches!(state, Some(LocalState::Sent { leader, .. }) if leader.0 == from) {
            self.call_answered(call, outcome);
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
    pub(super) fn calls_after_leader_change(&mut self, leader: Option<MemberId>) {
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
        // A command that has expired, or was never proposed, holds nobody up. Who waits for it
        // hears of a timeout.
        if let Some(Active {
            step: Step::Command(own),
            ..
        }) = &self.calls.active
            && !self.proposals.contains(*own)
        {
            self.calls.active = None;
        }
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
        CallRefusal::MemberIdRemoved => AdminError::MemberIdRemoved,
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
