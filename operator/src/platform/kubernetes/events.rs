//! What is said about a cluster in events: pure, from the step that was taken and from what has
//! changed in the conditions.
//!
//! Reasons are a closed set (they are part of what users filter by). Text that changes all the time
//! belongs into conditions: events of one reason are merged.

use crate::certificates::{self, Use};
use crate::crd::{BootstrapStatus, ConditionStatus, KvClusterStatus};
use crate::ids::Slot;
use crate::observed::Role;
use crate::plan::{Latch, Outcome, Step};
use crate::record::OperationKind;

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

/// What is said about a step that was taken. `before` is the status as the pass found it.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one arm per step")]
pub fn of_step(step: &Step, before: &KvClusterStatus) -> Option<Said> {
    let operation = before.operation.as_ref();
    let (reason, note, slot) = match step {
        Step::Latch(Latch::Done { cluster_uuid, .. }) => {
            let note = format!("The cluster exists, with identity {cluster_uuid}.");
            ("Bootstrapped", note, Some(Slot(0)))
        }
        Step::WriteRecovery(recovery) => {
            let note = format!(
                "Epoch {} is to begin from member {} alone, whose log ends with entry {}. It is \
                 called off if the old quorum comes back first.",
                recovery.new_epoch, recovery.member, recovery.last_index
            );
            return Some(warning("RecoveryStarted", note, step, Some(recovery.slot)));
        }
        Step::ClearRecovery { .. } => {
            let note = "The recovery was called off; nothing was lost by it.".to_owned();
            return Some(warning("RecoveryCancelled", note, step, None));
        }
        Step::Latch(Latch::Recovered { epoch, .. }) => {
            let recovery = before.recovery.clone().unwrap_or_default();
            let note = format!(
                "Epoch {epoch} has begun from member {}. Writes that were acknowledged behind entry {} \
                 of its log are lost.",
                recovery.survivor, recovery.last_index
            );
            return Some(warning("QuorumRecovered", note, step, None));
        }
        Step::MemberAdd { slot, member, .. } => {
            let note = format!("Member {member} was added in slot {slot} as learner.");
            ("MemberAdded", note, Some(*slot))
        }
        Step::Promote { member, .. } => {
            let note = format!("Member {member} is a voter now.");
            ("MemberPromoted", note, None)
        }
        Step::MemberRemove { member, .. } => {
            let note = format!("Member {member} was removed.");
            ("MemberRemoved", note, None)
        }
        Step::TransferLeader { from, to } => {
            let note = format!("Leadership moves from member {from} to member {to}.");
            ("LeaderTransferred", note, None)
        }
        Step::StopSlot { slot, asking, .. } => {
            let updates = operation.is_some_and(|operation| operation.type_ == "Update");
            if updates && asking.is_none() && before.replicas.is_some_and(|size| size <= 2) {
                let note = format!("Slot {slot} begins anew; nobody serves meanwhile.");
                return Some(warning("UpdateWithoutRedundancy", note, step, Some(*slot)));
            }
            let note = format!("Slot {slot} begins anew.");
            ("PodRestarting", note, Some(*slot))
        }
        Step::WriteIntent(intent) => match &intent.kind {
            OperationKind::Update(update) if operation.is_none() => {
                let note = format!("All pods begin anew with revision {}.", update.revision);
                ("UpdateStarted", note, None)
            }
            _ => return None,
        },
        Step::SetSlots { was: None, .. } if before.bootstrap.as_ref().is_some_and(is_done) => {
            let note = "The set of pods was made anew; the pods went on.".to_owned();
            ("StatefulSetRecreated", note, None)
        }
        Step::ClearIntent { outcome, .. } => {
            return operation.and_then(|operation| ended(&operation.type_, *outcome, step));
        }
        Step::Certify { of, step } => of_certificates(*of, step)?,
        Step::DropFinalizer => {
            let note = "Nothing of the cluster is the operator's any more.".to_owned();
            ("ClusterDeleted", note, None)
        }
        Step::LabelSlot {
            role: Some(Role::Voter | Role::Learner) | None,
            ..
        }
        | Step::AddFinalizer
        | Step::Latch(_)
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
        | Step::Bootstrap { .. }
        | Step::Join { .. } => return None,
    };
    Some(Said {
        warning: false,
        reason,
        note,
        action: step.name(),
        slot,
    })
}

/// What is said of certificates: nothing of the first steps of a cluster.
fn of_certificates(
    of: Use,
    step: &certificates::Step,
) -> Option<(&'static str, String, Option<Slot>)> {
    let label = of.label();
    let (reason, note) = match step {
        certificates::Step::IssueLeaf(_) => (
            "CertificateRotated",
            format!("A new {label} certificate was issued."),
        ),
        certificates::Step::CreateNext => (
            "CARotationPhase",
            format!("The {label} authority is being replaced."),
        ),
        certificates::Step::Enter(next) => (
            "CARotationPhase",
            format!("The {label} authority: phase {}.", next.label()),
        ),
        certificates::Step::Finish => (
            "CARotationPhase",
            format!("The {label} authority was replaced."),
        ),
        certificates::Step::CreateAuthority
        | certificates::Step::WriteBundle(_)
        | certificates::Step::Wait { .. }
        | certificates::Step::Rest { .. } => return None,
    };
    Some((reason, note, None))
}

fn warning(reason: &'static str, note: String, step: &Step, slot: Option<Slot>) -> Said {
    Said {
        warning: true,
        reason,
        note,
        action: step.name(),
        slot,
    }
}

fn is_done(bootstrap: &BootstrapStatus) -> bool {
    bootstrap.state == "Done"
}

/// What is said when an operation ends.
fn ended(kind: &str, outcome: Outcome, step: &Step) -> Option<Said> {
    let (reason, note) = match (kind, outcome) {
        ("Replace", Outcome::Done) => ("MemberReplaced", "The lost member was replaced."),
        ("Replace", Outcome::Aborted) => ("RepairCancelled", "The replacement was given up."),
        ("Update", Outcome::Done) => ("UpdateCompleted", "Every pod has the newest template."),
        ("ExpandVolumes", Outcome::Done) => ("VolumeExpanded", "Every volume has its new size."),
        ("Hibernate", Outcome::Done) => ("Woken", "The cluster serves again."),
        (_, Outcome::Aborted) => ("OperationAborted", "The operation was given up."),
        (_, Outcome::Done) => return None,
    };
    Some(Said {
        warning: false,
        reason,
        note: note.to_owned(),
        action: step.name(),
        slot: None,
    })
}

/// Condition, status, reason there, and what is said when that begins.
const CONDITIONS: &[(&str, &str, &str, bool, &str)] = &[
    ("QuorumHealthy", "False", "QuorumLost", true, "QuorumLost"),
    ("Degraded", "True", "InvalidSpec", true, "InvalidSpec"),
    ("Degraded", "True", "ForeignChange", true, "ForeignChange"),
    (
        "Degraded",
        "True",
        "WouldLoseQuorum",
        true,
        "WouldLoseQuorum",
    ),
    (
        "Degraded",
        "True",
        "RecoveryRefused",
        true,
        "RecoveryRefused",
    ),
    ("Degraded", "True", "LearnerStuck", true, "LearnerStuck"),
    ("Degraded", "True", "MemberLost", true, "MemberLost"),
    (
        "Progressing",
        "False",
        "UpdateStalled",
        true,
        "UpdateStalled",
    ),
    ("StorageReady", "False", "StaleVolume", true, "StaleVolume"),
    ("TLSReady", "False", "NotInForce", true, "TLSNotInForce"),
    (
        "TLSReady",
        "False",
        "PeerCANotShared",
        true,
        "TLSNotInForce",
    ),
    ("TLSReady", "False", "Expiring", true, "CertificateExpiring"),
    (
        "StorageReady",
        "False",
        "ResizeFailed",
        true,
        "ResizeFailed",
    ),
    (
        "StorageReady",
        "False",
        "NotExpandable",
        true,
        "ResizeFailed",
    ),
    (
        "StorageReady",
        "False",
        "ShrinkRefused",
        true,
        "ResizeFailed",
    ),
    (
        "ClusterIDMismatch",
        "True",
        "Mismatch",
        true,
        "ClusterIDMismatch",
    ),
    (
        "Bootstrapped",
        "False",
        "BootstrapLost",
        true,
        "BootstrapLost",
    ),
    (
        "Bootstrapped",
        "False",
        "AdoptionRequired",
        true,
        "AdoptionRequired",
    ),
    (
        "MembersReady",
        "False",
        "PodStuckTerminating",
        true,
        "PodStuckTerminating",
    ),
    (
        "MembersReady",
        "False",
        "Unschedulable",
        true,
        "Unschedulable",
    ),
    (
        "MembersReady",
        "False",
        "VolumePending",
        true,
        "VolumePending",
    ),
    (
        "MembersReady",
        "False",
        "ImagePullFailed",
        true,
        "ImagePullFailed",
    ),
    (
        "MembersReady",
        "False",
        "CrashLooping",
        true,
        "CrashLooping",
    ),
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
            said.push(Said {
                warning: *warning,
                reason: event,
                note: now.map(|condition| condition.message).unwrap_or_default(),
                action: "observe",
                slot: None,
            });
        }
    }
    let paused =
        |status| find(status, "Paused").is_some_and(|condition| condition.status == "True");
    if paused(before) && !paused(after) {
        said.push(Said {
            warning: false,
            reason: "Resumed",
            note: "The cluster is looked after again.".to_owned(),
            action: "observe",
            slot: None,
        });
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
