//! A log as a list of entries, next to the real one: what a recovery may answer, and what not.

use quorate_node::env::Rng;
use quorate_node::storage::{Error, Recovered, Wal, WalOptions};
use quorate_raft::{
    Entry, EntryId, HardState, LogIndex, MemberId, Membership, Payload, Persist, PersistId,
    SnapshotMeta, Term,
};
use quorate_sim::disk::SimDisk;
use quorate_sim::tape::Tape;
use std::sync::Arc;

pub const LOG_ID: [u8; 16] = *b"the same old log";
pub const DIR: &str = "wal";

/// Options of a log with tiny segments, so that rolls are common.
pub fn options(incarnation: u64) -> WalOptions {
    WalOptions {
        segment_bytes: 12 * 1024,
        ..WalOptions::new(LOG_ID, incarnation)
    }
}

/// Opens the log as start number `incarnation`.
pub fn open(disk: &SimDisk, incarnation: u64) -> Result<(Wal, Recovered), Error> {
    Wal::open(Arc::new(disk.clone()), DIR, options(incarnation))
}

/// The log at one moment: where it begins, and its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub base: EntryId,
    pub entries: Vec<Entry>,
}

impl Moment {
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    /// Whether a recovered log, which may begin anywhere at or behind ours, is this one.
    fn is(&self, recovered: &Recovered) -> bool {
        let base = recovered
            .base
            .as_ref()
            .map(|base| base.last)
            .unwrap_or_default();
        let known = base == self.base || self.entries.iter().any(|entry| entry.id == base);
        let expected = self
            .entries
            .iter()
            .filter(|entry| entry.id.index > base.index);
        known && expected.eq(&recovered.entries)
    }
}

/// Everything that was asked of a log, in order.
#[derive(Clone, Debug)]
pub struct Model {
    /// The log after each record.
    pub moments: Vec<Moment>,
    /// The hard states asked for, the first one being that of a new log.
    pub hard_states: Vec<HardState>,
    /// How many of the moments and hard states are known to be durable.
    pub durable: (usize, usize),
}

impl Default for Model {
    fn default() -> Self {
        Self {
            moments: vec![Moment::default()],
            hard_states: vec![HardState::default()],
            durable: (0, 0),
        }
    }
}

impl Model {
    pub fn now(&self) -> &Moment {
        self.moments.last().expect("there is a first moment")
    }

    fn note(&mut self, persist: &Persist) {
        if let Some(hard_state) = persist.hard_state {
            self.hard_states.push(hard_state);
        }
        let mut log = self.now().clone();
        if let Some(first) = persist.entries.first()
            && first.id.index <= log.last().index
        {
            log.entries.retain(|entry| entry.id.index < first.id.index);
            self.moments.push(log.clone());
        }
        for entry in &persist.entries {
            log.entries.push(entry.clone());
            self.moments.push(log.clone());
        }
    }

    fn note_durable(&mut self) {
        self.durable = (self.moments.len() - 1, self.hard_states.len() - 1);
    }

    /// Checks that what was recovered is what a crash may leave: everything durable, and of the
    /// rest a prefix.
    pub fn check(&self, recovered: &Recovered, context: &str) {
        let hard_states = &self.hard_states[self.durable.1..];
        assert!(
            hard_states.contains(&recovered.hard_state),
            "{context}: recovered {:?}, expected one of {hard_states:?}",
            recovered.hard_state
        );
        let moments = &self.moments[self.durable.0..];
        assert!(
            moments.iter().any(|moment| moment.is(recovered)),
            "{context}: recovered entries {} behind {:?}, expected between {} and {}",
            shown(&recovered.entries),
            recovered.base.as_ref().map(|base| base.last),
            shown(&moments[0].entries),
            shown(&self.now().entries),
        );
    }

    /// The model of a log that was recovered as this, and goes on.
    pub fn recovered(recovered: &Recovered) -> Self {
        let base = recovered
            .base
            .as_ref()
            .map(|base| base.last)
            .unwrap_or_default();
        let moment = Moment {
            base,
            entries: recovered.entries.clone(),
        };
        Self {
            moments: vec![moment],
            hard_states: vec![recovered.hard_state],
            durable: (0, 0),
        }
    }
}

fn shown(entries: &[Entry]) -> String {
    entries
        .iter()
        .map(|entry| format!("{} ", entry.id))
        .collect()
}

pub fn command(term: Term, index: LogIndex, bytes: usize) -> Entry {
    let content: Vec<u8> = (0..bytes)
        .map(|at| (at as u64 ^ index.0 ^ term.0) as u8)
        .collect();
    Entry {
        id: EntryId { term, index },
        payload: Payload::Command(Arc::from(content)),
    }
}

/// Does `steps` random things to a log, as drawn from `rng`; stops at the first error.
pub fn work(wal: &mut Wal, model: &mut Model, rng: &mut Tape, steps: usize) -> Result<(), Error> {
    for _ in 0..steps {
        match rng.below(12) {
            0..5 => append(wal, model, rng)?,
            5..9 => {
                wal.sync()?;
                model.note_durable();
            }
            9 => wal.note_idle()?,
            10 => {
                let durable = &model.moments[model.durable.0];
                wal.release(LogIndex(durable.last().index.0.saturating_sub(5)))?;
            }
            _ => install(wal, model, rng)?,
        }
    }
    Ok(())
}

fn append(wal: &mut Wal, model: &mut Model, rng: &mut Tape) -> Result<(), Error> {
    let mut batch = Vec::new();
    for _ in 0..=rng.below(2) {
        let last = model.now().last().index;
        let newest = model
            .hard_states
            .last()
            .expect("there is a first hard state")
            .term;
        let new_term = rng.below(3) == 0;
        let term = if new_term || newest == Term(0) {
            Term(newest.0 + 1)
        } else {
            newest
        };
        // Cuts stay above what is durable, as far as the leader of a new term would cut.
        let floor = model.moments[model.durable.0].last().index;
        let room = last.0.saturating_sub(floor.0.max(model.now().base.index.0));
        let back = if new_term && room > 0 {
            rng.below(room + 1)
        } else {
            0
        };
        let from = last.0 + 1 - back;
        let count = rng.below(5) + 1;
        let bytes = |rng: &mut Tape| match rng.below(8) {
            0 => 5000 + rng.below(9000),
            _ => rng.below(90),
        };
        let entries = (from..from + count)
            .map(|index| command(term, LogIndex(index), bytes(rng) as usize))
            .collect();
        let hard_state = (term != newest).then_some(HardState {
            term,
            vote: Some(MemberId(rng.below(3) + 1)),
        });
        let persist = Persist {
            id: PersistId(0),
            hard_state,
            entries,
        };
        model.note(&persist);
        batch.push(persist);
    }
    wal.append(&batch)?;
    Ok(())
}

fn install(wal: &mut Wal, model: &mut Model, rng: &mut Tape) -> Result<(), Error> {
    if rng.below(4) > 0 {
        return Ok(());
    }
    let term = model
        .hard_states
        .last()
        .expect("there is a first hard state")
        .term;
    let index = LogIndex(model.now().last().index.0 + 3);
    let last = EntryId { term, index };
    let membership = Membership::of_voters([MemberId(1)]);
    model.moments.push(Moment {
        base: last,
        entries: Vec::new(),
    });
    wal.save_base(&SnapshotMeta {
        last,
        membership,
        membership_index: LogIndex(1),
    })?;
    model.note_durable();
    Ok(())
}

/// A generator whose stream depends on both numbers.
pub fn rng(seed: u64, stream: u64) -> Tape {
    let mut rng = Tape::new(seed ^ stream.wrapping_mul(0x1234_5678_9abc_def1));
    rng.next_u64();
    rng
}
