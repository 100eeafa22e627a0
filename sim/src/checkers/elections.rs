//! `one-leader-per-term`, `vote-once`, `leader-completeness`, `no-learner-campaign`.

use super::{Checks, Violation, ensure};
use crate::host::Running;
use quorate_raft::{Envelope, MemberId, Message, RoleKind, Term};

impl Checks {
    /// A member changed its role.
    ///
    /// # Errors
    /// A violation.
    pub fn role(
        &mut self,
        id: MemberId,
        role: RoleKind,
        term: Term,
        running: &Running,
    ) -> Result<(), Violation> {
        match role {
            RoleKind::Follower => Ok(()),
            RoleKind::PreCandidate | RoleKind::Candidate => {
                let (membership, _) = running.memory.newest_membership();
                let voter = membership.voters.contains(&id) || membership.outgoing.contains(&id);
                ensure(voter, "no-learner-campaign", || {
                    format!("{id} campaigns at term {term} and is no voter of {membership:?}")
                })
            }
            RoleKind::Leader => self.leader(id, term, running),
        }
    }

    fn leader(&mut self, id: MemberId, term: Term, running: &Running) -> Result<(), Violation> {
        let first = *self.leaders.entry(term).or_insert(id);
        ensure(first == id, "one-leader-per-term", || {
            format!("{first} and {id} both led term {term}")
        })?;
        let base = running.memory.base.last.index;
        for (index, (committed, _)) in self.committed.range(base.next()..) {
            ensure(
                running.memory.term_at(*index) == Some(*committed),
                "leader-completeness",
                || {
                    format!(
                        "{id} leads term {term} with {:?} at index {index}; {committed} was committed",
                        running.memory.term_at(*index)
                    )
                },
            )?;
        }
        Ok(())
    }

    /// A vote leaves a member: for itself with a request, for another with a grant.
    ///
    /// # Errors
    /// A violation.
    pub fn vote(&mut self, envelope: &Envelope) -> Result<(), Violation> {
        let candidate = match envelope.message {
            Message::Vote { .. } => envelope.from,
            Message::VoteResponse { granted: true } => envelope.to,
            Message::VoteResponse { granted: false }
            | Message::PreVote { .. }
            | Message::PreVoteResponse { .. }
            | Message::Append { .. }
            | Message::AppendResponse { .. }
            | Message::Heartbeat { .. }
            | Message::HeartbeatResponse { .. }
            | Message::ReadIndex { .. }
            | Message::ReadIndexResponse { .. }
            | Message::TimeoutNow => return Ok(()),
        };
        let (voter, term) = (envelope.from, envelope.term);
        let first = *self.votes.entry((voter, term)).or_insert(candidate);
        ensure(first == candidate, "vote-once", || {
            format!("{voter} voted for {first} and for {candidate} in term {term}")
        })
    }
}
