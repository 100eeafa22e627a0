//! Proposals on their way to the log: our own, and those that followers hand to us.
//!
//! A follower's proposals name the term they are meant for and are proposed in no other. What it
//! sends waits here only while the core has no room, up to a bound in number and bytes; beyond,
//! the follower hears "busy", which is a definite no.
//! May assume: commands of followers were checked on their way in (`sink`).

use super::Core;
use crate::replica::pending::PROPOSALS_MAX;
use crate::transport::{ForwardRefusal, PeerMessage};
use quorate_raft::{ProposeError, Term};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Payload bytes proposed to the core, or forwarded to the leader, at once.
pub(super) const PROPOSE_BYTES_MAX: usize = 4 << 20;
/// Payload bytes of followers' proposals that wait for room. Beyond, they are refused as busy.
pub(super) const FORWARDED_BYTES_MAX: usize = 64 << 20;

/// A proposal that a follower has handed to us.
struct Proposal {
    from: u64,
    /// The follower counts on it: in no other term is this proposed.
    term: Term,
    counter: u64,
    command: Arc<[u8]>,
}

/// Proposals of followers, to go into the next append of their term.
#[derive(Default)]
pub(in crate::replica) struct Forwarded {
    waiting: VecDeque<Proposal>,
    bytes: usize,
}

impl Forwarded {
    fn has_room(&self) -> bool {
        self.waiting.len() < PROPOSALS_MAX && self.bytes < FORWARDED_BYTES_MAX
    }

    fn push(&mut self, proposal: Proposal) {
        self.bytes += proposal.command.len();
        self.waiting.push_back(proposal);
    }

    fn pop(&mut self) -> Option<Proposal> {
        let proposal = self.waiting.pop_front()?;
        self.bytes -= proposal.command.len();
        Some(proposal)
    }

    /// Commands from the front, up to `bytes_max` but at least one.
    fn front(&self, bytes_max: usize) -> Vec<Arc<[u8]>> {
        let mut bytes = 0;
        let fits = |proposal: &&Proposal| {
            let first = bytes == 0;
            bytes += proposal.command.len();
            first || bytes <= bytes_max
        };
        let front = self.waiting.iter().take_while(fits);
        front
            .map(|proposal| Arc::clone(&proposal.command))
            .collect()
    }
}

impl Core {
    /// A follower hands us proposals for `term`.
    pub(super) fn take_forward(&mut self, from: u64, term: Term, commands: Vec<(u64, Arc<[u8]>)>) {
        let leads = self.leads() && self.raft.term() == term;
        if leads && !self.is_overloaded() && self.forwarded.has_room() {
            for (counter, command) in commands {
                self.forwarded.push(Proposal {
                    from,
                    term,
                    counter,
                    command,
                });
            }
            return;
        }
        let why = if leads {
            ForwardRefusal::Busy
        } else {
            ForwardRefusal::NotLeader
        };
        let counters = commands.into_iter().map(|(counter, _)| counter).collect();
        self.refuse_forward(from, term, why, counters);
    }

    /// Tells a follower that these were not proposed.
    pub(super) fn refuse_forward(
        &mut self,
        to: u64,
        term: Term,
        why: ForwardRefusal,
        counters: Vec<u64>,
    ) {
        self.send(
            to,
            PeerMessage::ForwardRefused {
                term,
                why,
                counters,
            },
        );
    }

    pub(super) fn propose_unsent(&mut self) {
        while self.proposals.has_unsent() {
            let batch = self.proposals.unsent(PROPOSE_BYTES_MAX);
            let (counters, mut commands): (Vec<u64>, Vec<Arc<[u8]>>) = batch.into_iter().unzip();
            match self.raft.propose(&mut commands, &mut self.out) {
                Ok(_) => {
                    self.counts.proposed += counters.len();
                    self.proposals
                        .mark_sent(counters.into_iter(), self.raft.term());
                }
                // They go later: after the transfer, or when something has committed.
                Err(
                    ProposeError::NotLeader(_)
                    | ProposeError::Transferring(_)
                    | ProposeError::TooMuchUncommitted,
                ) => return,
            }
        }
    }

    pub(super) fn propose_forwarded(&mut self) {
        // Led again in a later term, this member must not propose what was meant for the earlier
        // one: its sender may have sent it again.
        let term = self.raft.term();
        let mut waiting = self.forwarded.waiting.iter();
        if waiting.any(|forwarded| forwarded.term != term) {
            return self.refuse_forwarded();
        }
        while !self.forwarded.waiting.is_empty() {
            let mut commands = self.forwarded.front(PROPOSE_BYTES_MAX);
            let count = commands.len();
            match self.raft.propose(&mut commands, &mut self.out) {
                Ok(_) => {
                    self.counts.proposed += count;
                    (0..count).for_each(|_| drop(self.forwarded.pop()));
                }
                Err(ProposeError::NotLeader(_) | ProposeError::Transferring(_)) => {
                    return self.refuse_forwarded();
                }
                // Room comes with every commit. Meanwhile no more is taken than the bound.
                Err(ProposeError::TooMuchUncommitted) => return,
            }
        }
    }

    pub(super) fn refuse_forwarded(&mut self) {
        let mut refused: BTreeMap<(u64, Term), Vec<u64>> = BTreeMap::new();
        while let Some(forwarded) = self.forwarded.pop() {
            let counters = refused.entry((forwarded.from, forwarded.term)).or_default();
            counters.push(forwarded.counter);
        }
        for ((from, term), counters) in refused {
            self.refuse_forward(from, term, ForwardRefusal::NotLeader, counters);
        }
    }

    pub(super) fn forward_unsent(&mut self) {
        let Some(leader) = self.raft.leader() else {
            return;
        };
        let term = self.raft.term();
        while self.proposals.has_unsent() && self.connected.contains_key(&leader.0) {
            let commands = self.proposals.unsent(PROPOSE_BYTES_MAX);
            let counters: Vec<u64> = commands.iter().map(|(counter, _)| *counter).collect();
            self.proposals.mark_sent(counters.into_iter(), term);
            self.send(leader.0, PeerMessage::Forward { term, commands });
        }
    }
}
