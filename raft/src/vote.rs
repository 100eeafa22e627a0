//! How a member answers a request for its vote, whatever its role (thesis §3.4, §3.6.1, §9.6).
//!
//! A voter does not ask whether the candidate is in *its* membership: the candidate may know a
//! newer one, and counts only votes of its own (A16, C15). Must not know: how votes are counted.

use crate::common::{Common, Need};
use crate::message::Message;
use crate::output::{Notice, Output, Refusal};
use crate::types::{EntryId, HardState, MemberId, Term};

impl Common {
    /// Whether a campaign in a newer term must be turned away because a leader is in office: then
    /// not even the term is adopted (thesis §4.2.3).
    pub fn is_loyal(&self) -> Option<MemberId> {
        // A leader that lost its quorum is a follower before this is asked: check-quorum.
        let leader = self.leader()?;
        let fresh = leader == self.id() || self.timer.is_fresh(&self.config);
        fresh.then_some(leader)
    }

    /// Would we vote for `candidate` in `term`? Changes nothing here: not the term, not the vote,
    /// not the timer (A10).
    pub fn answer_pre_vote(
        &self,
        candidate: MemberId,
        term: Term,
        last: EntryId,
        out: &mut Output,
    ) {
        let refusal = if term < self.term() {
            Some(Refusal::OldTerm)
        } else if self.repair.is_some() {
            Some(Refusal::Repairing)
        } else if let Some(leader) = self.is_loyal() {
            Some(Refusal::LeaderAlive(leader))
        } else if term == self.term() && self.vote_is_taken(candidate).is_some() {
            self.vote_is_taken(candidate)
        } else {
            self.log_is_ahead(last)
        };
        // A refusal speaks of our own term, which a candidate that fell behind must learn (A11).
        let answer_term = if refusal.is_none() { term } else { self.term() };
        let answer = Message::PreVoteResponse {
            granted: refusal.is_none(),
        };
        self.send_in(answer_term, candidate, answer, Need::Nothing, out);
        if let Some(why) = refusal {
            out.notices.push(Notice::VoteRefused { candidate, why });
        }
    }

    /// Votes for `candidate` in our term, or refuses. Having adopted the candidate's term is no
    /// reason to vote for it (A5).
    pub fn answer_vote(&mut self, candidate: MemberId, last: EntryId, out: &mut Output) {
        // A vote says that nothing committed is missing from the candidate's log: that cannot be
        // judged by a log that has lost entries.
        let refusal = self
            .repair
            .map(|_| Refusal::Repairing)
            .or_else(|| self.vote_is_taken(candidate))
            .or_else(|| self.log_is_ahead(last));
        match refusal {
            None => {
                let vote = Some(candidate);
                self.set_hard_state(HardState {
                    term: self.term(),
                    vote,
                });
                self.timer.restart();
            }
            Some(why) => out.notices.push(Notice::VoteRefused { candidate, why }),
        }
        // The vote is a promise: it leaves when it is on disk (A2), a repeated one likewise (A7).
        let need = if self.planted(1) {
            Need::Nothing
        } else {
            Need::HardState
        };
        let granted = refusal.is_none();
        self.send(candidate, Message::VoteResponse { granted }, need, out);
    }

    /// Whether our vote in this term is not `candidate`'s to have.
    fn vote_is_taken(&self, candidate: MemberId) -> Option<Refusal> {
        match (self.hard_state.vote, self.leader()) {
            (Some(voted), _) if voted == candidate => None,
            (Some(voted), _) => Some(Refusal::AlreadyVoted(voted)),
            (None, Some(leader)) => Some(Refusal::LeaderAlive(leader)),
            (None, None) => None,
        }
    }

    /// Whether our log is ahead of one that ends at `theirs`: the term of the last entry decides,
    /// and only between equal terms the length (A8).
    fn log_is_ahead(&self, theirs: EntryId) -> Option<Refusal> {
        let ours = self.log.last();
        let ahead = if self.planted(10) {
            (ours.index, ours.term) > (theirs.index, theirs.term)
        } else {
            (ours.term, ours.index) > (theirs.term, theirs.index)
        };
        ahead.then_some(Refusal::LogBehind { ours, theirs })
    }
}
