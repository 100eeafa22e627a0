//! What can be refused by looking at a request alone, before it is proposed.
//!
//! Pure functions for `server`; the order of the checks is etcd's, since clients see the first
//! failure only. What depends on the state is checked at apply, in `txn`.

use super::command::TXN_DEPTH_MAX;
use super::error::Error;
use super::interval_set::IntervalSet;
use super::types::{
    DeleteRange, Interval, LeaseId, Put, RangeRequest, SortOrder, SortTarget, Txn, TxnOp,
};
use std::collections::BTreeSet;

/// Checks a range.
///
/// # Errors
/// [`Error::KeyNotProvided`], [`Error::InvalidSortOption`].
pub fn range(request: &RangeRequest) -> Result<(), Error> {
    interval(&request.interval)?;
    if request.sort_order == SortOrder::Unknown || request.sort_target == SortTarget::Unknown {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Checks a put.
///
/// # Errors
/// [`Error::KeyNotProvided`], [`Error::ValueProvided`], [`Error::LeaseProvided`].
pub fn put(request: &Put) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::KeyNotProvided);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != LeaseId(0) {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete.
///
/// # Errors
/// [`Error::KeyNotProvided`].
pub fn delete_range(request: &DeleteRange) -> Result<(), Error> {
    interval(&request.interval)
}

/// Checks a transaction against `ops_max` (`--max-txn-ops`).
///
/// # Errors
/// [`Error::TooManyOps`], [`Error::DuplicateKey`], and those of the operations within;
/// [`Error::KeyNotFound`] for an empty operation.
pub fn txn(request: &Txn, ops_max: usize) -> Result<(), Error> {
    txn_shape(request, ops_max, TXN_DEPTH_MAX)?;
    // The two branches exclude each other, so each is looked at alone.
    written(&request.success)?;
    written(&request.failure)?;
    Ok(())
}

fn interval(interval: &Interval) -> Result<(), Error> {
    if interval.start().is_empty() {
        Err(Error::KeyNotProvided)
    } else {
        Ok(())
    }
}

/// Counts and fields. A nested txn has the budget that the widest list of its parent leaves;
/// siblings do not share it.
fn txn_shape(request: &Txn, ops_max: usize, depth_left: usize) -> Result<(), Error> {
    let widest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if widest > ops_max || depth_left == 0 {
        return Err(Error::TooManyOps);
    }
    for compare in &request.compare {
        interval(&compare.interval)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match op {
            TxnOp::Range(request) => range(request)?,
            TxnOp::Put(request) => put(request)?,
            TxnOp::DeleteRange(request) => delete_range(request)?,
            TxnOp::Txn(request) => txn_shape(request, ops_max - widest, depth_left - 1)?,
            TxnOp::Empty => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What a branch may change, for its parent to compare with the rest.
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: IntervalSet,
}

/// Refuses two puts of one key and a put inside a deleted interval, within one branch.
///
/// The scope is etcd's: all deletes of this level come first, then nested transactions in order,
/// then the puts of this level. So a nested put before a sibling's nested delete goes unnoticed,
/// and then simply runs in order.
fn written(branch: &[TxnOp]) -> Result<Written<'_>, Error> {
    let mut all = Written {
        puts: BTreeSet::new(),
        deletes: IntervalSet::default(),
    };
    for op in branch {
        match op {
            // etcd reads the end of one zero byte as a bound here and finds the interval empty.
            TxnOp::DeleteRange(DeleteRange {
                interval: Interval::From(_),
                ..
            }) => {}
            TxnOp::DeleteRange(delete) => all.deletes.add(&delete.interval),
            TxnOp::Range(_) | TxnOp::Put(_) | TxnOp::Txn(_) | TxnOp::Empty => {}
        }
    }
    for op in branch {
        if let TxnOp::Txn(nested) = op {
            all.add_nested(written(&nested.success)?, written(&nested.failure)?)?;
        }
    }
    for op in branch {
        if let TxnOp::Put(put) = op {
            all.add_put(&put.key)?;
        }
    }
    Ok(all)
}

impl<'a> Written<'a> {
    fn add_put(&mut self, key: &'a [u8]) -> Result<(), Error> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Only one of the two branches of a nested transaction runs, so both may put one key.
    fn add_nested(&mut self, success: Written<'a>, failure: Written<'a>) -> Result<(), Error> {
        for key in &success.puts {
            self.add_put(key)?;
        }
        for key in failure.puts {
            if self.deletes.contains(key) || !self.puts.insert(key) && !success.puts.contains(key) {
                return Err(Error::DuplicateKey);
            }
        }
        self.deletes.add_all(success.deletes);
        self.deletes.add_all(failure.deletes);
        Ok(())
    }
}
