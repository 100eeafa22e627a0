//! What one pass saw of the world: values only, read live, with `Unknown` where a read failed.
//!
//! Assumes that the platform read everything in this pass, and that a membership came from a
//! linearizable read. Must not know: pods, processes, clients, files.

use std::collections::BTreeMap;

use crate::certificates::Encryption;
use crate::ids::{ClusterUuid, DirectoryId, MemberId, ObjectUid, Slot, SlotUid, UnixMs, VolumeUid};
use crate::record::Record;

/// The outcome of a read. There is no default: whoever looks must say what `Unknown` means to them,
/// because unreachable is never absent (H8).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen<T> {
    /// The read succeeded and this is what is there; an absence in it is a real absence.
    Known(T),
    /// The read failed; the text says why, for people.
    Unknown(String),
}

impl<T> Seen<T> {
    /// The value, if the read succeeded.
    pub fn known(&self) -> Option<&T> {
        match self {
            Seen::Known(value) => Some(value),
            Seen::Unknown(_) => None,
        }
    }
}

/// Everything one pass saw, and what the pass may use up: the time and fresh random numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observed {
    /// The `KvCluster` object (or manifest file), read live.
    pub object: ObjectView,
    /// What the operator itself wrote down earlier: latches and the operation in flight.
    pub record: Record,
    /// The set of slots.
    pub slots: Seen<SlotsView>,
    /// The volume of each slot, also of slots above the present count; absent from a known map
    /// means that there is none.
    pub volumes: Seen<BTreeMap<Slot, VolumeView>>,
    /// What the node in each slot says of itself. A slot that is missing here was not asked, which
    /// counts as unknown.
    pub nodes: BTreeMap<Slot, Seen<NodeView>>,
    /// The membership by a linearizable read. Before bootstrap it is `Unknown`.
    pub membership: Seen<MembershipView>,
    /// Names of the other objects (services, certificates, set template…) whose live content
    /// differs from what the spec renders to, in the order in which they are to be applied.
    pub objects_due: Seen<Vec<String>>,
    /// The certificates of ports that are to be encrypted.
    pub encryption: Encryption,
    /// The time of this pass.
    pub now: UnixMs,
    /// Fresh random numbers of this pass.
    pub entropy: Entropy,
}

/// The object itself, apart from its spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectView {
    /// The object's UID; for a manifest file, an ID chosen when it was first seen.
    pub uid: ObjectUid,
    /// The object's name.
    pub name: String,
    /// Generation of the spec; for a file, a counter of its accepted versions.
    pub generation: i64,
    /// The object is being deleted.
    pub deleting: bool,
    /// Our finalizer is on the object. A platform without finalizers says `true` until
    /// [`Step::DropFinalizer`](crate::plan::Step::DropFinalizer) was applied.
    pub finalizer: bool,
    /// Requests in annotations stay where they are: a manifest file is the user's own.
    pub requests_stay: bool,
    /// A newer version of the spec exists and cannot be read; the text names file, line and field.
    /// The pass works with the last good version.
    pub unreadable: Option<String>,
}

/// Random numbers a pass may use up. They come from outside so that the planner has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entropy {
    /// For a member that is to be added. Not zero.
    pub member_id: MemberId,
    /// For a cluster that is to be created.
    pub cluster_uuid: ClusterUuid,
    /// For an operation that is to begin.
    pub operation_id: u64,
}

/// The set of slots as the platform keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotsView {
    /// How many slots the set is to have: slots `0..count` run. `None`: the set does not exist.
    pub count: Option<u32>,
    /// What runs, or ran last, in each slot. A slot may be missing although it is below the count:
    /// then nothing was started in it yet.
    pub lives: BTreeMap<Slot, LifeView>,
    /// The template that lives begun now would have. `None` where the platform has no templates, or
    /// has not taken the newest one in yet.
    pub revision: Option<String>,
    /// The size that the set gives to volumes it makes by itself, in bytes. `None` where a set
    /// makes none.
    pub volume_bytes: Option<u64>,
}

/// One life of a slot: a pod or a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LifeView {
    /// Which life.
    pub uid: SlotUid,
    /// How it fares.
    pub state: LifeState,
    /// When it began, where the platform knows.
    pub began: Option<UnixMs>,
    /// It passes its readiness check.
    pub ready: bool,
    /// Since when it passes, where the platform knows.
    pub ready_since: Option<UnixMs>,
    /// It began with another template than [`SlotsView::revision`]; `false` where that is not
    /// known.
    pub outdated: bool,
    /// The epoch it was told to take part in when it began; `None` when nothing was said.
    pub epoch: Option<u64>,
    /// The volume it holds, if it holds one already.
    pub volume: Option<VolumeUid>,
    /// How it is shown to people: a pod's name, or `slot 0`.
    pub label: String,
    /// Client address, for people.
    pub endpoint: Option<String>,
    /// The role the platform's label carries; `None` also where a platform has no such label.
    pub role_label: Option<Role>,
    /// The role label exists on this platform and must follow the membership.
    pub wants_role_label: bool,
    /// What the platform says keeps it from running, for people.
    pub trouble: Option<String>,
    /// The machine it runs on, where there are several.
    pub host: Option<String>,
    /// No set owns it: nobody would start it again, or stop it with the set.
    pub orphan: bool,
}

/// How one life of a slot fares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LifeState {
    /// Being started; it cannot be asked yet.
    Starting,
    /// Not started, for a reason that may go away by itself.
    Pending(Pending),
    /// Its process runs.
    Running,
    /// It is on its way out.
    Stopping,
    /// Its process has ended, and the platform will not start it again by itself.
    Dead(Death),
    /// Its process ends again and again, and the platform starts it again by itself.
    CrashLooping {
        /// How often it was started since it last stayed up.
        restarts: u32,
        /// The last exit, for people.
        exit: String,
        /// It was killed for using too much memory, which is no evidence of a bad disk.
        out_of_memory: bool,
    },
}

/// Why a slot is not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pending {
    /// No place for it.
    Unschedulable,
    /// Its volume does not exist (kubernetes/kubernetes#74374).
    VolumeMissing,
    /// Its volume is asked for and not there yet.
    VolumeUnbound,
    /// Its image cannot be had.
    Image,
    /// Anything else: quota, admission, a mount that fails.
    Other,
}

/// A process that has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Death {
    /// When it ended.
    pub since: UnixMs,
    /// How often in a row it ended without having stayed up.
    pub failures: u32,
    /// Exit code or signal, for people.
    pub exit: String,
    /// It refused its data directory (exit code 4): starting it again will not help by itself.
    pub data_refused: bool,
}

/// The volume in a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeView {
    /// Which volume. An unstamped directory has a UID as well.
    pub uid: VolumeUid,
    /// Whom it belongs to; `None` when nobody stamped it.
    pub stamp: Option<Stamp>,
    /// Its deletion was asked for and waits for its user to go.
    pub deleting: bool,
    /// It is marked as kept after its cluster
    /// ([`Step::ReleaseVolume`](crate::plan::Step::ReleaseVolume)).
    pub released: bool,
    /// Its size in bytes, where the platform knows one.
    pub capacity_bytes: Option<u64>,
    /// The size that was asked for, in bytes; `None` until the platform has made the volume, and
    /// where sizes are not asked for.
    pub requested_bytes: Option<u64>,
    /// Whether it can grow, and how far it is with that.
    pub growth: Growth,
    /// It is tied to a machine that no longer exists.
    pub node_gone: bool,
    /// Its name, where it has one.
    pub name: Option<String>,
}

/// Whether a volume can grow, and how far it is with that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Growth {
    /// Nothing is known that would keep it from growing.
    Possible,
    /// The platform does not let it grow, for this reason.
    Refused(String),
    /// Whether it may grow could not be read.
    Unknown(String),
    /// It grows, or waits for its turn.
    UnderWay,
    /// It has grown, and what is on it grows when it is next mounted, or by itself.
    Unmounted {
        /// Since when that is awaited.
        since: UnixMs,
    },
    /// The platform tried and failed; its own words.
    Failed(String),
}

/// Whom a volume belongs to. Written before the volume is first used.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stamp {
    /// The cluster.
    pub cluster_uuid: ClusterUuid,
    /// The `KvCluster` object for which it was made.
    pub owner_uid: ObjectUid,
    /// The slot for which it was made.
    pub slot: Slot,
    /// The member that lives on it.
    pub member: MemberId,
    /// Which life of the slot this is; grows when its volume is replaced.
    pub incarnation: u64,
}

/// What a node says of itself over the admin service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// Its state.
    pub state: NodeState,
    /// The ID of its data directory, once it has one.
    pub directory: Option<DirectoryId>,
    /// The epoch of its data; 0 while unjoined.
    pub epoch: u64,
    /// How far its log reaches.
    pub log: LogEnd,
    /// Its own version, `0.1.0`.
    pub version: String,
    /// It serves linearizable reads.
    pub ready: bool,
    /// The settings it takes while it runs.
    pub settings: SettingsView,
    /// The certificate in force on each of its ports that is encrypted, by the port's name.
    pub certificates: BTreeMap<String, PortCertificate>,
}

/// The settings that a node takes while it runs, as far as it says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SettingsView {
    /// Digest of the file in force; `None` when it began without one.
    pub digest: Option<String>,
    /// Why the file as it is now is not in force, in its own words.
    pub problem: Option<String>,
}

/// The certificate in force on one port of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortCertificate {
    /// Serial number of its leaf.
    pub serial: String,
    /// Digest of the certificates it trusts; empty when it asks callers for none.
    pub bundle: String,
}

/// The last entry of a member's log. The later one holds all that a quorum may have acknowledged to
/// either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct LogEnd {
    /// Its term.
    pub term: u64,
    /// Its index; 0 when nothing is known.
    pub index: u64,
}

/// The states a node reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// Its directory is empty: it waits for `Bootstrap` or `Join`.
    Unjoined,
    /// It is the member of that ID.
    Joined {
        /// The cluster.
        cluster_uuid: ClusterUuid,
        /// The member.
        member: MemberId,
    },
    /// It was the member of that ID, was removed, and stays out.
    Removed {
        /// The cluster.
        cluster_uuid: ClusterUuid,
        /// The former member.
        member: MemberId,
    },
    /// It belongs to that member and does not take part.
    Refusing {
        /// The cluster, if the directory still tells.
        cluster_uuid: Option<ClusterUuid>,
        /// The member, if the directory still tells.
        member: Option<MemberId>,
        /// Why.
        why: Refusing,
        /// The node's own words, for people.
        message: String,
    },
}

/// Why a node with data does not take part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusing {
    /// Its log or its history is damaged beyond what it can repair from its peers.
    Corrupt,
    /// Its directory is an older copy of itself: it has forgotten votes and entries (H4).
    RolledBack,
    /// Its directory is of an older epoch.
    Fenced,
    /// It will take part by itself: restoring, or repairing from its peers.
    Busy,
}

/// A member's part in the membership.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Counts for quorum.
    Voter,
    /// Only receives.
    Learner,
}

/// The membership by a linearizable read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MembershipView {
    /// The cluster that answered.
    pub cluster_uuid: ClusterUuid,
    /// Log index of the newest configuration entry; changes are compare-and-set on it.
    pub config_index: u64,
    /// Grows with each quorum recovery.
    pub epoch: u64,
    /// The leader's term.
    pub term: u64,
    /// The leader.
    pub leader: Option<MemberId>,
    /// A configuration change is in flight (joint, or appended and not committed).
    pub changing: bool,
    /// The etcd-style cluster ID.
    pub cluster_id: u64,
    /// The members, by ID (H57: never by position).
    pub members: BTreeMap<MemberId, MemberView>,
}

/// One member, as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberView {
    /// The slot its address leads to; `None` when the address is not one of this cluster's slots.
    pub slot: Option<Slot>,
    /// Voter or learner.
    pub role: Role,
    /// What it holds is within the leader's bound of what is committed.
    pub caught_up: bool,
    /// The leader heard from it within two election timeouts (the leader hears from itself).
    pub in_contact: bool,
    /// Entries it lacks.
    pub lag: u64,
    /// Bytes of its history.
    pub db_size_bytes: u64,
}
