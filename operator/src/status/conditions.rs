//! The thirteen conditions, derived from values, each with a reason and a sentence.
//!
//! `True` is good, except for Progressing, Degraded, Paused and ClusterIDMismatch.
//! `lastTransitionTime` moves only when `status` flips. All are present from the first write on.

use super::degraded::degraded;
use super::{Inputs, evidence, now, quorum_state, size_wanted};
use crate::certificates::Encryption;
use crate::crd::{ANNOTATION_ROTATE_CERTIFICATES, ConditionStatus, KvClusterStatus};
use crate::ids::MemberId;
use crate::observed::{LifeState, Observed, Pending, Seen};
use crate::plan::{Conflict, Facts, Note, Reason, conflict, quorum};
use crate::record::OperationKind;

/// One condition before it gets its times.
pub(super) struct Finding {
    type_: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

pub(super) fn finding(
    type_: &'static str,
    status: &'static str,
    reason: &'static str,
    message: impl Into<String>,
) -> Finding {
    Finding {
        type_,
        status,
        reason,
        message: message.into(),
    }
}

fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// The conditions after a pass, by type.
pub(super) fn render(
    facts: &Facts,
    inputs: &Inputs,
    previous: &KvClusterStatus,
) -> Vec<ConditionStatus> {
    let findings = vec![
        available(facts, inputs),
        progressing(facts, inputs),
        degraded(facts, inputs),
        quorum_healthy(facts, inputs),
        members_ready(facts, inputs),
        bootstrapped(inputs),
        scale_complete(facts, inputs),
        version_up_to_date(facts, inputs),
        tls_ready(inputs),
        storage_ready(facts, inputs),
        backup_ready(inputs),
        cluster_id_mismatch(facts),
        paused(inputs),
    ];
    finish(findings, inputs.observed, previous)
}

/// The conditions of a resource that was never valid: unknown, but for the reason.
pub(super) fn render_invalid(
    observed: &Observed,
    invalid: &str,
    previous: &KvClusterStatus,
) -> Vec<ConditionStatus> {
    let unknown = |type_| finding(type_, "Unknown", "InvalidSpec", "The spec is not valid.");
    let mut findings: Vec<Finding> = TYPES.iter().map(|type_| unknown(*type_)).collect();
    for finding in &mut findings {
        if finding.type_ == "Degraded" {
            finding.status = "True";
            finding.message = invalid.to_owned();
        }
    }
    finish(findings, observed, previous)
}

/// The types of all conditions.
const TYPES: [&str; 13] = [
    "Available",
    "Progressing",
    "Degraded",
    "QuorumHealthy",
    "MembersReady",
    "Bootstrapped",
    "ScaleOperationComplete",
    "VersionUpToDate",
    "TLSReady",
    "StorageReady",
    "BackupReady",
    "ClusterIDMismatch",
    "Paused",
];

/// Adds the times and sorts by type.
fn finish(
    findings: Vec<Finding>,
    observed: &Observed,
    previous: &KvClusterStatus,
) -> Vec<ConditionStatus> {
    let mut conditions: Vec<ConditionStatus> = findings
        .into_iter()
        .map(|finding| {
            let last = previous
                .conditions
                .iter()
                .find(|last| last.type_ == finding.type_);
            let unchanged = last.filter(|last| last.status == finding.status);
            ConditionStatus {
                type_: finding.type_.to_owned(),
                status: finding.status.to_owned(),
                reason: finding.reason.to_owned(),
                message: finding.message.chars().take(2048).collect(),
                last_transition_time: unchanged
                    .map_or_else(|| now(observed), |last| last.last_transition_time.clone()),
                observed_generation: Some(observed.object.generation),
            }
        })
        .collect();
    conditions.sort_by(|left, right| left.type_.cmp(&right.type_));
    conditions
}

pub(super) fn noted<'a>(inputs: &Inputs<'a>, reasons: &[Reason]) -> Option<&'a Note> {
    inputs
        .plan
        .notes
        .iter()
        .find(|note| reasons.contains(&note.reason))
}

fn available(facts: &Facts, inputs: &Inputs) -> Finding {
    let type_ = "Available";
    if let Some(note) = noted(inputs, &[Reason::Hibernated]) {
        return finding(type_, "False", "Hibernated", note.message.clone());
    }
    match quorum_state(facts, inputs) {
        "True" => finding(type_, "True", "Serving", "A quorum of the members serves."),
        "False" => finding(type_, "False", "NoQuorum", lost_words(facts, inputs)),
        _ if !inputs.record.is_bootstrapped() => finding(
            type_,
            "False",
            "NoQuorum",
            with_trouble("The cluster does not exist yet.", inputs),
        ),
        _ => finding(
            type_,
            "Unknown",
            "Unknown",
            with_trouble(&facts.unread(), inputs),
        ),
    }
}

pub(super) fn quorum_words(facts: &Facts) -> String {
    let (alive, voters) = (facts.healthy.len(), facts.voters.len());
    let needed = quorum(voters);
    let counted = format!("{alive} of {voters} voters are healthy and {needed} are needed.");
    let missing = facts
        .voters
        .iter()
        .filter(|id| !facts.healthy.contains(*id));
    let missing: Vec<String> = missing.map(|id| place(facts, *id)).collect();
    match missing.is_empty() {
        true => counted,
        false => format!("{counted} Missing: {}.", missing.join(", ")),
    }
}

/// A member and where it lives.
fn place(facts: &Facts, id: MemberId) -> String {
    let slot = facts.member(id).and_then(|member| member.slot);
    match slot.map(|slot| (slot, facts.life(slot))) {
        Some((_, Some(life))) => format!("{id} ({})", life.label),
        Some((slot, None)) => format!("{id} (slot {slot}, which has nothing running)"),
        None => id.to_string(),
    }
}

/// A sentence, and the first trouble that the platform itself reports.
fn with_trouble(sentence: &str, inputs: &Inputs) -> String {
    match life_in_trouble(inputs) {
        Some((_, trouble)) => format!("{sentence} {trouble}"),
        None => sentence.to_owned(),
    }
}

/// What speaks for a lost quorum: the leader's count, or the evidence of each voter.
fn lost_words(facts: &Facts, inputs: &Inputs) -> String {
    evidence::lost_quorum(facts, inputs).unwrap_or_else(|| quorum_words(facts))
}

fn quorum_healthy(facts: &Facts, inputs: &Inputs) -> Finding {
    let type_ = "QuorumHealthy";
    match quorum_state(facts, inputs) {
        "True" => finding(type_, "True", "QuorumPresent", quorum_words(facts)),
        "False" => finding(type_, "False", "QuorumLost", lost_words(facts, inputs)),
        _ => {
            let message = with_trouble(&facts.unread(), inputs);
            finding(type_, "Unknown", "Unreachable", message)
        }
    }
}

fn progressing(facts: &Facts, inputs: &Inputs) -> Finding {
    let type_ = "Progressing";
    if let Some(note) = noted(inputs, &[Reason::UpdateStalled]) {
        return finding(type_, "False", "UpdateStalled", note.message.clone());
    }
    let waits = |note: &&Note| {
        !note.reason.is_refusal() && !matches!(note.reason, Reason::Paused | Reason::Hibernated)
    };
    let waiting = inputs.plan.notes.iter().find(waits);
    if inputs.plan.step.is_none() && waiting.is_none() {
        return finding(type_, "False", "Idle", "Nothing is being done.");
    }
    let reason = match inputs
        .record
        .operation
        .as_ref()
        .map(|operation| &operation.kind)
    {
        _ if !inputs.record.is_bootstrapped() => "Bootstrapping",
        _ if inputs.record.recovery.is_some() => "Recovering",
        Some(OperationKind::ScaleUp(_) | OperationKind::ScaleDown(_)) => "Scaling",
        Some(OperationKind::Replace(_)) => "Repairing",
        Some(OperationKind::Hibernate(_)) => "Hibernating",
        Some(OperationKind::Update(_)) => "Updating",
        Some(OperationKind::ExpandVolumes(_)) => "Expanding",
        None if facts.voters_in_range() != inputs.desired.replicas => "Scaling",
        None if noted(inputs, &[Reason::SettingsPending]).is_some() => "SettingsPending",
        None => "Repairing",
    };
    let message = match (inputs.failure, &inputs.plan.step, waiting) {
        (Some(failure), Some(step), _) => {
            format!(
                "The step {} failed: {failure}. It is planned again.",
                step.name()
            )
        }
        (_, Some(step), _) => format!("Rule {}: step {}.", inputs.plan.rule, step.name()),
        (_, None, Some(note)) => with_trouble(&note.message, inputs),
        (_, None, None) => String::new(),
    };
    finding(type_, "True", reason, message)
}

fn members_ready(facts: &Facts, inputs: &Inputs) -> Finding {
    let type_ = "MembersReady";
    let troubles = [
        Reason::CrashLooping,
        Reason::MemberLost,
        Reason::StaleVolume,
    ];
    if let Some(note) = noted(inputs, &troubles) {
        return finding(type_, "False", note.reason.name(), note.message.clone());
    }
    if let Some((reason, message)) = life_in_trouble(inputs) {
        return finding(type_, "False", reason, message);
    }
    if facts.membership.is_none() {
        return finding(type_, "Unknown", "Unreachable", facts.unread());
    }
    if let Some(learner) = facts.learners.first() {
        let message = format!("Member {learner} is a learner.");
        return finding(type_, "False", "Learner", message);
    }
    let unready = facts.voters.iter().find(|id| {
        let slot = facts.member(**id).and_then(|member| member.slot);
        let node = slot
            .and_then(|slot| inputs.observed.nodes.get(&slot))
            .and_then(Seen::known);
        !facts.healthy.contains(id) || !node.is_some_and(|node| node.ready)
    });
    match unready {
        Some(id) => finding(
            type_,
            "False",
            "NotReady",
            format!("Member {id} is not ready."),
        ),
        None => finding(type_, "True", "AllReady", "Every voter is ready."),
    }
}

/// The first life that the platform itself says is in trouble, in its own words.
fn life_in_trouble(inputs: &Inputs) -> Option<(&'static str, String)> {
    let lives = &inputs.observed.slots.known()?.lives;
    lives.values().find_map(|life| {
        let reason = match &life.state {
            LifeState::Pending(Pending::Unschedulable) => "Unschedulable",
            LifeState::Pending(Pending::VolumeMissing) => "VolumeMissing",
            LifeState::Pending(Pending::VolumeUnbound) => "VolumePending",
            LifeState::Pending(Pending::Image) => "ImagePullFailed",
            LifeState::Pending(Pending::Other) => "Pending",
            LifeState::CrashLooping { .. } => "CrashLooping",
            LifeState::Stopping => "PodStuckTerminating",
            LifeState::Starting | LifeState::Running | LifeState::Dead(_) => return None,
        };
        let trouble = life.trouble.as_ref()?;
        Some((reason, format!("{}: {trouble}", life.label)))
    })
}

fn bootstrapped(inputs: &Inputs) -> Finding {
    let type_ = "Bootstrapped";
    if inputs.record.is_bootstrapped() {
        return finding(type_, "True", "Done", "The cluster exists.");
    }
    let reasons = [Reason::BootstrapLost, Reason::AdoptionRequired];
    match noted(inputs, &reasons) {
        Some(note) => finding(type_, "False", note.reason.name(), note.message.clone()),
        None => finding(type_, "False", "Waiting", "The first member is on its way."),
    }
}

fn scale_complete(facts: &Facts, inputs: &Inputs) -> Finding {
    let type_ = "ScaleOperationComplete";
    let wanted = inputs.desired.replicas;
    let stuck = [Reason::LearnerStuck, Reason::WouldLoseQuorum];
    if let Some(note) = noted(inputs, &stuck) {
        return finding(type_, "False", note.reason.name(), note.message.clone());
    }
    if facts.membership.is_none() {
        return finding(type_, "Unknown", "Unreachable", facts.unread());
    }
    let voters = u32::try_from(facts.voters.len()).unwrap_or(u32::MAX);
    let complete = voters == wanted && inputs.record.operation.is_none();
    let message = format!("{voters} voters, {wanted} wanted.");
    match complete {
        true => finding(type_, "True", "Complete", message),
        false if voters > wanted => finding(type_, "False", "ScalingDown", message),
        false => finding(type_, "False", "ScalingUp", message),
    }
}

fn version_up_to_date(facts: &Facts, inputs: &Inputs) -> Finding {
    let type_ = "VersionUpToDate";
    let target = &inputs.desired.version;
    let lives = inputs.observed.slots.known();
    let mut lives = lives.into_iter().flat_map(|slots| slots.lives.values());
    if let Some(life) = lives.find(|life| life.outdated) {
        let message = format!("{} began with an older template.", life.label);
        return finding(type_, "False", "RollingOut", message);
    }
    let mut asked = 0;
    for (slot, node) in &inputs.observed.nodes {
        let Seen::Known(node) = node else { continue };
        asked += 1;
        if node.version != *target {
            let message = format!("Slot {slot} runs {}, {target} is wanted.", node.version);
            return finding(type_, "False", "RollingOut", message);
        }
    }
    if asked == 0 || facts.membership.is_none() {
        return finding(type_, "Unknown", "Unreachable", "No member could be asked.");
    }
    finding(
        type_,
        "True",
        "UpToDate",
        format!("Every member that answers runs {target}."),
    )
}

/// What members negotiate, and not what was asked for (H47).
fn tls_ready(inputs: &Inputs) -> Finding {
    let type_ = "TLSReady";
    let desired = inputs.desired;
    if !desired.tls_peer && !desired.tls_client {
        let message = "The spec asks for no encryption.";
        return finding(type_, "True", "Disabled", message);
    }
    let uses = match &inputs.observed.encryption {
        Encryption::NotOffered => {
            let message = "The spec asks for encryption, and members on this platform have none. Set \
                           spec.tls.peer.mode and spec.tls.client.mode to Disabled if that is meant.";
            return finding(type_, "False", "NotInForce", message);
        }
        Encryption::Offered(Seen::Unknown(why)) => {
            let message = format!("The certificates could not be read: {why}.");
            return finding(type_, "Unknown", "Unreachable", message);
        }
        Encryption::Offered(Seen::Known(uses)) => uses,
    };
    let now_s = inputs.observed.now.0 / 1000;
    let verdicts = uses
        .iter()
        .filter_map(|(of, view)| view.verdict(*of, now_s));
    // What is wrong comes before what is awaited.
    let worst = verdicts.min_by_key(|(status, _, _)| *status != "False");
    if let Some((status, reason, message)) = worst {
        return finding(type_, status, reason, message);
    }
    if uses.values().all(|view| view.answered == 0) {
        let message = "No member could be asked which certificates it uses.";
        return finding(type_, "Unknown", "Unreachable", message);
    }
    let ports = match (desired.tls_peer, desired.tls_client) {
        (true, true) => "Peer, admin and client ports are encrypted",
        (true, false) => "Peer and admin ports are encrypted, client ports are not",
        (false, _) => "Client ports are encrypted, peer and admin ports are not",
    };
    // A request that was mistyped would otherwise be waited for in vain.
    let mistyped = desired
        .warnings
        .iter()
        .find(|warning| warning.contains(ANNOTATION_ROTATE_CERTIFICATES));
    let more = mistyped.map_or_else(String::new, |warning| format!(" {warning}."));
    finding(type_, "True", "Ready", format!("{ports}.{more}"))
}

fn storage_ready(facts: &Facts, inputs: &Inputs) -> Finding {
    let type_ = "StorageReady";
    // Volumes of a cluster this object knows nothing of are stale for it (H5).
    if let Some(note) = noted(inputs, &[Reason::StaleVolume, Reason::AdoptionRequired]) {
        return finding(type_, "False", "StaleVolume", note.message.clone());
    }
    if let Seen::Unknown(why) = &inputs.observed.volumes {
        let message = format!("The volumes could not be read: {why}.");
        return finding(type_, "Unknown", "Unreachable", message);
    }
    if let Some(note) = noted(inputs, &[Reason::ExpansionUnknown]) {
        return finding(type_, "Unknown", note.reason.name(), note.message.clone());
    }
    let refused = [
        Reason::ResizeFailed,
        Reason::NotExpandable,
        Reason::ShrinkRefused,
        Reason::Resizing,
    ];
    if let Some(note) = noted(inputs, &refused) {
        return finding(type_, "False", note.reason.name(), note.message.clone());
    }
    let members = facts
        .membership
        .iter()
        .flat_map(|membership| &membership.members);
    let mut slots = members.filter_map(|(id, member)| Some((*id, member.slot?)));
    let wrong = slots.find(|(id, slot)| {
        let volume = facts.volume(*slot).ok().flatten();
        let stamp = volume.and_then(|volume| volume.stamp.as_ref());
        stamp.is_none_or(|stamp| stamp.member != *id)
    });
    match wrong {
        Some((id, slot)) => {
            let message = format!("Slot {slot} has no volume of member {id}.");
            finding(type_, "False", "StaleVolume", message)
        }
        None if grows(inputs) => {
            let size = size_wanted(inputs);
            let message = format!("Every volume grows to {size}.");
            finding(type_, "False", "Resizing", message)
        }
        None => finding(type_, "True", "Ready", "Every member has its volume."),
    }
}

fn grows(inputs: &Inputs) -> bool {
    let operation = inputs.record.operation.as_ref();
    operation.is_some_and(|operation| matches!(operation.kind, OperationKind::ExpandVolumes(_)))
}

fn backup_ready(inputs: &Inputs) -> Finding {
    let type_ = "BackupReady";
    if inputs.desired.backup {
        return finding(type_, "Unknown", "Unknown", "No backup was looked for.");
    }
    finding(type_, "True", "NotConfigured", "No backups are scheduled.")
}

fn cluster_id_mismatch(facts: &Facts) -> Finding {
    let type_ = "ClusterIDMismatch";
    match conflict(facts) {
        Some(Conflict {
            reason: Reason::ClusterIdMismatch | Reason::StaleVolume,
            message,
        }) => finding(type_, "True", "Mismatch", message),
        _ => finding(
            type_,
            "False",
            "Consistent",
            "Members and volumes are of this cluster.",
        ),
    }
}

fn paused(inputs: &Inputs) -> Finding {
    let reason = if inputs.desired.paused {
        "PausedBySpec"
    } else {
        "NotPaused"
    };
    let message = match inputs.desired.paused {
        true => "Nothing is done while spec.paused is true. Set it to false to go on.",
        false => "The cluster is looked after.",
    };
    finding("Paused", truth(inputs.desired.paused), reason, message)
}
