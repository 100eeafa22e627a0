//! What is said about a cluster in events: pure, from the step that was taken and from what has
//! changed in the conditions.
//!
//! Reasons are a closed set (they are part of what users filter by). Text that changes all the time
//! belongs into conditions: events of one reason are merged.

use crate::certificates::{self, Use};
use crate::crd::{ConditionStatus, KvClusterStatus};
use crate::ids::Slot;
use crate::plan::{Latch, Outcome, Step};
use crate::record::{OperationKind, Recovery};

/// One thing to be said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Something is wrong.
    pub warning: bool,
    /// The reason.
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
    /// What was done.
    pub action: &'static str,
    /// The slot it is about, if it is about one.
    pub slot: Option<Slot>,
}

impl Said {
    /// Something that went as it was meant to.
    fn normal(reason: &'static str, note: impl Into<String>) -> Said {
        Said {
            warning: false,
            reason,
            note: note.into(),
            action: "observe",
            slot: None,
        }
    }

    /// Something that a human should look at.
    fn warning(reason: &'static str, note: impl Into<String>) -> Said {
        Said {
            warning: true,
            ..Said::normal(reason, note)
        }
    }

    fn about(self, slot: Slot) -> Said {
        Said {
            slot: Some(slot),
            ..self
        }
    }
}

/// What is said about a step that was taken. `before` is the status as the pass found it.
#[must_use]
pub fn of_step(step: &Step, before: &KvClusterStatus) -> Option<Said> {
    let said = match step {
        Step::Latch(latch) => of_latch(latch, before)?,
        Step::WriteRecovery(recovery) => of_recovery(recovery),
        Step::ClearRecovery { .. } => Said::warning(
            "RecoveryCancelled",
            "The recovery was called off; nothing was lost by it.",
        ),
        Step::WriteIntent(intent) => of_intent(&intent.kind, before)?,
        Step::ClearIntent { outcome, .. } => of_end(*outcome, before)?,
        Step::MemberAdd { slot, member, .. } => {
            let note = format!("Member {member} was added in slot {slot} as learner.");
            Said::normal("MemberAdded", note).about(*slot)
        }
        Step::Promote { member, .. } => {
            Said::normal("MemberPromoted", format!("Member {member} is a voter now."))
        }
        Step::MemberRemove { member, .. } => {
            Said::normal("MemberRemoved", format!("Member {member} was removed."))
        }
        Step::TransferLeader { from, to } => {
            let note = format!("Leadership moves from member {from} to member {to}.");
            Said::normal("LeaderTransferred", note)
        }
        Step::StopSlot { slot, asking, .. } => of_stop(*slot, asking.is_some(), before),
        Step::SetSlots { was: None, .. } if is_founded(before) => Said::normal(
            "StatefulSetRecreated",
            "The set of pods was made anew; the pods went on.",
        ),
        Step::Certify { of, step } => of_certificates(*of, step)?,
        Step::DropFinalizer => Said::normal(
            "ClusterDeleted",
            "Nothing of the cluster is the operator's any more.",
        ),
        // Parts of what is said already, or of what a condition says.
        Step::AddFinalizer
        | Step::NoteRequest { .. }
        | Step::DropRequest { .. }
        | Step::Recover { .. }
        | Step::EnsureObject { .. }
        | Step::EnsureVolume { .. }
        | Step::DeleteVolume { .. }
        | Step::ReleaseVolume { .. }
        | Step::ResizeVolume { .. }
        | Step::SetSlots { .. }
        | Step::DeleteSlots
        | Step::OrphanSlots
        | Step::RestartSlot { .. }
        | Step::LabelSlot { .. }
        | Step::Bootstrap { .. }
        | Step::Join { .. } => return None,
    };
    Some(Said {
        action: step.name(),
        ..said
    })
}

fn of_latch(latch: &Latch, before: &KvClusterStatus) -> Option<Said> {
    match latch {
        Latch::Identity { .. } | Latch::Issued(_) => None,
        Latch::Done { cluster_uuid, .. } => {
            let note = format!("The cluster exists, with identity {cluster_uuid}.");
            Some(Said::normal("Bootstrapped", note).about(Slot(0)))
        }
        Latch::Recovered { epoch, .. } => {
            let recovery = before.recovery.clone().unwrap_or_default();
            let note = format!(
                "Epoch {epoch} has begun from member {}. Writes that were acknowledged behind entry {} \
                 of its log are lost.",
                recovery.survivor, recovery.last_index
            );
            Some(Said::warning("QuorumRecovered", note))
        }
    }
}

fn of_recovery(recovery: &Recovery) -> Said {
    let note = format!(
        "Epoch {} is to begin from member {} alone, whose log ends with entry {}. It is called off if \
         the old quorum comes back first.",
        recovery.new_epoch, recovery.member, recovery.last_index
    );
    Said::warning("RecoveryStarted", note).about(recovery.slot)
}

/// Of an update, only its beginning is said; the intent is rewritten on its way.
fn of_intent(kind: &OperationKind, before: &KvClusterStatus) -> Option<Said> {
    match kind {
        OperationKind::Update(update) if before.operation.is_none() => {
            let note = format!("All pods begin anew with revision {}.", update.revision);
            Some(Said::normal("UpdateStarted", note))
        }
        _ => None,
    }
}

/// What is said when an operation ends.
fn of_end(outcome: Outcome, before: &KvClusterStatus) -> Option<Said> {
    let kind = &before.operation.as_ref()?.type_;
    let (reason, note) = match (kind.as_str(), outcome) {
        ("Replace", Outcome::Done) => ("MemberReplaced", "The lost member was replaced."),
        ("Replace", Outcome::Aborted) => ("RepairCancelled", "The replacement was given up."),
        ("Update", Outcome::Done) => ("UpdateCompleted", "Every pod has the newest template."),
        ("ExpandVolumes", Outcome::Done) => ("VolumeExpanded", "Every volume has its new size."),
        ("Hibernate", Outcome::Done) => ("Woken", "The cluster serves again."),
        (_, Outcome::Aborted) => ("OperationAborted", "The operation was given up."),
        (_, Outcome::Done) => return None,
    };
    Some(Said::normal(reason, note))
}

/// A slot is stopped to begin anew: one or two voters have nobody who serves meanwhile.
fn of_stop(slot: Slot, is_asked: bool, before: &KvClusterStatus) -> Said {
    let operation = before.operation.as_ref();
    let updates = operation.is_some_and(|operation| operation.type_ == "Update");
    if updates && !is_asked && before.replicas.is_some_and(|size| size <= 2) {
        let note = format!("Slot {slot} begins anew; nobody serves meanwhile.");
        return Said::warning("UpdateWithoutRedundancy", note).about(slot);
    }
    Said::normal("PodRestarting", format!("Slot {slot} begins anew.")).about(slot)
}

fn is_founded(before: &KvClusterStatus) -> bool {
    let bootstrap = before.bootstrap.as_ref();
    bootstrap.is_some_and(|bootstrap| bootstrap.state == "Done")
}

/// What is said of certificates: nothing of the first steps of a cluster.
fn of_certificates(of: Use, step: &certificates::Step) -> Option<Said> {
    let label = of.label();
    let phase = |note: String| Some(Said::normal("CARotationPhase", note));
    match step {
        certificates::Step::IssueLeaf(_) => {
            let note = format!("A new {label} certificate was issued.");
            Some(Said::normal("CertificateRotated", note))
        }
        certificates::Step::CreateNext => {
            phase(format!("The {label} authority is being replaced."))
        }
        certificates::Step::Enter(next) => {
            phase(format!("The {label} authority: phase {}.", next.label()))
        }
        certificates::Step::Finish => phase(format!("The {label} authority was replaced.")),
        certificates::Step::CreateAuthority
        | certificates::Step::WriteBundle(_)
        | certificates::Step::Wait { .. }
        | certificates::Step::Rest { .. } => None,
    }
}

/// Condition, status, reason there; when that begins, whether it is a warning and what is said.
#[rustfmt::skip]
const CONDITIONS: &[(&str, &str, &str, bool, &str)] = &[
    ("QuorumHealthy", "False", "QuorumLost", true, "QuorumLost"),
    ("Degraded", "True", "InvalidSpec", true, "InvalidSpec"),
    ("Degraded", "True", "ForeignChange", true, "ForeignChange"),
    ("Degraded", "True", "WouldLoseQuorum", true, "WouldLoseQuorum"),
    ("Degraded", "True", "RecoveryRefused", true, "RecoveryRefused"),
    ("Degraded", "True", "LearnerStuck", true, "LearnerStuck"),
    ("Degraded", "True", "MemberLost", true, "MemberLost"),
    ("Progressing", "False", "UpdateStalled", true, "UpdateStalled"),
    ("StorageReady", "False", "StaleVolume", true, "StaleVolume"),
    ("TLSReady", "False", "NotInForce", true, "TLSNotInForce"),
    ("TLSReady", "False", "PeerCANotShared", true, "TLSNotInForce"),
    ("TLSReady", "False", "Expiring", true, "CertificateExpiring"),
    ("StorageReady", "False", "ResizeFailed", true, "ResizeFailed"),
    ("StorageReady", "False", "NotExpandable", true, "ResizeFailed"),
    ("StorageReady", "False", "ShrinkRefused", true, "ResizeFailed"),
    ("ClusterIDMismatch", "True", "Mismatch", true, "ClusterIDMismatch"),
    ("Bootstrapped", "False", "BootstrapLost", true, "BootstrapLost"),
    ("Bootstrapped", "False", "AdoptionRequired", true, "AdoptionRequired"),
    ("MembersReady", "False", "PodStuckTerminating", true, "PodStuckTerminating"),
    ("MembersReady", "False", "Unschedulable", true, "Unschedulable"),
    ("MembersReady", "False", "VolumePending", true, "VolumePending"),
    ("MembersReady", "False", "ImagePullFailed", true, "ImagePullFailed"),
    ("MembersReady", "False", "CrashLooping", true, "CrashLooping"),
    ("Available", "False", "Hibernated", false, "Hibernated"),
    ("Paused", "True", "PausedBySpec", false, "Paused"),
];

/// What is said about conditions that were not there before.
#[must_use]
pub fn of_conditions(before: &KvClusterStatus, after: &KvClusterStatus) -> Vec<Said> {
    let find = |status: &KvClusterStatus, type_: &str| -> Option<ConditionStatus> {
        let mut conditions = status.conditions.iter();
        conditions
            .find(|condition| condition.type_ == type_)
            .cloned()
    };
    let mut said = Vec::new();
    for (type_, status, reason, warning, event) in CONDITIONS {
        let holds = |condition: &Option<ConditionStatus>| {
            condition
                .as_ref()
                .is_some_and(|condition| condition.status == *status && condition.reason == *reason)
        };
        let now = find(after, type_);
        if holds(&now) && !holds(&find(before, type_)) {
            let note = now.map(|condition| condition.message).unwrap_or_default();
            said.push(Said {
                warning: *warning,
                ..Said::normal(event, note)
            });
        }
    }
    let paused =
        |status| find(status, "Paused").is_some_and(|condition| condition.status == "True");
    if paused(before) && !paused(after) {
        let note = "The cluster is looked after again.";
        said.push(Said::normal("Resumed", note));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UnixMs;

    fn status(type_: &str, value: &str, reason: &str) -> KvClusterStatus {
        KvClusterStatus {
            conditions: vec![ConditionStatus {
                type_: type_.to_owned(),
                status: value.to_owned(),
                reason: reason.to_owned(),
                message: "why".to_owned(),
                last_transition_time: crate::ledger::time(UnixMs(0)),
                observed_generation: None,
            }],
            ..KvClusterStatus::default()
        }
    }

    #[test]
    fn a_condition_is_said_once_when_it_begins() {
        let (well, lost) = (
            status("QuorumHealthy", "True", "QuorumPresent"),
            status("QuorumHealthy", "False", "QuorumLost"),
        );
        let said = of_conditions(&well, &lost);
        assert_eq!(said.len(), 1);
        assert_eq!((said[0].reason, said[0].warning), ("QuorumLost", true));
        assert_eq!(of_conditions(&lost, &lost), []);
        assert_eq!(of_conditions(&lost, &well), []);
    }

    #[test]
    fn pause_and_its_end_are_said() {
        let (paused, free) = (
            status("Paused", "True", "PausedBySpec"),
            status("Paused", "False", "NotPaused"),
        );
        assert_eq!(of_conditions(&free, &paused)[0].reason, "Paused");
        assert_eq!(of_conditions(&paused, &free)[0].reason, "Resumed");
    }
}
