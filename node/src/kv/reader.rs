//! Reading, from any thread, without stopping the writer.
//!
//! A read is at one revision from beginning to end. It looks into the index in bounded chunks
//! under the lock and reads values outside of it; pins keep what it needs in index and log.

use super::error::Error;
use super::hash::{self, HashKv};
use super::membership::Members;
use super::range;
use super::state::Shared;
use super::txn::{self, Check};
use super::types::{
    Interval, RangeRequest, RangeResult, Revision, Txn, TxnOp, TxnOpResult, TxnResult,
};
use super::walk::View;
use crate::storage::revision_log::Sizes;
use std::sync::Arc;

/// A handle on the state machine for reading. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.shared.state.read().revision)
    }

    /// The compacted revision; -1 if there never was a compaction.
    #[must_use]
    pub fn compact_revision(&self) -> Revision {
        Revision(self.shared.state.read().compacted)
    }

    /// Whether a compaction at `revision` is finished in the background here.
    #[must_use]
    pub fn is_compacted_physically(&self, revision: Revision) -> bool {
        self.shared.state.read().pruned >= revision.0
    }

    /// How many keys exist.
    #[must_use]
    pub fn keys_total(&self) -> u64 {
        self.shared.state.read().index.live()
    }

    /// Bytes of the history: all, and those in use.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.shared.log.sizes()
    }

    /// What is wrong with the stored history, once a read has found damage. The damage is never
    /// served, and other members have the history whole.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.shared.log.damage().map(str::to_owned)
    }

    /// The members, as of the last entry applied.
    #[must_use]
    pub fn members(&self) -> Arc<Members> {
        self.shared.members.load_full()
    }

    /// Executes a range, checked by [`super::validate::range`] before.
    ///
    /// # Errors
    /// [`Error::FutureRevision`], [`Error::Compacted`], [`Error::Unreadable`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResult, Error> {
        let log_pin = self.shared.log.pin();
        let state = self.shared.state.read();
        let revision = state.resolve(request.revision.0)?;
        let current = state.revision;
        // One key is found in one hold of the lock: nothing can be pruned meanwhile.
        if let Interval::Key(key) = &request.interval {
            let version = state
                .index
                .get(key)
                .and_then(|entry| entry.at(revision))
                .copied();
            drop(state);
            return Ok(range::single(&log_pin, request, version, current)?);
        }
        let _pin = self.shared.pin(&state, revision);
        drop(state);
        Ok(range::run(
            &self.shared,
            &log_pin,
            request,
            View::At(revision),
            current,
        )?)
    }

    /// Executes a transaction that only reads ([`Txn::is_read_only`]), checked by
    /// [`super::validate::txn`] before; with the revision for the response header.
    ///
    /// # Errors
    /// As [`Reader::range`].
    ///
    /// # Panics
    /// If the transaction may write: such a one goes through the log.
    pub fn txn(&self, txn: &Txn) -> Result<(Revision, TxnResult), Error> {
        assert!(
            txn.is_read_only(),
            "a transaction that may write came to a reader"
        );
        let log_pin = self.shared.log.pin();
        let (current, _pin) = {
            let state = self.shared.state.read();
            (state.revision, self.shared.pin(&state, state.revision))
        };
        let now = View::At(current);
        let path = txn::choose(&self.shared, txn, now)?;
        // Older revisions are read under their own pins; the check and the pin of each are one
        // step, in `range`.
        Check::new(&self.shared).txn(txn, &path)?;
        let mut responses = Vec::new();
        for op in path.branch(txn) {
            let TxnOp::Range(request) = op else { continue };
            let result = if request.revision.0 <= 0 {
                range::run(&self.shared, &log_pin, request, now, current)?
            } else {
                RangeResult {
                    revision: Revision(current),
                    ..self.range(request)?
                }
            };
            responses.push(TxnOpResult::Range(result));
        }
        Ok((
            Revision(current),
            TxnResult {
                succeeded: path.succeeded,
                responses,
            },
        ))
    }

    /// Hashes all stored versions up to a revision (0: the newest).
    ///
    /// # Errors
    /// As [`Reader::range`].
    pub fn hash_kv(&self, revision: Revision) -> Result<HashKv, Error> {
        hash::hash_kv(&self.shared, revision.0)
    }
}
