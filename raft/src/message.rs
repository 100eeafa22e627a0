//! What members tell each other. Every meaning has its own variant or field: nothing means
//! something else because another field is zero.

use crate::membership::Membership;
use crate::types::{EntryId, LogIndex, MemberId, ReadId, Term};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One element of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands and who created it.
    pub id: EntryId,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The entry every leader appends at once after its election (opens commit and reads).
    Empty,
    /// A command for the state machine.
    Command(Arc<[u8]>),
    /// A new membership, in force from the moment it is appended.
    Membership {
        /// The membership after this entry.
        membership: Arc<Membership>,
        /// A command for the state machine that belongs to the change (names, addresses); may be
        /// empty, and is on the entry that leaves a joint membership.
        context: Arc<[u8]>,
    },
}

/// Where a snapshot stands: everything up to `last` is contained in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry contained.
    pub last: EntryId,
    /// The membership in force at `last` (not a newer one).
    pub membership: Membership,
    /// Index of the entry that brought `membership`; 0 for a bootstrap membership.
    pub membership_index: LogIndex,
}

/// A message with its addresses. `term` is the sender's, at the time of sending; for pre-vote
/// requests and granted answers it is the term that the campaign *would* have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who says it.
    pub from: MemberId,
    /// To whom.
    pub to: MemberId,
    /// The term it belongs to.
    pub term: Term,
    /// What is said.
    pub message: Message,
}

/// All that members say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Would you vote for me? Changes nothing at the receiver (thesis §9.6).
    PreVote {
        /// The candidate's last entry.
        last: EntryId,
    },
    /// Answer to `PreVote`. A refusal carries the voter's own term in the envelope (A11).
    PreVoteResponse {
        /// Whether the vote would be given.
        granted: bool,
    },
    /// Vote for me in this term.
    Vote {
        /// The candidate's last entry.
        last: EntryId,
        /// Set for a campaign started by leadership transfer: overrides stickiness (A17).
        transfer: bool,
    },
    /// Answer to `Vote`.
    VoteResponse {
        /// Whether the vote is given.
        granted: bool,
    },
    /// Entries to append after `prev`; empty to probe or to announce a commit.
    Append {
        /// The entry before the first of `entries`.
        prev: EntryId,
        /// New entries, contiguous.
        entries: Vec<Entry>,
        /// The leader's commit index, clamped to what this append proves.
        commit: LogIndex,
    },
    /// Answer to `Append`, and to an installed snapshot.
    AppendResponse {
        /// What became of it.
        outcome: AppendOutcome,
    },
    /// Keeps the leader in office; confirms reads.
    Heartbeat {
        /// `min(match, commit)`: never claims more than the follower is known to hold (B6).
        commit: LogIndex,
        /// Round number of this heartbeat, growing within a term; reads are confirmed by rounds
        /// that began after they were registered (E2).
        round: u64,
    },
    /// Answer to `Heartbeat`.
    HeartbeatResponse {
        /// The round it answers; 0 when it answers a heartbeat of an older term, and only teaches
        /// the newer one.
        round: u64,
    },
    /// A follower asks the leader for a read floor.
    ReadIndex {
        /// The follower's own name for the batch.
        read: ReadId,
    },
    /// The leader's answer to `ReadIndex`.
    ReadIndexResponse {
        /// The follower's name for the batch.
        read: ReadId,
        /// The floor, or `None` when the leader cannot confirm that it leads.
        floor: Option<LogIndex>,
    },
    /// Campaign at once: the leader hands over its office (thesis §3.10).
    TimeoutNow,
}

/// What became of an append at the follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The log agrees and is durable up to here.
    Matched {
        /// Last index known to agree with the sender's log, durable.
        last: LogIndex,
    },
    /// `prev` is not in the log.
    Conflict {
        /// Index of the `prev` that was refused: tells stale refusals apart (B4).
        refused: LogIndex,
        /// A position at or below which the logs may agree: skip back to it.
        hint: EntryId,
    },
    /// From a member under repair ([`crate::Repair`]), to appends and heartbeats alike: steers what
    /// it is sent next, and counts toward no quorum.
    Repairing {
        /// A position at or below which the logs may agree: go on behind it.
        hint: EntryId,
        /// What the member knows to be committed.
        commit: LogIndex,
        /// Its state machine is gone: entries are of no use to it before a snapshot.
        needs_snapshot: bool,
    },
}
