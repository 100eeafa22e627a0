//! Who counts: voters, learners, and the outgoing voters while a change is joint (thesis §4.3).
//!
//! A membership takes effect when it is appended and is undone when its entry is cut.

use crate::types::MemberId;
use alloc::collections::BTreeSet;

/// Voters and learners in force (the thesis says configuration).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Members that vote and count for quorum (the incoming set while joint).
    pub voters: BTreeSet<MemberId>,
    /// The voters being left behind; not empty exactly while the membership is joint.
    pub outgoing: BTreeSet<MemberId>,
    /// Members that only receive; disjoint from both voter sets, except that a voter on its way
    /// out may be named in `learners_next` until the joint phase ends.
    pub learners: BTreeSet<MemberId>,
    /// Outgoing voters that become learners when the joint phase ends.
    pub learners_next: BTreeSet<MemberId>,
}

/// One wish about one member. Several form a change, decided together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add as a learner, or demote a voter to one.
    AddLearner(MemberId),
    /// Add as a voter, or promote a learner.
    AddVoter(MemberId),
    /// Remove a voter or learner.
    Remove(MemberId),
}
