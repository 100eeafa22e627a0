//! etcd's KV service: check, read or propose, answer.
//!
//! Order of the checks, because clients see the first failure only: learner, quota, fields, and
//! then whatever the replica or the state machine refuses.

use crate::kv::{self, Compact, Op, RangeRequest, Response, TxnOp, quota, validate};
use crate::metrics::RequestTimer;
use crate::server::context::Context;
use crate::server::status::{self, Status};
use crate::server::{convert, frame};
use bytes::Bytes;
use quorate_api::etcdserverpb as pb;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;

/// A list with more keys than this is read and encoded away from the threads that serve, so that
/// it does not delay the requests of others.
const KEYS_INLINE_MAX: i64 = 512;

/// How often a physical compaction is looked at until it is done.
const COMPACTION_INTERVAL: Duration = Duration::from_millis(20);

/// Reads an interval; the answer is framed, because a long one is encoded elsewhere.
///
/// # Errors
/// etcd's for fields and revisions, and those of a linearizable read.
pub(in crate::server) async fn range(
    context: &Context,
    request: pb::RangeRequest,
) -> Result<Bytes, Status> {
    let started = Instant::now();
    let answer = async {
        let request = convert::range(request);
        let reader = readable(context, &request).await?;
        if is_long(&reader, &request) {
            context.admission.enter_large()?;
            let header = context.header(0);
            let encode = move || framed(header, reader.range(&request)?);
            return blocking(encode).await;
        }
        framed(context.header(0), reader.range(&request)?)
    }
    .await;
    time(&context.timers.range, started, answer.is_ok());
    answer
}

/// Reads an interval as plain values, for plain HTTP.
///
/// # Errors
/// As [`range`].
pub(in crate::server) async fn read(
    context: &Context,
    request: RangeRequest,
) -> Result<kv::RangeResult, Status> {
    let reader = readable(context, &request).await?;
    if is_long(&reader, &request) {
        return blocking(move || Ok(reader.range(&request)?)).await;
    }
    Ok(reader.range(&request)?)
}

/// Writes one key.
///
/// # Errors
/// etcd's for fields, quota and lease, and those of a proposal.
pub(in crate::server) async fn put(
    context: &Context,
    request: pb::PutRequest,
) -> Result<pb::PutResponse, Status> {
    let started = Instant::now();
    let answer = write_put(context, convert::put(request)).await;
    time(&context.timers.put, started, answer.is_ok());
    let (revision, result) = answer?;
    Ok(convert::put_result(
        result,
        Some(context.header(revision.0)),
    ))
}

/// Writes one key, as plain values.
///
/// # Errors
/// As [`put`].
pub(in crate::server) async fn write_put(
    context: &Context,
    put: kv::Put,
) -> Result<(kv::Revision, kv::PutResult), Status> {
    context.metrics.server.put_ops.inc();
    let op = Op::Put(put);
    check_quota(context, &op)?;
    if let Op::Put(put) = &op {
        validate::put(put)?;
    }
    match propose(context, op).await? {
        (revision, Response::Put(result)) => Ok((revision, result)),
        (_, other) => Err(mismatch(&other)),
    }
}

/// Deletes the keys of an interval.
///
/// # Errors
/// etcd's for fields, and those of a proposal.
pub(in crate::server) async fn delete_range(
    context: &Context,
    request: pb::DeleteRangeRequest,
) -> Result<pb::DeleteRangeResponse, Status> {
    let started = Instant::now();
    let answer = write_delete(context, convert::delete_range(request)).await;
    time(&context.timers.delete_range, started, answer.is_ok());
    let (revision, result) = answer?;
    Ok(convert::delete_range_result(
        result,
        Some(context.header(revision.0)),
    ))
}

/// Deletes the keys of an interval, as plain values.
///
/// # Errors
/// As [`delete_range`].
pub(in crate::server) async fn write_delete(
    context: &Context,
    delete: kv::DeleteRange,
) -> Result<(kv::Revision, kv::DeleteRangeResult), Status> {
    context.metrics.server.delete_ops.inc();
    validate::delete_range(&delete)?;
    match propose(context, Op::DeleteRange(delete)).await? {
        (revision, Response::DeleteRange(result)) => Ok((revision, result)),
        (_, other) => Err(mismatch(&other)),
    }
}

/// Runs a transaction: without the log when it only reads.
///
/// # Errors
/// etcd's for size, shape, fields, quota and revisions, and those of a read or a proposal.
pub(in crate::server) async fn txn(
    context: &Context,
    request: pb::TxnRequest,
) -> Result<pb::TxnResponse, Status> {
    let started = Instant::now();
    let txn = convert::txn(request);
    let read_only = txn.is_read_only();
    let timer = if read_only {
        &context.timers.readonly_txn
    } else {
        &context.timers.txn
    };
    let answer = run_txn(context, txn, read_only).await;
    time(timer, started, answer.is_ok());
    let (revision, result) = answer?;
    Ok(convert::txn_result(
        result,
        Some(context.header(revision.0)),
    ))
}

async fn run_txn(
    context: &Context,
    txn: kv::Txn,
    read_only: bool,
) -> Result<(kv::Revision, kv::TxnResult), Status> {
    count_ops(context, &txn);
    if read_only {
        validate::txn(&txn, context.config.max_txn_ops)?;
        return read_txn(context, txn).await;
    }
    let op = Op::Txn(txn);
    check_quota(context, &op)?;
    if let Op::Txn(txn) = &op {
        validate::txn(txn, context.config.max_txn_ops)?;
    }
    match propose(context, op).await? {
        (revision, Response::Txn(result)) => Ok((revision, result)),
        (_, other) => Err(mismatch(&other)),
    }
}

async fn read_txn(
    context: &Context,
    txn: kv::Txn,
) -> Result<(kv::Revision, kv::TxnResult), Status> {
    if !txn.is_serializable() {
        context.handle.read_barrier().await?;
    }
    let reader = context.reader()?;
    let long = txn.success.iter().chain(&txn.failure).any(|op| match op {
        TxnOp::Range(range) => is_long(&reader, range),
        TxnOp::Put(_) | TxnOp::DeleteRange(_) | TxnOp::Txn(_) | TxnOp::Empty => false,
    });
    if long {
        context.admission.enter_large()?;
        return blocking(move || Ok(reader.txn(&txn)?)).await;
    }
    Ok(reader.txn(&txn)?)
}

/// Forgets old revisions; with `physical` it also waits until this member has done it.
///
/// # Errors
/// etcd's for the revision, and those of a proposal.
pub(in crate::server) async fn compact(
    context: &Context,
    request: pb::CompactionRequest,
) -> Result<pb::CompactionResponse, Status> {
    let started = Instant::now();
    let revision = kv::Revision(request.revision);
    let compact = Compact {
        revision,
        physical: request.physical,
    };
    let answer = propose(context, Op::Compact(compact)).await;
    time(&context.timers.compaction, started, answer.is_ok());
    answer?;
    let mut reader = context.reader()?;
    while request.physical && !reader.is_compacted_physically(revision) {
        tokio::time::sleep(COMPACTION_INTERVAL).await;
        // Another one after a snapshot was installed, and none any more when the member has ended:
        // nobody works on the state behind the old one.
        reader = context.reader()?;
    }
    Ok(pb::CompactionResponse {
        header: Some(context.header(reader.revision().0)),
    })
}

/// Checks a read, waits for its linearizable point and gives what to read from.
async fn readable(context: &Context, request: &RangeRequest) -> Result<Arc<kv::Reader>, Status> {
    context.metrics.server.range_ops.inc();
    if !request.serializable && context.is_learner() {
        return Err(status::NOT_SUPPORTED_FOR_LEARNER);
    }
    validate::range(request)?;
    if !request.serializable {
        context.handle.read_barrier().await?;
    }
    context.reader()
}

fn framed(mut header: pb::ResponseHeader, result: kv::RangeResult) -> Result<Bytes, Status> {
    header.revision = result.revision.0;
    frame::encode(&convert::range_result(result, Some(header)))
}

/// Whether an answer may be so long that it must not be made on a thread that serves. Counting is
/// O(log n).
fn is_long(reader: &kv::Reader, request: &RangeRequest) -> bool {
    let limited = (1..=KEYS_INLINE_MAX).contains(&request.limit)
        && request.sort_order == kv::SortOrder::None
        && request.sort_target == kv::SortTarget::Key;
    if request.count_only || limited || matches!(request.interval, kv::Interval::Key(_)) {
        return false;
    }
    let count = RangeRequest {
        count_only: true,
        ..request.clone()
    };
    reader
        .range(&count)
        .is_ok_and(|counted| counted.count > KEYS_INLINE_MAX)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        // The runtime is shutting down; a panic stops the process.
        Err(_) => Err(status::STOPPED),
    }
}

async fn propose(context: &Context, op: Op) -> Result<(kv::Revision, Response), Status> {
    let applied = context.handle.propose(op).await?;
    Ok((applied.revision, applied.result?))
}

fn check_quota(context: &Context, op: &Op) -> Result<(), Status> {
    let quota = context.settings.quota_backend_bytes();
    if quota.is_none() {
        return Ok(());
    }
    let Some(reader) = context.handle.reader() else {
        return Ok(());
    };
    Ok(quota::check(op, reader.sizes(), quota)?)
}

fn count_ops(context: &Context, txn: &kv::Txn) {
    let metrics = &context.metrics.server;
    if txn.success.len() + txn.failure.len() > 1 {
        metrics.txn_ops.inc();
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            TxnOp::Range(_) => metrics.range_ops.inc(),
            TxnOp::Put(_) => metrics.put_ops.inc(),
            TxnOp::DeleteRange(_) => metrics.delete_ops.inc(),
            TxnOp::Txn(_) | TxnOp::Empty => {}
        }
    }
}

fn time(timer: &RequestTimer, started: Instant, success: bool) {
    let seconds = started.elapsed().as_secs_f64();
    if success {
        &timer.success
    } else {
        &timer.failure
    }
    .observe(seconds);
}

/// The state machine answers each kind of command with its own kind of response; anything else is
/// a defect, and the client learns that something happened.
fn mismatch(got: &impl std::fmt::Debug) -> Status {
    Status::new(
        Code::Internal,
        format!("quorate: unexpected answer of the state machine: {got:?}"),
    )
}
