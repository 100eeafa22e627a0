//! What a user sees: values go in, a whole status comes out, once, at the end of a pass.
//!
//! PURE. Nothing is claimed that this pass did not read (I10): what could not be read is `Unknown`,
//! with the reason. Numbers that move all the time are rounded, so that a quiet cluster has a quiet
//! status (H55). Must not know: who writes it where.

mod conditions;
mod degraded;
mod evidence;
mod members;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::certificates::{Encryption, Use, UseView};
use crate::crd::{
    CertificateStatus, CertificatesStatus, KvCluster, KvClusterStatus, LeaderStatus, QuorumStatus,
    StorageStatus, VersionStatus,
};
use crate::desired::Desired;
use crate::ids::UnixMs;
use crate::ledger::time;
use crate::observed::{Observed, Seen};
use crate::plan::{Facts, Plan, Reason, quorum};
use crate::quantity::{bytes, show_bytes};
use crate::record::{OperationKind, Record};

/// Everything a status is made of.
pub struct Inputs<'a> {
    /// The resource, with its stored status.
    pub resource: &'a KvCluster,
    /// What was asked for: the last valid spec.
    pub desired: &'a Desired,
    /// What this pass saw.
    pub observed: &'a Observed,
    /// The record after this pass's step.
    pub record: &'a Record,
    /// What was decided.
    pub plan: &'a Plan,
    /// Why the newest spec is not the one in force.
    pub invalid: Option<&'a str>,
    /// Why the step failed, if it did.
    pub failure: Option<&'a str>,
}

/// The status after a pass.
#[must_use]
pub fn render(inputs: &Inputs) -> KvClusterStatus {
    let facts = Facts::new(inputs.desired, inputs.observed);
    let previous = inputs.resource.status.clone().unwrap_or_default();
    let mut status = previous.clone();
    status.observed_generation = Some(inputs.observed.object.generation);
    status.members = members::rows(&facts, inputs, &previous);
    status.quorum = Some(quorum_status(&facts, inputs, &previous));
    status.leader = facts
        .membership
        .and_then(|membership| membership.leader)
        .map(|leader| {
            let slot = facts.member(leader).and_then(|member| member.slot);
            let label = slot
                .and_then(|slot| facts.life(slot))
                .map(|life| life.label.clone());
            LeaderStatus {
                member_id: leader.to_hex(),
                pod: label.unwrap_or_default(),
            }
        });
    if facts.membership.is_some() {
        let voters = i32::try_from(facts.voters.len()).unwrap_or(i32::MAX);
        status.replicas = Some(voters);
        let voter = |row: &&crate::crd::MemberStatus| row.role == "Voter";
        let ready = status
            .members
            .iter()
            .filter(voter)
            .filter(|row| row.ready)
            .count();
        let target =
            |row: &&crate::crd::MemberStatus| row.version.as_ref() == Some(&inputs.desired.version);
        let lives = inputs.observed.slots.known();
        let outdated = |row: &&crate::crd::MemberStatus| {
            let mut lives = lives.into_iter().flat_map(|slots| slots.lives.values());
            lives.any(|life| life.outdated && row.pod_uid.as_ref() == Some(&life.uid.0))
        };
        let updated = status.members.iter().filter(voter).filter(target);
        let updated = updated.filter(|row| !outdated(row)).count();
        status.ready_replicas = i32::try_from(ready).ok();
        status.updated_replicas = i32::try_from(updated).ok();
        let sizes = facts
            .membership
            .iter()
            .flat_map(|membership| membership.members.values());
        let largest = sizes.map(|member| member.db_size_bytes).max().unwrap_or(0);
        // Whole mebibytes: a byte more is no news.
        status.db_size = Some(show_bytes(largest.div_ceil(1 << 20) << 20));
    } else {
        // Who is ready cannot be known without the members; the size is the last known one.
        status.ready_replicas = Some(0);
    }
    status.ready = Some(format!(
        "{}/{}",
        status.ready_replicas.unwrap_or(0),
        status.replicas.unwrap_or(0)
    ));
    status.version = Some(version(inputs, &previous, &status));
    status.storage = Some(storage(inputs));
    if let Encryption::Offered(Seen::Known(uses)) = &inputs.observed.encryption {
        status.certificates = Some(certificates(uses));
    }
    status.conditions = conditions::render(&facts, inputs, &previous);
    status.phase = Some(phase(&facts, inputs).to_owned());
    inputs.record.write_to(&mut status);
    if let Some(operation) = &mut status.operation {
        operation.message = inputs.plan.notes.first().map(|note| note.message.clone());
    }
    status
}

/// The status of a resource that was never valid: it says so, and keeps everything else.
#[must_use]
pub fn render_invalid(resource: &KvCluster, observed: &Observed, invalid: &str) -> KvClusterStatus {
    let previous = resource.status.clone().unwrap_or_default();
    let mut status = previous.clone();
    status.observed_generation = Some(observed.object.generation);
    status.phase = Some("Failed".to_owned());
    status.conditions = conditions::render_invalid(observed, invalid, &previous);
    observed.record.write_to(&mut status);
    status
}

fn quorum_status(facts: &Facts, inputs: &Inputs, previous: &KvClusterStatus) -> QuorumStatus {
    let last = previous.quorum.clone().unwrap_or_default();
    let count = |number: usize| i32::try_from(number).ok();
    let state = quorum_state(facts, inputs);
    // How long a quorum has been missing does not begin again with what is known of why.
    let since = if (last.state == "True") == (state == "True") {
        last.since
    } else {
        None
    };
    let since = since.or_else(|| Some(now(inputs.observed)));
    let Some(membership) = facts.membership else {
        // The highest config index seen is kept: it unmasks stale answers later (H16).
        return QuorumStatus {
            state: state.to_owned(),
            since,
            healthy: None,
            ..last
        };
    };
    QuorumStatus {
        voters: count(facts.voters.len()),
        healthy: count(facts.healthy.len()),
        needed: count(quorum(facts.voters.len())),
        config_index: i64::try_from(membership.config_index).ok(),
        term: i64::try_from(membership.term).ok(),
        since,
        state: state.to_owned(),
    }
}

/// `True`, `False` or `Unknown`, by the leader's word on its voters: a member that is slow to
/// answer us is no lost quorum while the leader hears it. Decisions ask for more
/// (`Facts::healthy`).
fn quorum_state(facts: &Facts, inputs: &Inputs) -> &'static str {
    let heard = |id: &&crate::ids::MemberId| {
        let member = facts.member(**id);
        member.is_some_and(|member| member.caught_up && member.in_contact)
    };
    match facts.membership {
        None if evidence::lost_quorum(facts, inputs).is_some() => "False",
        None => "Unknown",
        Some(_) if facts.voters.iter().filter(heard).count() >= quorum(facts.voters.len()) => {
            "True"
        }
        Some(_) => "False",
    }
}

fn now(observed: &Observed) -> Time {
    time(observed.now)
}

fn version(inputs: &Inputs, previous: &KvClusterStatus, status: &KvClusterStatus) -> VersionStatus {
    let running = status.members.iter().filter_map(|row| row.version.clone());
    let parts = |text: &String| {
        text.split(['.', '-'])
            .map(|part| part.parse::<u64>().unwrap_or(0))
            .collect::<Vec<_>>()
    };
    let last = previous.version.clone().unwrap_or_default();
    VersionStatus {
        current: running.min_by_key(parts).or(last.current),
        target: Some(inputs.desired.version.clone()),
        feature: last.feature,
    }
}

/// The size in force, in the user's words where it is theirs: a spec that is refused says another.
fn size_wanted(inputs: &Inputs) -> String {
    let (theirs, ours) = (
        &inputs.resource.spec.storage.size,
        inputs.desired.storage_bytes,
    );
    if bytes(theirs) == Some(ours) {
        theirs.clone()
    } else {
        show_bytes(ours)
    }
}

fn storage(inputs: &Inputs) -> StorageStatus {
    let volumes = inputs.observed.volumes.known();
    let capacities = volumes.into_iter().flat_map(|volumes| volumes.values());
    let smallest = capacities.filter_map(|volume| volume.capacity_bytes).min();
    StorageStatus {
        requested: Some(size_wanted(inputs)),
        capacity: smallest.map(show_bytes),
        resizing: matches!(
            inputs
                .record
                .operation
                .as_ref()
                .map(|operation| &operation.kind),
            Some(OperationKind::ExpandVolumes(_))
        ),
    }
}

/// What members use, and until when. Without peers in it, members talk in the clear: that is a
/// latch.
fn certificates(uses: &BTreeMap<Use, UseView>) -> CertificatesStatus {
    let row = |of: Use| {
        let view = uses.get(&of)?;
        let at = |seconds: Option<i64>| seconds.map(|seconds| time(UnixMs(seconds * 1000)));
        let expiry = view.expiry();
        Some(CertificateStatus {
            not_after: at(expiry.leaf_s),
            ca_not_after: at(expiry.authority_s),
            serials: view.serials(),
        })
    };
    let phases = uses.values().filter_map(|view| view.managed.as_ref());
    let phase = phases.map(|facts| facts.phase).max();
    CertificatesStatus {
        peer: row(Use::Peer),
        client: row(Use::Client),
        phase: phase.map(|phase| phase.label().to_owned()),
    }
}

/// One word for people; nothing is decided by it.
fn phase(facts: &Facts, inputs: &Inputs) -> &'static str {
    let noted = |reason: Reason| inputs.plan.notes.iter().any(|note| note.reason == reason);
    if inputs.observed.object.deleting {
        return "Deleting";
    }
    if noted(Reason::BootstrapLost)
        || noted(Reason::AdoptionRequired)
        || noted(Reason::ClusterIdMismatch)
        || (noted(Reason::StaleVolume) && !inputs.record.is_bootstrapped())
    {
        return "Failed";
    }
    if noted(Reason::Hibernated) {
        return "Hibernated";
    }
    if inputs.desired.paused {
        return "Paused";
    }
    if !inputs.record.is_bootstrapped() {
        return if inputs.record.cluster_uuid.is_none() {
            "Pending"
        } else {
            "Bootstrapping"
        };
    }
    if inputs.record.recovery.is_some() {
        return "Recovering";
    }
    if quorum_state(facts, inputs) != "True" {
        return "QuorumLost";
    }
    match inputs
        .record
        .operation
        .as_ref()
        .map(|operation| &operation.kind)
    {
        Some(OperationKind::ScaleUp(_) | OperationKind::ScaleDown(_)) => "Scaling",
        Some(OperationKind::Replace(_)) => "Repairing",
        Some(OperationKind::Hibernate(_)) => "Pending",
        Some(OperationKind::Update(_)) => "Updating",
        Some(OperationKind::ExpandVolumes(_)) => "Expanding",
        None if facts.voters_in_range() != inputs.desired.replicas => "Scaling",
        None => "Running",
    }
}
