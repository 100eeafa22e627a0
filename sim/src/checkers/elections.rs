//! `one-leader-per-term`, `vote-once`, `grant-log-check`, `leader-completeness`,
//! `no-learner-campaign`.

use super::{Checks, Violation, ensure};
use crate::host::Running;
use quorate_raft::{EntryId, Envelope, HardState, MemberId, Message, Persist, RoleKind, Term};

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

    /// A member is about to write its vote for another, whose log must not be behind its own: the
    /// term of the last entry decides, between equal terms the length. `memory` does not hold the
    /// entries of the same write yet.
    ///
    /// # Errors
    /// A violation.
    pub fn granted(
        &self,
        id: MemberId,
        write: &Persist,
        running: &Running,
    ) -> Result<(), Violation> {
        let Some(HardState {
            term,
            vote: Some(candidate),
        }) = write.hard_state
        else {
            return Ok(());
        };
        if candidate == id {
            return Ok(());
        }
        let theirs = self.campaigns.get(&(candidate, term)).copied();
        let ours = running.memory.last();
        let ahead = |last: EntryId| (last.term, last.index) >= (ours.term, ours.index);
        ensure(theirs.is_some_and(ahead), "grant-log-check", || {
            format!(
                "{id}, whose log ends at {ours}, votes in term {term} for {candidate}, whose log \
                 ends at {theirs:?}"
            )
        })
    }

    /// A vote leaves a member: for itself with a request, for another with a grant.
    ///
    /// # Errors
    /// A violation.
    pub fn vote(&mut self, envelope: &Envelope) -> Result<(), Violation> {
        let candidate = match envelope.message {
            Message::Vote { last, .. } => {
                self.campaigns.insert((envelope.from, envelope.term), last);
                envelope.from
            }
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
