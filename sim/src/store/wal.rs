//! The real write-ahead log on a simulated disk, and the state machine's snapshot beside it.
//!
//! The snapshot stands for the revision log: it is saved atomically and durably before the log is
//! told to begin behind it. What the log gives back after a crash is compared with what it had
//! said was durable: nothing of that may be missing, and nothing may appear that was never written.

use super::damage::Harm;
use super::{Damage, Durable, Recovery};
use crate::disk::{Fault, SimDisk};
use crate::machine::{Machine, fingerprint};
use crate::options::Options;
use crate::tape::Tape;
use quorate_node::env::Rng;
use quorate_node::storage::{Error, Position, Recovered, Verdict, Wal, WalOptions};
use quorate_raft::{HardState, LogIndex, MemberId, Persist, PersistId, SnapshotMeta};
use std::sync::Arc;

/// Where the log lies on the simulated disk.
pub(super) const DIR: &str = "wal";
/// How many more things a power loss might have left are looked at, each time.
const IMAGES: u32 = 4;

/// The store.
pub struct WalStore {
    /// What is durable, by the log's own word.
    pub durable: Durable,
    disk: SimDisk,
    options: WalOptions,
    wal: Option<Wal>,
    /// Written and not synced.
    written: Vec<Persist>,
    /// Up to where the log has said that everything is synced.
    synced: Position,
    /// The disk was damaged: that may be found from now on.
    rotten: bool,
    /// How recovery would have ended, had the power loss left something else behind.
    otherwise: Result<(), String>,
    /// Chance of a mark after a sync, per thousand.
    idle: u64,
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
            synced: Position::default(),
            rotten: false,
            otherwise: Ok(()),
            idle: options.idle,
            sync_error: options.sync_error,
        };
        let (log, _) = store.open().expect("a new log on a good disk");
        store.wal = Some(log);
        store
    }

    fn open(&self) -> Result<(Wal, Recovered), Error> {
        Wal::open(Arc::new(self.disk.clone()), DIR, self.options.clone())
    }

    /// What a start would find after a power loss that left this behind: nothing synced is missing.
    fn check_image(&self, disk: SimDisk) -> Result<(), String> {
        let mut options = self.options.clone();
        options.incarnation += 1;
        options.was_member = true;
        let opened = Wal::open(Arc::new(disk), DIR, options);
        let (_, found) = opened.map_err(|error| format!("the log does not open: {error}"))?;
        if found.verdict == Verdict::Corrupt {
            return Err(format!("a healthy disk is judged {}", found.verdict));
        }
        self.judge(&self.adopt(&found)?)
    }

    pub(super) fn begin(&mut self, persist: Persist) -> Result<(), String> {
        let result = match &mut self.wal {
            Some(wal) => wal.append(std::slice::from_ref(&persist)).map(drop),
            None => Ok(()),
        };
        self.written.push(persist);
        result.map_err(|error| error.to_string())
    }

    pub(super) fn note_commit(&mut self, commit: LogIndex) {
        if let Some(wal) = &mut self.wal {
            wal.note_commit(commit);
        }
    }

    pub(super) fn busy(&self) -> bool {
        self.wal.is_some() && !self.written.is_empty()
    }

    pub(super) fn stop_after(&self, operations: u64) {
        self.disk.stop_after(operations);
    }

    pub(super) fn calm(&mut self) {
        self.disk.go_on();
        self.sync_error = 0;
    }

    pub(super) fn finish(&mut self, tape: &mut Tape) -> Result<Vec<PersistId>, String> {
        let Some(wal) = &mut self.wal else {
            return Ok(Vec::new());
        };
        if self.written.is_empty() {
            return Ok(Vec::new());
        }
        if tape.chance(self.sync_error) {
            self.disk.inject(Fault::SyncFails);
        }
        self.synced = wal.sync().map_err(|error| error.to_string())?;
        let mut done = Vec::new();
        for persist in self.written.drain(..) {
            self.durable.take(&persist);
            done.push(persist.id);
        }
        // A busy log writes no marks, an idle one does soon.
        if tape.chance(self.idle) {
            wal.note_idle().map_err(|error| error.to_string())?;
        }
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
        self.synced = wal.synced();
        result.map_err(|error| error.to_string())
    }

    pub(super) fn crash(&mut self, tape: &mut Tape) {
        self.wal = None;
        let unsynced = !self.written.is_empty() || self.disk.has_stopped();
        for _ in 0..IMAGES {
            let seed = tape.next_u64();
            if unsynced && !self.rotten && self.otherwise.is_ok() {
                let image = self.disk.fork(seed);
                image.crash();
                self.otherwise = self.check_image(image);
            }
        }
        if tape.chance(300) {
            self.disk.kill_process();
        } else {
            self.disk.crash();
        }
    }

    /// Damages the log's files in one place.
    pub(super) fn damage(&mut self, tape: &mut Tape) -> Damage {
        let Some(harm) = Harm::draw(&self.disk, tape) else {
            return Damage::None;
        };
        let fork = self.disk.fork(0);
        harm.inflict(&fork);
        if harm.is_undecidable(&fork, self.synced) {
            return Damage::Undecidable;
        }
        harm.inflict(&self.disk);
        self.rotten = true;
        Damage::Done(harm.to_string())
    }

    pub(super) fn recover(&mut self) -> Result<Recovery, String> {
        self.otherwise.clone()?;
        self.options.incarnation += 1;
        self.options.was_member = true;
        let (mut wal, found) = match self.open() {
            Ok(opened) => opened,
            Err(_) if self.disk.has_stopped() => return Ok(Recovery::Stopped),
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
        if let Err(error) = self.finish_installation(&mut wal, &found) {
            return if self.disk.has_stopped() {
                Ok(Recovery::Stopped)
            } else {
                Err(format!("the log cannot begin behind the snapshot: {error}"))
            };
        }
        self.durable = recovered;
        self.written.clear();
        self.synced = wal.synced();
        self.wal = Some(wal);
        Ok(Recovery::Ready)
    }

    /// Ends an installation that was interrupted between the snapshot and the log: the log begins
    /// behind the snapshot, unless it holds the snapshot's last entry (D3).
    fn finish_installation(&self, wal: &mut Wal, found: &Recovered) -> Result<(), Error> {
        let base = &self.durable.base;
        let log_base = found
            .base
            .as_ref()
            .map_or(LogIndex(0), |base| base.last.index);
        let held = found.entries.iter().any(|entry| entry.id == base.last);
        if base.last.index <= log_base || held {
            return Ok(());
        }
        wal.save_base(base)
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
            commit: found.commit,
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
            // The cut is a record of its own, ahead of the entry that asks for it: power may be
            // lost between the two. What it cuts is not committed.
            let before = expected.entries.len();
            expected
                .entries
                .retain(|kept| kept.id.index < entry.id.index);
            if expected.entries.len() < before {
                matches |= same_log(&expected, recovered);
            }
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
