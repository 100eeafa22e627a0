//! What a request costs against the backend quota, in etcd's units.

use super::command::Op;
use super::error::Error;
use super::types::{Put, Txn, TxnOp};

/// Charged for every put beside its key and value, in bytes.
const PUT_OVERHEAD_BYTES: u64 = 256;

/// What `op` may add to the store, in bytes; 0 for what is always allowed, however full it is.
#[must_use]
pub fn cost(op: &Op) -> u64 {
    match op {
        Op::Put(put) => put_cost(put),
        Op::Txn(txn) => txn_cost(txn),
        Op::Noop | Op::DeleteRange(_) | Op::Compact(_) | Op::Member(_) | Op::ClusterVersion(_) => 0,
    }
}

/// Refuses what would take the store to its quota. Asked before proposing, on the member that
/// serves; never at apply, where a refusal would come after the effect on other members.
///
/// # Errors
/// [`Error::NoSpace`]
pub fn check(op: &Op, size_in_use: u64, quota_bytes: Option<u64>) -> Result<(), Error> {
    let cost = cost(op);
    match quota_bytes {
        Some(quota) if cost > 0 && size_in_use.saturating_add(cost) >= quota => Err(Error::NoSpace),
        _ => Ok(()),
    }
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
