//! The replica without threads: inputs in, effects out.
//!
//! Whoever drives it (the threads of `shell`, or the simulator) hands in inputs and ticks, ends a
//! turn, and carries out the effects. The order of effects is that of `Output`: what is to be
//! persisted first, then messages, then applying. Must not know: threads, sockets, files, clocks.

mod forward;
mod views;

use super::backlog::Backlog;
use super::ids;
use super::input::{AdminCall, Input};
use super::members::Calls;
use super::pending::{PROPOSALS_MAX, Proposals, READS_MAX, Reads, Waiter};
use super::repair::Repairing;
use super::types::{AdminError, RequestError};
use crate::kv::{self, Command, Member, MemberOp, Op, RequestId};
use crate::transport::{ForwardRefusal, HelloRefusal, PeerMessage};
use forward::Forwarded;
use quorate_raft::{
    EntryId, Envelope, LogIndex, MemberId, Message, Node, Output, Persist, PersistId, ReadError,
    RoleKind, SnapshotWanted, Term,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A request waits this long, plus two election timeouts, as in etcd.
const REQUEST_MS_MAX: u64 = 5000;
/// Election timeouts a request waits for somebody to lead: long enough for an ordinary election.
const LEADERLESS_ELECTIONS: u64 = 3;

/// What does not change while the member runs.
pub(super) struct CoreConfig {
    pub(super) boot_nonce: u64,
    pub(super) cluster_uuid: [u8; 16],
    pub(super) cluster_id: u64,
    pub(super) directory_id: [u8; 16],
    pub(super) incarnation: u64,
    pub(super) epoch: u64,
    /// Name and client URLs to publish.
    pub(super) name: String,
    pub(super) client_urls: Vec<String>,
    pub(super) election_ms: u64,
    pub(super) tick_ms: u64,
    /// Applied entries kept in memory for followers that lag, and their bytes.
    pub(super) catchup_entries: usize,
    pub(super) catchup_bytes_max: usize,
    pub(super) max_learners: usize,
    pub(super) strict_reconfig_check: bool,
}

/// What a turn asks of the driver, in the order in which it may be carried out.
#[derive(Default)]
pub(super) struct Effects {
    /// To make durable; report by [`Core::persisted`].
    pub(super) persist: Vec<Persist>,
    /// To send; nothing here waits for `persist`.
    pub(super) send: Vec<(u64, PeerMessage)>,
    /// Peers that need a snapshot.
    pub(super) snapshots: Vec<SnapshotWanted>,
    /// The log on disk may be released up to here.
    pub(super) release: Option<LogIndex>,
    /// Members or their addresses have changed.
    pub(super) peers_changed: bool,
    /// A repair has come to its end: to be made durable, then [`Core::repair_ended`].
    pub(super) repaired: bool,
}

/// Entries applied and kept in memory, oldest first, with their sizes.
#[derive(Default)]
pub(super) struct Retained {
    pub(super) entries: VecDeque<(LogIndex, usize)>,
    pub(super) bytes: usize,
}

/// What happened since the driver last looked, for metrics.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) applied: usize,
    pub(super) proposed: usize,
    pub(super) reads: usize,
    pub(super) reads_dropped: u64,
    /// Rounds of reads that took long.
    pub(super) slow_reads: u64,
    /// Learners that became voters by a call that this member carried out as leader.
    pub(super) promoted: u64,
    /// Calls to promote that it refused as leader, by why.
    pub(super) promotes_refused: Vec<&'static str>,
    pub(super) proposals_failed: u64,
    pub(super) campaigns: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Raft messages that were dropped for want of room.
    pub(super) dropped: u64,
}

/// One member: core, state machine, and who waits for what.
pub(super) struct Core {
    pub(super) config: CoreConfig,
    pub(super) raft: Node,
    /// Absent only while a snapshot is being installed.
    pub(super) store: Option<kv::Store>,
    pub(super) out: Output,
    pub(super) effects: Effects,
    /// Committed, in order, not applied yet.
    pub(super) to_apply: Backlog,
    /// Applying waits until the state on disk has caught up.
    pub(super) apply_paused: bool,
    /// Wait until the persist they name is durable.
    pub(super) after_persist: VecDeque<(PersistId, Envelope)>,
    /// Every persist up to here is durable.
    pub(super) durable_persist: PersistId,
    pub(super) proposals: Proposals,
    pub(super) forwarded: Forwarded,
    pub(super) reads: Reads,
    pub(super) calls: Calls,
    pub(super) retained: Retained,
    pub(super) counts: Counts,
    pub(super) applied_term: Term,
    pub(super) trimmed: LogIndex,
    /// The state may be durable up to here.
    allowed: LogIndex,
    pub(super) released: LogIndex,
    pub(super) members: Arc<[Member]>,
    pub(super) connected: BTreeMap<u64, u64>,
    pub(super) now_ms: u64,
    /// When nobody was known to lead for the first time; `None` while somebody leads.
    leaderless_since_ms: Option<u64>,
    /// When the present leader was first heard of.
    leader_since_ms: u64,
    /// This member's removal has been applied, or a peer says so.
    pub(super) removed: bool,
    pub(super) stopping: bool,
    /// Counters of our own proposals, apart from those of the handle.
    next_own: u64,
    /// A proposal of our own that is under way.
    pub(super) own: Option<u64>,
    /// Set while this member fetches again what it has lost.
    pub(super) repair: Option<Repairing>,
}

/// Our own proposals count from here; those of clients never get so far.
const OWN_COUNTERS: u64 = 1 << 63;

impl Core {
    pub(super) fn new(config: CoreConfig, raft: Node, store: kv::Store) -> Self {
        let members: Arc<[Member]> = store.reader().members().list().into();
        let applied = store.applied();
        // Names of reads, calls and proposals are never used twice, in any life of this member:
        // what was said to an earlier life answers nobody.
        let first = ids::first_counter(config.incarnation);
        let reads = Reads::new(first);
        let mut core = Self {
            config,
            raft,
            store: Some(store),
            out: Output::default(),
            effects: Effects {
                peers_changed: true,
                ..Effects::default()
            },
            to_apply: Backlog::default(),
            apply_paused: false,
            after_persist: VecDeque::new(),
            durable_persist: PersistId(0),
            proposals: Proposals::default(),
            forwarded: Forwarded::default(),
            reads,
            calls: Calls::new(first),
            retained: Retained::default(),
            counts: Counts::default(),
            applied_term: applied.term,
            trimmed: LogIndex(0),
            allowed: LogIndex(0),
            released: LogIndex(0),
            members,
            connected: BTreeMap::new(),
            now_ms: 0,
            leaderless_since_ms: Some(0),
            leader_since_ms: 0,
            removed: false,
            stopping: false,
            next_own: OWN_COUNTERS | first,
            own: None,
            repair: None,
        };
        core.repair = core.raft.is_repairing().then(Repairing::default);
        // Entries that were applied in an earlier life are kept like others.
        let status = core.raft.status();
        for index in status.first.0..=status.applied.0 {
            core.retained.entries.push_back((LogIndex(index), 0));
        }
        core
    }

    pub(super) fn store(&self) -> &kv::Store {
        self.store
            .as_ref()
            .expect("absent only within the installation of a snapshot")
    }

    pub(super) fn store_mut(&mut self) -> &mut kv::Store {
        self.store
            .as_mut()
            .expect("absent only within the installation of a snapshot")
    }

    pub(super) fn applied(&self) -> EntryId {
        self.store().applied()
    }

    pub(super) fn leads(&self) -> bool {
        self.raft.role() == RoleKind::Leader
    }

    pub(super) fn id(&self) -> u64 {
        self.raft.id().0
    }

    /// Takes one input.
    pub(super) fn input(&mut self, input: Input) {
        match input {
            Input::Propose {
                counter,
                command,
                reply,
            } => {
                if self.stopping {
                    let _ = reply.send(Err(RequestError::Stopped));
                } else if self.repair.is_some() {
                    let _ = reply.send(Err(RequestError::Repairing));
                } else if self.is_overloaded() {
                    let _ = reply.send(Err(RequestError::TooManyRequests));
                } else {
                    let waiter = Waiter::Client(reply);
                    self.proposals.add(counter, command, waiter, self.now_ms);
                }
            }
            Input::Read { reply } => {
                if self.stopping {
                    let _ = reply.send(Err(RequestError::Stopped));
                } else if self.repair.is_some() {
                    let _ = reply.send(Err(RequestError::Repairing));
                } else if self.reads.len() >= READS_MAX {
                    let _ = reply.send(Err(RequestError::TooManyRequests));
                } else {
                    self.reads.add(reply, self.now_ms);
                }
            }
            Input::Admin(call) => self.admin(call),
            Input::Peer {
                from,
                messages,
                held: _held,
            } => {
                self.counts.received += messages.len() as u64;
                for message in messages {
                    self.peer_message(from, message);
                }
            }
            Input::Inadmissible {
                from,
                term,
                counters,
            } => self.refuse_forward(from, term, ForwardRefusal::Inadmissible, counters),
            Input::Persisted(up_to) => self.persisted(up_to),
            Input::PeerRefused { member, by, why } => {
                if why == HelloRefusal::Removed && member == self.id() {
                    tracing::warn!(by = %MemberId(by), "a peer says that this member was removed");
                    self.removed = true;
                }
            }
            Input::SnapshotSent { to, outcome } => {
                self.raft
                    .snapshot_sent(MemberId(to), outcome, &mut self.out);
            }
            // These are the driver's own business.
            Input::PeerConnected { .. }
            | Input::SnapshotReceived(_)
            | Input::Failed(_)
            | Input::Stop { .. } => {}
        }
    }

    fn is_overloaded(&self) -> bool {
        self.proposals.len() >= PROPOSALS_MAX
            || self.to_apply.is_long()
            || self.store().log().is_over_limit()
    }

    fn peer_message(&mut self, from: u64, message: PeerMessage) {
        match message {
            PeerMessage::Raft(envelope) => {
                if self.has_room_for(&envelope.message) {
                    self.raft.step(envelope, &mut self.out);
                } else {
                    self.counts.dropped += 1;
                }
            }
            PeerMessage::Forward { term, commands } => self.take_forward(from, term, commands),
            PeerMessage::ForwardRefused {
                term,
                why,
                counters,
            } => match why {
                // It goes again with the next turn, to whoever leads then.
                ForwardRefusal::NotLeader => self.proposals.mark_unsent(counters, term),
                ForwardRefusal::Busy => self.proposals.refuse(counters, term),
                ForwardRefusal::Inadmissible => {
                    tracing::error!(
                        leader = %MemberId(from),
                        refused = counters.len(),
                        "the leader cannot read requests of this member, and has not proposed \
                         them: one of the two runs another version or is faulty"
                    );
                    self.proposals.refuse(counters, term);
                }
            },
            PeerMessage::Call { call, request } => self.remote_call(from, call, request),
            PeerMessage::CallReply { call, outcome } => self.call_reply(from, call, outcome),
            PeerMessage::Ping { sent_ns } => self.send(from, PeerMessage::Pong { sent_ns }),
            PeerMessage::Pong { .. } => {}
        }
    }

    /// Entries that could only wait to be applied are not taken. Raft sends them again, and its
    /// heartbeats go on.
    fn has_room_for(&self, message: &Message) -> bool {
        let appends = matches!(message, Message::Append { entries, .. } if !entries.is_empty());
        !(appends && self.to_apply.is_full())
    }

    pub(super) fn send(&mut self, to: u64, message: PeerMessage) {
        self.effects.send.push((to, message));
    }

    /// The driver could not send this: the peer is not connected.
    pub(super) fn not_sent(&mut self, message: PeerMessage) {
        if let PeerMessage::Forward { term, commands } = message {
            let counters = commands.into_iter().map(|(counter, _)| counter);
            self.proposals.mark_unsent(counters, term);
        }
    }

    fn persisted(&mut self, up_to: PersistId) {
        for id in self.durable_persist.0 + 1..=up_to.0 {
            self.raft.persisted(PersistId(id), &mut self.out);
        }
        self.durable_persist = self.durable_persist.max(up_to);
        // What was applied before it was durable here waits for this, and nothing may follow it.
        if self.allowed < self.applied().index {
            self.allow_durable();
        }
    }

    /// Lets the state on disk follow the log on disk (W10).
    pub(super) fn allow_durable(&mut self) {
        self.allowed = self.raft.durable();
        self.store().log().allow_durable(self.allowed);
    }

    /// Moves the clock; [`Core::tick`] is separate, since time passes between ticks too.
    pub(super) fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// One tick of the core, and everything that time decides.
    pub(super) fn tick(&mut self) {
        self.raft.tick(&mut self.out);
        match (self.raft.leader(), self.leaderless_since_ms) {
            (None, None) => self.leaderless_since_ms = Some(self.now_ms),
            (Some(_), Some(_)) => self.leaderless_since_ms = None,
            (None, Some(_)) | (Some(_), None) => {}
        }
        let election_ms = self.config.election_ms;
        let ms_max = REQUEST_MS_MAX + 2 * election_ms;
        let leaderless = self.leaderless_since_ms.is_some();
        let unsent_ms_max = leaderless.then_some(LEADERLESS_ELECTIONS * election_ms);
        let timeout = self.timeout_error();
        let failed = self
            .proposals
            .expire(self.now_ms, ms_max, unsent_ms_max, &timeout);
        self.counts.proposals_failed += failed as u64;
        self.reads
            .expire(self.now_ms, ms_max, unsent_ms_max, &timeout);
        self.expire_calls(ms_max);
        self.propose_own();
        self.maybe_release();
    }

    /// Which of etcd's three texts a request gets that began a full deadline ago.
    fn timeout_error(&self) -> RequestError {
        let began = self
            .now_ms
            .saturating_sub(REQUEST_MS_MAX + 2 * self.config.election_ms);
        if self.leader_since_ms > began {
            return RequestError::TimeoutLeaderFailure;
        }
        if !self.reaches_quorum() {
            return RequestError::TimeoutConnectionLost;
        }
        RequestError::Timeout
    }

    pub(super) fn leader_changed(&mut self) {
        self.leader_since_ms = self.now_ms;
        self.leaderless_since_ms = self.raft.leader().is_none().then_some(self.now_ms);
    }

    /// Ends the intake of a turn: everything unsent goes to the log or to the leader, and all
    /// waiting reads become one round.
    pub(super) fn end_intake(&mut self) {
        if self.leads() {
            self.propose_forwarded();
            self.propose_unsent();
        } else {
            self.refuse_forwarded();
            self.forward_unsent();
        }
        if let Some(round) = self.reads.next_round() {
            match self.raft.read(round, &mut self.out) {
                Ok(()) => {
                    self.counts.reads += self.reads.begin(round, self.now_ms);
                }
                // They wait for a leader, or for room.
                Err(ReadError::NoLeader | ReadError::TooManyReads) => {}
            }
        }
        self.advance_calls();
    }

    /// What the node itself has to say through the log: this member's name and client URLs.
    fn propose_own(&mut self) {
        // One that has expired or was refused is tried again.
        self.own = self.own.take_if(|own| self.proposals.contains(*own));
        if self.own.is_some() || self.raft.leader().is_none() || self.stopping {
            return;
        }
        let (id, name, urls) = (self.id(), &self.config.name, &self.config.client_urls);
        match self.members.iter().find(|member| member.id == id) {
            Some(me) if me.name != *name || me.client_urls != *urls => {}
            // Under repair it is said again in any case: an entry of our own is the proof.
            Some(_) | None if self.wants_proof() => {}
            Some(_) | None => return,
        }
        let op = MemberOp::Publish {
            id,
            name: name.clone(),
            client_urls: urls.clone(),
        };
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
        self.own = Some(counter);
        self.proposals
            .add(counter, command, Waiter::Nobody, self.now_ms);
    }

    pub(super) fn next_own_counter(&mut self) -> u64 {
        self.next_own += 1;
        self.next_own
    }

    fn admin(&mut self, call: AdminCall) {
        match call {
            AdminCall::Bootstrap { bootstrap, reply } => {
                let same = bootstrap.cluster_uuid == self.config.cluster_uuid
                    && bootstrap.member_id == self.id();
                let _ = reply.send(self.already_joined(same));
            }
            AdminCall::Join { join, reply } => {
                let same =
                    join.cluster_uuid == self.config.cluster_uuid && join.member_id == self.id();
                let _ = reply.send(self.already_joined(same));
            }
            AdminCall::Recover { recover, reply } => {
                let _ = reply.send(self.already_recovered(recover));
            }
            AdminCall::Membership { reply } => {
                let _ = reply.send(Ok(self.view()));
            }
            other if self.repair.is_some() => {
                other.refuse(&AdminError::Request(RequestError::Repairing));
            }
            other => self.membership_call(other),
        }
    }

    fn already_joined(&self, same: bool) -> Result<(), AdminError> {
        if same {
            return Ok(());
        }
        if self.removed {
            // It stays for a moment, so that others learn of it; then the directory may join anew.
            return Err(RequestError::Removed.into());
        }
        Err(AdminError::AlreadyJoined {
            member_id: self.id(),
            cluster: uuid::Uuid::from_bytes(self.config.cluster_uuid).to_string(),
        })
    }

    /// Ends everything that waits.
    pub(super) fn fail_all(&mut self, error: &RequestError) {
        self.proposals.fail_all(error);
        self.reads.fail_all(error);
        self.fail_calls(error);
    }
}
