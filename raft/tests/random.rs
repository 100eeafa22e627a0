//! Short random histories, one per seed: lost, repeated and reordered messages, crashes, writes
//! completed out of order, changes of the membership, transfers, snapshots, disks that lose what
//! was acknowledged. `checker.rs` watches every step; in the end the cluster is healed and must
//! agree.

use crate::cluster::Cluster;
use quorate_raft::{
    Change, Config, Entry, EntryId, Envelope, LogIndex, MemberId, Membership, Repair, RoleKind,
    SnapshotMeta, Term,
};
use std::collections::BTreeMap;

const SEEDS: u64 = 3000;
const STEPS: u32 = 300;

/// Knuth's linear congruential generator; the high bits are good enough to draw from.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// A snapshot on its way.
struct Snapshot {
    from: MemberId,
    to: MemberId,
    term: Term,
    meta: SnapshotMeta,
    data: BTreeMap<LogIndex, Entry>,
}

/// Which faults a seed has at all.
struct Mix {
    loss: usize,
    repeat: usize,
    reorder: bool,
    crashes: bool,
    slow_disks: bool,
    changes: bool,
    trims: bool,
    /// Of one member at a time, and with three voters or more: what N5 allows.
    damage: bool,
}

/// A member that has lost something it had acknowledged.
struct Damaged {
    id: MemberId,
    lost: Repair,
    /// Its term when it was started.
    term: Term,
    /// Proposed after its start, by a leader that it would follow.
    proof: Option<EntryId>,
}

struct Run {
    rng: Lcg,
    mix: Mix,
    cluster: Cluster,
    snapshots: Vec<Snapshot>,
    commands: u64,
    damaged: Option<Damaged>,
    repaired: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Lcg(seed.wrapping_mul(0x9e37_79b9).wrapping_add(seed));
        rng.next();
        let mut mix = Mix {
            loss: rng.pick(&[0, 0, 5, 20]),
            repeat: rng.pick(&[0, 0, 10]),
            reorder: rng.chance(50),
            crashes: rng.chance(60),
            slow_disks: rng.chance(60),
            changes: rng.chance(60),
            trims: rng.chance(50),
            damage: false,
        };
        let voters = rng.pick(&[1, 2, 3, 3, 3, 4, 5]);
        mix.damage = voters > 2 && !mix.changes && rng.chance(70);
        let base = SnapshotMeta {
            membership: Membership::of_voters((1..=voters).map(MemberId)),
            ..SnapshotMeta::default()
        };
        let mut cluster = Cluster::default();
        for id in 1..=6 {
            let base = if id <= voters {
                base.clone()
            } else {
                SnapshotMeta::default()
            };
            let config = Config {
                id: MemberId(id),
                election_ticks: 5,
                heartbeat_ticks: 1 + u32::try_from(rng.below(3)).unwrap(),
                seed,
                append_bytes_max: rng.pick(&[1, 20, 1000]),
                inflight_appends_max: rng.pick(&[1, 2, 64]),
                inflight_bytes_max: rng.pick(&[1, 50, 10_000]),
                uncommitted_bytes_max: rng.pick(&[40, 10_000]),
                pending_reads_max: rng.pick(&[1, 100]),
                promote_lag_max: rng.pick(&[0, 3, 100]),
                #[cfg(planted)]
                planted: crate::planted(),
            };
            cluster.add(config, base);
        }
        Self {
            rng,
            mix,
            cluster,
            snapshots: Vec::new(),
            commands: 0,
            damaged: None,
            repaired: 0,
        }
    }

    fn step(&mut self) {
        let up = self.cluster.up();
        match self.rng.below(100) {
            0..20 if !up.is_empty() => {
                let id = self.rng.pick(&up);
                self.cluster.tick(id);
            }
            20..58 => self.deliver(),
            58..80 if !up.is_empty() => {
                let id = self.rng.pick(&up);
                self.write(id);
            }
            80..88 if !up.is_empty() => self.propose(&up),
            88..91 if !up.is_empty() => {
                let id = self.rng.pick(&up);
                let _ = self.cluster.read(id);
            }
            91..94 if self.mix.changes => self.change(&up),
            91 if self.mix.damage && self.damaged.is_none() => {
                let id = MemberId(1 + u64::try_from(self.rng.below(5)).unwrap());
                if self.cluster.member(id).disk.membership().is_voter(id) {
                    if self.cluster.is_up(id) {
                        self.cluster.crash(id, 0);
                    }
                    self.damage(id);
                    // The worst moment: whoever could repair it is gone, and others campaign.
                    let up = self.cluster.up();
                    if let Some(leader) = self.leader(&up).filter(|_| self.mix.crashes) {
                        self.cluster.crash(leader, 0);
                    }
                }
            }
            94 => self.transfer(&up),
            95 if self.mix.trims && !up.is_empty() => {
                let id = self.rng.pick(&up);
                let applied = self.cluster.node(id).status().applied;
                self.cluster.trim(id, applied);
            }
            96 if self.mix.crashes => self.crash_or_restart(),
            97 => self.cut_or_heal(),
            98 => self.snapshot(),
            _ => {
                for id in up {
                    self.cluster.tick(id);
                }
            }
        }
    }

    fn write(&mut self, id: MemberId) {
        let count = self.cluster.unreported(id);
        if count > 0 {
            let at = if self.mix.slow_disks {
                self.rng.below(count)
            } else {
                0
            };
            self.cluster.complete(id, at);
        }
    }

    fn deliver(&mut self) {
        if self.cluster.network.is_empty() {
            return;
        }
        let limit = if self.mix.reorder {
            self.cluster.network.len()
        } else {
            1
        };
        let at = self.rng.below(limit);
        let envelope: Envelope = self.cluster.network.remove(at).unwrap();
        if self.rng.chance(self.mix.loss) {
            return;
        }
        if self.rng.chance(self.mix.repeat) {
            self.cluster.network.push_back(envelope.clone());
        }
        self.cluster.deliver(envelope);
    }

    fn leader(&mut self, up: &[MemberId]) -> Option<MemberId> {
        let leaders: Vec<_> = up
            .iter()
            .copied()
            .filter(|id| self.cluster.node(*id).role() == RoleKind::Leader)
            .collect();
        if leaders.is_empty() {
            None
        } else {
            Some(self.rng.pick(&leaders))
        }
    }

    fn propose(&mut self, up: &[MemberId]) {
        if let Some(leader) = self.leader(up) {
            self.commands += 1;
            let command = format!("c{}", self.commands);
            let batch = ["first", &command];
            let from = self.rng.below(2);
            let proposed = self.cluster.propose(leader, &batch[from..]);
            if let (Ok(first), Some(damaged)) = (proposed, &mut self.damaged)
                && first.term >= damaged.term
            {
                damaged.proof.get_or_insert(first);
            }
        }
    }

    /// Takes away what a member that is down had on its disk, and starts it under repair.
    fn damage(&mut self, id: MemberId) {
        let disk = &self.cluster.member(id).disk;
        let (base, last) = (disk.base.last.index.0, disk.last().index.0);
        let lost = if self.rng.chance(25) {
            Repair::State
        } else {
            Repair::Log
        };
        let kept = self.rng.below(usize::try_from(last - base).unwrap() + 1);
        let from = LogIndex(base + 1 + u64::try_from(kept).unwrap());
        self.cluster.start_damaged(id, from, lost);
        self.begin_repair(id, lost);
    }

    fn begin_repair(&mut self, id: MemberId, lost: Repair) {
        let term = self.cluster.member(id).disk.hard_state.term;
        self.damaged = Some(Damaged {
            id,
            lost,
            term,
            proof: None,
        });
    }

    /// Ends the repair once the proof is durable and applied.
    fn maybe_end_repair(&mut self) {
        let Some(Damaged {
            id,
            proof: Some(proof),
            ..
        }) = self.damaged
        else {
            return;
        };
        if !self.cluster.is_up(id) {
            return;
        }
        let durable = self.cluster.member(id).disk.holds(proof);
        if durable && self.cluster.node(id).status().applied >= proof.index {
            self.cluster.repaired(id);
            self.damaged = None;
            self.repaired += 1;
        }
    }

    fn change(&mut self, up: &[MemberId]) {
        let Some(leader) = self.leader(up) else {
            return;
        };
        let mut changes = Vec::new();
        for _ in 0..self.rng.pick(&[1, 1, 2, 3]) {
            let id = MemberId(1 + u64::try_from(self.rng.below(6)).unwrap());
            changes.push(match self.rng.below(3) {
                0 => Change::AddLearner(id),
                1 => Change::AddVoter(id),
                _ => Change::Remove(id),
            });
        }
        let expected = self.cluster.node(leader).status().membership_index;
        let _ = self.cluster.change(leader, &changes, expected, "ctx");
    }

    fn transfer(&mut self, up: &[MemberId]) {
        if let Some(leader) = self.leader(up) {
            let to = MemberId(1 + u64::try_from(self.rng.below(6)).unwrap());
            if self.rng.below(4) == 0 {
                self.cluster.abandon(leader);
            }
            let _ = self.cluster.transfer(leader, to);
        }
    }

    fn crash_or_restart(&mut self) {
        let id = MemberId(1 + u64::try_from(self.rng.below(6)).unwrap());
        if self.cluster.is_up(id) {
            let keep = self.rng.below(4);
            self.cluster.crash(id, keep);
        } else {
            self.restart(id);
        }
    }

    /// Starts a member; one under repair stays so, and needs a new proof.
    fn restart(&mut self, id: MemberId) {
        match &self.damaged {
            Some(damaged) if damaged.id == id => {
                let lost = damaged.lost;
                self.cluster.start_damaged(id, LogIndex(u64::MAX), lost);
                self.begin_repair(id, lost);
            }
            Some(_) | None => self.cluster.restart(id),
        }
    }

    fn cut_or_heal(&mut self) {
        if self.rng.chance(50) {
            self.cluster.cut.clear();
        } else {
            let from = MemberId(1 + u64::try_from(self.rng.below(6)).unwrap());
            for to in (1..=6).map(MemberId) {
                if self.rng.chance(60) {
                    self.cluster.cut.insert((from, to));
                }
                if self.rng.chance(60) {
                    self.cluster.cut.insert((to, from));
                }
            }
        }
    }

    /// Begins to send a snapshot, or ends one.
    fn snapshot(&mut self) {
        if let Some((from, wanted)) = self.cluster.wanted.first().copied()
            && self.snapshots.len() < 3
        {
            let (meta, data) = self.cluster.newest_snapshot(from);
            self.cluster.wanted.remove(0);
            self.snapshots.push(Snapshot {
                from,
                to: wanted.to,
                term: wanted.term,
                meta,
                data,
            });
        } else if !self.snapshots.is_empty() {
            let at = self.rng.below(self.snapshots.len());
            let Snapshot {
                from,
                to,
                term,
                meta,
                data,
            } = self.snapshots.swap_remove(at);
            let arrives = self.cluster.is_up(to) && !self.rng.chance(30);
            if arrives {
                let _ = self.cluster.install(from, to, term, &meta, &data);
            }
            if self.cluster.is_up(from) {
                let outcome = if arrives {
                    Ok(meta.last.index)
                } else {
                    Err(())
                };
                self.cluster.snapshot_sent(from, to, outcome);
            }
        }
    }

    /// Everything is healed; before long all members must agree, and serve.
    fn heal(&mut self, seed: u64) {
        self.cluster.cut.clear();
        self.snapshots.clear();
        for id in (1..=6).map(MemberId) {
            if !self.cluster.is_up(id) {
                self.restart(id);
            }
        }
        for _ in 0..200 {
            self.cluster.settle();
            self.maybe_end_repair();
            if let Some(damaged) = &mut self.damaged {
                // The last one may have been lost with its leader.
                damaged.proof = None;
                let up = self.cluster.up();
                self.propose(&up);
            }
            if self.agrees() {
                return self.end_reads(seed);
            }
            for id in self.cluster.up() {
                self.cluster.tick(id);
            }
            // A snapshot whose sender or receiver died is never reported otherwise.
            for id in self.cluster.up() {
                let status = self.cluster.node(id).status();
                for peer in status.peers.iter().filter(|peer| peer.snapshotting) {
                    self.cluster.snapshot_sent(id, peer.id, Err(()));
                }
            }
        }
        for event in self.cluster.events.iter().rev().take(25).rev() {
            println!("{event:?}");
        }
        for id in self.cluster.up() {
            println!("{id}: {:?}", self.cluster.node(id).membership());
        }
        let rows: Vec<_> = self
            .cluster
            .up()
            .iter()
            .map(|id| self.cluster.node(*id).status())
            .collect();
        panic!("converges: seed {seed} does not: {rows:#?}");
    }

    /// Nothing is left without an answer: `requests-end`.
    fn end_reads(&mut self, seed: u64) {
        for _ in 0..20 {
            for id in self.cluster.up() {
                self.cluster.tick(id);
            }
            self.cluster.settle();
        }
        assert_eq!(
            self.cluster.checker.open_reads(),
            0,
            "requests-end: seed {seed}"
        );
    }

    fn agrees(&mut self) -> bool {
        let up = self.cluster.up();
        let leaders: Vec<_> = up
            .iter()
            .filter(|id| self.cluster.node(**id).role() == RoleKind::Leader)
            .collect();
        let [leader] = leaders[..] else { return false };
        let status = self.cluster.node(*leader).status();
        let membership = self.cluster.node(*leader).membership().clone();
        let settled = status.membership_settled
            && status.commit == status.last.index
            && self.damaged.is_none();
        settled
            && membership.members().all(|id| {
                let other = self.cluster.node(id).status();
                (other.last, other.commit, other.applied, other.leader)
                    == (status.last, status.commit, status.commit, Some(*leader))
            })
    }
}

/// How many entries were committed, and how many members repaired.
fn run(seed: u64) -> (usize, usize) {
    let mut run = Run::new(seed);
    run.cluster.trace = std::env::var("QUORATE_TRACE").is_ok();
    for _ in 0..STEPS {
        run.step();
        run.maybe_end_repair();
    }
    run.heal(seed);
    (run.cluster.checker.committed.len(), run.repaired)
}

#[test]
fn random_histories_keep_every_promise() {
    let (mut committed, mut repaired) = (0, 0);
    for seed in seeds() {
        let result = std::panic::catch_unwind(|| run(seed));
        let found = result.unwrap_or_else(|_| panic!("seed {seed} failed: QUORATE_SEED={seed}"));
        (committed, repaired) = (committed + found.0, repaired + found.1);
    }
    println!("{committed} entries committed, {repaired} members repaired");
    assert!(committed > 0, "nothing was ever committed");
    assert!(
        repaired > 0 || seeds().count() < 100,
        "no member was ever repaired"
    );
}

/// All seeds, or the one in `QUORATE_SEED`, or `QUORATE_SEEDS` many.
fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match (number("QUORATE_SEED"), number("QUORATE_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    }
}
