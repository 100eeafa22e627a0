//! Real cores on real logs on simulated disks: one disk rots where an acknowledgement rested on it,
//! the leader is gone, and a member that never had the entries campaigns.
//!
//! Whatever rots, nothing acknowledged is lost: the damaged member helps nobody into office until
//! it has got back what it held, and the end of the repair survives a power loss.

use quorate_node::env::{Disk, Rng};
use quorate_node::storage::{Recovered, Verdict, Wal, WalOptions};
use quorate_raft::{
    Config, Entry, EntryId, Envelope, HardState, LogIndex, MemberId, Membership, Node, Output,
    Payload, Persist, PersistId, Repair, Restored, RoleKind, Term,
};
use quorate_sim::disk::SimDisk;
use quorate_sim::tape::Tape;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

const DIR: &str = "wal";
const SEEDS: u64 = 150;
const MEMBERS: std::ops::RangeInclusive<u64> = 1..=3;

struct Member {
    disk: SimDisk,
    incarnation: u64,
    wal: Option<Wal>,
    node: Option<Node>,
    waiting: Vec<(PersistId, Envelope)>,
    applied: BTreeMap<u64, Entry>,
}

struct Cluster {
    members: BTreeMap<MemberId, Member>,
    network: VecDeque<Envelope>,
}

/// What every member of a new cluster begins with.
fn genesis() -> Persist {
    let voters = MEMBERS.map(MemberId);
    Persist {
        id: PersistId(0),
        hard_state: Some(HardState {
            term: Term(1),
            vote: None,
        }),
        entries: vec![Entry {
            id: EntryId {
                term: Term(1),
                index: LogIndex(1),
            },
            payload: Payload::Membership {
                membership: Membership::of_voters(voters).into(),
                context: Arc::from(&b""[..]),
            },
        }],
    }
}

fn options(id: MemberId, incarnation: u64) -> WalOptions {
    let mut options = WalOptions::new([id.0 as u8; 16], incarnation);
    options.segment_bytes = 8192;
    options.was_member = incarnation > 1;
    options
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let member = |id: u64| {
            let disk = SimDisk::new(seed * 7 + id);
            let door = Arc::new(disk.clone());
            let (mut wal, _) = Wal::open(door, DIR, options(MemberId(id), 1)).unwrap();
            wal.append(&[genesis()]).unwrap();
            wal.sync().unwrap();
            wal.note_idle().unwrap();
            drop(wal);
            let member = Member {
                disk,
                incarnation: 1,
                wal: None,
                node: None,
                waiting: Vec::new(),
                applied: BTreeMap::new(),
            };
            (MemberId(id), member)
        };
        let mut cluster = Self {
            members: MEMBERS.map(member).collect(),
            network: VecDeque::new(),
        };
        for id in MEMBERS {
            cluster.start(MemberId(id));
        }
        cluster
    }

    fn member(&mut self, id: MemberId) -> &mut Member {
        self.members.get_mut(&id).unwrap()
    }

    /// Power is lost: what was not synced is kept, torn or gone.
    fn crash(&mut self, id: MemberId) {
        let member = self.member(id);
        member.node = None;
        member.wal = None;
        member.waiting.clear();
        member.disk.crash();
    }

    /// Starts a member on what its disk holds; returns the verdict.
    fn start(&mut self, id: MemberId) -> Verdict {
        let member = self.member(id);
        member.incarnation += 1;
        let options = options(id, member.incarnation);
        let (wal, recovered) = Wal::open(Arc::new(member.disk.clone()), DIR, options).unwrap();
        let Recovered {
            hard_state,
            base,
            entries,
            commit,
            verdict,
            ..
        } = recovered;
        let corrupt = verdict == Verdict::Corrupt;
        assert_eq!(corrupt, wal.is_repairing());
        let restored = Restored {
            hard_state,
            snapshot: base.unwrap_or_default(),
            entries,
            commit,
            applied: LogIndex(0),
            repair: corrupt.then_some(Repair::Log),
        };
        let config = Config {
            id,
            election_ticks: 10,
            heartbeat_ticks: 2,
            seed: 3,
            append_bytes_max: 200,
            inflight_appends_max: 4,
            inflight_bytes_max: 1000,
            uncommitted_bytes_max: 1 << 20,
            pending_reads_max: 10,
            promote_lag_max: 0,
            #[cfg(planted)]
            planted: 0,
        };
        member.applied.clear();
        member.node = Some(Node::new(config, restored).unwrap());
        member.wal = Some(wal);
        verdict
    }

    /// One step of one member, and what it asks for: write, sync, report, send, apply.
    fn with(&mut self, id: MemberId, act: impl FnOnce(&mut Node, &mut Output)) {
        let member = self.members.get_mut(&id).unwrap();
        let (Some(node), Some(wal)) = (&mut member.node, &mut member.wal) else {
            return;
        };
        let mut out = Output::default();
        act(node, &mut out);
        loop {
            let Output {
                persist,
                messages,
                after_persist,
                apply,
                ..
            } = std::mem::take(&mut out);
            self.network.extend(messages);
            member.waiting.extend(after_persist);
            for entry in apply {
                member.applied.insert(entry.id.index.0, entry);
            }
            if persist.is_empty() {
                break;
            }
            wal.append(&persist).unwrap();
            wal.sync().unwrap();
            wal.note_commit(node.commit());
            wal.note_idle().unwrap();
            for write in persist {
                node.persisted(write.id, &mut out);
                let (free, kept) = std::mem::take(&mut member.waiting)
                    .into_iter()
                    .partition(|(waits_for, _)| *waits_for <= write.id);
                member.waiting = kept;
                let free: Vec<(PersistId, Envelope)> = free;
                self.network.extend(free.into_iter().map(|(_, said)| said));
            }
        }
    }

    fn settle(&mut self) {
        let mut budget = 20_000;
        while let Some(envelope) = self.network.pop_front() {
            budget -= 1;
            assert!(budget > 0, "the members never stop talking: {envelope:?}");
            self.with(envelope.to, |node, out| node.step(envelope, out));
        }
    }

    fn tick(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for id in MEMBERS {
                self.with(MemberId(id), Node::tick);
            }
            self.settle();
        }
    }

    fn leader(&self) -> Option<MemberId> {
        let leads = |member: &Member| {
            let role = member.node.as_ref().map(Node::role);
            role == Some(RoleKind::Leader)
        };
        let mut leaders = self.members.iter().filter(|(_, member)| leads(member));
        leaders.next_back().map(|(id, _)| *id)
    }

    fn propose(&mut self, id: MemberId, command: &str) -> EntryId {
        let mut place = EntryId::default();
        self.with(id, |node, out| {
            place = node
                .propose(&mut vec![command.as_bytes().into()], out)
                .unwrap();
        });
        self.settle();
        place
    }

    fn applied(&self, id: MemberId) -> BTreeSet<Vec<u8>> {
        let command = |entry: &Entry| match &entry.payload {
            Payload::Command(command) => Some(command.to_vec()),
            Payload::Empty | Payload::Membership { .. } => None,
        };
        self.members[&id]
            .applied
            .values()
            .filter_map(command)
            .collect()
    }
}

/// Inverts some bits in what the log of a member holds.
fn rot(disk: &SimDisk, rng: &mut Tape) {
    let segments: Vec<String> = Disk::list(disk, DIR)
        .unwrap()
        .into_iter()
        .filter(|name| name.ends_with(".wal"))
        .collect();
    for _ in 0..=rng.below(3) {
        let name = &segments[rng.below(segments.len() as u64) as usize];
        let path = format!("{DIR}/{name}");
        let bytes = disk.durable(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64;
        disk.flip_bit(&path, rng.below(8 * (used + 1)));
    }
}

/// One history; answers whether the log was found damaged.
fn history(seed: u64) -> bool {
    let (one, two, three) = (MemberId(1), MemberId(2), MemberId(3));
    let mut rng = Tape::new(seed);
    let mut cluster = Cluster::new(seed);
    cluster.with(one, |node, out| node.campaign(out));
    cluster.settle();
    cluster.propose(one, "everybody");
    // From here on an acknowledgement rests on the leader and member 3 alone.
    cluster.crash(two);
    let writes = 1 + rng.next_u64() % 60;
    for write in 0..writes {
        cluster.propose(one, &format!("write {write}"));
    }
    let acknowledged = cluster.applied(one);
    assert_eq!(acknowledged.len() as u64, writes + 1);
    cluster.crash(one);
    cluster.crash(three);
    rot(&cluster.members[&three].disk, &mut rng);
    cluster.start(two);
    let damaged = cluster.start(three) == Verdict::Corrupt;
    cluster.tick(60);
    if let Some(leader) = cluster.leader() {
        cluster.propose(leader, "later");
        let missing: Vec<_> = acknowledged
            .difference(&cluster.applied(leader))
            .cloned()
            .collect();
        assert!(
            missing.is_empty(),
            "seed {seed}: {leader} leads without {missing:?}"
        );
    } else {
        assert!(
            damaged,
            "seed {seed}: two whole members of three elect nobody"
        );
    }
    cluster.start(one);
    cluster.tick(60);
    let leader = cluster
        .leader()
        .unwrap_or_else(|| panic!("seed {seed}: nobody leads"));
    let proof = cluster.propose(leader, "proof");
    cluster.tick(10);
    if damaged {
        repaired(&mut cluster, three, proof, seed);
    }
    // Now the acknowledgements rest on the member that was damaged again.
    cluster.crash(one);
    cluster.tick(60);
    let leader = cluster
        .leader()
        .unwrap_or_else(|| panic!("seed {seed}: nobody succeeds"));
    assert_ne!(leader, one);
    cluster.propose(leader, "last");
    for id in [two, three] {
        cluster.tick(4);
        let missing: Vec<_> = acknowledged
            .difference(&cluster.applied(id))
            .cloned()
            .collect();
        assert!(missing.is_empty(), "seed {seed}: {id} has lost {missing:?}");
    }
    damaged
}

/// Ends the repair as the replica does, and loses power right after it.
fn repaired(cluster: &mut Cluster, id: MemberId, proof: EntryId, seed: u64) {
    let member = cluster.member(id);
    let node = member.node.as_mut().unwrap();
    assert!(node.is_repairing(), "seed {seed}");
    assert!(
        node.durable() >= proof.index,
        "seed {seed}: {id} is not repaired"
    );
    assert_eq!(member.applied[&proof.index.0].id, proof, "seed {seed}");
    member.wal.as_mut().unwrap().repaired().unwrap();
    cluster.crash(id);
    assert_ne!(
        cluster.start(id),
        Verdict::Corrupt,
        "seed {seed}: the repair is forgotten"
    );
    cluster.tick(4);
}

#[test]
fn n5_a_rotten_log_is_repaired_by_the_leader_and_elects_nobody_before() {
    let damaged = (0..SEEDS).filter(|seed| history(*seed)).count();
    assert!(
        damaged > SEEDS as usize / 3,
        "only {damaged} logs of {SEEDS} were damaged"
    );
}
