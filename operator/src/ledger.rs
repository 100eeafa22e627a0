//! The record inside the status: from the one to the other and back, without loss.
//!
//! Both platforms keep the record in a `KvClusterStatus` (of the object, or in a file), so that
//! what a human sees is what the operator goes by. A field that cannot be read is an error and
//! never a default: a forgotten latch would let a second cluster be founded.

use std::fmt::Display;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::crd::{
    BackoffStatus, BootstrapStatus, KvClusterStatus, OperationStatus, RecoveryStatus, RequestStatus,
};
use crate::ids::{ClusterUuid, DirectoryId, MemberId, Slot, SlotUid, UnixMs, VolumeUid};
use crate::record::{
    Abort, Backoff, BootstrapRecord, BootstrapState, ExpandVolumes, Hibernate, LastMember,
    Newcomer, Operation, OperationKind, PastRequest, Record, Recovery, Replace, Restart, ScaleDown,
    ScaleUp, TransferAttempt, Update,
};

/// A field of the stored status that cannot be understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("status.{field}: {problem}; nothing is done until it is repaired")]
pub struct LedgerError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

fn wrong(field: &'static str, problem: impl Display) -> LedgerError {
    LedgerError {
        field,
        problem: problem.to_string(),
    }
}

/// A time as the status shows it.
#[must_use]
pub fn time(at: UnixMs) -> Time {
    Time(Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::MAX))
}

/// A time as the planner knows it.
#[must_use]
pub fn unix_ms(time: &Time) -> UnixMs {
    UnixMs(time.0.as_millisecond())
}

fn parsed<T: FromStr>(field: &'static str, text: &str) -> Result<T, LedgerError>
where
    T::Err: Display,
{
    text.parse().map_err(|error| wrong(field, error))
}

fn unsigned<T: TryFrom<i64>>(field: &'static str, number: i64) -> Result<T, LedgerError> {
    T::try_from(number).map_err(|_| wrong(field, format!("{number} is out of range")))
}

fn needed<T>(field: &'static str, value: Option<T>) -> Result<T, LedgerError> {
    value.ok_or_else(|| wrong(field, "is missing"))
}

fn signed<T: TryInto<i64>>(number: T) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl Record {
    /// Reads the record out of a status.
    ///
    /// # Errors
    /// [`LedgerError`] names the field that cannot be understood.
    pub fn from_status(status: &KvClusterStatus) -> Result<Record, LedgerError> {
        let mut record = Record::default();
        if let Some(text) = &status.cluster_uuid {
            record.cluster_uuid = Some(parsed::<ClusterUuid>("clusterUUID", text)?);
        }
        if let Some(text) = &status.cluster_id {
            let id = u64::from_str_radix(text, 16).map_err(|error| wrong("clusterId", error))?;
            record.cluster_id = Some(id);
        }
        record.epoch = unsigned("epoch", status.epoch.unwrap_or(0))?;
        record.bootstrap = status.bootstrap.as_ref().map(bootstrap_from).transpose()?;
        record.requests = status.last_requests.iter().map(request_from).collect();
        record.recovery = status.recovery.as_ref().map(recovery_from).transpose()?;
        let quorum = status
            .quorum
            .as_ref()
            .filter(|quorum| quorum.state != "True");
        record.quorum_absent_since = quorum.and_then(|quorum| quorum.since.as_ref()).map(unix_ms);
        record.operation = status.operation.as_ref().map(operation_from).transpose()?;
        if let Some(backoff) = &status.backoff {
            record.backoff = Some(Backoff {
                attempts: unsigned("backoff.attempts", i64::from(backoff.attempts))?,
                until: unix_ms(&backoff.until),
                message: backoff.message.clone(),
            });
        }
        let seen = status
            .quorum
            .as_ref()
            .and_then(|quorum| quorum.config_index)
            .unwrap_or(0);
        record.config_index_seen = unsigned("quorum.configIndex", seen)?;
        for row in &status.members {
            if let Some(member) = row.member_id.as_ref().filter(|_| row.role != "None") {
                let slot = Slot(unsigned("members.ordinal", i64::from(row.ordinal))?);
                let member = parsed("members.memberId", member)?;
                let incarnation = unsigned("members.incarnation", row.incarnation.unwrap_or(0))?;
                record.last_members.insert(
                    slot,
                    LastMember {
                        member,
                        incarnation,
                        voter: row.role == "Voter",
                    },
                );
            }
        }
        Ok(record)
    }

    /// Writes latches, intent and backoff into a status; the rest of it is left as it is.
    pub fn write_to(&self, status: &mut KvClusterStatus) {
        status.cluster_uuid = self.cluster_uuid.map(|uuid| uuid.to_string());
        status.cluster_id = self.cluster_id.map(|id| format!("{id:016x}"));
        status.epoch = (self.epoch > 0).then(|| signed(self.epoch));
        status.bootstrap = self.bootstrap.as_ref().map(bootstrap_to);
        status.operation = self.operation.as_ref().map(operation_to);
        status.last_requests = self.requests.iter().map(request_to).collect();
        status.recovery = self.recovery.as_ref().map(recovery_to);
        status.backoff = self.backoff.as_ref().map(|backoff| BackoffStatus {
            attempts: small(backoff.attempts),
            until: time(backoff.until),
            message: backoff.message.clone(),
        });
    }
}

const STATES: [(BootstrapState, &str); 3] = [
    (BootstrapState::Pending, "Pending"),
    (BootstrapState::Issued, "Issued"),
    (BootstrapState::Done, "Done"),
];

const ABORTS: [(Abort, &str); 5] = [
    (Abort::Reverted, "Reverted"),
    (Abort::LearnerStuck, "LearnerStuck"),
    (Abort::VolumeLost, "VolumeLost"),
    (Abort::Removed, "Removed"),
    (Abort::Requested, "Requested"),
];

fn by_name<T: Copy>(
    field: &'static str,
    table: &[(T, &str)],
    text: &str,
) -> Result<T, LedgerError> {
    let row = table.iter().find(|(_, name)| *name == text);
    row.map(|(value, _)| *value)
        .ok_or_else(|| wrong(field, format!("`{text}` is not known")))
}

fn name_of<T: PartialEq>(table: &[(T, &str)], value: &T) -> String {
    let row = table.iter().find(|(row, _)| row == value);
    row.map(|(_, name)| (*name).to_owned()).unwrap_or_default()
}

fn bootstrap_from(status: &BootstrapStatus) -> Result<BootstrapRecord, LedgerError> {
    Ok(BootstrapRecord {
        state: by_name("bootstrap.state", &STATES, &status.state)?,
        slot: Slot(unsigned("bootstrap.ordinal", i64::from(status.ordinal))?),
        member: parsed("bootstrap.memberId", &status.member_id)?,
        incarnation: unsigned("bootstrap.incarnation", status.incarnation)?,
        volume: status.claim_uid.clone().map(VolumeUid),
        directory: status.directory_id.clone().map(DirectoryId),
        completed_at: status.completed_at.as_ref().map(unix_ms),
    })
}

fn bootstrap_to(record: &BootstrapRecord) -> BootstrapStatus {
    BootstrapStatus {
        state: name_of(&STATES, &record.state),
        ordinal: small(record.slot.0),
        member_id: record.member.to_hex(),
        incarnation: signed(record.incarnation),
        claim_uid: record.volume.as_ref().map(|uid| uid.0.clone()),
        directory_id: record.directory.as_ref().map(|id| id.0.clone()),
        completed_at: record.completed_at.map(time),
    }
}

fn recovery_from(status: &RecoveryStatus) -> Result<Recovery, LedgerError> {
    let started_at = needed("recovery.startedAt", status.started_at.as_ref())?;
    Ok(Recovery {
        slot: Slot(unsigned("recovery.ordinal", i64::from(status.ordinal))?),
        member: parsed("recovery.survivor", &status.survivor)?,
        new_epoch: unsigned("recovery.newEpoch", status.new_epoch)?,
        last_index: unsigned("recovery.lastIndex", status.last_index)?,
        evidence: status.evidence.clone(),
        token: status.token.clone(),
        force: status.force,
        started_at: unix_ms(started_at),
    })
}

fn request_from(status: &RequestStatus) -> PastRequest {
    PastRequest {
        request: status.request.clone(),
        token: status.token.clone(),
        result: status.result.clone(),
        at: unix_ms(&status.time),
    }
}

fn request_to(past: &PastRequest) -> RequestStatus {
    RequestStatus {
        request: past.request.clone(),
        token: past.token.chars().take(128).collect(),
        result: past.result.chars().take(512).collect(),
        time: time(past.at),
    }
}

fn recovery_to(recovery: &Recovery) -> RecoveryStatus {
    let words = recovery.evidence.iter().take(16);
    RecoveryStatus {
        survivor: recovery.member.to_hex(),
        ordinal: small(recovery.slot.0),
        last_index: signed(recovery.last_index),
        force: recovery.force,
        new_epoch: signed(recovery.new_epoch),
        evidence: words
            .map(|text| text.chars().take(1024).collect())
            .collect(),
        token: recovery.token.chars().take(128).collect(),
        started_at: Some(time(recovery.started_at)),
    }
}

fn operation_from(status: &OperationStatus) -> Result<Operation, LedgerError> {
    let kind = match status.type_.as_str() {
        "ScaleUp" => OperationKind::ScaleUp(ScaleUp {
            from: size("operation.fromReplicas", status.from_replicas)?,
            to: size("operation.toReplicas", status.to_replicas)?,
            newcomer: newcomer_from(status)?,
            abort: abort_from(status)?,
        }),
        "ScaleDown" => OperationKind::ScaleDown(ScaleDown {
            from: size("operation.fromReplicas", status.from_replicas)?,
            to: size("operation.toReplicas", status.to_replicas)?,
            slot: slot_from(status)?,
            victim: member("operation.memberId", status.member_id.as_ref())?,
            life: status.pod_uid.clone().map(SlotUid),
            volume: status.claim_uid.clone().map(VolumeUid),
            transfer: transfer_from(status)?,
        }),
        "Replace" => OperationKind::Replace(Replace {
            old_member: member("operation.memberId", status.member_id.as_ref())?,
            old_life: status.pod_uid.clone().map(SlotUid),
            old_volume: status.claim_uid.clone().map(VolumeUid),
            evidence: status.evidence.clone().unwrap_or_default(),
            newcomer: newcomer_from(status)?,
            abort: abort_from(status)?,
        }),
        "Hibernate" => OperationKind::Hibernate(Hibernate {
            size: size("operation.fromReplicas", status.from_replicas)?,
            top: slot_from(status)?,
        }),
        "Update" => OperationKind::Update(Update {
            revision: needed("operation.revision", status.revision.clone())?,
            at: match (&status.pod_uid, &status.deadline) {
                (Some(uid), Some(deadline)) => Some(Restart {
                    slot: slot_from(status)?,
                    life: SlotUid(uid.clone()),
                    deadline: unix_ms(deadline),
                }),
                _ => None,
            },
            transfer: transfer_from(status)?,
            transfers: unsigned(
                "operation.attempts",
                i64::from(status.attempts.unwrap_or(0)),
            )?,
        }),
        "ExpandVolumes" => OperationKind::ExpandVolumes(ExpandVolumes {
            bytes: unsigned(
                "operation.sizeBytes",
                needed("operation.sizeBytes", status.size_bytes)?,
            )?,
            slots: size("operation.liveReplicas", status.live_replicas)?,
        }),
        other => return Err(wrong("operation.type", format!("`{other}` is not known"))),
    };
    let started_at = needed("operation.startedAt", status.started_at.as_ref())?;
    Ok(Operation {
        id: status.id.clone(),
        started_at: unix_ms(started_at),
        kind,
    })
}

fn transfer_from(status: &OperationStatus) -> Result<Option<TransferAttempt>, LedgerError> {
    match (status.transfer_term, &status.transfer_at) {
        (Some(term), Some(at)) => Ok(Some(TransferAttempt {
            term: unsigned("operation.transferTerm", term)?,
            at: unix_ms(at),
        })),
        _ => Ok(None),
    }
}

fn transfer_to(transfer: Option<TransferAttempt>, status: &mut OperationStatus) {
    status.transfer_term = transfer.map(|attempt| signed(attempt.term));
    status.transfer_at = transfer.map(|attempt| time(attempt.at));
}

fn size(field: &'static str, value: Option<i32>) -> Result<u32, LedgerError> {
    unsigned(field, i64::from(needed(field, value)?))
}

fn slot_from(status: &OperationStatus) -> Result<Slot, LedgerError> {
    size("operation.slot", status.slot).map(Slot)
}

fn member(field: &'static str, value: Option<&String>) -> Result<MemberId, LedgerError> {
    parsed(field, needed(field, value)?)
}

fn abort_from(status: &OperationStatus) -> Result<Option<Abort>, LedgerError> {
    status
        .abort
        .as_ref()
        .map(|text| by_name("operation.abort", &ABORTS, text))
        .transpose()
}

fn newcomer_from(status: &OperationStatus) -> Result<Newcomer, LedgerError> {
    let incarnation = needed("operation.incarnation", status.incarnation)?;
    Ok(Newcomer {
        slot: slot_from(status)?,
        member: member("operation.newMemberId", status.new_member_id.as_ref())?,
        incarnation: unsigned("operation.incarnation", incarnation)?,
        deadline: unix_ms(needed("operation.deadline", status.deadline.as_ref())?),
        directory: status.directory_id.clone().map(DirectoryId),
    })
}

fn newcomer_to(newcomer: &Newcomer, abort: Option<Abort>, status: &mut OperationStatus) {
    status.slot = Some(small(newcomer.slot.0));
    status.new_member_id = Some(newcomer.member.to_hex());
    status.incarnation = Some(signed(newcomer.incarnation));
    status.deadline = Some(time(newcomer.deadline));
    status.directory_id = newcomer.directory.as_ref().map(|id| id.0.clone());
    status.abort = abort.map(|abort| name_of(&ABORTS, &abort));
}

fn operation_to(operation: &Operation) -> OperationStatus {
    let mut status = OperationStatus {
        type_: operation.kind.name().to_owned(),
        id: operation.id.clone(),
        started_at: Some(time(operation.started_at)),
        ..OperationStatus::default()
    };
    match &operation.kind {
        OperationKind::ScaleUp(up) => {
            status.from_replicas = Some(small(up.from));
            status.to_replicas = Some(small(up.to));
            newcomer_to(&up.newcomer, up.abort, &mut status);
        }
        OperationKind::ScaleDown(down) => {
            status.from_replicas = Some(small(down.from));
            status.to_replicas = Some(small(down.to));
            status.slot = Some(small(down.slot.0));
            status.member_id = Some(down.victim.to_hex());
            status.pod_uid = down.life.as_ref().map(|uid| uid.0.clone());
            status.claim_uid = down.volume.as_ref().map(|uid| uid.0.clone());
            transfer_to(down.transfer, &mut status);
        }
        OperationKind::Replace(replace) => {
            status.member_id = Some(replace.old_member.to_hex());
            status.pod_uid = replace.old_life.as_ref().map(|uid| uid.0.clone());
            status.claim_uid = replace.old_volume.as_ref().map(|uid| uid.0.clone());
            status.evidence = Some(replace.evidence.chars().take(1024).collect());
            newcomer_to(&replace.newcomer, replace.abort, &mut status);
        }
        OperationKind::Hibernate(hibernate) => {
            status.from_replicas = Some(small(hibernate.size));
            status.slot = Some(small(hibernate.top.0));
        }
        OperationKind::ExpandVolumes(expand) => {
            status.size_bytes = Some(signed(expand.bytes));
            status.live_replicas = Some(small(expand.slots));
        }
        OperationKind::Update(update) => {
            status.revision = Some(update.revision.clone());
            status.slot = update.at.as_ref().map(|at| small(at.slot.0));
            status.pod_uid = update.at.as_ref().map(|at| at.life.0.clone());
            status.deadline = update.at.as_ref().map(|at| time(at.deadline));
            status.attempts = (update.transfers > 0).then(|| small(update.transfers));
            transfer_to(update.transfer, &mut status);
        }
    }
    status
}
