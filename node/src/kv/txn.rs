//! Transactions: choose the path, check it, run it.
//!
//! All compares, nested ones included, look at the state before; so the path through the tree of
//! branches is known before anything runs. Every operation on it is checked next, following what
//! the operations before it will have written; what passes cannot fail any more, so a
//! transaction has all of its effects or none, on every member alike (G15).

use super::change::Change;
use super::error::{Error, Fatal};
use super::index::Version;
use super::interval_set::IntervalSet;
use super::range::{self, Found};
use super::state::Shared;
use super::types::{
    Compare, CompareResult, CompareTarget, DeleteRange, DeleteRangeResult, Interval, LeaseId, Put,
    PutResult, RangeRequest, RangeResult, Revision, Txn, TxnOp, TxnOpResult, TxnResult,
};
use super::walk::{Direction, View, Walk};
use crate::storage::revision_log::{self, Pin};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

/// Which branches run: of a transaction, and in order of those nested in that branch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) succeeded: bool,
    pub(super) nested: Vec<Path>,
}

impl Path {
    /// The operations that run.
    pub(super) fn branch<'a>(&self, txn: &'a Txn) -> &'a [TxnOp] {
        if self.succeeded {
            &txn.success
        } else {
            &txn.failure
        }
    }
}

/// Evaluates all compares that matter, in `view`.
pub(super) fn choose(shared: &Shared, txn: &Txn, view: View) -> Result<Path, revision_log::Error> {
    let mut path = Path {
        succeeded: true,
        nested: Vec::new(),
    };
    for compare in &txn.compare {
        if !holds(shared, compare, view)? {
            path.succeeded = false;
            break;
        }
    }
    for op in path.branch(txn) {
        if let TxnOp::Txn(nested) = op {
            path.nested.push(choose(shared, nested, view)?);
        }
    }
    Ok(path)
}

/// Whether a compare is true for every key of its interval.
fn holds(shared: &Shared, compare: &Compare, view: View) -> Result<bool, revision_log::Error> {
    let pin = needs_record(compare).then(|| shared.log.pin());
    let mut walk = Walk::new(&compare.interval, view, Direction::Forward);
    let mut exists = false;
    while !walk.is_done() {
        let mut to_read = Vec::new();
        let mut holds = true;
        walk.step(&shared.state.read(), |_, version| {
            exists = true;
            if pin.is_some() {
                to_read.push(*version);
            } else {
                holds = is_true(compare, &Facts::of(version));
            }
            if holds {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if let Some(pin) = &pin {
            holds = all_read_hold(compare, pin, &to_read)?;
        }
        if !holds {
            return Ok(false);
        }
    }
    if exists {
        return Ok(true);
    }
    // A missing key has 0 everywhere; there is no way to name a missing value.
    Ok(!matches!(compare.target, CompareTarget::Value(_)) && is_true(compare, &Facts::default()))
}

/// Value and lease stand in the record only.
fn needs_record(compare: &Compare) -> bool {
    matches!(
        compare.target,
        CompareTarget::Value(_) | CompareTarget::Lease(_)
    )
}

fn all_read_hold(
    compare: &Compare,
    pin: &Pin,
    versions: &[Version],
) -> Result<bool, revision_log::Error> {
    for version in versions {
        let (value, lease) = range::read(pin, version)?;
        if !is_true(
            compare,
            &Facts {
                value,
                lease,
                ..Facts::of(version)
            },
        ) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What can be compared of a key.
#[derive(Default)]
struct Facts {
    version: i64,
    create: i64,
    modified: i64,
    value: Bytes,
    lease: LeaseId,
}

impl Facts {
    fn of(version: &Version) -> Self {
        Self {
            version: version.version,
            create: version.create,
            modified: version.main,
            ..Self::default()
        }
    }
}

fn is_true(compare: &Compare, facts: &Facts) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(operand) => facts.version.cmp(operand),
        CompareTarget::Create(operand) => facts.create.cmp(&operand.0),
        CompareTarget::Mod(operand) => facts.modified.cmp(&operand.0),
        CompareTarget::Value(operand) => facts.value.cmp(operand),
        CompareTarget::Lease(operand) => facts.lease.cmp(operand),
        CompareTarget::Unknown => Ordering::Equal,
    };
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::Unknown => true,
    }
}

/// Checks operations in the order in which they will run.
pub(super) struct Check<'a> {
    shared: &'a Shared,
    current: i64,
    compacted: i64,
    /// Keys that will exist because of a put before, and keys deleted before. A key in both was
    /// put after it was deleted.
    put: BTreeSet<&'a [u8]>,
    deleted: IntervalSet,
}

impl<'a> Check<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        let state = shared.state.read();
        let (current, compacted) = (state.revision, state.compacted);
        Self {
            shared,
            current,
            compacted,
            put: BTreeSet::new(),
            deleted: IntervalSet::default(),
        }
    }

    /// Checks the operations on a path.
    pub(super) fn txn(&mut self, txn: &'a Txn, path: &Path) -> Result<(), Error> {
        let mut nested = path.nested.iter();
        for op in path.branch(txn) {
            match op {
                TxnOp::Range(request) => self.range(request)?,
                TxnOp::Put(put) => self.put(put)?,
                TxnOp::DeleteRange(delete) => {
                    self.forget(&delete.interval);
                    self.deleted.add(&delete.interval);
                }
                TxnOp::Txn(txn) => {
                    let path = nested.next().expect("a path has one part per nested txn");
                    self.txn(txn, path)?;
                }
                TxnOp::Empty => return Err(Error::KeyNotFound),
            }
        }
        Ok(())
    }

    fn forget(&mut self, interval: &Interval) {
        let from = (Bound::Included(interval.start().as_ref()), Bound::Unbounded);
        let gone: Vec<&[u8]> = self
            .put
            .range::<[u8], _>(from)
            .take_while(|key| interval.contains(key))
            .copied()
            .collect();
        for key in gone {
            self.put.remove(key);
        }
    }

    /// Here a negative revision is not "the newest": etcd compares it as it is.
    fn range(&self, request: &RangeRequest) -> Result<(), Error> {
        let wanted = request.revision.0;
        if wanted > self.current {
            return Err(Error::FutureRevision {
                current: Revision(self.current),
            });
        }
        if wanted != 0 && wanted < self.compacted {
            return Err(Error::Compacted {
                compacted: Revision(self.compacted),
            });
        }
        Ok(())
    }

    /// Checks a put, and notes that its key will exist.
    pub(super) fn put(&mut self, put: &'a Put) -> Result<(), Error> {
        // No lease can be granted yet, so none but 0 exists.
        if put.lease != LeaseId(0) {
            return Err(Error::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && !self.exists(&put.key) {
            return Err(Error::KeyNotFound);
        }
        self.put.insert(&put.key);
        Ok(())
    }

    fn exists(&self, key: &[u8]) -> bool {
        if self.put.contains(key) {
            return true;
        }
        if self.deleted.contains(key) {
            return false;
        }
        let state = self.shared.state.read();
        state.index.get(key).is_some_and(|entry| entry.is_alive())
    }
}

/// Runs what was checked.
pub(super) struct Run<'a> {
    pub(super) shared: &'a Shared,
    pub(super) pin: &'a Pin,
    pub(super) change: Change<'a>,
    /// Somebody here waits for the answer.
    pub(super) answer: bool,
}

impl Run<'_> {
    /// Runs the operations on a path, in order; each sees what those before it wrote.
    pub(super) fn txn(&mut self, txn: &Txn, path: &Path) -> Result<TxnResult, Fatal> {
        let mut nested = path.nested.iter();
        let mut responses = Vec::with_capacity(path.branch(txn).len());
        for op in path.branch(txn) {
            responses.push(match op {
                TxnOp::Range(request) => TxnOpResult::Range(self.range(request)?),
                TxnOp::Put(put) => self.put(put)?,
                TxnOp::DeleteRange(delete) => self.delete(delete)?,
                TxnOp::Txn(txn) => {
                    let path = nested.next().expect("a path has one part per nested txn");
                    TxnOpResult::Txn(self.txn(txn, path)?)
                }
                TxnOp::Empty => unreachable!("an empty operation does not pass the check"),
            });
        }
        Ok(TxnResult {
            succeeded: path.succeeded,
            responses,
        })
    }

    fn range(&mut self, request: &RangeRequest) -> Result<RangeResult, Fatal> {
        if !self.answer {
            return Ok(RangeResult::default());
        }
        let view = match request.revision.0 {
            ..=0 => View::Own,
            revision => View::At(revision),
        };
        self.change.release();
        Ok(range::run(
            self.shared,
            self.pin,
            request,
            view,
            self.change.revision(),
        )?)
    }

    fn put(&mut self, put: &Put) -> Result<TxnOpResult, Fatal> {
        let before = self.change.put(put)?.filter(|_| self.answer && put.prev_kv);
        let prev_kv = match before {
            Some(before) => {
                self.change.release();
                Some(Found::new(put.key.clone(), before).read(self.pin)?)
            }
            None => None,
        };
        let revision = Revision(self.change.revision());
        Ok(TxnOpResult::Put {
            revision,
            result: PutResult { prev_kv },
        })
    }

    fn delete(&mut self, delete: &DeleteRange) -> Result<TxnOpResult, Fatal> {
        let (deleted, before) = self.change.delete(delete, self.answer && delete.prev_kv);
        if !before.is_empty() {
            self.change.release();
        }
        let prev_kvs = before
            .into_iter()
            .map(|found| found.read(self.pin))
            .collect::<Result<_, _>>()?;
        let revision = Revision(self.change.revision());
        let result = DeleteRangeResult { deleted, prev_kvs };
        Ok(TxnOpResult::DeleteRange { revision, result })
    }
}
