//! What a valid spec asks for, in the planner's words.
//!
//! Made only by `validate`; nobody reads the resource after it. Must not know: YAML, Kubernetes
//! types.

use crate::ids::{ClusterUuid, MemberId, Slot};

/// A validated spec: the part of it that the planner acts on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Desired {
    /// The cluster's name.
    pub name: String,
    /// Voting members wanted, 1 to 7.
    pub replicas: u32,
    /// The node version wanted, `0.1.0`.
    pub version: String,
    /// How a cluster that does not exist yet comes to be.
    pub bootstrap: Bootstrap,
    /// Size of a new volume, in bytes.
    pub storage_bytes: u64,
    /// What becomes of the volumes when the object is deleted.
    pub when_deleted: VolumePolicy,
    /// What becomes of the volume of a member that scaling removed.
    pub when_scaled: VolumePolicy,
    /// What to do about members that are lost.
    pub repair: Repair,
    /// Status and deletion only.
    pub paused: bool,
    /// Slots are stopped by a human when they are to begin anew; the operator only reports.
    pub manual_update: bool,
    /// How long a member must have been ready before the next is stopped, in milliseconds.
    pub min_ready_ms: i64,
    /// How long a member may take to serve again before the update counts as stalled, in
    /// milliseconds.
    pub progress_deadline_ms: i64,
    /// Stop every slot, keep volumes and membership.
    pub hibernate: bool,
    /// What humans ask for once.
    pub once: Vec<Once>,
    /// A human asks for the recovery from a lost quorum; in error, what is wrong with the words.
    pub recover_request: Option<Result<RecoverRequest, String>>,
    /// How long no quorum must have answered before a recovery begins, in milliseconds.
    pub min_outage_ms: i64,
    /// Digest of the settings that members are to have in force while they run.
    pub settings: String,
    /// Peer traffic is encrypted.
    pub tls_peer: bool,
    /// Client traffic is encrypted.
    pub tls_client: bool,
    /// Backups are scheduled.
    pub backup: bool,
    /// What is allowed and worth saying, each naming its field.
    pub warnings: Vec<String>,
}

impl Desired {
    /// Whether a human asks to replace this member in this slot.
    #[must_use]
    pub fn asks_to_replace(&self, slot: Slot, member: MemberId) -> bool {
        let wanted = Asks::Replace(ReplaceRequest { slot, member });
        self.once.iter().any(|request| request.asks == wanted)
    }

    /// Whether a human asks to abort what has this ID.
    #[must_use]
    pub fn asks_to_abort(&self, id: &str) -> bool {
        let mut all = self.once.iter();
        all.any(|request| request.asks == Asks::Abort && request.text == id)
    }
}

/// A human's request for one thing: carried out once, written down, then taken off the object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Once {
    /// The annotation it came by.
    pub annotation: &'static str,
    /// The request, word by word; whoever repeats it word by word asks for nothing new.
    pub text: String,
    /// What it asks for.
    pub asks: Asks,
}

/// What can be asked for once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asks {
    /// Replace a member in place.
    Replace(ReplaceRequest),
    /// Let the member in this slot lead.
    Lead(Slot),
    /// Abort the operation whose ID is the text.
    Abort,
}

/// How a cluster that does not exist yet comes to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bootstrap {
    /// Empty.
    New,
    /// From stamped volumes of a cluster whose object was lost.
    Adopt(ClusterUuid),
}

/// What becomes of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VolumePolicy {
    /// It is kept.
    Retain,
    /// It is deleted.
    Delete,
}

/// Whether a lost member is replaced or only reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RepairPolicy {
    /// Replace it in place, under a new ID.
    Replace,
    /// Say so and wait for a human.
    Report,
}

/// What to do about members that are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Repair {
    /// The volume is gone, empty, or not this member's.
    pub lost_volume: RepairPolicy,
    /// The node says that its data is damaged.
    pub corrupt_member: RepairPolicy,
    /// The volume is tied to a machine that is gone.
    pub node_gone: RepairPolicy,
    /// The process ends again and again.
    pub crash_loop: RepairPolicy,
    /// From how many ends in a row on that is a crash loop.
    pub crash_loop_threshold: u32,
    /// How long a learner may take to catch up, in milliseconds.
    pub learner_deadline_ms: i64,
}

/// A human's request to replace one member. The ID makes repeating it harmless.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplaceRequest {
    /// Where the member lives.
    pub slot: Slot,
    /// The member.
    pub member: MemberId,
}

/// A human's request to recover from a lost quorum. The epoch makes repeating it harmless.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoverRequest {
    /// The slot whose member is to survive; `None` for the one whose log is furthest.
    pub from: Option<Slot>,
    /// The epoch whose quorum is lost.
    pub epoch: u64,
    /// Lives that do not end are not waited for, at the risk that they still serve.
    pub force: bool,
    /// The request, word by word.
    pub text: String,
}
