//! What a request costs against the backend quota, in etcd's units.

use super::command::Op;
use super::error::Error;
use super::types::{Put, Txn, TxnOp};
use crate::storage::revision_log::Sizes;

/// Charged for every put beside its key and value, in bytes.
const PUT_OVERHEAD_BYTES: u64 = 256;

/// Dead bytes that may be there beside half a quota of them: the segment that is written to and the
/// one that is being rewritten are never clean.
const DEAD_BYTES_MAX: u64 = 128 << 20;

/// What `op` may add to the store, in bytes; 0 for what is always allowed, however full it is.
#[must_use]
pub fn cost(op: &Op) -> u64 {
    match op {
        Op::Put(put) => put_cost(put),
        Op::Txn(txn) => txn_cost(txn),
        Op::Noop | Op::DeleteRange(_) | Op::Compact(_) | Op::Member(_) | Op::ClusterVersion(_) => 0,
    }
}

/// Refuses what would take the store to its quota. What is dead goes by itself, when it is worth a
/// rewrite: counted in full, it would keep a store shut whose keys were deleted because it was
/// full; not counted at all, it could fill the disk faster than it goes. Asked before proposing, on
/// the member that serves; never at apply, where a refusal would come after the effect on others.
///
/// # Errors
/// [`Error::NoSpace`]
pub fn check(op: &Op, sizes: Sizes, quota_bytes: Option<u64>) -> Result<(), Error> {
    let cost = cost(op);
    let Some(quota) = quota_bytes.filter(|_| cost > 0) else {
        return Ok(());
    };
    let total_max = quota
        .saturating_add(quota / 2)
        .saturating_add(DEAD_BYTES_MAX);
    let fits =
        sizes.in_use.saturating_add(cost) < quota && sizes.total.saturating_add(cost) < total_max;
    fits.then_some(()).ok_or(Error::NoSpace)
}

fn put_cost(put: &Put) -> u64 {
    PUT_OVERHEAD_BYTES + put.key.len() as u64 + put.value.len() as u64
}

fn txn_cost(txn: &Txn) -> u64 {
    let branch = |ops: &[TxnOp]| {
        ops.iter()
            .map(|op| match op {
                TxnOp::Put(put) => put_cost(put),
                TxnOp::Txn(nested) => txn_cost(nested),
                TxnOp::Range(_) | TxnOp::DeleteRange(_) | TxnOp::Empty => 0,
            })
            .sum::<u64>()
    };
    branch(&txn.success).max(branch(&txn.failure))
}
