//! What the writer and the readers share: the index under a lock, who reads at which revision,
//! the members.
//!
//! The lock is held for one small command or for a bounded chunk of a large one, on both sides,
//! and never during IO. A reader sees only versions at or below `revision`; while the writer is in
//! the middle of a command (`writing`), the tree holds newer ones, and counts of the tree are not
//! those of `revision`.

use super::counts::Counts;
use super::error::Error;
use super::index::Index;
use super::membership::Members;
use crate::storage::revision_log::LogReader;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;

/// Entries looked at in one hold of the lock: some ten microseconds.
pub(super) const CHUNK_ENTRIES: usize = 256;

/// What the lock protects.
#[derive(Debug)]
pub(super) struct State {
    pub(super) index: Index,
    /// The newest revision that readers may see.
    pub(super) revision: i64,
    /// Reads below are refused; -1 before the first compaction.
    pub(super) compacted: i64,
    /// The index is pruned up to here; below `compacted` while work is left.
    pub(super) pruned: i64,
    /// The index holds changes of a command that is not finished.
    pub(super) writing: bool,
}

/// Shared by the store and its readers.
pub(super) struct Shared {
    pub(super) state: RwLock<State>,
    pub(super) log: LogReader,
    pub(super) members: ArcSwap<Members>,
    pub(super) counts: Counts,
    /// How many long reads run at a revision: pruning must leave them what they see.
    pins: Mutex<BTreeMap<i64, usize>>,
}

impl State {
    /// Whether the tree's own newest state is the state at `revision`.
    pub(super) fn is_exactly(&self, revision: i64) -> bool {
        !self.writing && self.revision == revision
    }

    /// Turns the revision of a request into the one to read: 0 or less is the newest.
    pub(super) fn resolve(&self, revision: i64) -> Result<i64, Error> {
        super::range::resolve(revision, self.revision, self.compacted)
    }
}

impl Shared {
    pub(super) fn new(state: State, log: LogReader, members: Members) -> Self {
        Self {
            state: RwLock::new(state),
            log,
            members: ArcSwap::from_pointee(members),
            counts: Counts::default(),
            pins: Mutex::default(),
        }
    }

    /// Keeps what is visible at `revision` from being pruned until the pin is dropped. To be
    /// called under the lock, after comparing with `compacted`: pruning needs the lock as well.
    pub(super) fn pin(&self, _state: &State, revision: i64) -> RevisionPin<'_> {
        *self.pins.lock().entry(revision).or_insert(0) += 1;
        RevisionPin {
            shared: self,
            revision,
        }
    }

    /// The oldest revision that a long read is at.
    pub(super) fn oldest_pin(&self) -> Option<i64> {
        self.pins
            .lock()
            .first_key_value()
            .map(|(revision, _)| *revision)
    }
}

/// See [`Shared::pin`].
pub(super) struct RevisionPin<'a> {
    shared: &'a Shared,
    revision: i64,
}

impl Drop for RevisionPin<'_> {
    fn drop(&mut self) {
        let mut pins = self.shared.pins.lock();
        if let Some(count) = pins.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.revision);
            }
        }
    }
}
