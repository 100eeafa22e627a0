//! The real write-ahead log on a simulated disk.
use super::{Durable, Recovery};
use crate::machine::Machine;
use crate::options::Options;
use crate::tape::Tape;
use quorate_raft::{MemberId, Persist, PersistId, SnapshotMeta};

/// The store.
pub struct WalStore {
    /// What is durable.
    pub durable: Durable,
    inner: super::parallel::Parallel,
}
impl WalStore {
    /// A new store.
    #[must_use]
    pub fn new(durable: Durable, _options: &Options, _id: MemberId) -> Self {
        Self {
            inner: super::parallel::Parallel::new(durable.clone()),
            durable,
        }
    }
    pub(super) fn begin(&mut self, persist: Persist) {
        self.inner.begin(persist);
    }
    pub(super) fn busy(&self) -> bool {
        self.inner.busy()
    }
    pub(super) fn finish(&mut self, tape: &mut Tape) -> Result<Vec<PersistId>, String> {
        let done = self.inner.finish(tape);
        self.durable = self.inner.durable.clone();
        Ok(done)
    }
    pub(super) fn save_snapshot(
        &mut self,
        machine: &Machine,
        meta: &SnapshotMeta,
        base: &SnapshotMeta,
    ) -> Result<(), String> {
        self.inner.durable.save_snapshot(machine, meta, base);
        self.durable = self.inner.durable.clone();
        Ok(())
    }
    pub(super) fn crash(&mut self, tape: &mut Tape) {
        self.inner.crash(tape);
        self.durable = self.inner.durable.clone();
    }
    pub(super) fn recover(&mut self) -> Result<Recovery, String> {
        Ok(Recovery::Ready)
    }
    /// rot
    pub fn rot(&mut self, _tape: &mut Tape) {}
}
