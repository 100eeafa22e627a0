//! Changing the membership: when it may be proposed, how a joint one is left, and how a leader
//! goes that has removed itself (thesis §4).
//!
//! One change at a time, decided by compare-and-set on the index of the membership in force. No
//! change, not even leaving a joint membership, before an entry of our own term is committed:
//! otherwise two leaders could each commit with a majority of *their* membership, and the two
//! majorities need not overlap (C1, the bug of the thesis' single-server change).

use crate::common::{Common, Need};
use crate::error::ChangeError;
use crate::leader::Leader;
use crate::membership::{Change, Membership};
use crate::message::{Message, Payload};
use crate::node::Turn;
use crate::output::{Notice, Output, RoleChange};
use crate::quorum::majority;
use crate::transfer::Transfer;
use crate::types::{EntryId, LogIndex, MemberId};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;

impl Leader {
    /// Proposes `changes`, if the membership in force is the one at `expected`.
    pub fn propose_membership(
        &mut self,
        common: &mut Common,
        changes: &[Change],
        expected: LogIndex,
        context: Arc<[u8]>,
        out: &mut Output,
    ) -> Result<(EntryId, Turn), ChangeError> {
        if let Some(transfer) = &self.transfer {
            return Err(ChangeError::Transferring(transfer.to));
        }
        if !self.knows_commit(common) && !common.planted(35) {
            return Err(ChangeError::TermNotCommitted);
        }
        let (current, in_force) = (common.log.membership_index(), common.log.membership());
        if in_force.is_joint() || current > common.commit() {
            return Err(ChangeError::Pending);
        }
        if expected != current {
            return Err(ChangeError::StaleIndex { current });
        }
        let next = in_force
            .changed(changes, &context)
            .map_err(ChangeError::Invalid)?;
        self.check_promotions(common, &next)?;
        self.check_availability(common, &next)?;
        let id = EntryId {
            term: common.term(),
            index: common.log.last().index.next(),
        };
        // While joint, the context waits in the membership for the entry that leaves.
        let context = if next.is_joint() {
            Arc::default()
        } else {
            context
        };
        Ok((id, self.append_membership(common, next, context, out)))
    }

    /// A learner votes only when it holds nearly everything: as a voter it may be needed at once,
    /// and would hold up every commit until it has caught up (C13).
    fn check_promotions(&self, common: &Common, next: &Membership) -> Result<(), ChangeError> {
        let commit = common.commit();
        let promoted = common.log.membership().learners.intersection(&next.voters);
        for member in promoted.copied() {
            let matched = self.held_by(common, member);
            if matched.0.saturating_add(common.config.promote_lag_max) < commit.0 {
                return Err(ChangeError::LearnerBehind {
                    member,
                    matched,
                    commit,
                });
            }
        }
        Ok(())
    }

    /// The voters that answer now must be a majority of the next voters: a change must not strand
    /// the group on members that cannot be reached (C15). A new voter has yet to answer.
    ///
    /// A leader that gives up its own vote is the only one to hold the entry at first, may not
    /// campaign with it, and votes for nobody without it. So the others must be able to elect one
    /// of them if we crash right then; with two voters they are not, and the way is to transfer
    /// the leadership first.
    fn check_availability(&self, common: &Common, next: &Membership) -> Result<(), ChangeError> {
        let (me, now) = (common.id(), common.log.membership());
        if next.voters == now.voters {
            return Ok(());
        }
        let count = |voters: &BTreeSet<MemberId>, counts_me: bool| {
            let alive = |id: &&MemberId| self.is_alive(common, **id) && (counts_me || **id != me);
            (voters.iter().filter(alive).count(), majority(voters.len()))
        };
        let (alive, needed) = count(&next.voters, true);
        if alive < needed {
            return Err(ChangeError::QuorumAtRisk { alive, needed });
        }
        let (alive, needed) = count(&now.voters, false);
        if !next.is_voter(me) && alive < needed {
            return Err(ChangeError::QuorumAtRisk { alive, needed });
        }
        Ok(())
    }

    fn append_membership(
        &mut self,
        common: &mut Common,
        membership: Membership,
        context: Arc<[u8]>,
        out: &mut Output,
    ) -> Turn {
        let index = common.log.last().index.next();
        let payload = Payload::Membership {
            membership: Arc::new(membership),
            context,
        };
        // In force from here on (thesis §4.1): new members are served, and who counts has changed,
        // for commits (in `append`) as for reads.
        let turn = self.append(common, [payload], out);
        out.notices.push(Notice::MembershipChanged {
            index,
            rolled_back: false,
        });
        self.track_members(common);
        self.replicate_to_all(common, out);
        self.confirm_reads(common, out);
        turn
    }

    /// The commit index has risen: leave a joint membership that is committed, or the office if
    /// the membership is committed that has no vote for us.
    pub fn membership_committed(&mut self, common: &mut Common, out: &mut Output) -> Turn {
        let membership = Arc::clone(common.log.membership());
        let committed = common.log.membership_index() <= common.commit();
        if !committed || !self.knows_commit(common) {
            return Turn::Stay;
        }
        if membership.is_joint() {
            return self.leave_joint(common, out);
        }
        if membership.is_voter(common.id()) {
            return Turn::Stay;
        }
        self.name_successor(common, out);
        Turn::Follow(RoleChange::Removed)
    }

    /// Ends a joint phase whose entry is committed; called until it has ended.
    ///
    /// Only a member of the incoming voters leaves. If another one did and crashed, it would hold
    /// an entry that lets it neither campaign nor vote for anybody, while the rest, still joint,
    /// may need its vote. It hands over its office instead, and its successor leaves (C6).
    pub fn leave_joint(&mut self, common: &mut Common, out: &mut Output) -> Turn {
        let membership = Arc::clone(common.log.membership());
        let committed = common.log.membership_index() <= common.commit();
        if !membership.is_joint() || !committed || !self.knows_commit(common) {
            return Turn::Stay;
        }
        if membership.voters.contains(&common.id()) {
            // The leave entry is in force at once and is not joint: it is appended only once (C2).
            let context = Arc::clone(&membership.leave_context);
            return self.append_membership(common, membership.left(), context, out);
        }
        let alive = membership
            .voters
            .iter()
            .filter(|id| self.is_alive(common, **id));
        let successor = alive.max_by_key(|id| self.held_by(common, **id)).copied();
        if let (None, Some(to)) = (&self.transfer, successor) {
            self.transfer = Some(Transfer::new(to));
            self.maybe_hand_over(common, to, out);
        }
        Turn::Stay
    }

    /// A leader without a vote goes (C11). A voter that holds the whole log may follow at once, so
    /// that nobody has to wait for an election timeout.
    fn name_successor(&self, common: &Common, out: &mut Output) {
        let last = common.log.last().index;
        let voters = &common.log.membership().voters;
        let ready = voters.iter().find(|id| self.held_by(common, **id) == last);
        if let Some(successor) = ready {
            common.send(*successor, Message::TimeoutNow, Need::Nothing, out);
        }
    }
}
