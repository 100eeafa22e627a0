//! The shape of the log in memory: terms and memberships by index, without any payload.
//!
//! What a segment header needs to say where the log stands, after any number of cuts (C7).

use crate::storage::codec;
use quorate_raft::{Entry, EntryId, LogIndex, Membership, Payload, SnapshotMeta, Term};
use std::sync::Arc;

/// Base, runs of equal terms, and memberships above the base.
#[derive(Clone, Debug)]
pub(crate) struct LogShape {
    base: SnapshotMeta,
    /// First index and term of each run, ascending, all above the base.
    runs: Vec<(LogIndex, Term)>,
    memberships: Vec<(LogIndex, Arc<Membership>)>,
    last: LogIndex,
}

impl LogShape {
    /// An empty log behind `base`.
    pub(crate) fn new(base: SnapshotMeta) -> Self {
        let last = base.last.index;
        Self {
            base,
            runs: Vec::new(),
            memberships: Vec::new(),
            last,
        }
    }

    /// Where the log begins.
    pub(crate) const fn base(&self) -> &SnapshotMeta {
        &self.base
    }

    /// The last entry, or the base's.
    pub(crate) fn last(&self) -> EntryId {
        let term = self.runs.last().map_or(self.base.last.term, |run| run.1);
        EntryId {
            term,
            index: self.last,
        }
    }

    /// Whether this very entry is in the log or right before it.
    pub(crate) fn contains(&self, id: EntryId) -> bool {
        id.index >= self.base.last.index
            && id.index <= self.last
            && self.term_at(id.index) == id.term
    }

    fn term_at(&self, index: LogIndex) -> Term {
        let runs = self.runs.partition_point(|run| run.0 <= index);
        runs.checked_sub(1)
            .map_or(self.base.last.term, |run| self.runs[run].1)
    }

    /// Adds the entry that follows.
    pub(crate) fn push(&mut self, entry: &Entry) {
        if self.last().term != entry.id.term || self.runs.is_empty() {
            self.runs.push((entry.id.index, entry.id.term));
        }
        if let Payload::Membership { membership, .. } = &entry.payload {
            self.memberships.push((entry.id.index, membership.clone()));
        }
        self.last = entry.id.index;
    }

    /// Removes `from` and all behind it.
    pub(crate) fn cut(&mut self, from: LogIndex) {
        self.runs.retain(|run| run.0 < from);
        self.memberships.retain(|(index, _)| *index < from);
        self.last = from.previous();
    }

    /// The largest membership that a segment header may have to hold, in bytes.
    pub(crate) fn membership_bytes(&self) -> usize {
        let kept = self
            .memberships
            .iter()
            .map(|(_, membership)| codec::membership_bytes(membership));
        kept.fold(codec::membership_bytes(&self.base.membership), usize::max)
    }

    /// The log up to its end as the base of what follows: last entry and membership in force.
    pub(crate) fn meta(&self) -> SnapshotMeta {
        self.meta_at(self.last())
    }

    fn meta_at(&self, last: EntryId) -> SnapshotMeta {
        match self
            .memberships
            .iter()
            .rev()
            .find(|(index, _)| *index <= last.index)
        {
            Some((index, membership)) => SnapshotMeta {
                last,
                membership: Membership::clone(membership),
                membership_index: *index,
            },
            None => SnapshotMeta {
                last,
                ..self.base.clone()
            },
        }
    }

    /// The log begins behind `base` from now on.
    pub(crate) fn trim(&mut self, base: LogIndex) {
        if base <= self.base.last.index || base > self.last {
            return;
        }
        let term = self.term_at(base);
        self.base = self.meta_at(EntryId { term, index: base });
        self.memberships.retain(|(index, _)| *index > base);
        // The run that the base lies in now begins right behind it.
        let inside = self
            .runs
            .partition_point(|run| run.0 <= base)
            .saturating_sub(1);
        self.runs.drain(..inside);
        if let Some(first) = self.runs.first_mut()
            && first.0 <= base
        {
            first.0 = base.next();
        }
        if self.last == base {
            self.runs.clear();
        }
    }
}
