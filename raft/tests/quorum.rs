//! B2: counting, against a second version that is slow and obvious: a value is reached if some
//! majority of the voters, found by trying all subsets, has it.

use quorate_raft::quorum::{Tally, agrees, reached, tally};
use quorate_raft::{MemberId, Membership};
use std::collections::{BTreeMap, BTreeSet};

type Values = BTreeMap<MemberId, u64>;

/// All voter sets of up to seven members; the second half of a joint one overlaps the first by any
/// number.
fn memberships() -> Vec<Membership> {
    let mut all = Vec::new();
    for incoming in 1..=7u64 {
        all.push(Membership::of_voters((1..=incoming).map(MemberId)));
        for outgoing in 1..=7u64 {
            for first in 1..=incoming + 1 {
                let outgoing = (first..first + outgoing).map(MemberId).collect();
                let voters = (1..=incoming).map(MemberId).collect();
                all.push(Membership {
                    voters,
                    outgoing,
                    ..Membership::default()
                });
            }
        }
    }
    all
}

/// Whether a majority of `voters` satisfies `yes`: tries every subset that is one.
fn some_majority(voters: &BTreeSet<MemberId>, yes: impl Fn(MemberId) -> bool) -> bool {
    let voters: Vec<MemberId> = voters.iter().copied().collect();
    (0u32..1 << voters.len()).any(|subset| {
        let chosen = |at: usize| subset >> at & 1 == 1;
        let size = (0..voters.len()).filter(|at| chosen(*at)).count();
        2 * size > voters.len() && (0..voters.len()).all(|at| !chosen(at) || yes(voters[at]))
    })
}

fn obvious(membership: &Membership, yes: impl Fn(MemberId) -> bool) -> bool {
    let outgoing = &membership.outgoing;
    some_majority(&membership.voters, &yes)
        && (outgoing.is_empty() || some_majority(outgoing, &yes))
}

struct Lcg(u64);

impl Lcg {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

#[test]
fn b02_commit_is_a_quorum_that_existed() {
    let mut rng = Lcg(2);
    for membership in memberships() {
        for _ in 0..8 {
            let range = 1 + rng.below(9);
            let values: Values = membership
                .all_voters()
                .map(|id| (id, rng.below(range)))
                .collect();
            let expected = (0..=range)
                .filter(|index| obvious(&membership, |id| values[&id] >= *index))
                .max()
                .unwrap();
            assert_eq!(
                reached(&membership, |id| values[&id]),
                expected,
                "{membership:?} {values:?}"
            );
        }
    }
}

#[test]
fn b02_an_election_is_won_by_a_quorum_and_lost_when_none_is_left() {
    let mut rng = Lcg(3);
    for membership in memberships() {
        for _ in 0..8 {
            let votes: Values = membership
                .all_voters()
                .map(|id| (id, rng.below(3)))
                .collect();
            let expected = if obvious(&membership, |id| votes[&id] == 1) {
                Tally::Won
            } else if obvious(&membership, |id| votes[&id] != 0) {
                Tally::Open
            } else {
                Tally::Lost
            };
            let vote = |id| [Some(false), Some(true), None][usize::try_from(votes[&id]).unwrap()];
            assert_eq!(
                tally(&membership, vote),
                expected,
                "{membership:?} {votes:?}"
            );
        }
    }
}

#[test]
fn nobody_agrees_in_an_empty_membership() {
    let empty = Membership::default();
    assert!(!agrees(&empty, |_| true));
    assert_eq!(reached(&empty, |_| 9), 0);
}
