//! One member's consensus: the entry points, and which role they go to.
//!
//! Assumes inputs come one at a time and every [`Output`] is carried out as its documentation says.
//! Must not know: what a role does with an input; that is in the role's file.

use crate::candidate::Campaign;
use crate::common::Common;
use crate::config::{Config, Restored};
use crate::error::{
    ChangeError, InstallOutcome, ProposeError, ReadError, StartError, TransferError,
};
use crate::follower;
use crate::leader::Leader;
use crate::membership::Change;
use crate::message::{Envelope, SnapshotMeta};
use crate::output::{Output, RoleChange};
use crate::types::{EntryId, LogIndex, MemberId, PersistId, ReadId, Term};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One member's consensus. A step is a function of the state and its input; all that it asks for is
/// added to an [`Output`].
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) common: Common,
    pub(crate) role: Role,
}

/// What the member is at the moment, with what only this role needs.
#[derive(Clone, Debug)]
pub(crate) enum Role {
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

    /// Hands the office to `to`. It has worked when [`crate::Notice::LeaderChanged`] names another
    /// leader;
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

    /// Gives up a running transfer before its time, if there is one: its target is known to be
    /// gone.
    /// Proposals are accepted again and another transfer may begin. A target that was told to
    /// campaign may still do so.
    pub fn abandon_transfer(&mut self, out: &mut Output) {
        if let Role::Leader(leader) = &mut self.role {
            leader.abandon_transfer(out);
        }
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

    /// Ends a repair. Before the call the log must durably be that of a leader up to an entry which
    /// that leader has appended after this member was started, and the end of the repair must be
    /// durable too ([`crate::Repair`]).
    pub fn repaired(&mut self, out: &mut Output) {
        if self.common.repair.is_none() {
            return;
        }
        assert!(
            !self.common.lacks_state(),
            "member {} has no state machine yet",
            self.common.id()
        );
        self.common.repair = None;
        if let Some(leader) = self.common.leader() {
            follower::acknowledge_commit(&self.common, leader, out);
        }
        self.finish(Turn::Stay, out);
    }

    /// Whether this member is under repair.
    #[must_use]
    pub fn is_repairing(&self) -> bool {
        self.common.repair.is_some()
    }

    /// Why [`Node::install_snapshot`] would ignore a snapshot, to be asked before anything of it is
    /// put in place; `None` when it would be installed.
    #[must_use]
    pub fn refuses_snapshot(
        &self,
        from: MemberId,
        term: Term,
        meta: &SnapshotMeta,
    ) -> Option<&'static str> {
        let common = &self.common;
        if !is_usable(meta, term) || from == common.id() {
            Some("snapshot: unusable")
        } else if term < common.term() {
            Some("snapshot: of an older term")
        } else if !follower::is_news(common, meta) {
            Some("snapshot: nothing in it is new")
        } else {
            None
        }
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
        let usable = is_usable(&meta, term);
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

/// Whether a leader of `term` can have sent this at all.
fn is_usable(meta: &SnapshotMeta, term: Term) -> bool {
    meta.membership.is_consistent()
        && !meta.membership.is_empty()
        && meta.membership_index <= meta.last.index
        && meta.last.term <= term
}
