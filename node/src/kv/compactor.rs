//! The background half of compaction: removes from the index what no reader may ask for any more,
//! chunk by chunk, and tells the revision log which records died.
//!
//! Needs no thread of its own: whoever drives it calls [`Compactor::step`] again and again. What
//! clients see does not depend on how far it has come.

use super::index::Want;
use super::state::{CHUNK_ENTRIES, Shared};
use crate::storage::revision_log::{self, Location};
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
    /// A long read still needs what is to be removed: try again later.
    Waiting,
}

/// One pass through the index at a time.
pub struct Compactor {
    shared: Arc<Shared>,
    /// The revision of the pass and where it goes on; none between passes.
    pass: Option<(i64, Vec<u8>)>,
}

impl Compactor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pass: None }
    }

    /// Does a bounded amount of work; holds the lock for some ten microseconds at a time.
    pub fn step(&mut self) -> Pruned {
        let (target, from) = match self.pass.take() {
            Some(pass) => pass,
            None => match self.next_target() {
                Ok(target) => (target, Vec::new()),
                Err(nothing) => return nothing,
            },
        };
        let (keys, next) = self.find(target, &from);
        let mut dead = Vec::new();
        for keys in keys.chunks(CHUNK_ENTRIES / 4) {
            let mut state = self.shared.state.write();
            for key in keys {
                state.index.prune(key, target, &mut dead);
            }
        }
        for location in dead {
            self.shared.log.note_dead(location);
        }
        match next {
            Some(next) => self.pass = Some((target, next)),
            None => self.shared.state.write().pruned = target,
        }
        Pruned::Worked
    }

    /// Notes that the record of a version stands elsewhere; false if the index does not hold that
    /// version any more.
    pub fn relocate(&self, key: &[u8], mod_rev: revision_log::Revision, to: Location) -> bool {
        let main = mod_rev.main.cast_signed();
        self.shared
            .state
            .write()
            .index
            .relocate(key, main, mod_rev.sub, to)
    }

    /// The revision up to which pruning may go now. A read that begins later is at the compacted
    /// revision or above it, so the target stays right for the whole pass.
    fn next_target(&self) -> Result<i64, Pruned> {
        let state = self.shared.state.read();
        if state.pruned >= state.compacted {
            return Err(Pruned::Idle);
        }
        let pinned = self.shared.oldest_pin().unwrap_or(i64::MAX);
        match state.compacted.min(pinned) {
            target if target > state.pruned => Ok(target),
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
