//! etcd's Maintenance service, as far as this version has it.

use crate::config::QUOTA_BYTES_DEFAULT;
use crate::replica::{Phase, Role};
use crate::server::context::{Context, header};
use crate::server::status::Status;
use quorate_api::etcdserverpb as pb;
use quorate_api::etcdserverpb::alarm_request::AlarmAction;
use quorate_api::limits::{ETCD_STORAGE_VERSION, ETCD_VERSION};
use tonic::Code;

/// Tells where this member stands; asks nobody else and answers in every phase.
///
/// # Errors
/// None at present.
pub(in crate::server) fn status(
    context: &Context,
    _: pb::StatusRequest,
) -> Result<pb::StatusResponse, Status> {
    let replica = context.handle.status();
    let reader = context.handle.reader();
    let size = reader
        .as_ref()
        .map(|reader| reader.sizes())
        .unwrap_or_default();
    let revision = reader.map_or(0, |reader| reader.revision().0);
    let mut errors = Vec::new();
    if replica.leader == 0 {
        errors.push("etcdserver: no leader".to_owned());
    }
    if replica.phase != Phase::Joined {
        errors.push(format!("quorate: this node is {}", replica.phase.as_str()));
    }
    Ok(pb::StatusResponse {
        header: Some(header(&replica, revision)),
        version: ETCD_VERSION.to_owned(),
        db_size: signed(size.total),
        leader: replica.leader,
        raft_index: replica.commit,
        raft_term: replica.term,
        raft_applied_index: replica.applied,
        errors,
        db_size_in_use: signed(size.in_use),
        is_learner: replica.role == Role::Learner,
        storage_version: ETCD_STORAGE_VERSION.to_owned(),
        db_size_quota: context
            .settings
            .quota_backend_bytes()
            .map_or(signed(QUOTA_BYTES_DEFAULT), signed),
        downgrade_info: Some(pb::DowngradeInfo::default()),
    })
}

/// Lists alarms. There are none in this version, so nothing can be disarmed either.
///
/// # Errors
/// Those of a linearizable read; `Unimplemented` for raising an alarm.
pub(in crate::server) async fn alarm(
    context: &Context,
    request: pb::AlarmRequest,
) -> Result<pb::AlarmResponse, Status> {
    if request.action() == AlarmAction::Activate {
        return Err(Status::new(
            Code::Unimplemented,
            "quorate: alarms cannot be raised by hand in this version",
        ));
    }
    context.handle.read_barrier().await?;
    let revision = context.reader()?.revision().0;
    Ok(pb::AlarmResponse {
        header: Some(context.header(revision)),
        alarms: Vec::new(),
    })
}

/// Answers at once: space is reclaimed in the background, all the time.
pub(in crate::server) fn defragment(_: pb::DefragmentRequest) -> pb::DefragmentResponse {
    pb::DefragmentResponse { header: None }
}

/// Hashes the stored versions up to a revision, for members to be compared.
///
/// # Errors
/// etcd's for a compacted or future revision.
pub(in crate::server) async fn hash_kv(
    context: &Context,
    request: pb::HashKvRequest,
) -> Result<pb::HashKvResponse, Status> {
    let reader = context.reader()?;
    // It visits every key: away from the threads that serve.
    let hashed = tokio::task::spawn_blocking(move || {
        let hashed = reader.hash_kv(crate::kv::Revision(request.revision));
        (hashed, reader.revision().0)
    });
    let (hashed, revision) = hashed.await.map_err(|error| {
        Status::new(Code::Internal, format!("quorate: hashing failed: {error}"))
    })?;
    let hashed = hashed?;
    Ok(pb::HashKvResponse {
        header: Some(context.header(revision)),
        hash: hashed.hash,
        compact_revision: hashed.compact_revision.0,
        hash_revision: hashed.hash_revision.0,
    })
}

/// Hands office to another voter.
///
/// # Errors
/// `not leader` on a follower, `bad leader transferee`, and the target not taking over in time.
pub(in crate::server) async fn move_leader(
    context: &Context,
    request: pb::MoveLeaderRequest,
) -> Result<pb::MoveLeaderResponse, Status> {
    context
        .handle
        .transfer_leader(Some(request.target_id))
        .await?;
    Ok(pb::MoveLeaderResponse { header: None })
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
