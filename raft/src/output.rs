//! What a step asks for. Everything the core wants from the world is in [`Output`]; the order in
//! which the fields may be carried out is their documentation, and is the whole contract.

use crate::message::{Entry, Envelope};
use crate::types::{EntryId, HardState, LogIndex, MemberId, PersistId, ReadId, Term};
use alloc::vec::Vec;

/// All that one or several inputs ask for; drained by the driver, then reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Hard state and entries to make durable, oldest first. Several may be in flight; report each
    /// by [`crate::Node::persisted`], in any order.
    pub persist: Vec<Persist>,
    /// May leave at once, even while `persist` is being synced.
    pub messages: Vec<Envelope>,
    /// Votes and acknowledgements: each may leave only once the persist it names, and every
    /// earlier one, is durable.
    pub after_persist: Vec<(PersistId, Envelope)>,
    /// Committed entries, in log order, each exactly once.
    pub apply: Vec<Entry>,
    /// Confirmed reads: answer when applied has reached the floor.
    pub reads: Vec<ReadFloor>,
    /// Peers that need a snapshot because the log no longer reaches back far enough. The driver
    /// sends one and reports the outcome by [`crate::Node::snapshot_sent`].
    pub snapshots: Vec<SnapshotWanted>,
    /// Facts worth logging or counting.
    pub notices: Vec<Notice>,
}

/// Something to make durable, as one unit. The order within: hard state, cut, entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Its name, for [`crate::Node::persisted`].
    pub id: PersistId,
    /// The new (term, vote), when it changed.
    pub hard_state: Option<HardState>,
    /// Entries to append. The first may stand at or below the last one written: then the log is
    /// first cut at that position (a logical record in the WAL, never an overwrite).
    pub entries: Vec<Entry>,
}

/// A confirmed read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFloor {
    /// The caller's name for the read.
    pub read: ReadId,
    /// What became of it.
    pub outcome: ReadOutcome,
}

/// How a read ended. Every registered read ends (E3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Linearizable once everything up to here is applied.
    Floor(LogIndex),
    /// Leadership was lost or the leader could not confirm; try again.
    Dropped,
}

/// A peer that cannot be served from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotWanted {
    /// Who needs it.
    pub to: MemberId,
    /// The term we lead: what the receiver's [`crate::Node::install_snapshot`] must be given, even
    /// if we have moved on to another term meanwhile (D5).
    pub term: Term,
    /// The snapshot must contain at least this index.
    pub at_least: LogIndex,
}

/// The four roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleKind {
    /// Receives.
    Follower,
    /// Asks whether a campaign would succeed (thesis §9.6).
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// A fact for logs, metrics and scripts. The core never logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The role changed.
    RoleChanged {
        /// Before.
        from: RoleKind,
        /// After.
        to: RoleKind,
        /// In this term.
        term: Term,
        /// Why, for people.
        why: RoleChange,
    },
    /// The known leader changed (`None`: nobody is known to lead).
    LeaderChanged {
        /// The leader now.
        leader: Option<MemberId>,
        /// In this term.
        term: Term,
    },
    /// A vote or pre-vote was refused.
    VoteRefused {
        /// Who asked.
        candidate: MemberId,
        /// Why not.
        why: Refusal,
    },
    /// A membership came into force or was rolled back.
    MembershipChanged {
        /// Index of its entry.
        index: LogIndex,
        /// Whether a cut of the log restored it.
        rolled_back: bool,
    },
    /// A conflicting tail was cut from the log.
    LogCut {
        /// First index removed.
        from: LogIndex,
    },
    /// A transfer of leadership ended without the target leading.
    TransferAborted {
        /// The target.
        to: MemberId,
    },
    /// A message was ignored because its sender cannot know better.
    MessageIgnored {
        /// From whom.
        from: MemberId,
        /// A short name of the kind and reason, fixed text.
        what: &'static str,
    },
    /// The log was replaced by a snapshot.
    SnapshotInstalled {
        /// What it contains.
        last: EntryId,
    },
}

/// Why a role changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleChange {
    /// The election timeout passed without a leader.
    ElectionTimeout,
    /// Asked to campaign (transfer or by the operator of a test).
    CampaignRequested,
    /// A quorum said yes.
    Won,
    /// A quorum said no, or a higher term or a leader was seen.
    Lost,
    /// A message of a higher term arrived.
    HigherTerm,
    /// Heard from too few voters for an election timeout (thesis §6.2).
    QuorumLost,
    /// The leader removed itself and the removal has committed.
    Removed,
}

/// Why a vote was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The candidate's log is behind ours.
    LogBehind {
        /// Our last entry.
        ours: EntryId,
        /// The candidate's.
        theirs: EntryId,
    },
    /// Our vote of this term went to another.
    AlreadyVoted(MemberId),
    /// We hear from a leader.
    LeaderAlive(MemberId),
    /// The request is of an older term.
    OldTerm,
    /// We are under repair: our log may lack what we have acknowledged.
    Repairing,
}

/// A view of the core for status, metrics and the planner's gates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: MemberId,
    /// Its role.
    pub role: RoleKind,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as known.
    pub leader: Option<MemberId>,
    /// Commit index.
    pub commit: LogIndex,
    /// Handed out for applying up to here.
    pub applied: LogIndex,
    /// Last entry in the log.
    pub last: EntryId,
    /// Longest prefix durable here.
    pub durable: LogIndex,
    /// First index still in memory.
    pub first: LogIndex,
    /// Index of the newest membership entry (the config index of compare-and-set).
    pub membership_index: LogIndex,
    /// Whether that entry has committed and the membership is not joint.
    pub membership_settled: bool,
    /// Running transfer, if any.
    pub transferring_to: Option<MemberId>,
    /// On the leader: one row per peer.
    pub peers: Vec<PeerStatus>,
}

/// One peer, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Which.
    pub id: MemberId,
    /// Known durable up to here.
    pub matched: LogIndex,
    /// Next index to send.
    pub next: LogIndex,
    /// Ticks since it last accepted us as leader in this term; 0 for ourselves.
    pub silent_ticks: u32,
    /// It waits for a snapshot.
    pub snapshotting: bool,
}
