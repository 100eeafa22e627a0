//! Candidates and pre-candidates: asking, counting, and giving up.
//!
//! Before it raises its term, a member asks whether a campaign would succeed (pre-vote, thesis
//! §9.6): a member that was cut off comes back without disturbing a working leader.
//! Must not know: how a leader begins, how votes are given.

use crate::common::{Common, Need};
use crate::message::{Envelope, Message};
use crate::node::Turn;
use crate::output::{Output, RoleChange};
use crate::quorum::{Tally, tally};
use crate::types::{HardState, MemberId, Term};
use alloc::collections::BTreeMap;

/// A campaign, or the question whether to begin one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Campaign {
    /// First answer of each voter; a repeated one changes nothing (A6).
    votes: BTreeMap<MemberId, bool>,
}

impl Campaign {
    /// Asks all other voters whether they would vote for us in the next term. Our own answer is
    /// known, and promises nothing.
    pub fn ask(common: &mut Common, out: &mut Output) -> Self {
        common.timer.new_attempt(&common.config, common.term());
        let mut campaign = Self::default();
        campaign.votes.insert(common.id(), true);
        let question = Message::PreVote {
            last: common.log.last(),
        };
        to_other_voters(
            common,
            Term(common.term().0 + 1),
            &question,
            Need::Nothing,
            out,
        );
        campaign
    }

    /// Votes for ourselves in a new term and asks the others to. Requests leave when our own vote
    /// is on disk, and only then it counts (A2, A9).
    pub fn begin(common: &mut Common, transfer: bool, out: &mut Output) -> Self {
        let term = Term(common.term().0 + 1);
        common.adopt_term(term);
        assert!(
            common.hard_state.vote.is_none(),
            "term {term} begins with a vote given"
        );
        common.set_hard_state(HardState {
            term,
            vote: Some(common.id()),
        });
        common.timer.restart();
        let mut campaign = Self::default();
        if common.planted(11) {
            campaign.votes.insert(common.id(), true);
        }
        let request = Message::Vote {
            last: common.log.last(),
            transfer,
        };
        let need = if common.planted(3) {
            Need::Nothing
        } else {
            Need::HardState
        };
        to_other_voters(common, term, &request, need, out);
        campaign
    }

    /// Our vote for ourselves may have become durable.
    pub fn persisted(&mut self, common: &Common) {
        let own = HardState {
            term: common.term(),
            vote: Some(common.id()),
        };
        if common.hard_state == own && common.hard_state_is_durable() {
            self.votes.insert(common.id(), true);
        }
    }

    /// A message to a member that asks whether to campaign.
    pub fn step_pre(&mut self, common: &mut Common, envelope: Envelope, out: &mut Output) -> Turn {
        let Envelope {
            from,
            to: _,
            term,
            message,
        } = envelope;
        match message {
            Message::PreVote { last } => common.answer_pre_vote(from, term, last, out),
            Message::PreVoteResponse { granted } => {
                // A grant names the term of the campaign it is for, a refusal the voter's own.
                if !granted || term.0 == common.term().0 + 1 {
                    self.count(from, granted);
                }
            }
            Message::Vote { last, transfer: _ } => common.answer_vote(from, last, out),
            // Answers to a campaign of this term that we have given up.
            Message::VoteResponse { granted: _ } => {}
            // A leader of our term exists: node.rs has made us its follower before this.
            Message::Append { .. } | Message::Heartbeat { .. } => {}
            // Answers to a leader; we led this term and were cut off from the quorum.
            Message::AppendResponse { outcome: _ } | Message::HeartbeatResponse { round: _ } => {}
            Message::ReadIndex { read } => {
                let answer = Message::ReadIndexResponse { read, floor: None };
                common.send(from, answer, Need::HardState, out);
            }
            // Dropped when the leader was lost.
            Message::ReadIndexResponse { read: _, floor: _ } => {}
            Message::TimeoutNow => common.ignore(from, "timeout-now: campaigning already", out),
        }
        self.decide(common)
    }

    /// A message to a member that asks for votes.
    pub fn step(&mut self, common: &mut Common, envelope: Envelope, out: &mut Output) -> Turn {
        let Envelope {
            from,
            to: _,
            term,
            message,
        } = envelope;
        match message {
            Message::PreVote { last } => common.answer_pre_vote(from, term, last, out),
            // Late answers to the question that began this campaign (A10).
            Message::PreVoteResponse { granted: _ } => {}
            Message::Vote { last, transfer: _ } => common.answer_vote(from, last, out),
            Message::VoteResponse { granted } => self.count(from, granted),
            // A leader of our term exists: node.rs has made us its follower before this.
            Message::Append { .. } | Message::Heartbeat { .. } => {}
            // Answers to a leader of this term; it cannot be us, we only ask for it.
            Message::AppendResponse { outcome: _ } | Message::HeartbeatResponse { round: _ } => {}
            Message::ReadIndex { read } => {
                let answer = Message::ReadIndexResponse { read, floor: None };
                common.send(from, answer, Need::HardState, out);
            }
            // Dropped when the leader was lost.
            Message::ReadIndexResponse { read: _, floor: _ } => {}
            Message::TimeoutNow => common.ignore(from, "timeout-now: campaigning already", out),
        }
        self.decide_candidate(common)
    }

    /// How the question stands.
    pub fn decide(&self, common: &Common) -> Turn {
        match self.tally(common) {
            Tally::Won => Turn::Campaign { transfer: false },
            Tally::Lost => Turn::Follow(RoleChange::Lost),
            Tally::Open => Turn::Stay,
        }
    }

    /// How the campaign stands.
    pub fn decide_candidate(&self, common: &Common) -> Turn {
        match self.tally(common) {
            Tally::Won => Turn::Lead,
            Tally::Lost => Turn::Follow(RoleChange::Lost),
            Tally::Open => Turn::Stay,
        }
    }

    fn count(&mut self, from: MemberId, granted: bool) {
        self.votes.entry(from).or_insert(granted);
    }

    /// Only voters of our own membership are looked up, so that a stranger's vote counts nothing.
    fn tally(&self, common: &Common) -> Tally {
        tally(common.log.membership(), |id| self.votes.get(&id).copied())
    }
}

fn to_other_voters(common: &Common, term: Term, message: &Message, need: Need, out: &mut Output) {
    let me = common.id();
    for voter in common.log.membership().all_voters().filter(|id| *id != me) {
        common.send_in(term, voter, message.clone(), need, out);
    }
}
