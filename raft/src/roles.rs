//! The rules about terms that all roles share (thesis §3.3), and the changes of role.
//!
//! Must not know: what a role does with a message of its own term; that is in the role's file.

use crate::candidate::Campaign;
use crate::common::Need;
use crate::leader::Leader;
use crate::message::{AppendOutcome, Envelope, Message};
use crate::node::{Node, Role, Turn};
use crate::output::{Notice, Output, Refusal, RoleChange, RoleKind};
use crate::types::{MemberId, Term};

impl Node {
    /// The rules about terms, the same for all roles (thesis §3.3). Returns whether the message is
    /// the role's business.
    pub(crate) fn accept_term(&mut self, envelope: &Envelope, out: &mut Output) -> bool {
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
            // Round 0 answers no round. Rounds are counted anew in each term: should the sender
            // lead ours by the time this arrives, the number would confirm reads it has yet to
            // take (E2).
            // Planted bug 102: the answer names a round, which may be another one in our term.
            Message::Heartbeat { round, .. } if common.planted(102) => {
                Message::HeartbeatResponse { round: *round }
            }
            Message::Heartbeat { .. } => Message::HeartbeatResponse { round: 0 },
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
    pub(crate) fn adopt_term(&mut self, term: Term, out: &mut Output) {
        self.common.adopt_term(term);
        self.become_follower(RoleChange::HigherTerm, out);
    }

    /// `leader` shows that it leads our term.
    pub(crate) fn follow_leader(&mut self, leader: MemberId, out: &mut Output) {
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
    pub(crate) fn finish(&mut self, mut turn: Turn, out: &mut Output) {
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
