//! What a seed decides before anything runs: the size of the cluster, which faults exist, and which
//! sizes are small.
//!
//! Every kind of fault is off in many seeds, and its rate is low, middling or high in the others: a
//! constant mixture hides bugs (swarm testing). A failing seed is made simpler by taking kinds of
//! fault away again ([`Options::without`]); what is left keeps its rate.

use crate::tape::Tape;
use std::fmt;

/// One tick of Raft's clock, in microseconds of virtual time.
pub const TICK_US: u64 = 10_000;
/// Election timeout of every member, ticks.
pub const ELECTION_TICKS: u32 = 10;

/// How members store their log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// The real write-ahead log on a simulated disk.
    Wal,
    /// A model of a disk that takes several writes at once and finishes them in any order, which
    /// the one file of the write-ahead log cannot show.
    Parallel,
}

/// The mixture of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// First voters.
    pub voters: u64,
    /// Length of the fault phase, ticks.
    pub ticks: u64,
    /// How members store their log.
    pub storage: Storage,
    /// Messages lost, per thousand.
    pub loss: u64,
    /// Messages delivered twice, per thousand.
    pub duplicate: u64,
    /// Messages kept back for several election timeouts, per thousand.
    pub stale: u64,
    /// Longest usual delay of a message, microseconds.
    pub delay_us: u64,
    /// Crashes, per thousand ticks of the cluster.
    pub crash: u64,
    /// Of a thousand crashes, those that come in the midst of the disk operations of a write, a
    /// snapshot or a recovery (WAL only).
    pub stop: u64,
    /// Partitions begun, per thousand ticks.
    pub partition: u64,
    /// Partitions ended, per thousand ticks.
    pub heal: u64,
    /// Of a thousand crashes and partitions, those that are meant for a leader.
    pub aim: u64,
    /// Longest sync, microseconds.
    pub sync_us: u64,
    /// A member whose syncs take ten times as long; 0 for none.
    pub slow_disk: u64,
    /// Failing syncs, per thousand (WAL only).
    pub sync_error: u64,
    /// Proposals, per thousand ticks and member.
    pub proposals: u64,
    /// Most commands in one proposal.
    pub batch: u64,
    /// Bytes of the largest command, at least [`COMMAND_BYTES_MIN`].
    pub command_bytes: u64,
    /// All commands are as large as the largest.
    pub one_size: bool,
    /// Reads, per thousand ticks and member.
    pub reads: u64,
    /// Membership changes asked for, per thousand ticks.
    pub changes: u64,
    /// Leadership transfers asked for, per thousand ticks.
    pub transfers: u64,
    /// Applied entries between snapshots; 0 for none.
    pub snapshot_every: u64,
    /// Chance that the log marks what is synced after a sync, per thousand (WAL only).
    pub idle: u64,
    /// Members whose tick runs slow, and by how much (per thousand of the usual rate).
    pub slow_clock: u64,
    /// Bytes of one WAL segment.
    pub segment_bytes: u64,
    /// The log of one member rots while it is down (WAL only).
    pub rot: bool,
    /// Limit of one append and of the window, small in many seeds.
    pub window: u64,
    /// Row of the planted bug that is alive, 0 for none.
    pub planted: u32,
}

/// Bytes of the smallest command: the number of its request.
pub const COMMAND_BYTES_MIN: u64 = 8;

/// A kind of fault, or of demand, that a history can do without.
pub struct Kind {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    take_away: fn(&mut Options),
    is_there: fn(&Options) -> bool,
}

impl Kind {
    /// Takes it out of the mixture.
    pub fn take_away(&self, options: &mut Options) {
        (self.take_away)(options);
    }

    /// Whether a mixture has it.
    #[must_use]
    pub fn is_in(&self, options: &Options) -> bool {
        (self.is_there)(options)
    }
}

macro_rules! kinds {
    ($($name:literal: $field:ident = $none:expr;)*) => {
        &[$(Kind {
            name: $name,
            take_away: |options| options.$field = $none,
            is_there: |options| options.$field != $none,
        }),*]
    };
}

/// All kinds, the coarsest first: that is the order in which a failure is made simpler.
pub const KINDS: &[Kind] = kinds! {
    "changes": changes = 0;
    "transfers": transfers = 0;
    "snapshots": snapshot_every = 0;
    "reads": reads = 0;
    "rot": rot = false;
    "sync-errors": sync_error = 0;
    "crashes": crash = 0;
    "stops": stop = 0;
    "partitions": partition = 0;
    "loss": loss = 0;
    "duplicates": duplicate = 0;
    "stale": stale = 0;
    "slow-clocks": slow_clock = 0;
    "slow-disk": slow_disk = 0;
    "batches": batch = 1;
    "large-commands": command_bytes = COMMAND_BYTES_MIN;
    "small-windows": window = 256;
};

/// Those that only the real log on its disk can suffer.
const NEED_A_LOG: &[&str] = &["rot", "sync-errors", "stops"];

impl Options {
    /// What `seed` stands for.
    #[must_use]
    pub fn draw(seed: u64, planted: u32) -> Self {
        let mut tape = Tape::new(seed);
        let tape = &mut tape;
        let storage = one_of(tape, &[Storage::Wal, Storage::Parallel]);
        let mut options = Self {
            seed,
            voters: one_of(tape, &[1, 2, 3, 3, 3, 3, 3, 4, 5, 5]),
            ticks: one_of(tape, &[100, 150, 200, 300]),
            storage,
            loss: some(tape, 500, 200),
            duplicate: some(tape, 300, 200),
            stale: some(tape, 300, 100),
            delay_us: one_of(tape, &[1_000, 5_000, 12_000, 25_000]),
            crash: some(tape, 700, 60),
            stop: one_of(tape, &[0, 300, 700]),
            partition: some(tape, 700, 80),
            heal: one_of(tape, &[15, 40, 80]),
            aim: one_of(tape, &[0, 300, 800]),
            sync_us: one_of(tape, &[300, 5_000, 20_000, 40_000]),
            slow_disk: some(tape, 250, 3),
            sync_error: some(tape, 250, 10),
            proposals: one_of(tape, &[30, 100, 300, 600]),
            batch: one_of(tape, &[1, 3, 3, 12]),
            // Some of them fill sectors exactly, 48 bytes of the log's own included.
            command_bytes: one_of(tape, &[COMMAND_BYTES_MIN, 16, 64, 80, 464, 3000]),
            one_size: tape.chance(500),
            reads: some(tape, 600, 300),
            changes: some(tape, 500, 100),
            transfers: some(tape, 300, 30),
            snapshot_every: if tape.chance(500) {
                tape.between(1, 30)
            } else {
                0
            },
            idle: one_of(tape, &[0, 500, 1000]),
            slow_clock: some(tape, 300, 700),
            segment_bytes: one_of(tape, &[12_288, 16_384, 32_768, 131_072]),
            rot: tape.chance(400),
            window: one_of(tape, &[1, 2, 8, 256]),
            planted,
        };
        if storage == Storage::Parallel {
            for kind in KINDS.iter().filter(|kind| NEED_A_LOG.contains(&kind.name)) {
                kind.take_away(&mut options);
            }
        }
        options
    }

    /// The same mixture without a kind of fault or demand.
    ///
    /// # Errors
    /// There is no kind of that name; says which there are.
    pub fn without(mut self, name: &str) -> Result<Self, String> {
        let Some(kind) = KINDS.iter().find(|kind| kind.name == name) else {
            let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
            return Err(format!(
                "{name:?} is no kind of fault; there are: {}",
                names.join(", ")
            ));
        };
        kind.take_away(&mut self);
        Ok(self)
    }
}

fn one_of<T: Copy>(tape: &mut Tape, items: &[T]) -> T {
    *tape.pick(items).expect("there is something to choose from")
}

/// A rate, low, middling or up to `max`, which is 0 in all but `exists` seeds of a thousand.
fn some(tape: &mut Tape, exists: u64, max: u64) -> u64 {
    let max = one_of(tape, &[max.div_ceil(10), max.div_ceil(3), max]);
    let rate = tape.between(1, max);
    if tape.chance(exists) { rate } else { 0 }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} voters, {} ticks, {:?} storage; messages up to {} us, syncs up to {} us; \
             segments of {} bytes, commands up to {} bytes; with",
            self.seed,
            self.voters,
            self.ticks,
            self.storage,
            self.delay_us,
            self.sync_us,
            self.segment_bytes,
            self.command_bytes,
        )?;
        let there = KINDS.iter().filter(|kind| kind.is_in(self));
        for (number, kind) in there.enumerate() {
            write!(f, "{} {}", if number > 0 { "," } else { "" }, kind.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{KINDS, Options};

    #[test]
    fn every_kind_can_be_taken_away_and_is_in_some_seeds_and_not_in_others() {
        for kind in KINDS {
            let mut with = 0;
            for seed in 1..=100 {
                let options = Options::draw(seed, 0);
                with += u32::from(kind.is_in(&options));
                let less = options.without(kind.name).expect("the kind exists");
                assert!(!kind.is_in(&less), "{} stays", kind.name);
            }
            assert!(
                (5..=95).contains(&with),
                "{} is in {with} of 100 seeds",
                kind.name
            );
        }
        let error = Options::draw(1, 0).without("weather").err();
        assert!(error.is_some_and(|text| text.contains("partitions")));
    }
}
