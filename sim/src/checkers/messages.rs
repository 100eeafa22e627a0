//! `persist-before-send`: what a message promises is on the sender's disk when it leaves
//! (the table of what must be durable first, message by message).

use super::{Checks, Violation, ensure};
use crate::store::Durable;
use quorate_raft::{AppendOutcome, Envelope, HardState, Message};

impl Checks {
    /// A message leaves its sender, whose disk holds `durable`.
    ///
    /// # Errors
    /// A violation.
    pub fn sent(&mut self, envelope: &Envelope, durable: &Durable) -> Result<(), Violation> {
        self.vote(envelope)?;
        let on_disk = durable.hard_state;
        let missing = match &envelope.message {
            // Pre-votes promise nothing.
            Message::PreVote { .. } | Message::PreVoteResponse { .. } => None,
            Message::Vote { .. } => vote_missing(on_disk, envelope, envelope.from),
            Message::VoteResponse { granted: true } => vote_missing(on_disk, envelope, envelope.to),
            Message::Append { .. } | Message::Heartbeat { .. } | Message::TimeoutNow => {
                vote_missing(on_disk, envelope, envelope.from)
            }
            Message::AppendResponse {
                outcome: AppendOutcome::Matched { last },
            } => {
                term_missing(on_disk, envelope).or_else(|| {
                    // A later term may have cut what an older acknowledgement speaks of.
                    let held = durable.last().index >= *last || on_disk.term > envelope.term;
                    (!held).then(|| format!("log up to {last}, has {}", durable.last()))
                })
            }
            Message::AppendResponse {
                outcome: AppendOutcome::Conflict { .. } | AppendOutcome::Repairing { .. },
            }
            | Message::VoteResponse { granted: false }
            | Message::HeartbeatResponse { .. }
            | Message::ReadIndex { .. }
            | Message::ReadIndexResponse { .. } => term_missing(on_disk, envelope),
        };
        ensure(missing.is_none(), "persist-before-send", || {
            format!(
                "{} sends {:?} of term {} before its disk holds: {}",
                envelope.from,
                envelope.message,
                envelope.term,
                missing.unwrap_or_default()
            )
        })
    }
}

fn term_missing(on_disk: HardState, envelope: &Envelope) -> Option<String> {
    (on_disk.term < envelope.term).then(|| format!("term {}, has {}", envelope.term, on_disk.term))
}

fn vote_missing(
    on_disk: HardState,
    envelope: &Envelope,
    candidate: quorate_raft::MemberId,
) -> Option<String> {
    let held = on_disk.term > envelope.term
        || (on_disk.term == envelope.term && on_disk.vote == Some(candidate));
    (!held).then(|| {
        format!(
            "the vote for {candidate} in term {}, has {on_disk:?}",
            envelope.term
        )
    })
}
