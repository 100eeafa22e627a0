//! The one place where members are counted. Elections, commit, reads and check-quorum all decide
//! here, so that a joint membership needs both of its halves everywhere (thesis §4.3).
//!
//! Nothing allocates: voter sets are small, and counting for each candidate value is cheaper than
//! sorting a copy. `tests/quorum.rs` compares the result with a slow, obvious version.

use crate::membership::Membership;
use crate::types::MemberId;
use alloc::collections::BTreeSet;

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A quorum said yes.
    Won,
    /// A quorum can no longer be reached.
    Lost,
    /// Answers are missing.
    Open,
}

/// How many members of a set of `size` are a majority.
#[must_use]
pub const fn majority(size: usize) -> usize {
    size / 2 + 1
}

/// The highest value that a quorum has reached: with the matched index of each member, what may be
/// committed; with the round each has answered, what is confirmed. 0 for an empty membership.
pub fn reached(membership: &Membership, value: impl Fn(MemberId) -> u64) -> u64 {
    let incoming = reached_by_majority(&membership.voters, &value);
    if membership.is_joint() {
        incoming.min(reached_by_majority(&membership.outgoing, &value))
    } else {
        incoming
    }
}

/// The highest value that a majority of `voters` has reached.
pub fn reached_by_majority(voters: &BTreeSet<MemberId>, value: impl Fn(MemberId) -> u64) -> u64 {
    let mut best = 0;
    for candidate in voters.iter().map(|id| value(*id)) {
        if candidate > best {
            let supporters = voters.iter().filter(|id| value(**id) >= candidate).count();
            if supporters >= majority(voters.len()) {
                best = candidate;
            }
        }
    }
    best
}

/// Whether a quorum satisfies `yes`.
pub fn agrees(membership: &Membership, yes: impl Fn(MemberId) -> bool) -> bool {
    let by_majority = |voters: &BTreeSet<MemberId>| {
        voters.iter().filter(|id| yes(**id)).count() >= majority(voters.len())
    };
    by_majority(&membership.voters) && (!membership.is_joint() || by_majority(&membership.outgoing))
}

/// How an election stands, given what each voter has answered.
pub fn tally(membership: &Membership, vote: impl Fn(MemberId) -> Option<bool>) -> Tally {
    if agrees(membership, |id| vote(id) == Some(true)) {
        Tally::Won
    } else if agrees(membership, |id| vote(id) != Some(false)) {
        Tally::Open
    } else {
        Tally::Lost
    }
}
