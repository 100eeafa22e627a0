//! The part of the log that is in memory, the memberships it brought, and what of it is durable.
//!
//! Assumes that writes reach the disk in the order of their [`PersistId`]s, though their syncs may
//! complete in any order. Must not know: roles, peers, commit (callers pass it where it matters).
//!
//! A completion is matched by the number of the write, never by an index, because an index can be
//! written several times (B12):
//! ```text
//!   write 1: 5/term 2   write 2: cut at 5, 5/term 3   write 3: cut at 5, 5/term 4
//!   completion of write 1 says nothing about 5/term 4
//! ```
//! So each write in flight remembers how much *of the log as it is now* it makes durable, and a
//! cut lowers that for all of them.

use crate::membership::Membership;
use crate::message::{Entry, Payload, SnapshotMeta};
use crate::types::{EntryId, HardState, LogIndex, PersistId, Term};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The log of one member, from its base to its end.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// The last entry that is no longer here: contained in a snapshot, or 0/0.
    base: EntryId,
    /// What follows the base, contiguous.
    entries: VecDeque<Entry>,
    /// The membership at the base, then one per membership entry: `(index of the entry, it)`.
    memberships: Vec<(LogIndex, Arc<Membership>)>,
    /// The first entry that no write has taken yet.
    unsaved: LogIndex,
    /// Longest prefix durable here.
    durable: LogIndex,
    /// Writes that have not completed, or wait for an earlier one, oldest first.
    in_flight: VecDeque<InFlight>,
    /// Name of the next write.
    next_write: PersistId,
}

/// One write on its way to the disk.
#[derive(Clone, Debug)]
struct InFlight {
    id: PersistId,
    complete: bool,
    /// What it makes durable of the log as it is now; lowered by a cut.
    up_to: LogIndex,
    hard_state: Option<HardState>,
}

/// What completed writes have made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completed {
    /// The newest hard state among them.
    pub hard_state: Option<HardState>,
}

impl Log {
    /// A log read from disk: all of it is durable.
    pub fn new(snapshot: &SnapshotMeta, entries: Vec<Entry>) -> Self {
        let mut log = Self {
            base: snapshot.last,
            entries: VecDeque::new(),
            memberships: Vec::new(),
            unsaved: snapshot.last.index.next(),
            durable: snapshot.last.index,
            in_flight: VecDeque::new(),
            next_write: PersistId(1),
        };
        let membership = Arc::new(snapshot.membership.clone());
        log.memberships
            .push((snapshot.membership_index, membership));
        for entry in entries {
            log.push(entry);
        }
        log.durable = log.last().index;
        log.unsaved = log.last().index.next();
        log
    }

    /// The entry before the first one in memory.
    pub fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry, or the base when nothing follows it.
    pub fn last(&self) -> EntryId {
        self.entries.back().map_or(self.base, |entry| entry.id)
    }

    /// Longest prefix durable here.
    pub fn durable(&self) -> LogIndex {
        self.durable
    }

    /// The term of the entry at `index`; `None` below the base and beyond the end.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            Some(self.base.term)
        } else {
            self.get(index).map(|entry| entry.id.term)
        }
    }

    /// Whether this very entry is in the log (or its base).
    pub fn contains(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The newest entry at or below `limit` whose term is at most `term`: where two logs may agree
    /// at best, when one of them ends its `term` there. The base when there is none above it.
    pub fn newest_before(&self, limit: LogIndex, term: Term) -> EntryId {
        // Terms never decrease along the log, so the entries in question are a prefix.
        let prefix = self
            .entries
            .partition_point(|e| e.id.index <= limit && e.id.term <= term);
        prefix
            .checked_sub(1)
            .map_or(self.base, |at| self.entries[at].id)
    }

    /// Entries from `from` up to `limit`, as many as fit in `bytes_max` payload bytes but at least
    /// one, and the payload bytes they hold.
    pub fn slice(&self, from: LogIndex, limit: LogIndex, bytes_max: usize) -> (Vec<Entry>, usize) {
        let Some(start) = self.offset(from) else {
            return (Vec::new(), 0);
        };
        let mut bytes = 0usize;
        let mut count = 0usize;
        for entry in self
            .entries
            .range(start..)
            .take_while(|e| e.id.index <= limit)
        {
            let size = entry.payload_bytes();
            if count > 0 && bytes.saturating_add(size) > bytes_max {
                break;
            }
            bytes = bytes.saturating_add(size);
            count += 1;
        }
        (
            self.entries.range(start..start + count).cloned().collect(),
            bytes,
        )
    }

    /// The entries after `after` up to `up_to`, which must be in memory.
    pub fn between(&self, after: LogIndex, up_to: LogIndex) -> impl Iterator<Item = &Entry> + '_ {
        let (base, last) = (self.base.index, self.last().index);
        assert!(
            base <= after && after <= up_to && up_to <= last,
            "entries {after}..={up_to} are not in the log, which holds {base}..={last}"
        );
        let start = usize::try_from(after.0 - base.0).expect("the log fits in memory");
        let end = usize::try_from(up_to.0 - base.0).expect("the log fits in memory");
        self.entries.range(start..end)
    }

    /// The membership in force: the newest in the log, committed or not (thesis §4.1).
    pub fn membership(&self) -> &Arc<Membership> {
        &self
            .memberships
            .last()
            .expect("the membership at the base is never dropped")
            .1
    }

    /// Index of the entry that brought the membership in force.
    pub fn membership_index(&self) -> LogIndex {
        self.memberships
            .last()
            .expect("the membership at the base is never dropped")
            .0
    }

    /// The membership that was in force before the newest one, if the log remembers.
    pub fn membership_before(&self) -> Option<&Membership> {
        let older = self.memberships.len().checked_sub(2)?;
        Some(&self.memberships[older].1)
    }

    /// The membership that was in force at `index`; `None` below the base.
    pub fn membership_at(&self, index: LogIndex) -> Option<(&Membership, LogIndex)> {
        if index < self.base.index {
            return None;
        }
        self.memberships
            .iter()
            .rev()
            .find(|(at, _)| *at <= index)
            .map(|(at, membership)| (&**membership, *at))
    }

    /// Adds one entry at the end.
    pub fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert!(
            entry.id.index == last.index.next() && entry.id.term >= last.term,
            "entry {} cannot follow {last}",
            entry.id
        );
        if let Payload::Membership { membership, .. } = &entry.payload {
            assert!(
                membership.is_consistent(),
                "entry {} brings an impossible membership: {membership:?}",
                entry.id
            );
            self.memberships
                .push((entry.id.index, Arc::clone(membership)));
        }
        self.entries.push_back(entry);
    }

    /// Removes the entries from `from` on; the memberships they brought are undone, however many
    /// (C7). `keep_memberships` plants the bug of not doing so.
    pub fn cut(&mut self, from: LogIndex, keep_memberships: bool) {
        let base = self.base.index;
        assert!(
            from > base,
            "cannot cut the log at {from}: it begins after {base}"
        );
        let keep = self.offset(from).unwrap_or(self.entries.len());
        self.entries.truncate(keep);
        if !keep_memberships {
            while self.memberships.len() > 1 && self.membership_index() >= from {
                self.memberships.pop();
            }
        }
        self.forget_writes_after(from.previous());
        self.unsaved = self.unsaved.min(from);
    }

    /// Drops the entries up to `up_to`, which becomes the base. The membership at it stays.
    pub fn trim(&mut self, up_to: LogIndex) {
        let Some(term) = self.term_at(up_to) else {
            return;
        };
        assert!(
            up_to <= self.durable && up_to < self.unsaved,
            "cannot trim to {up_to}: durable only to {}",
            self.durable
        );
        let dropped = usize::try_from(up_to.0 - self.base.index.0).expect("fits in memory");
        self.entries.drain(..dropped);
        assert!(
            up_to >= self.base.index,
            "trim to {up_to}, behind the base {}",
            self.base
        );
        self.base = EntryId { term, index: up_to };
        let older = self
            .memberships
            .iter()
            .take_while(|(at, _)| *at <= up_to)
            .count();
        assert!(older > 0, "no membership is known at {up_to}");
        self.memberships.drain(..older - 1);
    }

    /// Replaces everything up to `meta.last` by an installed snapshot, durable already. A suffix
    /// that agrees with it stays (D2), any other goes (D1). Returns whether entries at or behind
    /// `meta.last` were cut.
    pub fn install(&mut self, meta: &SnapshotMeta) -> bool {
        let membership = Arc::new(meta.membership.clone());
        let agrees = self.contains(meta.last);
        let cut = !agrees && self.last().index >= meta.last.index;
        if agrees {
            let dropped = meta.last.index.0 - self.base.index.0;
            self.entries
                .drain(..usize::try_from(dropped).expect("fits in memory"));
            self.memberships.retain(|(at, _)| *at > meta.last.index);
        } else {
            self.entries.clear();
            self.memberships.clear();
            self.forget_writes_after(meta.last.index);
            self.durable = meta.last.index;
            self.unsaved = meta.last.index.next();
        }
        self.base = meta.last;
        self.memberships
            .insert(0, (meta.membership_index, membership));
        self.durable = self.durable.max(meta.last.index);
        self.unsaved = self.unsaved.max(meta.last.index.next());
        cut
    }

    /// Payload bytes of the entries after `after` up to `up_to`.
    pub fn bytes_between(&self, after: LogIndex, up_to: LogIndex) -> usize {
        self.between(after, up_to).map(Entry::payload_bytes).sum()
    }

    fn offset(&self, index: LogIndex) -> Option<usize> {
        let offset = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        usize::try_from(offset)
            .ok()
            .filter(|offset| *offset < self.entries.len())
    }

    fn get(&self, index: LogIndex) -> Option<&Entry> {
        self.offset(index).map(|offset| &self.entries[offset])
    }

    /// What is above `keep` no longer counts as durable, nor will it by a write in flight.
    fn forget_writes_after(&mut self, keep: LogIndex) {
        self.durable = self.durable.min(keep);
        for write in &mut self.in_flight {
            write.up_to = write.up_to.min(keep);
        }
    }
}

// Writes.
impl Log {
    /// Begins a write of all that no write has taken yet, and of `hard_state`; `None` when there
    /// is nothing to write.
    pub fn begin_write(
        &mut self,
        hard_state: Option<HardState>,
    ) -> Option<(PersistId, Vec<Entry>)> {
        let last = self.last().index;
        assert!(
            self.unsaved <= last.next(),
            "unsaved {} lies beyond {last}",
            self.unsaved
        );
        if self.unsaved > last && hard_state.is_none() {
            return None;
        }
        let entries: Vec<Entry> = self
            .between(self.unsaved.previous(), last)
            .cloned()
            .collect();
        let id = self.next_write;
        self.next_write = PersistId(id.0 + 1);
        self.unsaved = last.next();
        self.in_flight.push_back(InFlight {
            id,
            complete: false,
            up_to: last,
            hard_state,
        });
        Some((id, entries))
    }

    /// A write has completed. Its effects begin once all earlier ones have completed too (B10).
    /// `gaps` plants the bug of counting it at once.
    pub fn complete_write(&mut self, id: PersistId, gaps: bool) -> Completed {
        assert!(
            id < self.next_write,
            "write {} completed before it began",
            id.0
        );
        if let Some(write) = self.in_flight.iter_mut().find(|write| write.id == id) {
            write.complete = true;
            if gaps {
                self.durable = self.durable.max(write.up_to);
            }
        }
        let mut hard_state = None;
        while self.in_flight.front().is_some_and(|write| write.complete) {
            let Some(write) = self.in_flight.pop_front() else {
                break;
            };
            self.durable = self.durable.max(write.up_to);
            hard_state = write.hard_state.or(hard_state);
        }
        Completed { hard_state }
    }

    /// The write that must complete, with all before it, until everything up to `index` is durable;
    /// `None` when it is. A write of this very step has no name yet: it gets the next one.
    pub fn write_covering(&self, index: LogIndex) -> Option<PersistId> {
        if index <= self.durable {
            return None;
        }
        let covering = self.in_flight.iter().find(|write| write.up_to >= index);
        Some(covering.map_or(self.next_write, |write| write.id))
    }

    /// The newest write in flight that carries a hard state, or the next one when `unsaved`.
    pub fn hard_state_write(&self, unsaved: bool) -> Option<PersistId> {
        if unsaved {
            return Some(self.next_write);
        }
        self.in_flight
            .iter()
            .rev()
            .find(|w| w.hard_state.is_some())
            .map(|w| w.id)
    }
}

impl Entry {
    /// Whether the membership it brings, if any, could be in force.
    pub(crate) fn brings_a_usable_membership(&self) -> bool {
        match &self.payload {
            Payload::Empty | Payload::Command(_) => true,
            Payload::Membership {
                membership,
                context: _,
            } => membership.is_consistent() && !membership.is_empty(),
        }
    }

    /// Bytes of the payload, as the limits of [`crate::Config`] count them.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match &self.payload {
            Payload::Empty => 0,
            Payload::Command(command) => command.len(),
            // Eight bytes for each ID: near enough for a limit.
            Payload::Membership {
                membership,
                context,
            } => {
                let ids = membership.members().count() + membership.learners_next.len();
                context.len() + membership.leave_context.len() + 8 * ids
            }
        }
    }
}
