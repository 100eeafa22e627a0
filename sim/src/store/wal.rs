//! The real write-ahead log on a simulated disk, and the state machine's snapshot beside it.
//!
//! The snapshot stands for the revision log: it is saved atomically and durably before the log is
//! told to begin behind it. What the log gives back after a crash is compared with what it had
//! said was durable: nothing of that may be missing, and nothing may appear that was never written.

use super::{Durable, Recovery};
use crate::disk::{Fault, SimDisk};
use crate::machine::{Machine, fingerprint};
use crate::options::Options;
use crate::tape::Tape;
use quorate_node::storage::{Error, Recovered, Verdict, Wal, WalOptions};
use quorate_raft::{HardState, MemberId, Persist, PersistId, SnapshotMeta};
use std::sync::Arc;

/// Where the log lies on the simulated disk.
const DIR: &str = "wal";

/// The store.
pub struct WalStore {
    /// What is durable, by the log's own word.
    pub durable: Durable,
    disk: SimDisk,
    options: WalOptions,
    wal: Option<Wal>,
    /// Written and not synced.
    written: Vec<Persist>,
    /// What a write or the opening answered, told at the next sync.
    failed: Option<String>,
    /// A bit of the disk has rotted: damage may be found from now on.
    rotten: bool,
    sync_error: u64,
}

impl WalStore {
    /// A new log on an empty disk.
    ///
    /// # Panics
    /// When the log cannot be created on a disk without faults.
    #[must_use]
    pub fn new(durable: Durable, options: &Options, id: MemberId) -> Self {
        let disk = SimDisk::new(options.seed.wrapping_mul(31).wrapping_add(id.0));
        let mut wal = WalOptions::new(log_id(id), 1);
        wal.segment_bytes = u32::try_from(options.segment_bytes).expect("segments are small");
        #[cfg(planted)]
        {
            wal.planted = options.planted;
        }
        let mut store = Self {
            durable,
            disk,
            options: wal,
            wal: None,
            written: Vec::new(),
            failed: None,
            rotten: false,
            sync_error: options.sync_error,
        };
        let (log, _) = store.open().expect("a new log on a good disk");
        store.wal = Some(log);
        store
    }

    fn open(&self) -> Result<(Wal, Recovered), Error> {
        Wal::open(Arc::new(self.disk.clone()), DIR, self.options.clone())
    }

    pub(super) fn begin(&mut self, persist: Persist) {
        if let Some(wal) = &mut self.wal
            && let Err(error) = wal.append(std::slice::from_ref(&persist))
        {
            self.failed = Some(error.to_string());
        }
        self.written.push(persist);
    }

    pub(super) fn busy(&self) -> bool {
        !self.written.is_empty()
    }

    pub(super) fn finish(&mut self, tape: &mut Tape) -> Result<Vec<PersistId>, String> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let Some(wal) = &mut self.wal else {
            return Ok(Vec::new());
        };
        if self.written.is_empty() {
            return Ok(Vec::new());
        }
        // One sync in a hundred fails in seeds that have this fault at all.
        if tape.chance(self.sync_error / 30) {
            self.disk.inject(Fault::SyncFails);
        }
        wal.sync().map_err(|error| error.to_string())?;
        let mut done = Vec::new();
        for persist in self.written.drain(..) {
            self.durable.take(&persist);
            done.push(persist.id);
        }
        wal.note_idle().map_err(|error| error.to_string())?;
        Ok(done)
    }

    pub(super) fn save_snapshot(
        &mut self,
        machine: &Machine,
        meta: &SnapshotMeta,
        base: &SnapshotMeta,
    ) -> Result<(), String> {
        self.durable.save_snapshot(machine, meta, base);
        let Some(wal) = &mut self.wal else {
            return Ok(());
        };
        // A snapshot of our own log only lets old segments go; one from the leader may replace it.
        let installed = meta.last == base.last;
        let result = if installed {
            wal.save_base(base)
        } else {
            wal.release(base.last.index)
        };
        result.map_err(|error| error.to_string())
    }

    pub(super) fn crash(&mut self, tape: &mut Tape) {
        self.wal = None;
        self.failed = None;
        if tape.chance(300) {
            self.disk.kill_process();
        } else {
            self.disk.crash();
        }
    }

    /// Inverts one bit somewhere in the log.
    pub fn rot(&mut self, tape: &mut Tape) {
        let files = quorate_node::env::Disk::list(&self.disk, DIR).unwrap_or_default();
        if let Some(file) = tape.pick(&files) {
            let path = format!("{DIR}/{file}");
            let bits = self
                .disk
                .durable(&path)
                .map_or(0, |bytes| bytes.len() as u64 * 8);
            // Most of a segment is still zeros; what was written is at its beginning.
            let used = bits.min(tape.between(1, 8192) * 8);
            if used > 0 {
                self.disk.flip_bit(&path, tape.below(used));
                self.rotten = true;
            }
        }
    }

    pub(super) fn recover(&mut self) -> Result<Recovery, String> {
        self.options.incarnation += 1;
        self.options.was_member = true;
        let (wal, found) = match self.open() {
            Ok(opened) => opened,
            Err(error) if self.rotten && !error.is_fatal() => {
                return Ok(Recovery::Damaged(error.to_string()));
            }
            Err(error) => return Err(format!("the log does not open: {error}")),
        };
        if found.verdict == Verdict::Corrupt {
            let text = format!("{}; in doubt: {:?}", found.verdict, found.damaged);
            return if self.rotten {
                Ok(Recovery::Damaged(text))
            } else {
                Err(format!("a healthy disk is judged {text}"))
            };
        }
        let recovered = self.adopt(&found)?;
        self.judge(&recovered)?;
        self.durable = recovered;
        self.written.clear();
        self.wal = Some(wal);
        Ok(Recovery::Ready)
    }

    /// What the log and the snapshot beside it amount to.
    fn adopt(&self, found: &Recovered) -> Result<Durable, String> {
        let log_base = found.base.clone().unwrap_or_default();
        let first = log_base.last.index.next();
        let mut state = Durable {
            hard_state: found.hard_state,
            base: log_base,
            entries: found.entries.clone(),
            machine: self.durable.machine.clone(),
            machine_meta: self.durable.machine_meta.clone(),
        };
        if self.durable.base.last.index.next() < first {
            return Err(format!(
                "the log begins at {first}, the snapshot beside it ends before, at {}",
                self.durable.base.last
            ));
        }
        state.rebase(&self.durable.base);
        Ok(state)
    }

    /// Everything that was synced is there; what is there beyond it was at least written.
    fn judge(&self, recovered: &Durable) -> Result<(), String> {
        let votes: Vec<HardState> = std::iter::once(self.durable.hard_state)
            .chain(self.written.iter().filter_map(|persist| persist.hard_state))
            .collect();
        if !votes.contains(&recovered.hard_state) {
            return Err(format!(
                "recovered {:?}, expected one of {votes:?}",
                recovered.hard_state
            ));
        }
        let mut expected = self.durable.clone();
        let mut matches = same_log(&expected, recovered);
        for entry in self.written.iter().flat_map(|persist| &persist.entries) {
            expected.append(entry);
            matches |= same_log(&expected, recovered);
        }
        if matches {
            return Ok(());
        }
        Err(format!(
            "synced up to {}, written up to {}, recovered up to {}: not a prefix of what was written",
            self.durable.last(),
            expected.last(),
            recovered.last()
        ))
    }
}

fn same_log(one: &Durable, other: &Durable) -> bool {
    one.last() == other.last()
        && one.entries.len() == other.entries.len()
        && one
            .entries
            .iter()
            .zip(&other.entries)
            .all(|(one, other)| one.id == other.id && fingerprint(one) == fingerprint(other))
}

fn log_id(id: MemberId) -> [u8; 16] {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&id.0.to_le_bytes());
    bytes
}
