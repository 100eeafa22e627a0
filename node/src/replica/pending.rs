//! Who waits for what: proposals by their counter, reads by the round that confirms them.
//!
//! A proposal is *unsent*, or *sent in a term*. Log entries of one term are never created in a
//! later one, and a follower's proposals name the term they are meant for: so when an entry of a
//! newer term is applied here, everything sent in an older term and not applied yet will never be.
//! It is a definite "no", and may be proposed again without any risk of a second execution (N4).
//! Must not know: Raft's rules beyond that, sockets.

use super::input::{ProposeReply, ReadReply};
use super::types::RequestError;
use crate::kv::Applied;
use quorate_raft::{LogIndex, ReadId, Term};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Proposals of this node that wait for an answer. Beyond, new ones get `TooManyRequests`.
pub const PROPOSALS_MAX: usize = 65_536;
/// Reads of this node that wait for an answer. Beyond, new ones get `TooManyRequests`.
pub const READS_MAX: usize = 65_536;
/// Rounds of read confirmation in flight. What arrives during one shares the next: under load a
/// second one would only halve the batches, as the leader confirms one round at a time.
pub const READ_ROUNDS_MAX: usize = 1;
/// Rounds that were confirmed and wait for the state machine.
const CONFIRMED_MAX: usize = 4096;

/// Where an answer goes.
pub(super) enum Waiter {
    /// To a client of this node.
    Client(ProposeReply),
    /// To nobody: the node itself proposed.
    Nobody,
}

struct Proposal {
    command: Arc<[u8]>,
    waiter: Waiter,
    /// When it was taken, ms of the process clock.
    since_ms: u64,
    /// In which term it was sent; `None` while unsent.
    sent: Option<Term>,
}

/// Proposals of this node.
#[derive(Default)]
pub(super) struct Proposals {
    all: BTreeMap<u64, Proposal>,
    /// Counters of the unsent ones, in the order in which they go.
    unsent: BTreeSet<u64>,
}

impl Proposals {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn contains(&self, counter: u64) -> bool {
        self.all.contains_key(&counter)
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) fn add(&mut self, counter: u64, command: Arc<[u8]>, waiter: Waiter, now_ms: u64) {
        self.unsent.insert(counter);
        self.all.insert(
            counter,
            Proposal {
                command,
                waiter,
                since_ms: now_ms,
                sent: None,
            },
        );
    }

    /// Unsent commands from the front, up to `bytes_max` but at least one.
    pub(super) fn unsent(&self, bytes_max: usize) -> Vec<(u64, Arc<[u8]>)> {
        let mut bytes = 0;
        let mut found = Vec::new();
        for counter in &self.unsent {
            let Some(proposal) = self.all.get(counter) else {
                continue;
            };
            bytes += proposal.command.len();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push((*counter, Arc::clone(&proposal.command)));
        }
        found
    }

    /// These were handed to the leader of `term`.
    pub(super) fn mark_sent(&mut self, counters: impl Iterator<Item = u64>, term: Term) {
        for counter in counters {
            self.unsent.remove(&counter);
            if let Some(proposal) = self.all.get_mut(&counter) {
                proposal.sent = Some(term);
            }
        }
    }

    /// These, sent in `term`, did not reach the log, for certain: they go again. What was sent
    /// again in a later term meanwhile stays with the leader of that term.
    pub(super) fn mark_unsent(&mut self, counters: impl IntoIterator<Item = u64>, term: Term) {
        for counter in counters {
            if let Some(proposal) = self.all.get_mut(&counter)
                && proposal.sent == Some(term)
            {
                proposal.sent = None;
                self.unsent.insert(counter);
            }
        }
    }

    /// The leader of `term` has no room for these and did not propose them.
    pub(super) fn refuse(&mut self, counters: Vec<u64>, term: Term) {
        for counter in counters {
            let proposal = self.all.get(&counter);
            if proposal.is_some_and(|proposal| proposal.sent == Some(term)) {
                self.answer(counter, Err(RequestError::TooManyRequests));
            }
        }
    }

    /// An entry of `term` was applied: what was sent in an older term goes again.
    pub(super) fn term_applied(&mut self, term: Term) {
        for (counter, proposal) in &mut self.all {
            if proposal.sent.is_some_and(|sent| sent < term) {
                proposal.sent = None;
                self.unsent.insert(*counter);
            }
        }
    }

    /// A snapshot replaced the log up to an entry of `term`: what was sent until then may be
    /// contained in it.
    pub(super) fn snapshot_installed(&mut self, term: Term) {
        let lost: Vec<u64> = self
            .all
            .iter()
            .filter(|(_, proposal)| proposal.sent.is_some_and(|sent| sent <= term))
            .map(|(counter, _)| *counter)
            .collect();
        for counter in lost {
            self.answer(counter, Err(RequestError::LeaderChanged));
        }
    }

    pub(super) fn answer(&mut self, counter: u64, result: Result<Applied, RequestError>) {
        self.unsent.remove(&counter);
        if let Some(Proposal {
            waiter: Waiter::Client(reply),
            ..
        }) = self.all.remove(&counter)
        {
            // A client that has gone away is no error.
            let _ = reply.send(result);
        }
    }

    /// Ends what has waited too long: unsent ones after `unsent_ms_max` without a leader,
    /// everything after `ms_max`. Returns how many.
    pub(super) fn expire(
        &mut self,
        now_ms: u64,
        ms_max: u64,
        unsent_ms_max: Option<u64>,
        timeout: &RequestError,
    ) -> usize {
        // Counters grow with time, so the old ones are in front.
        let old = |(_, proposal): &(&u64, &Proposal)| proposal.since_ms + ms_max <= now_ms;
        let late: Vec<u64> = self
            .all
            .iter()
            .take_while(old)
            .map(|(counter, _)| *counter)
            .collect();
        let mut leaderless = Vec::new();
        if let Some(unsent_ms_max) = unsent_ms_max {
            let all = &self.all;
            let since = |counter: &u64| all.get(counter).map_or(0, |proposal| proposal.since_ms);
            let waiting = self.unsent.iter().copied();
            leaderless
                .extend(waiting.take_while(|counter| since(counter) + unsent_ms_max <= now_ms));
        }
        for counter in &late {
            let sent = self
                .all
                .get(counter)
                .is_some_and(|proposal| proposal.sent.is_some());
            let error = if sent {
                timeout.clone()
            } else {
                RequestError::NoLeader
            };
            self.answer(*counter, Err(error));
        }
        for counter in &leaderless {
            self.answer(*counter, Err(RequestError::NoLeader));
        }
        late.len() + leaderless.len()
    }

    /// Ends everything.
    pub(super) fn fail_all(&mut self, error: &RequestError) {
        let all: Vec<u64> = self.all.keys().copied().collect();
        for counter in all {
            self.answer(counter, Err(error.clone()));
        }
    }
}

struct WaitingRead {
    reply: ReadReply,
    since_ms: u64,
}

/// Reads that wait for the same confirmation.
struct Round {
    begun_ms: u64,
    reads: Vec<WaitingRead>,
}

/// Reads of this node.
#[derive(Default)]
pub(super) struct Reads {
    /// Not in any round yet.
    waiting: Vec<WaitingRead>,
    /// Rounds in flight.
    rounds: BTreeMap<ReadId, Round>,
    /// Confirmed; wait until this index is applied.
    confirmed: BTreeMap<LogIndex, Vec<WaitingRead>>,
    next: u64,
    len: usize,
}

impl Reads {
    /// Names rounds from `first` on.
    pub(super) fn new(first: u64) -> Self {
        Self {
            next: first,
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn add(&mut self, reply: ReadReply, now_ms: u64) {
        self.len += 1;
        self.waiting.push(WaitingRead {
            reply,
            since_ms: now_ms,
        });
    }

    /// Whether another round may begin.
    pub(super) fn has_room(&self) -> bool {
        self.rounds.len() < READ_ROUNDS_MAX && self.confirmed.len() < CONFIRMED_MAX
    }

    /// A fresh name for a round of all that wait, when there is room for one (E2).
    pub(super) fn next_round(&mut self) -> Option<ReadId> {
        if self.waiting.is_empty() || !self.has_room() {
            return None;
        }
        self.next += 1;
        Some(ReadId(self.next))
    }

    /// The round was registered; returns how many wait for it.
    pub(super) fn begin(&mut self, round: ReadId, now_ms: u64) -> usize {
        let reads = std::mem::take(&mut self.waiting);
        let len = reads.len();
        let begun_ms = now_ms;
        self.rounds.insert(round, Round { begun_ms, reads });
        len
    }

    /// How long a round has been in flight; 0 for one that is not.
    pub(super) fn round_age_ms(&self, round: ReadId, now_ms: u64) -> u64 {
        let begun_ms = self.rounds.get(&round).map(|round| round.begun_ms);
        begun_ms.map_or(0, |begun_ms| now_ms.saturating_sub(begun_ms))
    }

    /// The round is confirmed up to `floor`.
    pub(super) fn confirm(&mut self, round: ReadId, floor: LogIndex, applied: LogIndex) {
        let Some(Round { reads, .. }) = self.rounds.remove(&round) else {
            return;
        };
        if floor <= applied {
            self.finish(reads, &Ok(()));
        } else {
            self.confirmed.entry(floor).or_default().extend(reads);
        }
    }

    /// The round failed; whoever waits joins the next one.
    pub(super) fn retry(&mut self, round: ReadId) {
        if let Some(Round { mut reads, .. }) = self.rounds.remove(&round) {
            reads.append(&mut self.waiting);
            self.waiting = reads;
        }
    }

    /// The state machine has reached `applied`.
    pub(super) fn applied(&mut self, applied: LogIndex) {
        while let Some(entry) = self.confirmed.first_entry() {
            if *entry.key() > applied {
                return;
            }
            let reads = entry.remove();
            self.finish(reads, &Ok(()));
        }
    }

    /// Ends what has waited too long.
    pub(super) fn expire(
        &mut self,
        now_ms: u64,
        ms_max: u64,
        leaderless_ms_max: Option<u64>,
        timeout: &RequestError,
    ) {
        let mut late = Vec::new();
        let mut leaderless = Vec::new();
        let limit = leaderless_ms_max.unwrap_or(ms_max);
        let gone = self
            .waiting
            .extract_if(.., |read| read.since_ms + limit <= now_ms);
        leaderless.extend(gone);
        let rounds = self.rounds.values_mut().map(|round| &mut round.reads);
        for group in rounds.chain(self.confirmed.values_mut()) {
            late.extend(group.extract_if(.., |read| read.since_ms + ms_max <= now_ms));
        }
        self.finish(late, &Err(timeout.clone()));
        self.finish(leaderless, &Err(RequestError::NoLeader));
    }

    /// Ends everything.
    pub(super) fn fail_all(&mut self, error: &RequestError) {
        let mut all = std::mem::take(&mut self.waiting);
        let rounds = std::mem::take(&mut self.rounds).into_values();
        all.extend(rounds.flat_map(|round| round.reads));
        all.extend(std::mem::take(&mut self.confirmed).into_values().flatten());
        self.finish(all, &Err(error.clone()));
    }

    fn finish(&mut self, reads: Vec<WaitingRead>, result: &Result<(), RequestError>) {
        self.len -= reads.len();
        for read in reads {
            // A client that has gone away is no error.
            let _ = read.reply.send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Response, Revision};
    use tokio::sync::oneshot;

    type Answer<T> = oneshot::Receiver<Result<T, RequestError>>;

    fn proposal(proposals: &mut Proposals, counter: u64, now_ms: u64) -> Answer<Applied> {
        let (reply, answer) = oneshot::channel();
        let command = Arc::from(vec![0; 10]);
        proposals.add(counter, command, Waiter::Client(reply), now_ms);
        answer
    }

    fn counters(proposals: &Proposals) -> Vec<u64> {
        proposals
            .unsent(usize::MAX)
            .into_iter()
            .map(|(counter, _)| counter)
            .collect()
    }

    #[test]
    fn what_an_older_term_left_behind_is_proposed_again() {
        let mut proposals = Proposals::default();
        let mut first = proposal(&mut proposals, 1, 0);
        let _second = proposal(&mut proposals, 2, 0);
        proposals.mark_sent([1].into_iter(), Term(3));
        proposals.mark_sent([2].into_iter(), Term(4));
        assert!(!proposals.has_unsent());
        proposals.term_applied(Term(4));
        assert_eq!(counters(&proposals), [1]);
        assert!(
            first.try_recv().is_err(),
            "it is not answered: it goes again"
        );
    }

    #[test]
    fn what_a_snapshot_may_contain_is_unknown_and_never_proposed_again() {
        let mut proposals = Proposals::default();
        let mut sent = proposal(&mut proposals, 1, 0);
        let _unsent = proposal(&mut proposals, 2, 0);
        proposals.mark_sent([1].into_iter(), Term(3));
        proposals.snapshot_installed(Term(3));
        let error = sent.try_recv().unwrap().unwrap_err();
        assert!(error.outcome_unknown());
        assert_eq!(counters(&proposals), [2]);
    }

    #[test]
    fn g16_a_late_refusal_neither_repeats_nor_fails_what_another_leader_has_taken() {
        let mut proposals = Proposals::default();
        let mut answer = proposal(&mut proposals, 1, 0);
        proposals.mark_sent([1].into_iter(), Term(5));
        proposals.term_applied(Term(6));
        proposals.mark_sent([1].into_iter(), Term(6));
        proposals.mark_unsent([1], Term(5));
        assert!(!proposals.has_unsent(), "it would be applied twice");
        proposals.refuse(vec![1], Term(5));
        assert!(answer.try_recv().is_err(), "it may still be applied");
        proposals.mark_unsent([1], Term(6));
        assert_eq!(counters(&proposals), [1]);
    }

    #[test]
    fn a_batch_is_bounded_by_bytes_and_never_empty() {
        let mut proposals = Proposals::default();
        let _answers: Vec<_> = (0..5).map(|n| proposal(&mut proposals, n, 0)).collect();
        assert_eq!(proposals.unsent(25).len(), 2);
        assert_eq!(proposals.unsent(1).len(), 1);
    }

    #[test]
    fn expiry_tells_a_definite_no_from_an_unknown_outcome() {
        let mut proposals = Proposals::default();
        let mut sent = proposal(&mut proposals, 1, 0);
        let mut unsent = proposal(&mut proposals, 2, 0);
        let mut young = proposal(&mut proposals, 3, 90);
        proposals.mark_sent([1].into_iter(), Term(1));
        let expired = proposals.expire(100, 100, None, &RequestError::Timeout);
        assert_eq!(expired, 2);
        assert_eq!(sent.try_recv().unwrap(), Err(RequestError::Timeout));
        assert_eq!(unsent.try_recv().unwrap(), Err(RequestError::NoLeader));
        assert!(young.try_recv().is_err());
        assert_eq!(
            proposals.expire(100, 100, Some(10), &RequestError::Timeout),
            1
        );
        assert_eq!(young.try_recv().unwrap(), Err(RequestError::NoLeader));
    }

    #[test]
    fn answers_find_their_waiter_once() {
        let mut proposals = Proposals::default();
        let mut answer = proposal(&mut proposals, 7, 0);
        let applied = Applied {
            revision: Revision(2),
            result: Ok(Response::Done),
        };
        proposals.answer(7, Ok(applied.clone()));
        proposals.answer(7, Err(RequestError::Timeout));
        assert_eq!(answer.try_recv().unwrap(), Ok(applied));
        assert_eq!(proposals.len(), 0);
    }

    fn read(reads: &mut Reads) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        reads.add(reply, 0);
        answer
    }

    #[test]
    fn e02_a_retried_read_gets_a_fresh_round() {
        let mut reads = Reads::default();
        let mut answer = read(&mut reads);
        let first = reads.next_round().unwrap();
        assert_eq!(reads.begin(first, 0), 1);
        reads.retry(first);
        let second = reads.next_round().unwrap();
        assert_ne!(first, second);
        reads.begin(second, 0);
        reads.confirm(first, LogIndex(1), LogIndex(1));
        assert!(answer.try_recv().is_err(), "the old round confirms nothing");
        reads.confirm(second, LogIndex(1), LogIndex(1));
        assert_eq!(answer.try_recv().unwrap(), Ok(()));
    }

    #[test]
    fn e07_a_confirmed_read_waits_for_the_state_machine() {
        let mut reads = Reads::default();
        let mut answer = read(&mut reads);
        let round = reads.next_round().unwrap();
        reads.begin(round, 0);
        reads.confirm(round, LogIndex(9), LogIndex(8));
        assert!(answer.try_recv().is_err());
        reads.applied(LogIndex(8));
        assert!(answer.try_recv().is_err());
        reads.applied(LogIndex(9));
        assert_eq!(answer.try_recv().unwrap(), Ok(()));
        assert_eq!(reads.len(), 0);
    }

    #[test]
    fn one_round_serves_all_that_wait_and_rounds_are_bounded() {
        let mut reads = Reads::default();
        let _answers: Vec<_> = (0..3).map(|_| read(&mut reads)).collect();
        let round = reads.next_round().unwrap();
        assert_eq!(reads.begin(round, 0), 3);
        assert!(reads.next_round().is_none(), "nobody waits");
        let more = (1..READ_ROUNDS_MAX).map(|_| {
            let answer = read(&mut reads);
            let round = reads.next_round().unwrap();
            reads.begin(round, 0);
            answer
        });
        let _more: Vec<_> = more.collect();
        let _last = read(&mut reads);
        assert!(reads.next_round().is_none(), "no room for another round");
    }

    #[test]
    fn the_age_of_a_round_counts_from_its_beginning() {
        let mut reads = Reads::new(0);
        let (reply, _answer) = oneshot::channel();
        reads.add(reply, 10);
        let round = reads.next_round().unwrap();
        reads.begin(round, 100);
        assert_eq!(reads.round_age_ms(round, 650), 550);
        reads.confirm(round, LogIndex(1), LogIndex(1));
        assert_eq!(reads.round_age_ms(round, 650), 0, "it is over");
    }
}
