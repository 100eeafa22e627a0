//! What a seed decides before anything runs: the size of the cluster and which faults exist.
//!
//! Every kind of fault is off in many seeds: a constant mixture hides bugs (swarm testing).

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
#[derive(Clone, Debug)]
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
    /// Partitions begun, per thousand ticks.
    pub partition: u64,
    /// Longest sync, microseconds.
    pub sync_us: u64,
    /// Failing syncs, per thousand crashes of chance (WAL only).
    pub sync_error: u64,
    /// Proposals, per thousand ticks and member.
    pub proposals: u64,
    /// Reads, per thousand ticks and member.
    pub reads: u64,
    /// Membership changes asked for, per thousand ticks.
    pub changes: u64,
    /// Leadership transfers asked for, per thousand ticks.
    pub transfers: u64,
    /// Applied entries between snapshots; 0 for none.
    pub snapshot_every: u64,
    /// Members whose tick runs slow, and by how much (per thousand of the usual rate).
    pub slow_clock: u64,
    /// Bytes of one WAL segment.
    pub segment_bytes: u64,
    /// One bit of a synced record rots while a member is down (WAL only).
    pub rot: bool,
    /// Limit of one append and of the window, small in many seeds.
    pub window: u64,
    /// Row of the planted bug that is alive, 0 for none.
    pub planted: u32,
}

impl Options {
    /// What `seed` stands for.
    #[must_use]
    pub fn draw(seed: u64, planted: u32) -> Self {
        let mut tape = Tape::new(seed);
        let tape = &mut tape;
        let storage = if tape.chance(500) {
            Storage::Wal
        } else {
            Storage::Parallel
        };
        Self {
            seed,
            voters: *tape.pick(&[1, 2, 3, 3, 3, 3, 4, 5]).expect("not empty"),
            ticks: *tape.pick(&[150, 150, 200, 300]).expect("not empty"),
            storage,
            loss: some(tape, 600, 200),
            duplicate: some(tape, 400, 200),
            stale: some(tape, 300, 100),
            delay_us: tape.between(500, 25_000),
            crash: some(tape, 700, 40),
            partition: some(tape, 600, 40),
            sync_us: tape.between(100, 40_000),
            sync_error: some(tape, 250, 300),
            proposals: tape.between(20, 500),
            reads: some(tape, 700, 300),
            changes: some(tape, 500, 60),
            transfers: some(tape, 300, 30),
            snapshot_every: if tape.chance(500) {
                tape.between(1, 30)
            } else {
                0
            },
            slow_clock: some(tape, 300, 700),
            segment_bytes: *tape.pick(&[16_384, 32_768, 131_072]).expect("not empty"),
            rot: tape.chance(150),
            window: *tape.pick(&[1, 2, 8, 256]).expect("not empty"),
            planted,
        }
    }
}

/// A rate up to `max`, which is 0 in all but `exists` seeds of a thousand.
fn some(tape: &mut Tape, exists: u64, max: u64) -> u64 {
    let rate = tape.between(1, max);
    if tape.chance(exists) { rate } else { 0 }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} voters, {} ticks, {:?} storage; per thousand: loss {}, duplicates {}, \
             stale {}, crashes {}, partitions {}, sync errors {}, changes {}, transfers {}; \
             snapshot every {}, window {}{}",
            self.seed,
            self.voters,
            self.ticks,
            self.storage,
            self.loss,
            self.duplicate,
            self.stale,
            self.crash,
            self.partition,
            self.sync_error,
            self.changes,
            self.transfers,
            self.snapshot_every,
            self.window,
            if self.rot { ", bit rot" } else { "" }
        )
    }
}
