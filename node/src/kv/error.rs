//! Why a request is refused, alike on every member, and why a member must stop.
//!
//! The texts for clients live in one table, `server/status.rs`; here is what happened.

use super::codec::DecodeError;
use super::types::Revision;
use crate::storage::revision_log;

/// A refusal. It depends on nothing but the command and the state before it, so every member
/// refuses alike and the client may be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An empty key in a request.
    #[error("key is not provided")]
    KeyNotProvided,
    /// `ignore_value` or `ignore_lease` on a missing key, or an empty operation in a txn.
    #[error("key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// More compares or operations than a txn may have.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// One branch of a txn writes a key twice.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// Sort order or target outside the enumeration.
    #[error("invalid sort option")]
    InvalidSortOption,
    /// Read below, or compaction at or below, the compacted revision.
    #[error("required revision has been compacted (compacted up to {compacted})")]
    Compacted {
        /// Revision of the newest compaction.
        compacted: Revision,
    },
    /// Read of, or compaction at, a revision the store has not reached.
    #[error("required revision is a future revision (the store is at {current})")]
    FutureRevision {
        /// The store's revision.
        current: Revision,
    },
    /// The lease to attach to does not exist.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The quota is used up, or a `NoSpace` alarm is active.
    #[error("database space exceeded")]
    NoSpace,
    /// The ID to add is a member's.
    #[error("member ID already exist")]
    MemberIdExists,
    /// The ID was a member's that is removed for good.
    #[error("this member ID was removed and never returns")]
    MemberIdRemoved,
    /// Another member has one of the peer URLs.
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    /// No member has this ID (any more).
    #[error("member not found")]
    MemberNotFound,
    /// The member to promote votes already.
    #[error("can only promote a learner member")]
    NotLearner,
    /// The cluster has its identity already; a second bootstrap is refused.
    #[error("the cluster is bootstrapped already")]
    AlreadyBootstrapped,
    /// This member cannot read its own history; others may. From readers only: while applying,
    /// the same trouble is [`Fatal`].
    #[error("the history cannot be read here: {0}")]
    Unreadable(String),
}

impl Error {
    /// Whether every member refuses alike: the client may be told, and should not try another
    /// member.
    #[must_use]
    pub fn is_deterministic(&self) -> bool {
        !matches!(self, Self::Unreadable(_))
    }
}

impl From<revision_log::Error> for Error {
    fn from(error: revision_log::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// The member must stop: it cannot say what the others do. Never answered to a client.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A committed command that this version cannot read.
    #[error(
        "entry {index} cannot be read ({reason}): this member is older than the one that wrote it, or the entry is damaged; install the version the other members run"
    )]
    UnreadableCommand {
        /// Log index of the entry.
        index: u64,
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// Membership data of a newer version, or damaged.
    #[error("the membership data cannot be read ({0}): install the version that wrote it")]
    UnreadableMembers(DecodeError),
    /// The state machine's history cannot be read or written.
    #[error(transparent)]
    Log(#[from] revision_log::Error),
}
