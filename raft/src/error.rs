//! Why the core refuses a request: one small enum per entry point, each carrying values.
//!
//! Nothing has changed when one of these is returned. A broken invariant is not here: it panics.

use crate::types::{LogIndex, MemberId, Term};
use core::fmt;

/// Why a node cannot start from what was found on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// A limit of the configuration makes no sense; the text names it.
    Config(&'static str),
    /// An entry does not follow the one before it.
    NotContiguous {
        /// The index that was needed.
        expected: LogIndex,
        /// The index that was found.
        found: LogIndex,
    },
    /// The term of an entry is older than that of the one before it, or newer than the term of the
    /// hard state, which is made durable first.
    TermOrder {
        /// The entry.
        index: LogIndex,
        /// Its term.
        found: Term,
    },
    /// The state machine contains more than the log and the snapshot do (W10).
    AppliedBeyondLog {
        /// What is applied.
        applied: LogIndex,
        /// The end of the log.
        last: LogIndex,
    },
    /// The state machine lacks entries that the log no longer holds.
    AppliedBeforeLog {
        /// What is applied.
        applied: LogIndex,
        /// What the snapshot at the base of the log contains.
        base: LogIndex,
    },
    /// A membership that no log could have produced; the index of its entry.
    Membership(LogIndex),
}

/// Why commands were not proposed. None of them was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// Only the leader appends; here is who leads, as far as known.
    NotLeader(Option<MemberId>),
    /// Leadership is being handed to this member.
    Transferring(MemberId),
    /// Too many bytes wait to be committed: wait and try again (B16).
    TooMuchUncommitted,
}

/// Why a change of membership was not proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// Only the leader changes the membership; here is who leads, as far as known.
    NotLeader(Option<MemberId>),
    /// Leadership is being handed to this member.
    Transferring(MemberId),
    /// The newest membership is not committed yet, or is joint: one change at a time (C2).
    Pending,
    /// The caller decided on another membership than the one in force.
    StaleIndex {
        /// Index of the membership in force.
        current: LogIndex,
    },
    /// This leader has not committed an entry of its own term yet (C1): try again shortly.
    TermNotCommitted,
    /// The learner to be promoted lacks too much of the log (C13).
    LearnerBehind {
        /// The learner.
        member: MemberId,
        /// What it is known to hold durably.
        matched: LogIndex,
        /// What is committed.
        commit: LogIndex,
    },
    /// Too few voters answer now: the group could lose its quorum (C15). Of the next voters, where
    /// one that is not a learner yet does not count: add it as a learner first. Or, if the leader
    /// would give up its own vote, of the present ones without it: transfer leadership first.
    QuorumAtRisk {
        /// Voters that answer.
        alive: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The change does not fit the membership in force.
    Invalid(InvalidChange),
}

/// Why a change does not fit the membership in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidChange {
    /// The list of changes is empty.
    Nothing,
    /// No voter would be left.
    NoVoters,
    /// Not in the membership.
    UnknownMember(MemberId),
    /// Already a voter.
    AlreadyVoter(MemberId),
    /// Already a learner.
    AlreadyLearner(MemberId),
    /// Named by more than one of the changes.
    NamedTwice(MemberId),
    /// The ID 0 names nobody.
    ZeroId,
}

/// Why a read was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Nobody is known to lead: try again after an election.
    NoLeader,
    /// Too many reads wait for their floor.
    TooManyReads,
}

/// Why a transfer of leadership was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// Only the leader can hand over its office; here is who leads, as far as known.
    NotLeader(Option<MemberId>),
    /// The target already leads.
    AlreadyLeader,
    /// The target is not a voter of the membership in force (of the incoming one while joint).
    NotVoter(MemberId),
    /// Another transfer is running, to this member.
    Running(MemberId),
}

/// What became of a snapshot that was offered to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum InstallOutcome {
    /// The log now begins after the snapshot; apply state must be that of the snapshot.
    Installed,
    /// It contains nothing new, or comes from an older term: state and log stay as they are.
    Ignored,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(what) => write!(f, "invalid limit: {what}"),
            Self::NotContiguous { expected, found } => {
                write!(
                    f,
                    "the log has entry {found} where entry {expected} was expected"
                )
            }
            Self::TermOrder { index, found } => {
                write!(
                    f,
                    "entry {index} of the log has term {found}, which is out of order"
                )
            }
            Self::AppliedBeyondLog { applied, last } => {
                write!(
                    f,
                    "the state machine contains entry {applied}, but the log ends at {last}"
                )
            }
            Self::AppliedBeforeLog { applied, base } => {
                write!(
                    f,
                    "the state machine ends at entry {applied}, but the log begins after {base}"
                )
            }
            Self::Membership(index) => {
                write!(f, "the membership of entry {index} contradicts itself")
            }
        }
    }
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader(leader) => not_leader(f, *leader),
            Self::Transferring(to) => transferring(f, *to),
            Self::TooMuchUncommitted => write!(f, "too many bytes wait to be committed"),
        }
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader(leader) => not_leader(f, *leader),
            Self::Transferring(to) => transferring(f, *to),
            Self::Pending => write!(f, "another change of membership is pending"),
            Self::StaleIndex { current } => {
                write!(f, "the membership has changed; its index is now {current}")
            }
            Self::TermNotCommitted => {
                write!(
                    f,
                    "the leader has not committed an entry of its own term yet"
                )
            }
            Self::LearnerBehind {
                member,
                matched,
                commit,
            } => {
                write!(
                    f,
                    "learner {member} holds entries up to {matched}, {commit} are committed"
                )
            }
            Self::QuorumAtRisk { alive, needed } => {
                write!(
                    f,
                    "{needed} voters must answer for this change, and {alive} do"
                )
            }
            Self::Invalid(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for InvalidChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "no change given"),
            Self::NoVoters => write!(f, "no voter would be left"),
            Self::UnknownMember(id) => write!(f, "member {id} is not in the membership"),
            Self::AlreadyVoter(id) => write!(f, "member {id} is a voter already"),
            Self::AlreadyLearner(id) => write!(f, "member {id} is a learner already"),
            Self::NamedTwice(id) => write!(f, "member {id} is named twice"),
            Self::ZeroId => write!(f, "0 is not a member ID"),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => write!(f, "no leader is known"),
            Self::TooManyReads => write!(f, "too many reads are waiting"),
        }
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader(leader) => not_leader(f, *leader),
            Self::AlreadyLeader => write!(f, "the target leads already"),
            Self::NotVoter(id) => write!(f, "member {id} is not a voter"),
            Self::Running(to) => transferring(f, *to),
        }
    }
}

fn not_leader(f: &mut fmt::Formatter<'_>, leader: Option<MemberId>) -> fmt::Result {
    match leader {
        Some(id) => write!(f, "not the leader; member {id} leads"),
        None => write!(f, "not the leader; none is known"),
    }
}

fn transferring(f: &mut fmt::Formatter<'_>, to: MemberId) -> fmt::Result {
    write!(f, "leadership is being transferred to member {to}")
}

impl core::error::Error for StartError {}
impl core::error::Error for ProposeError {}
impl core::error::Error for ChangeError {}
impl core::error::Error for ReadError {}
impl core::error::Error for TransferError {}
