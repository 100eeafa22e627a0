//! What a [`crate::Node`] is started with: its limits, and what start-up found on disk.
//!
//! Assumes the driver has verified the data (checksums, identity). Must not know where it was kept.

use crate::message::{Entry, SnapshotMeta};
use crate::types::{HardState, LogIndex, MemberId};
use alloc::vec::Vec;

/// Identity and limits of one member's core; fixed for the life of a [`crate::Node`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This member. Need not be in the membership (yet, or any more).
    pub id: MemberId,
    /// Base of the election timeout. The timeout in force is a pure function of (seed, id, term,
    /// attempt) in `election_ticks..2 * election_ticks`.
    pub election_ticks: u32,
    /// A leader sends a heartbeat every so many ticks; less than `election_ticks`.
    pub heartbeat_ticks: u32,
    /// Seed of the election jitter: the only randomness there is.
    pub seed: u64,
    /// Payload bytes of one append; a single larger entry still travels, alone.
    pub append_bytes_max: usize,
    /// Appends in flight to one peer.
    pub inflight_appends_max: usize,
    /// Payload bytes in flight to one peer.
    pub inflight_bytes_max: usize,
    /// Payload bytes a leader holds above its commit index; beyond it proposals are refused (B16).
    pub uncommitted_bytes_max: usize,
    /// Reads waiting for their floor; beyond it reads are refused.
    pub pending_reads_max: usize,
    /// A learner may become a voter when it is known to hold all but this many committed entries.
    pub promote_lag_max: u64,
    /// Which planted bug is alive (its row in the matrix of planted bugs); 0 for none. Exists only
    /// in builds that prove the simulator.
    #[cfg(planted)]
    pub planted: u32,
}

/// What start-up found on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// The newest snapshot, or the base of the log. A new cluster starts with `last` 0/0 and its
    /// first membership here; a member that joins starts with the default: an empty membership.
    pub snapshot: SnapshotMeta,
    /// The log after `snapshot.last`, contiguous. May reach below `applied`.
    pub entries: Vec<Entry>,
    /// A commit index found on disk; only a hint, clamped to the log (W10).
    pub commit: LogIndex,
    /// The state machine already contains everything up to here. Under repair, an entry of which
    /// it is certain that the log is right up to there; under [`Repair::State`], the log's base.
    pub applied: LogIndex,
    /// What has been lost of what this member may have promised to keep.
    pub repair: Option<Repair>,
}

/// What a member has lost. Until [`crate::Node::repaired`] it neither votes nor campaigns, and its
/// answers count toward no quorum.
///
/// An entry that it has acknowledged and lost may be committed by that acknowledgement. Whoever is
/// elected without this member's vote holds the entry all the same, since any other majority
/// overlaps with the one that committed it in somebody else. So the repair has ended when the log
/// is durably that of a leader, up to an entry which that leader has appended after the member was
/// started: everything acknowledged before is then here again, or was never committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Entries of the log.
    Log,
    /// The state machine: a snapshot comes first, whatever the log holds.
    State,
}
