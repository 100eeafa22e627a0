//! What a member keeps across a crash: hard state, log, and the newest snapshot of its machine.
//!
//! Two stores: the real write-ahead log on the simulated disk ([`wal`]), and a model of a disk that
//! finishes several writes in any order ([`parallel`]). Both keep a plain copy of what is durable
//! ([`Durable`]), which the checkers compare with what members say.

mod damage;
pub mod parallel;
pub mod wal;

use crate::machine::Machine;
use quorate_raft::{
    Entry, EntryId, HardState, LogIndex, Membership, Payload, Persist, Restored, SnapshotMeta, Term,
};

/// What survives a crash, as plain values.
#[derive(Clone, Debug, Default)]
pub struct Durable {
    /// Term and vote.
    pub hard_state: HardState,
    /// What the log begins after.
    pub base: SnapshotMeta,
    /// The log after `base`, contiguous.
    pub entries: Vec<Entry>,
    /// The newest snapshot of the state machine, at or above `base`.
    pub machine: Machine,
    /// Where that snapshot stands, with the membership in force there (C10).
    pub machine_meta: SnapshotMeta,
    /// A commit index that the log remembers; it may be behind.
    pub commit: LogIndex,
}

impl Durable {
    /// The end of the log.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base.last, |entry| entry.id)
    }

    /// Term of the entry at `index`, if the log has it or begins right after it.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.last.index {
            return Some(self.base.last.term);
        }
        let offset = index.0.checked_sub(self.base.last.index.0 + 1)?;
        self.entries
            .get(usize::try_from(offset).ok()?)
            .map(|entry| entry.id.term)
    }

    /// The entries after `after` up to `up_to`, as far as they are here.
    pub fn between(&self, after: LogIndex, up_to: LogIndex) -> impl Iterator<Item = &Entry> {
        let first = after.max(self.base.last.index).next();
        let start = usize::try_from(first.0 - self.base.last.index.0 - 1);
        let start = start.expect("a log of a simulation is short");
        let entries = self.entries.get(start..).unwrap_or_default();
        entries
            .iter()
            .take_while(move |entry| entry.id.index <= up_to)
    }

    /// Whether an entry is here: in the log, or contained in what precedes it.
    #[must_use]
    pub fn holds(&self, id: EntryId) -> bool {
        id.index < self.base.last.index || self.term_at(id.index) == Some(id.term)
    }

    /// Makes one persist durable.
    pub fn take(&mut self, persist: &Persist) {
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
        for entry in &persist.entries {
            self.append(entry);
        }
    }

    /// Appends one entry, cutting whatever stands at or above its place.
    pub fn append(&mut self, entry: &Entry) {
        let Some(offset) = entry.id.index.0.checked_sub(self.base.last.index.0 + 1) else {
            return; // below the base: contained in the snapshot
        };
        let offset = usize::try_from(offset).expect("a log of a simulation is short");
        assert!(
            offset <= self.entries.len(),
            "entry {} leaves a gap after {}",
            entry.id,
            self.last()
        );
        self.entries.truncate(offset);
        self.entries.push(entry.clone());
    }

    /// Drops the log up to `meta.last`; keeps what follows it only where the two agree (D1, D2).
    pub fn rebase(&mut self, meta: &SnapshotMeta) {
        if meta.last.index < self.base.last.index {
            return;
        }
        if self.term_at(meta.last.index) == Some(meta.last.term) {
            self.entries
                .retain(|entry| entry.id.index > meta.last.index);
        } else {
            self.entries.clear();
        }
        self.base = meta.clone();
    }

    /// Keeps a snapshot and lets the log begin after `base`.
    pub fn save_snapshot(&mut self, machine: &Machine, meta: &SnapshotMeta, base: &SnapshotMeta) {
        assert!(
            base.last.index <= meta.last.index,
            "the log must reach back to the snapshot"
        );
        self.machine = machine.clone();
        self.machine_meta = meta.clone();
        self.rebase(base);
    }

    /// What a restarted member begins with.
    #[must_use]
    pub fn restored(&self) -> Restored {
        Restored {
            hard_state: self.hard_state,
            snapshot: self.base.clone(),
            entries: self.entries.clone(),
            commit: self.commit.max(self.machine.applied),
            applied: self.machine.applied,
            repair: None,
        }
    }

    /// The newest membership in the log or at its base, and its index (C8).
    #[must_use]
    pub fn newest_membership(&self) -> (&Membership, LogIndex) {
        let found = self
            .entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.payload {
                Payload::Membership { membership, .. } => Some((&**membership, entry.id.index)),
                Payload::Empty | Payload::Command(_) => None,
            });
        found.unwrap_or((&self.base.membership, self.base.membership_index))
    }
}

/// One of the two stores.
pub enum Store {
    /// The model.
    Parallel(Box<parallel::Parallel>),
    /// The real log.
    Wal(Box<wal::WalStore>),
}

/// How a start from disk ended.
pub enum Recovery {
    /// Ready to start.
    Ready,
    /// Damage was found and reported: the member must not vote. Carries the verdict.
    Damaged(String),
    /// The machine stopped before recovery was through.
    Stopped,
}

/// What became of an attempt to damage a disk.
pub enum Damage {
    /// There was nothing to damage.
    None,
    /// It would hit synced bytes whose proof was lost with the power: no log could tell them from
    /// a torn end, so nothing was done.
    Undecidable,
    /// It is done; says what.
    Done(String),
}

impl Store {
    /// What is durable, as the checkers see it.
    #[must_use]
    pub fn durable(&self) -> &Durable {
        match self {
            Self::Parallel(store) => &store.durable,
            Self::Wal(store) => &store.durable,
        }
    }

    /// Hands over a persist; it becomes durable at some later [`Store::finish`].
    ///
    /// # Errors
    /// The device failed: the member must stop at once.
    pub fn begin(&mut self, persist: Persist) -> Result<(), String> {
        match self {
            Self::Parallel(store) => {
                store.begin(persist);
                Ok(())
            }
            Self::Wal(store) => store.begin(persist),
        }
    }

    /// Lets the log remember a commit index; nothing waits for it.
    pub fn note_commit(&mut self, commit: LogIndex) {
        match self {
            Self::Parallel(_) => {}
            Self::Wal(store) => store.note_commit(commit),
        }
    }

    /// Whether the machine can stop between two disk operations.
    #[must_use]
    pub const fn can_stop(&self) -> bool {
        matches!(self, Self::Wal(_))
    }

    /// The machine will stop after so many more disk operations.
    pub fn stop_after(&mut self, operations: u64) {
        match self {
            Self::Parallel(_) => {}
            Self::Wal(store) => store.stop_after(operations),
        }
    }

    /// From now on nothing fails and no machine stops.
    pub fn calm(&mut self) {
        match self {
            Self::Parallel(_) => {}
            Self::Wal(store) => store.calm(),
        }
    }

    /// Damages the disk of a member that is down.
    pub fn damage(&mut self, tape: &mut crate::tape::Tape) -> Damage {
        match self {
            Self::Parallel(_) => Damage::None,
            Self::Wal(store) => store.damage(tape),
        }
    }

    /// Finishes work that was begun: the names of the persists that may now be reported, in the
    /// order to report them.
    ///
    /// # Errors
    /// The device failed: the member must stop at once.
    pub fn finish(
        &mut self,
        tape: &mut crate::tape::Tape,
    ) -> Result<Vec<quorate_raft::PersistId>, String> {
        match self {
            Self::Parallel(store) => Ok(store.finish(tape)),
            Self::Wal(store) => store.finish(tape),
        }
    }

    /// Whether work is waiting to be finished.
    #[must_use]
    pub fn busy(&self) -> bool {
        match self {
            Self::Parallel(store) => store.busy(),
            Self::Wal(store) => store.busy(),
        }
    }

    /// Saves a snapshot of the machine, standing at `meta`, and lets the log begin after `base`.
    ///
    /// # Errors
    /// The device failed: the member must stop at once.
    pub fn save_snapshot(
        &mut self,
        machine: &Machine,
        meta: &SnapshotMeta,
        base: &SnapshotMeta,
    ) -> Result<(), String> {
        match self {
            Self::Parallel(store) => {
                store.durable.save_snapshot(machine, meta, base);
                Ok(())
            }
            Self::Wal(store) => store.save_snapshot(machine, meta, base),
        }
    }

    /// Loses what was not synced, as `tape` decides.
    pub fn crash(&mut self, tape: &mut crate::tape::Tape) {
        match self {
            Self::Parallel(store) => store.crash(tape),
            Self::Wal(store) => store.crash(tape),
        }
    }

    /// Reads everything back after a crash.
    ///
    /// # Errors
    /// What was synced is not there: a violation of `nothing-lost`.
    pub fn recover(&mut self) -> Result<Recovery, String> {
        match self {
            Self::Parallel(_) => Ok(Recovery::Ready),
            Self::Wal(store) => store.recover(),
        }
    }
}
