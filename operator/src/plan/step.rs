//! The effects a plan can ask for: one per pass, each safe to repeat.
//!
//! Every effect on something that can be replaced names the life it means (`uid`), and every change
//! of the membership names the configuration it was decided on (`expected`). A platform applies a
//! step and decides nothing. Must not know: how any platform does it.

use std::fmt;

use crate::certificates::{self, Use};
use crate::ids::{ClusterUuid, MemberId, ObjectUid, Slot, SlotUid, UnixMs, VolumeUid};
use crate::observed::{Role, Stamp};
use crate::record::{Backoff, BootstrapRecord, Operation, Recovery};

/// One effect.
///
/// What a platform owes for each of them is written at the variant. All of them are idempotent: the
/// operator may die after the effect and before it learns of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Put our finalizer on the object, under the object's UID.
    AddFinalizer,
    /// Take our finalizer off the object; afterwards nothing of the cluster is ours.
    DropFinalizer,
    /// Write a latch, compare-and-set. See [`Record::with`](crate::record::Record::with).
    Latch(Latch),
    /// Write or rewrite the intent, compare-and-set. Durable before this returns.
    WriteIntent(Operation),
    /// Clear the intent of that ID, compare-and-set, and remember the backoff in the same write.
    ClearIntent {
        /// The operation that ends.
        id: String,
        /// How it ended.
        outcome: Outcome,
        /// A pause before the next one, after an abort that may recur.
        backoff: Option<Backoff>,
    },
    /// Write the recovery from a lost quorum down, compare-and-set.
    WriteRecovery(Recovery),
    /// Forget the recovery of that token, compare-and-set: it is called off.
    ClearRecovery {
        /// The request it was begun for.
        token: String,
        /// When it was called off.
        at: UnixMs,
    },
    /// Write down what became of a request, compare-and-set.
    NoteRequest {
        /// The annotation.
        annotation: &'static str,
        /// What it said.
        value: String,
        /// What became of it, for people.
        result: String,
        /// When.
        at: UnixMs,
    },
    /// Take a request off the object, if it still says the same.
    DropRequest {
        /// The annotation.
        annotation: &'static str,
        /// What it said.
        value: String,
    },
    /// Apply one object other than the set of slots, by name.
    EnsureObject {
        /// As named by [`Observed::objects_due`](crate::observed::Observed::objects_due).
        name: String,
    },
    /// Carry out one step for the certificates that the operator keeps: a write to a Secret, under
    /// the version that this pass saw. Never `Wait` or `Rest`.
    Certify {
        /// Which of them.
        of: Use,
        /// What to do.
        step: certificates::Step,
    },
    /// Make the slot's volume exist with this stamp. Creation and stamp are one atomic effect. With
    /// `adopt`, the existing volume of that UID gets the stamp instead, and its content stays. An
    /// existing volume with another UID or stamp is a conflict: refuse, change nothing.
    EnsureVolume {
        /// Whom it belongs to; names the slot.
        stamp: Stamp,
        /// The volume to be stamped, instead of a new one.
        adopt: Option<VolumeUid>,
    },
    /// Delete the slot's volume of that UID. While something runs on it, it is only marked
    /// (`deleting`) and goes when that has ended. Absent, or another UID: nothing is done.
    DeleteVolume {
        /// Where it is.
        slot: Slot,
        /// Which one.
        uid: VolumeUid,
    },
    /// Mark a volume as kept after its cluster.
    ReleaseVolume {
        /// Where it is.
        slot: Slot,
        /// Which one.
        uid: VolumeUid,
    },
    /// Ask for another size of the slot's volume of that UID. Another UID, or a volume that was
    /// changed since it was read, is a conflict.
    ResizeVolume {
        /// Where it is.
        slot: Slot,
        /// Which one.
        uid: VolumeUid,
        /// The size to ask for, in bytes.
        bytes: u64,
    },
    /// Make the set have slots `0..count`, creating it if need be: start what is missing, stop
    /// gracefully what is above. `was` is what the decision rests on: another value is a conflict.
    SetSlots {
        /// How many.
        count: u32,
        /// The count this was decided on; `None` if there was no set.
        was: Option<u32>,
    },
    /// Delete the set with everything that runs in it, gracefully. Volumes stay.
    DeleteSlots,
    /// Delete the set and nothing else: what runs in it goes on without it, until
    /// [`Step::SetSlots`] makes a set that takes it over.
    OrphanSlots,
    /// End the life of that UID, gracefully. A platform whose set starts slots again by itself will
    /// do so; on others the planner follows with [`Step::RestartSlot`].
    StopSlot {
        /// Where it runs.
        slot: Slot,
        /// Which life.
        uid: SlotUid,
        /// The voter that lives there and serves: right before the effect a member is asked whether
        /// it may stop (`CanStop`), and if not, nothing is done.
        asking: Option<MemberId>,
    },
    /// Start a slot whose life of that UID has ended.
    RestartSlot {
        /// Where it ran.
        slot: Slot,
        /// The life that has ended.
        uid: SlotUid,
    },
    /// Make the platform's role label say that role.
    LabelSlot {
        /// Which slot.
        slot: Slot,
        /// Which life.
        uid: SlotUid,
        /// The role to show; `None` takes the label off.
        role: Option<Role>,
    },
    /// Tell the unjoined node in a slot to found the cluster, alone.
    Bootstrap {
        /// Where it runs.
        slot: Slot,
        /// The cluster.
        cluster_uuid: ClusterUuid,
        /// Its member ID.
        member: MemberId,
    },
    /// Tell the fenced node in a slot to begin the epoch as the only member.
    Recover {
        /// Where it runs.
        slot: Slot,
        /// The cluster.
        cluster_uuid: ClusterUuid,
        /// The epoch that begins.
        epoch: u64,
    },
    /// Add a learner whose address is that of a slot.
    MemberAdd {
        /// Its slot.
        slot: Slot,
        /// Its ID, never used before.
        member: MemberId,
        /// The config index this was decided on.
        expected: u64,
    },
    /// Tell the node in a slot which member it is.
    Join {
        /// Where it runs.
        slot: Slot,
        /// The cluster.
        cluster_uuid: ClusterUuid,
        /// Its member ID.
        member: MemberId,
        /// Slots of members it can ask.
        seeds: Vec<Slot>,
        /// The removed ID whose kept directory is moved aside.
        displaces: Option<MemberId>,
    },
    /// Make a learner a voter.
    Promote {
        /// Which learner.
        member: MemberId,
        /// The config index this was decided on.
        expected: u64,
    },
    /// Hand leadership over.
    TransferLeader {
        /// The leader.
        from: MemberId,
        /// A voter that has caught up.
        to: MemberId,
    },
    /// Remove a member. Absence is success.
    MemberRemove {
        /// Which member.
        member: MemberId,
        /// The config index this was decided on.
        expected: u64,
    },
}

/// A latch: a fact that is written once and that the world cannot tell again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Latch {
    /// The identities of a cluster that is to be created.
    Identity {
        /// The cluster.
        cluster_uuid: ClusterUuid,
        /// The first member, in state `Pending`.
        bootstrap: BootstrapRecord,
    },
    /// The bootstrap instruction is about to be sent to this volume and directory.
    Issued(BootstrapRecord),
    /// The cluster exists.
    Done {
        /// The cluster; differs from what is latched only in an adoption.
        cluster_uuid: ClusterUuid,
        /// The first member, in state `Done`.
        bootstrap: BootstrapRecord,
        /// The etcd-style cluster ID.
        cluster_id: u64,
        /// The epoch: 1, or what an adopted cluster says.
        epoch: u64,
    },
    /// A lost quorum was recovered: the epoch has begun, and what was in flight is forgotten.
    Recovered {
        /// The epoch that has begun.
        epoch: u64,
        /// When that was seen.
        at: UnixMs,
    },
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// As intended.
    Done,
    /// Undone, or given up before its first effect.
    Aborted,
}

impl Step {
    /// The step's name, for metrics and events: bounded values.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Step::AddFinalizer => "add-finalizer",
            Step::DropFinalizer => "drop-finalizer",
            Step::Latch(_) => "latch",
            Step::WriteIntent(_) => "write-intent",
            Step::ClearIntent { .. } => "clear-intent",
            Step::WriteRecovery(_) => "write-recovery",
            Step::ClearRecovery { .. } => "clear-recovery",
            Step::NoteRequest { .. } => "note-request",
            Step::DropRequest { .. } => "drop-request",
            Step::Recover { .. } => "recover",
            Step::EnsureObject { .. } => "ensure-object",
            Step::Certify { .. } => "certify",
            Step::EnsureVolume { .. } => "ensure-volume",
            Step::DeleteVolume { .. } => "delete-volume",
            Step::ReleaseVolume { .. } => "release-volume",
            Step::ResizeVolume { .. } => "resize-volume",
            Step::SetSlots { .. } => "set-slots",
            Step::DeleteSlots => "delete-slots",
            Step::OrphanSlots => "orphan-slots",
            Step::StopSlot { .. } => "stop-slot",
            Step::RestartSlot { .. } => "restart-slot",
            Step::LabelSlot { .. } => "label-slot",
            Step::Bootstrap { .. } => "bootstrap",
            Step::MemberAdd { .. } => "member-add",
            Step::Join { .. } => "join",
            Step::Promote { .. } => "promote",
            Step::TransferLeader { .. } => "transfer-leader",
            Step::MemberRemove { .. } => "member-remove",
        }
    }
}

/// The owner of a volume that a stamp names, for messages.
impl fmt::Display for crate::observed::Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stamp {
            cluster_uuid: _,
            owner_uid: _,
            slot,
            member,
            incarnation,
        } = self;
        write!(f, "slot={slot} member={member} incarnation={incarnation}")
    }
}

impl Stamp {
    /// Whether the stamp is of this object (a recreated object of the same name is another).
    #[must_use]
    pub fn is_owned_by(&self, owner: &ObjectUid) -> bool {
        self.owner_uid == *owner
    }
}
