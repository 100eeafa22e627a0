//! What the operator must not forget: the latches, and the intent of the operation in flight.
//!
//! Everything else is read from the world again on every pass. Assumes compare-and-set writes.
//! Must not know: how it is stored (status of the object, or a file).

use std::collections::BTreeMap;

use crate::crd::ANNOTATION_RECOVER_QUORUM;
use crate::ids::{ClusterUuid, DirectoryId, MemberId, Slot, SlotUid, UnixMs, VolumeUid};
use crate::plan::{Latch, Step};

/// Most past requests that are kept.
const REQUESTS_MAX: usize = 10;

/// The records of one cluster. The empty record is a valid state of every protocol (H11).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// The cluster's identity, chosen once.
    pub cluster_uuid: Option<ClusterUuid>,
    /// The etcd-style cluster ID, for people and clients.
    pub cluster_id: Option<u64>,
    /// Grows with each quorum recovery; 0 before bootstrap.
    pub epoch: u64,
    /// How far bootstrap came.
    pub bootstrap: Option<BootstrapRecord>,
    /// The operation in flight: written before its first effect, cleared after its last.
    pub operation: Option<Operation>,
    /// The recovery from a lost quorum in flight.
    pub recovery: Option<Recovery>,
    /// Requests that were carried out or called off, newest last.
    pub requests: Vec<PastRequest>,
    /// After an aborted operation: when to try again.
    pub backoff: Option<Backoff>,
    /// Since when no quorum has answered, as last published; `None` while one does.
    pub quorum_absent_since: Option<UnixMs>,
    /// The highest config index seen; an answer below it is stale and is discarded (H16).
    pub config_index_seen: u64,
    /// Members by slot as last published: raises a set that somebody shrank while no member can be
    /// asked, and nothing else.
    pub last_members: BTreeMap<Slot, LastMember>,
}

/// A row of the members table as last published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastMember {
    /// The member.
    pub member: MemberId,
    /// Which life of the slot.
    pub incarnation: u64,
    /// It counted for quorum.
    pub voter: bool,
}

/// A recovery from a lost quorum, written down before anything is done (protocol 3.9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Where the member that survives lives.
    pub slot: Slot,
    /// The member that survives.
    pub member: MemberId,
    /// The epoch that begins.
    pub new_epoch: u64,
    /// The last entry of its log when it was chosen.
    pub last_index: u64,
    /// What was found on each voter, in words.
    pub evidence: Vec<String>,
    /// The request, word by word.
    pub token: String,
    /// Lives that do not end are not waited for, at the risk that they still serve.
    pub force: bool,
    /// When it began.
    pub started_at: UnixMs,
}

/// A human's request that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastRequest {
    /// The annotation.
    pub request: String,
    /// What it said.
    pub token: String,
    /// How it ended, for people.
    pub result: String,
    /// When.
    pub at: UnixMs,
}

/// How far bootstrap came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BootstrapRecord {
    /// The stage.
    pub state: BootstrapState,
    /// The slot of the first member: 0.
    pub slot: Slot,
    /// The first member.
    pub member: MemberId,
    /// Which life of the slot: 1.
    pub incarnation: u64,
    /// The volume the instruction was meant for, from `Issued` on.
    pub volume: Option<VolumeUid>,
    /// The data directory the instruction was meant for, from `Issued` on.
    pub directory: Option<DirectoryId>,
    /// When it was done.
    pub completed_at: Option<UnixMs>,
}

/// The stages of bootstrap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BootstrapState {
    /// Identities are chosen, nothing was sent.
    Pending,
    /// The instruction may have been sent, to exactly one volume and directory.
    Issued,
    /// The first member answered as the only member of this cluster.
    Done,
}

/// An operation in flight.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Its ID, sixteen hexadecimal digits.
    pub id: String,
    /// When it began.
    pub started_at: UnixMs,
    /// What it is.
    pub kind: OperationKind,
}

/// The operations that hold state between passes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OperationKind {
    /// One more member.
    ScaleUp(ScaleUp),
    /// One member fewer.
    ScaleDown(ScaleDown),
    /// One member replaced in place.
    Replace(Replace),
    /// Every slot stopped.
    Hibernate(Hibernate),
    /// Every slot begun anew, one by one.
    Update(Update),
    /// Every volume grown, and the set made anew with their size.
    ExpandVolumes(ExpandVolumes),
}

impl OperationKind {
    /// The operation's name in the status.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            OperationKind::ScaleUp(_) => "ScaleUp",
            OperationKind::ScaleDown(_) => "ScaleDown",
            OperationKind::Replace(_) => "Replace",
            OperationKind::Hibernate(_) => "Hibernate",
            OperationKind::Update(_) => "Update",
            OperationKind::ExpandVolumes(_) => "ExpandVolumes",
        }
    }
}

/// Every slot begun anew with the newest template, the leader last (protocol 3.7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    /// The template.
    pub revision: String,
    /// What was stopped last.
    pub at: Option<Restart>,
    /// The attempt to move leadership to a member that is up to date.
    pub transfer: Option<TransferAttempt>,
    /// How often that was tried.
    pub transfers: u32,
}

/// A life that is stopped so that its slot begins anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restart {
    /// The slot.
    pub slot: Slot,
    /// The life that is stopped.
    pub life: SlotUid,
    /// From when on the update counts as stalled.
    pub deadline: UnixMs,
}

/// One more member (protocol 3.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScaleUp {
    /// Voters when it began; going back to it aborts.
    pub from: u32,
    /// Size wanted when it began.
    pub to: u32,
    /// Where the new member will live.
    pub newcomer: Newcomer,
    /// Set once it was decided to undo it. Never unset: the ID may be removed already (I5).
    pub abort: Option<Abort>,
}

/// One member fewer (protocol 3.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScaleDown {
    /// Voters when it began.
    pub from: u32,
    /// Size wanted when it began.
    pub to: u32,
    /// The slot to be emptied.
    pub slot: Slot,
    /// The member to be removed.
    pub victim: MemberId,
    /// What ran in the slot.
    pub life: Option<SlotUid>,
    /// The volume in the slot.
    pub volume: Option<VolumeUid>,
    /// The attempt to move leadership to a member that stays.
    pub transfer: Option<TransferAttempt>,
}

/// An attempt to move leadership, written down before it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransferAttempt {
    /// The term in which the leader was to be moved.
    pub term: u64,
    /// When the attempt began.
    pub at: UnixMs,
}

/// One member replaced in place (protocol 3.6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replace {
    /// The member that is lost.
    pub old_member: MemberId,
    /// What ran in the slot.
    pub old_life: Option<SlotUid>,
    /// The volume that was in the slot, if there was one.
    pub old_volume: Option<VolumeUid>,
    /// Why, in words.
    pub evidence: String,
    /// The member that takes its place.
    pub newcomer: Newcomer,
    /// Set once the newcomer is to be given up; a fresh one follows.
    pub abort: Option<Abort>,
}

/// A member on its way in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Newcomer {
    /// Where it will live.
    pub slot: Slot,
    /// Its ID.
    pub member: MemberId,
    /// Which life of the slot this is.
    pub incarnation: u64,
    /// When to give up.
    pub deadline: UnixMs,
    /// The empty directory it is to be joined on, written down before the ID is first used: should
    /// the directory be another one later, this ID must never be joined again (I5).
    pub directory: Option<DirectoryId>,
}

/// Why an operation is being undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abort {
    /// The spec went back.
    Reverted,
    /// The learner did not catch up before its deadline (H15).
    LearnerStuck,
    /// The newcomer lost its volume before it was promoted.
    VolumeLost,
    /// Somebody else removed the newcomer from the membership.
    Removed,
    /// A human asked for it.
    Requested,
}

/// Every slot stopped (protocol 3.10).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hibernate {
    /// Voters when it began.
    pub size: u32,
    /// The highest slot with a member.
    pub top: Slot,
}

/// Every volume grown (protocol 3.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpandVolumes {
    /// The size every volume is to have, in bytes.
    pub bytes: u64,
    /// The number of slots, with which the set is made again.
    pub slots: u32,
}

/// A pause after an aborted operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// How many operations in a row were aborted for this reason.
    pub attempts: u32,
    /// When the next may begin.
    pub until: UnixMs,
    /// Why the last was aborted, for people.
    pub message: String,
}

impl Operation {
    /// The slot it works on, if it works on one.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match &self.kind {
            OperationKind::ScaleUp(up) => Some(up.newcomer.slot),
            OperationKind::ScaleDown(down) => Some(down.slot),
            OperationKind::Replace(replace) => Some(replace.newcomer.slot),
            OperationKind::Update(update) => update.at.as_ref().map(|at| at.slot),
            OperationKind::Hibernate(_) | OperationKind::ExpandVolumes(_) => None,
        }
    }

    /// The member on its way in, if there is one.
    #[must_use]
    pub fn newcomer(&self) -> Option<&Newcomer> {
        match &self.kind {
            OperationKind::ScaleUp(up) => Some(&up.newcomer),
            OperationKind::Replace(replace) => Some(&replace.newcomer),
            OperationKind::ScaleDown(_)
            | OperationKind::Hibernate(_)
            | OperationKind::Update(_)
            | OperationKind::ExpandVolumes(_) => None,
        }
    }
}

impl Record {
    /// The record after a step, if the step is one that writes the record; otherwise `None`.
    ///
    /// Both platforms use this, so that the rows of the protocols mean the same on both.
    #[must_use]
    pub fn with(&self, step: &Step) -> Option<Record> {
        let mut next = self.clone();
        match step {
            Step::Latch(Latch::Identity {
                cluster_uuid,
                bootstrap,
            }) => {
                next.cluster_uuid = Some(*cluster_uuid);
                next.bootstrap = Some(bootstrap.clone());
            }
            Step::Latch(Latch::Issued(bootstrap)) => next.bootstrap = Some(bootstrap.clone()),
            Step::Latch(Latch::Done {
                cluster_uuid,
                bootstrap,
                cluster_id,
                epoch,
            }) => {
                next.cluster_uuid = Some(*cluster_uuid);
                next.bootstrap = Some(bootstrap.clone());
                next.cluster_id = Some(*cluster_id);
                next.epoch = *epoch;
            }
            Step::Latch(Latch::Recovered { epoch, at }) => {
                next.epoch = *epoch;
                // Whatever was in flight was of members that are gone.
                if let Some(done) = next.recovery.take() {
                    let result = format!(
                        "Epoch {epoch} began from member {}; what was acknowledged behind entry {} \
                         of its log is lost.",
                        done.member, done.last_index
                    );
                    next.remember(ANNOTATION_RECOVER_QUORUM, &done.token, result, *at);
                }
                next.operation = None;
                next.backoff = None;
                next.config_index_seen = 0;
            }
            Step::WriteRecovery(recovery) => next.recovery = Some(recovery.clone()),
            Step::ClearRecovery { token, at } => {
                let same = |recovery: &mut Recovery| recovery.token == *token;
                if let Some(done) = next.recovery.take_if(same) {
                    let result = "It was called off before anything was lost.".to_owned();
                    next.remember(ANNOTATION_RECOVER_QUORUM, &done.token, result, *at);
                }
            }
            Step::NoteRequest {
                annotation,
                value,
                result,
                at,
            } => next.remember(annotation, value, result.clone(), *at),
            Step::WriteIntent(operation) => next.operation = Some(operation.clone()),
            Step::ClearIntent {
                id,
                outcome: _,
                backoff,
            } => {
                // Another operation than the one that ended is never cleared.
                if next
                    .operation
                    .as_ref()
                    .is_some_and(|operation| operation.id == *id)
                {
                    next.operation = None;
                    next.backoff = backoff.clone();
                }
            }
            _ => return None,
        }
        Some(next)
    }

    /// Keeps what became of a request, and of as many before it as people need.
    fn remember(&mut self, request: &str, token: &str, result: String, at: UnixMs) {
        self.requests.push(PastRequest {
            request: request.to_owned(),
            token: token.to_owned(),
            result,
            at,
        });
        let surplus = self.requests.len().saturating_sub(REQUESTS_MAX);
        self.requests.drain(..surplus);
    }

    /// The voters as last published, by slot.
    pub fn last_voters(&self) -> impl Iterator<Item = (Slot, MemberId)> + '_ {
        let voters = self.last_members.iter().filter(|(_, last)| last.voter);
        voters.map(|(slot, last)| (*slot, last.member))
    }

    /// The epoch that lives begun now are to take part in.
    #[must_use]
    pub fn epoch_due(&self) -> u64 {
        let recovering = self.recovery.as_ref().map(|recovery| recovery.new_epoch);
        recovering.unwrap_or(self.epoch).max(1)
    }

    /// The cluster was founded and has answered.
    #[must_use]
    pub fn is_bootstrapped(&self) -> bool {
        self.bootstrap
            .as_ref()
            .is_some_and(|latch| latch.state == BootstrapState::Done)
    }
}
