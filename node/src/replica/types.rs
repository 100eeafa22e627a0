//! What callers of the replica say and hear: plain values, no channels, no locks.
//!
//! Must not know: how a request travels, which thread answers it, HTTP or gRPC.

use crate::kv::Member;
use std::sync::Arc;
use std::time::Duration;

/// Why a request has no result.
///
/// [`RequestError::outcome_unknown`] tells whether a write may have happened all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody is known to lead, and nobody was found within the time a request waits for one.
    #[error("no leader")]
    NoLeader,
    /// Leadership changed while the request was under way.
    #[error("leader changed")]
    LeaderChanged,
    /// The deadline passed.
    #[error("request timed out")]
    Timeout,
    /// The deadline passed, and the request began around the loss of a leader.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailure,
    /// The deadline passed, and the needed peers have not been connected since the request began.
    #[error("request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// A queue is full. Nothing was proposed.
    #[error("too many requests")]
    TooManyRequests,
    /// The encoded request is larger than the configured limit. Nothing was proposed.
    #[error("request is too large: {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Size of the encoded request.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The node is stopping or has stopped.
    #[error("server stopped")]
    Stopped,
    /// The node belongs to no cluster yet.
    #[error("this node has not joined a cluster: send Bootstrap or Join to its admin service")]
    Unjoined,
    /// The node was a member and has been removed for good.
    #[error("this member was removed from its cluster")]
    Removed,
    /// This member has lost a part of its log or state, and the leader is sending it again.
    #[error(
        "this member has lost data and is being repaired from the leader: ask another member, or \
         try again"
    )]
    Repairing,
    /// The data directory of this member has forgotten what the member promised.
    #[error(
        "the data directory of this member is an older copy, or a new one under an old ID: \
         remove the member and add a new one with an empty directory"
    )]
    Stale,
    /// The data directory of this member is of an epoch that has ended.
    #[error(
        "the data directory of this member is of epoch {epoch} and epoch {told} has begun: a lost \
         quorum was recovered without this member, so it stays out"
    )]
    Fenced {
        /// The directory's.
        epoch: u64,
        /// The one this node is told to take part in.
        told: u64,
    },
}

impl RequestError {
    /// Whether a write that ended so may nevertheless have happened (N4).
    #[must_use]
    pub const fn outcome_unknown(&self) -> bool {
        match self {
            Self::LeaderChanged
            | Self::Timeout
            | Self::TimeoutLeaderFailure
            | Self::TimeoutConnectionLost
            | Self::Stopped
            | Self::Removed => true,
            Self::NoLeader
            | Self::TooManyRequests
            | Self::TooLarge { .. }
            | Self::Unjoined
            | Self::Repairing
            | Self::Stale
            | Self::Fenced { .. } => false,
        }
    }
}

/// Why a membership or admin call was refused or has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The call failed as any request may.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The membership is not the one the caller decided on: read it again and decide anew.
    #[error("the membership has changed: expected index {expected}, current index {current}")]
    ConfigChanged {
        /// What the caller expected.
        expected: u64,
        /// Index of the newest membership entry.
        current: u64,
    },
    /// Another change has not committed yet, or leadership is too young: try again.
    #[error("another membership change is in progress")]
    ChangePending,
    /// No such member; on removal that means done.
    #[error("member not found")]
    MemberNotFound,
    /// The ID is a member's.
    #[error("member ID already exist")]
    MemberIdExists,
    /// The ID was a member's; IDs are never used twice.
    #[error("this member ID was removed and never returns")]
    MemberIdRemoved,
    /// A peer URL belongs to another member.
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    /// The list of peer URLs is empty or one is malformed.
    #[error("given member URLs are invalid: {url:?}")]
    InvalidPeerUrls {
        /// The offending URL; empty when there was none.
        url: String,
    },
    /// Only learners can be promoted.
    #[error("can only promote a learner member")]
    NotLearner,
    /// The learner is too far behind the leader.
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// More learners than the limit.
    #[error("too many learner members in cluster")]
    TooManyLearners,
    /// The quorum after the change would rest on members that never started.
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Too few members are connected for the change to be safe.
    #[error("unhealthy cluster")]
    Unhealthy,
    /// Only the leader can answer this.
    #[error("not leader")]
    NotLeader,
    /// The target of a transfer is unknown or a learner.
    #[error("bad leader transferee")]
    BadTransferee,
    /// The target did not take over in time.
    #[error("request timed out, leader transfer took too long")]
    TransferTimeout,
    /// This node already has an identity, and it is another one.
    #[error("this node already is member {member_id:x} of cluster {cluster}")]
    AlreadyJoined {
        /// Its member ID.
        member_id: u64,
        /// UUID of its cluster, in hexadecimal.
        cluster: String,
    },
    /// The call cannot be carried out as asked; the text names the input and the remedy.
    #[error("{0}")]
    Invalid(String),
}

/// Where the life of a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Empty directory: waits for `Bootstrap` or `Join`.
    Unjoined,
    /// A member of its cluster.
    Joined,
    /// A member that has lost a part of its log or state, until the leader has sent it again:
    /// receives, does not vote, serves nothing.
    Repairing,
    /// A member whose directory is an older copy, or a new one under an old ID: stays out (W7).
    Stale,
    /// A member whose directory is of an epoch that has ended: neither votes, campaigns nor serves;
    /// it waits to be told to begin the new one, or to be replaced.
    Fenced,
    /// Was a member; stays out for good.
    Removed,
    /// Stopping: transfers leadership and finishes what was accepted.
    Stopping,
}

impl Phase {
    /// Fixed text, for labels and the admin service.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unjoined => "unjoined",
            Self::Joined => "joined",
            Self::Repairing => "repairing",
            Self::Stale => "stale",
            Self::Fenced => "fenced",
            Self::Removed => "removed",
            Self::Stopping => "stopping",
        }
    }
}

/// What this member does in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Votes and follows.
    Follower,
    /// Asks for votes, or asks whether to ask.
    Candidate,
    /// Leads.
    Leader,
    /// Only receives.
    Learner,
}

impl Role {
    /// Fixed text, for labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Learner => "learner",
        }
    }
}

/// What this node knows of one peer. Match and contact are known on the leader only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Which.
    pub id: u64,
    /// Known durable up to here; `None` when this node does not lead.
    pub matched: Option<u64>,
    /// Since it last answered us as leader; `None` when this node does not lead.
    pub last_contact: Option<Duration>,
    /// It is being sent a snapshot.
    pub snapshotting: bool,
    /// A connection to it is open now.
    pub connected: bool,
}

/// A cheap picture of the replica, replaced as a whole; fields belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Where the life of the node stands.
    pub phase: Phase,
    /// etcd's 64-bit cluster ID; 0 while unjoined.
    pub cluster_id: u64,
    /// UUID of the cluster's history; `None` while unjoined.
    pub cluster_uuid: Option<[u8; 16]>,
    /// This member; 0 while unjoined.
    pub member_id: u64,
    /// Identity of the data directory.
    pub directory_id: [u8; 16],
    /// Grows at every start.
    pub incarnation: u64,
    /// Which life of the cluster this member belongs to: 1 until a lost quorum was recovered by
    /// hand, which raises it; 0 while unjoined.
    pub epoch: u64,
    /// Raft's term.
    pub term: u64,
    /// Who leads; 0 for nobody known.
    pub leader: u64,
    /// What this member does.
    pub role: Role,
    /// Known committed.
    pub commit: u64,
    /// Executed by the state machine here.
    pub applied: u64,
    /// Durable in the log here.
    pub durable: u64,
    /// Last entry in the log.
    pub last: u64,
    /// Its term.
    pub last_term: u64,
    /// Index of the newest membership entry (expected by compare-and-set).
    pub membership_index: u64,
    /// Whether that entry has committed and no change is under way.
    pub membership_settled: bool,
    /// Members, sorted by ID.
    pub members: Arc<[Member]>,
    /// Peers, sorted by ID.
    pub peers: Vec<PeerView>,
}

/// A membership with what the leader knows about each member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipView {
    /// Index of the newest membership entry: pass it as `expected`.
    pub index: u64,
    /// Raft's term at the time of the answer.
    pub term: u64,
    /// Who leads; 0 for nobody known.
    pub leader: u64,
    /// Committed index when the view was taken.
    pub commit: u64,
    /// Members, sorted by ID.
    pub members: Arc<[Member]>,
    /// Peers as seen by the answering node.
    pub peers: Vec<PeerView>,
}

impl MembershipView {
    /// The member with this ID.
    #[must_use]
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }
}

/// `Bootstrap`: this node becomes the only member of a new cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// UUID of the new history.
    pub cluster_uuid: [u8; 16],
    /// ID of the first member, not zero.
    pub member_id: u64,
    /// Peer URLs of this node; empty for those it was configured with.
    pub peer_urls: Vec<String>,
}

/// `Join`: this node becomes a member that has been added to a running cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// UUID of the cluster's history.
    pub cluster_uuid: [u8; 16],
    /// The ID that `MemberAdd` recorded, not zero.
    pub member_id: u64,
    /// Peer URLs where members of the cluster may be found.
    pub seeds: Vec<String>,
    /// On a `removed` node: the member ID whose data may be discarded.
    pub displaces: Option<u64>,
}

/// `Recover`: this node begins a later epoch of its cluster as the only member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recover {
    /// UUID of the cluster's history.
    pub cluster_uuid: [u8; 16],
    /// The epoch that begins: the one this node was started with.
    pub epoch: u64,
}

/// `MemberAdd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAdd {
    /// Chosen by the caller; `None` derives it from URLs and time as etcd does.
    pub id: Option<u64>,
    /// Where peers will reach it.
    pub peer_urls: Vec<String>,
    /// Add as a learner.
    pub learner: bool,
    /// Compare-and-set on the membership index; `None` for etcd's unconditional form.
    pub expected: Option<u64>,
}

/// Whether a member may stop without costing the quorum, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanStop {
    /// The verdict.
    pub allowed: bool,
    /// For people: what speaks against it; empty when allowed.
    pub reason: String,
}
