//! The background half of compaction: removes from the index what no reader may ask for any more,
//! chunk by chunk, tells the revision log which records died, and has it rewrite segments.
//!
//! Needs no thread of its own: whoever drives it calls [`Compactor::step`] again and again, as
//! fast as the disk may be used for this. What clients see does not depend on how far it has come.

use super::index::Want;
use super::state::{CHUNK_ENTRIES, Shared};
use crate::storage::revision_log::{self, Compacted, KeyIndex, Moved, Revision};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Entries looked at in one step: without a finding an entry costs a few nanoseconds.
const SCAN_ENTRIES: usize = 8 * CHUNK_ENTRIES;

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pruned {
    /// Nothing is left to do until the next compaction.
    Idle,
    /// Something was done; there may be more.
    Worked,
    /// A long read still needs what is to be removed, or something must become durable first: try
    /// again later.
    Waiting,
}

/// What compaction has done since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Versions of keys that were removed from the index.
    pub removed: u64,
    /// A pass has come to the end of the index.
    pub finished: bool,
}

/// One pass through the index at a time, then segments. One per store.
pub struct Compactor {
    shared: Arc<Shared>,
    log: revision_log::Compactor,
    /// The revision of the pass and where it goes on; none between passes.
    pass: Option<(i64, Vec<u8>)>,
    progress: Progress,
}

impl Compactor {
    pub(super) fn new(shared: Arc<Shared>, log: revision_log::Compactor) -> Self {
        Self {
            shared,
            log,
            pass: None,
            progress: Progress::default(),
        }
    }

    /// Does a bounded amount of work: a chunk of the index, or else about `budget_bytes` of a
    /// segment. Holds the index's lock for some ten microseconds at a time.
    ///
    /// # Errors
    /// Those of [`revision_log::Compactor::step`]; unless `is_fatal`, nothing was changed, and a
    /// later step begins again.
    pub fn step(&mut self, budget_bytes: u64) -> Result<Pruned, revision_log::Error> {
        match self.pass.take().ok_or(()).or_else(|()| self.next_target()) {
            Ok((target, from)) => {
                self.prune_chunk(target, &from);
                Ok(Pruned::Worked)
            }
            Err(Pruned::Waiting) => match self.rewrite(budget_bytes)? {
                Pruned::Worked => Ok(Pruned::Worked),
                Pruned::Idle | Pruned::Waiting => Ok(Pruned::Waiting),
            },
            Err(Pruned::Idle | Pruned::Worked) => self.rewrite(budget_bytes),
        }
    }

    /// What was done since the last call; for metrics.
    pub fn take_progress(&mut self) -> Progress {
        std::mem::take(&mut self.progress)
    }

    /// Lets the revision log work on a segment.
    fn rewrite(&mut self, budget_bytes: u64) -> Result<Pruned, revision_log::Error> {
        let shared = &self.shared;
        let pruned = shared.state.read().pruned.max(0).cast_unsigned();
        let is_live = |key: &[u8], mod_rev: Revision| {
            let state = shared.state.read();
            state
                .index
                .holds(key, mod_rev.main.cast_signed(), mod_rev.sub)
        };
        let mut relocate = |moved: &Moved<'_>| {
            let Revision { main, sub } = moved.mod_rev;
            shared
                .state
                .write()
                .index
                .relocate(moved.key, main.cast_signed(), sub, moved.to)
        };
        let mut index = KeyIndex {
            compacted: pruned,
            is_live: &is_live,
            relocate: &mut relocate,
        };
        Ok(match self.log.step(budget_bytes, &mut index)? {
            Compacted::Idle => Pruned::Idle,
            Compacted::Worked => Pruned::Worked,
            Compacted::Waiting => Pruned::Waiting,
        })
    }

    fn prune_chunk(&mut self, target: i64, from: &[u8]) {
        let (keys, next) = self.find(target, from);
        let mut dead = Vec::new();
        for keys in keys.chunks(CHUNK_ENTRIES / 4) {
            let mut state = self.shared.state.write();
            for key in keys {
                state.index.prune(key, target, &mut dead);
            }
        }
        self.progress.removed += dead.len() as u64;
        for location in dead {
            self.shared.log.note_dead(location);
        }
        match next {
            Some(next) => self.pass = Some((target, next)),
            None => {
                self.progress.finished = true;
                self.shared.state.write().pruned = target;
            }
        }
    }

    /// The revision up to which pruning may go now. A read that begins later is at the compacted
    /// revision or above it, so the target stays right for the whole pass.
    fn next_target(&self) -> Result<(i64, Vec<u8>), Pruned> {
        let state = self.shared.state.read();
        if state.pruned >= state.compacted {
            return Err(Pruned::Idle);
        }
        let pinned = self.shared.oldest_pin().unwrap_or(i64::MAX);
        match state.compacted.min(pinned) {
            target if target > state.pruned => Ok((target, Vec::new())),
            _ => Err(Pruned::Waiting),
        }
    }

    /// Keys with something to remove, and where to look further.
    fn find(&self, target: i64, from: &[u8]) -> (Vec<Box<[u8]>>, Option<Vec<u8>>) {
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        let mut next = None;
        let mut left = SCAN_ENTRIES;
        let state = self.shared.state.read();
        state.index.visit(from, Want::Stale, |entry| {
            if left == 0 || keys.len() == CHUNK_ENTRIES {
                next = Some(entry.key().to_vec());
                return ControlFlow::Break(());
            }
            left -= 1;
            if entry.is_prunable(target) {
                keys.push(entry.key().into());
            }
            ControlFlow::Continue(())
        });
        (keys, next)
    }
}
