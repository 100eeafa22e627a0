//! One member's consensus: the entry points, the rules about terms that all roles share, and the
//! changes of role.
//!
//! Assumes inputs come one at a time and every [`Output`] is carried out as its documentation says.
//! Must not know: what a role does with a message of its own term; that is in the role's file.

use crate::candidate::Campaign;
use crate::common::{Common, Need};
use crate::config::{Config, Restored};
use crate::error::{
    ChangeError, InstallOutcome, ProposeError, ReadError, StartError, TransferError,
};
use crate::follower;
use crate::leader::Leader;
use crate::membership::{Change, Membership};
use crate::message::{AppendOutcome, Envelope, Message, SnapshotMeta};
use crate::output::{Notice, Output, Refusal, RoleChange, RoleKind, Status};
use crate::types::{EntryId, HardState, LogIndex, MemberId, PersistId, ReadId, Term};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One member's consensus. A step is a function of the state and its input; all that it asks for is
/// added to an [`Output`].
#[derive(Clone, Debug)]
pub struct Node {
    common: Common,
    role: Role,
}

/// What the member is at the moment, with what only this role needs.
#[derive(Clone, Debug)]
enum Role {
    Follower,
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Leader),
}

/// What a step means for the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Turn {
    /// Nothing.
    Stay,
    /// Ask whether a campaign would succeed.
    Ask(RoleChange),
    /// Campaign: because a quorum said it would succeed, or because the leader hands over.
    Campaign { transfer: bool },
    /// Lead: a quorum has voted for us.
    Lead,
    /// Become a follower without a leader, in the same term.
    Follow(RoleChange),
}

impl Node {
    /// Starts a member, always as a follower (A20). The membership in force is the newest in the
    /// log, committed or not (C8).
    ///
    /// # Errors
    /// [`StartError`] when the configuration makes no sense or the parts found on disk contradict
    /// each other: the member must not take part then.
    pub fn new(config: Config, restored: Restored) -> Result<Self, StartError> {
        Ok(Self {
            common: Common::new(config, restored)?,
            role: Role::Follower,
        })
    }

    /// One tick of time passes.
    pub fn tick(&mut self, out: &mut Output) {
        let turn = match &mut self.role {
            Role::Follower => follower::tick(&mut self.common, out),
            Role::PreCandidate(_) | Role::Candidate(_) => {
                if self.common.timer.tick() {
                    Turn::Ask(RoleChange::ElectionTimeout)
                } else {
                    Turn::Stay
                }
            }
            Role::Leader(leader) => leader.tick(&mut self.common, out),
        };
        self.finish(turn, out);
    }

    /// Takes a message. Whatever arrives, in whatever order and however often, is harmless as long
    /// as a member has sent it; one that contradicts what is committed here panics (B7, D6).
    pub fn step(&mut self, envelope: Envelope, out: &mut Output) {
        let me = self.common.id();
        if envelope.to != me || envelope.from == me || envelope.from == MemberId(0) {
            self.common.ignore(
                envelope.from,
                "message: not between us and another member",
                out,
            );
            return;
        }
        let turn = if self.accept_term(&envelope, out) {
            let common = &mut self.common;
            match &mut self.role {
                Role::Follower => follower::step(common, envelope, out),
                Role::PreCandidate(campaign) => campaign.step_pre(common, envelope, out),
                Role::Candidate(campaign) => campaign.step(common, envelope, out),
                Role::Leader(leader) => leader.step(common, envelope, out),
            }
        } else {
            Turn::Stay
        };
        self.finish(turn, out);
    }

    /// Appends all of `commands`, or none, and returns the place of the first; they follow each
    /// other. They are in `Output::apply` if and when they are committed; if leadership is lost
    /// first, their fate is unknown until another entry is applied at their place (B17).
    ///
    /// # Errors
    /// [`ProposeError`]; then `commands` is as before. Otherwise it is empty.
    ///
    /// # Panics
    /// If there are no commands.
    pub fn propose(
        &mut self,
        commands: &mut Vec<Arc<[u8]>>,
        out: &mut Output,
    ) -> Result<EntryId, ProposeError> {
        assert!(!commands.is_empty(), "nothing was given to propose");
        let Role::Leader(leader) = &mut self.role else {
            return Err(ProposeError::NotLeader(self.common.leader()));
        };
        let (first, turn) = leader.propose(&mut self.common, commands, out)?;
        self.finish(turn, out);
        Ok(first)
    }

    /// Appends a change of the membership, if the one in force is still that of entry `expected`.
    /// It is in force at once, and undone if its entry is cut. One that changes several voters goes
    /// through a joint membership and is left by itself. `context` is the command on the entry that
    /// completes the change: the one of a simple change, or the one that leaves.
    ///
    /// # Errors
    /// [`ChangeError`]; then nothing has changed.
    pub fn propose_membership(
        &mut self,
        changes: &[Change],
        expected: LogIndex,
        context: Arc<[u8]>,
        out: &mut Output,
    ) -> Result<EntryId, ChangeError> {
        let common = &mut self.common;
        let Role::Leader(leader) = &mut self.role else {
            return Err(ChangeError::NotLeader(common.leader()));
        };
        let (id, turn) = leader.propose_membership(common, changes, expected, context, out)?;
        self.finish(turn, out);
        Ok(id)
    }

    /// Asks for the floor of a linearizable read (thesis §6.4): of the quorum if we lead, else of
    /// the leader. Every registered read ends in `Output::reads`: with a floor, or dropped (E3).
    /// `read` must not have been used before, by any life of this member.
    ///
    /// # Errors
    /// [`ReadError`]; then the read is not registered.
    pub fn read(&mut self, read: ReadId, out: &mut Output) -> Result<(), ReadError> {
        let common = &mut self.common;
        match (&mut self.role, common.leader()) {
            (Role::Leader(leader), _) => leader.local_read(common, read, out)?,
            (Role::Follower, Some(_))
                if common.forwarded_count() >= common.config.pending_reads_max =>
            {
                return Err(ReadError::TooManyReads);
            }
            (Role::Follower, Some(leader)) => common.forward_read(read, leader, out),
            (Role::Follower, None) | (Role::PreCandidate(_) | Role::Candidate(_), _) => {
                return Err(ReadError::NoLeader);
            }
        }
        self.finish(Turn::Stay, out);
        Ok(())
    }

    /// Hands the office to `to`. It has worked when [`Notice::LeaderChanged`] names another leader;
    /// until then, and at most for an election timeout, proposals are refused.
    ///
    /// # Errors
    /// [`TransferError`]; then nothing has changed.
    pub fn transfer_leadership(
        &mut self,
        to: MemberId,
        out: &mut Output,
    ) -> Result<(), TransferError> {
        let Role::Leader(leader) = &mut self.role else {
            return Err(TransferError::NotLeader(self.common.leader()));
        };
        leader.begin_transfer(&self.common, to, out)?;
        self.finish(Turn::Stay, out);
        Ok(())
    }

    /// Campaigns as if the election timeout had passed. A leader goes on leading (A18), and a
    /// member without a vote stays what it is (C3).
    pub fn campaign(&mut self, out: &mut Output) {
        let me = self.common.id();
        let turn = match &self.role {
            Role::Leader(_) => Turn::Stay,
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => {
                if self.common.may_campaign() {
                    Turn::Ask(RoleChange::CampaignRequested)
                } else {
                    self.common.ignore(me, "campaign: not a voter", out);
                    Turn::Stay
                }
            }
        };
        self.finish(turn, out);
    }

    /// The [`crate::Persist`] named `id` is durable. May be reported in any order, each once; takes
    /// effect when all earlier ones are durable as well (B10).
    pub fn persisted(&mut self, id: PersistId, out: &mut Output) {
        let gaps = self.common.planted(29);
        let completed = self.common.log.complete_write(id, gaps);
        if let Some(hard_state) = completed.hard_state {
            self.common.note_durable_hard_state(hard_state);
        }
        let common = &mut self.common;
        let turn = match &mut self.role {
            Role::Follower | Role::PreCandidate(_) => Turn::Stay,
            Role::Candidate(campaign) => {
                campaign.persisted(common);
                campaign.decide_candidate(common)
            }
            Role::Leader(leader) => leader.advance(common, out),
        };
        self.finish(turn, out);
    }

    /// Drops entries from memory, up to `up_to` or as far as they are applied and durable here.
    /// Peers that still need them will get a snapshot.
    pub fn trim(&mut self, up_to: LogIndex) {
        let up_to = up_to
            .min(self.common.applied())
            .min(self.common.log.durable());
        self.common.log.trim(up_to);
    }

    /// The transfer of a snapshot to `to` has ended: with the last index it contained, or without
    /// success. Meaningful to the leader that asked for it, ignored by others.
    pub fn snapshot_sent(&mut self, to: MemberId, outcome: Result<LogIndex, ()>, out: &mut Output) {
        if let Role::Leader(leader) = &mut self.role {
            leader.snapshot_sent(to, outcome);
        }
        self.finish(Turn::Stay, out);
    }

    /// Takes over a snapshot that member `from` has sent as the leader of `term`. Before the call:
    ///
    /// 1. the state machine's new data is durable, though the old one may still be in use;
    /// 2. all writes handed out before are in the WAL, and behind them, durable, a record that the
    ///    log begins after `meta.last`. Reading it, the WAL keeps the entries behind `meta.last` if
    ///    it holds exactly that entry, and drops all others: that is what happens in memory too.
    ///
    /// After [`InstallOutcome::Installed`] the state machine must be the snapshot's, and entries up
    /// to `meta.last` that were handed out but not applied yet must not be applied any more.
    pub fn install_snapshot(
        &mut self,
        from: MemberId,
        term: Term,
        meta: SnapshotMeta,
        out: &mut Output,
    ) -> InstallOutcome {
        let usable = meta.membership.is_consistent()
            && !meta.membership.is_empty()
            && meta.membership_index <= meta.last.index
            && meta.last.term <= term;
        if term < self.common.term() || !usable || from == self.common.id() {
            let what = if usable {
                "snapshot: of an older term"
            } else {
                "snapshot: unusable"
            };
            self.common.ignore(from, what, out);
            return InstallOutcome::Ignored;
        }
        if term > self.common.term() {
            self.adopt_term(term, out);
        }
        self.follow_leader(from, out);
        let news = follower::install(&mut self.common, from, &meta, out);
        self.finish(Turn::Stay, out);
        if news {
            InstallOutcome::Installed
        } else {
            InstallOutcome::Ignored
        }
    }
}

// Terms and roles.
impl Node {
    /// The rules about terms, the same for all roles (thesis §3.3). Returns whether the message is
    /// the role's business.
    fn accept_term(&mut self, envelope: &Envelope, out: &mut Output) -> bool {
        let Envelope {
            from,
            to: _,
            term,
            message,
        } = envelope;
        let ours = self.common.term();
        match message {
            // A question about a term that does not exist yet, and the answer "yes" to it.
            Message::PreVote { .. } | Message::PreVoteResponse { granted: true } => return true,
            Message::Vote { transfer, .. } if *term > ours && !transfer => {
                if let Some(leader) = self.common.is_loyal() {
                    let why = Refusal::LeaderAlive(leader);
                    out.notices.push(Notice::VoteRefused {
                        candidate: *from,
                        why,
                    });
                    return false;
                }
            }
            Message::PreVoteResponse { granted: false }
            | Message::Vote { .. }
            | Message::VoteResponse { .. }
            | Message::Append { .. }
            | Message::AppendResponse { .. }
            | Message::Heartbeat { .. }
            | Message::HeartbeatResponse { .. }
            | Message::ReadIndex { .. }
            | Message::ReadIndexResponse { .. }
            | Message::TimeoutNow => {}
        }
        if *term < ours {
            self.answer_old_term(envelope, out);
            return false;
        }
        if *term > ours {
            self.adopt_term(*term, out);
        }
        if matches!(message, Message::Append { .. } | Message::Heartbeat { .. }) {
            self.follow_leader(*from, out);
        }
        true
    }

    /// A request of an older term is refused in a way that teaches ours, or else a member that is
    /// stuck in a higher term would never be heard (A12). An answer to an older term means nothing
    /// any more (B3).
    fn answer_old_term(&self, envelope: &Envelope, out: &mut Output) {
        let common = &self.common;
        let from = envelope.from;
        let answer = match &envelope.message {
            Message::Vote { .. } => {
                let why = Refusal::OldTerm;
                out.notices.push(Notice::VoteRefused {
                    candidate: from,
                    why,
                });
                Message::VoteResponse { granted: false }
            }
            Message::Append { prev, .. } => Message::AppendResponse {
                outcome: AppendOutcome::Conflict {
                    refused: prev.index,
                    hint: common.log.last(),
                },
            },
            Message::Heartbeat { round, .. } => Message::HeartbeatResponse { round: *round },
            Message::ReadIndex { read } => Message::ReadIndexResponse {
                read: *read,
                floor: None,
            },
            Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::VoteResponse { .. }
            | Message::AppendResponse { .. }
            | Message::HeartbeatResponse { .. }
            | Message::ReadIndexResponse { .. }
            | Message::TimeoutNow => {
                common.ignore(from, "message: of an older term", out);
                return;
            }
        };
        common.send(from, answer, Need::HardState, out);
    }

    /// Every message of a newer term ends whatever we were in the older one (A15).
    fn adopt_term(&mut self, term: Term, out: &mut Output) {
        self.common.adopt_term(term);
        self.become_follower(RoleChange::HigherTerm, out);
    }

    /// `leader` shows that it leads our term.
    fn follow_leader(&mut self, leader: MemberId, out: &mut Output) {
        let known = self.common.leader();
        assert!(
            known.is_none_or(|known| known == leader),
            "members {known:?} and {leader} both lead term {}",
            self.common.term(),
        );
        if !matches!(self.role, Role::Follower) {
            self.become_follower(RoleChange::Lost, out);
        }
        self.common.timer.restart();
        self.common.set_leader(Some(leader), out);
    }

    /// Becomes a follower of nobody yet.
    fn become_follower(&mut self, why: RoleChange, out: &mut Output) {
        match &mut self.role {
            Role::Follower => {}
            Role::PreCandidate(_) | Role::Candidate(_) => self.common.timer.restart(),
            Role::Leader(leader) => {
                leader.drop_reads(&self.common, out);
                self.common.timer.restart();
            }
        }
        self.set_role(Role::Follower, why, out);
        self.common.set_leader(None, out);
    }

    fn set_role(&mut self, role: Role, why: RoleChange, out: &mut Output) {
        let from = self.role();
        self.role = role;
        let (to, term) = (self.role(), self.common.term());
        if from != to {
            out.notices.push(Notice::RoleChanged {
                from,
                to,
                term,
                why,
            });
        }
    }

    /// Changes the role until the step has settled, then hands out what it asks for.
    fn finish(&mut self, mut turn: Turn, out: &mut Output) {
        while turn != Turn::Stay {
            turn = self.take(turn, out);
        }
        self.common.finish(out);
    }

    fn take(&mut self, turn: Turn, out: &mut Output) -> Turn {
        let common = &mut self.common;
        match turn {
            Turn::Stay => Turn::Stay,
            Turn::Follow(why) => {
                self.become_follower(why, out);
                Turn::Stay
            }
            Turn::Ask(why) => {
                let campaign = Campaign::ask(common, out);
                let next = campaign.decide(common);
                self.set_role(Role::PreCandidate(campaign), why, out);
                self.common.set_leader(None, out);
                next
            }
            Turn::Campaign { transfer } => {
                assert!(common.may_campaign(), "member {} has no vote", common.id());
                let campaign = Campaign::begin(common, transfer, out);
                let next = campaign.decide_candidate(common);
                let why = if transfer {
                    RoleChange::CampaignRequested
                } else {
                    RoleChange::Won
                };
                self.set_role(Role::Candidate(campaign), why, out);
                self.common.set_leader(None, out);
                next
            }
            Turn::Lead => {
                // The notice comes first: to lead is the reason for all that follows.
                let (to, term) = (RoleKind::Leader, common.term());
                let from = RoleKind::Candidate;
                out.notices.push(Notice::RoleChanged {
                    from,
                    to,
                    term,
                    why: RoleChange::Won,
                });
                let (leader, next) = Leader::begin(common, out);
                self.role = Role::Leader(leader);
                next
            }
        }
    }
}

// Views.
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
