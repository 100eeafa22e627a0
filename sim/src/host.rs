//! One simulated member: the real Raft core, its store, and the driver between them.
//!
//! The driver does what `node::replica` does, in the order that `Output` prescribes. It decides
//! nothing about faults; the world calls it and carries its messages.

use crate::machine::Machine;
use crate::options::{ELECTION_TICKS, Options};
use crate::store::{Durable, Store};
use quorate_raft::{
    Config, Envelope, LogIndex, MemberId, Node, Output, PersistId, ReadFloor, ReadId, ReadOutcome,
    SnapshotMeta, StartError, Term,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A member, running or not.
pub struct Host {
    /// Its identity.
    pub id: MemberId,
    /// What it keeps across crashes.
    pub store: Store,
    /// How often it has been started; events of an earlier life are void.
    pub life: u64,
    /// The running process, if any.
    pub running: Option<Box<Running>>,
    /// Damage was found on its disk: it must not vote, and stays down here.
    pub damaged: bool,
}

/// The process of a member.
pub struct Running {
    /// The core.
    pub node: Node,
    /// Its output, reused.
    pub out: Output,
    /// The state machine.
    pub machine: Machine,
    /// Everything the core has asked to persist, as if it were durable already: the log in memory.
    pub memory: Durable,
    /// Persists up to here, all of them, have been reported durable.
    pub complete: PersistId,
    /// Reported, but with a gap before them.
    pub scattered: BTreeSet<PersistId>,
    /// Messages that wait for a persist.
    pub waiting: VecDeque<(PersistId, Envelope)>,
    /// Reads that are registered.
    pub reads: BTreeMap<ReadId, Registered>,
    /// Reads that are confirmed and wait for the machine.
    pub confirmed: Vec<(ReadId, LogIndex)>,
    /// Requests proposed in this life: those that are applied here are acknowledged.
    pub proposed: BTreeSet<u64>,
    /// Commit index seen last.
    pub commit: LogIndex,
}

/// What was true when a read was registered.
#[derive(Clone, Copy, Debug)]
pub struct Registered {
    /// Acknowledged before: the floor must not be lower.
    pub due: LogIndex,
    /// The moment, as a sequence number of the world.
    pub sequence: u64,
    /// The term that the member led then, if it led.
    pub led: Option<Term>,
}

/// The configuration of a member's core under these options.
#[must_use]
pub fn config(id: MemberId, options: &Options) -> Config {
    Config {
        id,
        election_ticks: ELECTION_TICKS,
        heartbeat_ticks: 1,
        seed: options.seed,
        append_bytes_max: if options.window < 8 { 64 } else { 64 * 1024 },
        inflight_appends_max: usize::try_from(options.window).expect("a small window"),
        inflight_bytes_max: 1 << 20,
        uncommitted_bytes_max: 4096.max(8 * usize::try_from(options.command_bytes).expect("small")),
        pending_reads_max: 64,
        promote_lag_max: 5,
        #[cfg(planted)]
        planted: options.planted,
    }
}

impl Host {
    /// A member that has never run.
    #[must_use]
    pub fn new(id: MemberId, store: Store) -> Self {
        Self {
            id,
            store,
            life: 0,
            running: None,
            damaged: false,
        }
    }

    /// Starts the process on what is durable.
    ///
    /// # Errors
    /// The core refuses what the store has recovered.
    pub fn start(&mut self, options: &Options) -> Result<(), StartError> {
        let durable = self.store.durable();
        let node = Node::new(config(self.id, options), durable.restored())?;
        self.life += 1;
        self.running = Some(Box::new(Running {
            commit: node.commit(),
            node,
            out: Output::default(),
            machine: durable.machine.clone(),
            memory: durable.clone(),
            complete: PersistId(0),
            scattered: BTreeSet::new(),
            waiting: VecDeque::new(),
            reads: BTreeMap::new(),
            confirmed: Vec::new(),
            proposed: BTreeSet::new(),
        }));
        Ok(())
    }
}

impl Running {
    /// Reports a persist to the core; messages that may leave now.
    pub fn persisted(&mut self, id: PersistId) -> Vec<Envelope> {
        self.node.persisted(id, &mut self.out);
        self.scattered.insert(id);
        while self.scattered.remove(&PersistId(self.complete.0 + 1)) {
            self.complete.0 += 1;
        }
        self.released()
    }

    /// Messages whose persist, and every earlier one, is durable.
    pub fn released(&mut self) -> Vec<Envelope> {
        let mut free = Vec::new();
        while self
            .waiting
            .front()
            .is_some_and(|(id, _)| *id <= self.complete)
        {
            free.extend(self.waiting.pop_front().map(|(_, envelope)| envelope));
        }
        free
    }

    /// Takes what the core says about reads; those that were confirmed, with their floor.
    pub fn take_reads(&mut self, reads: Vec<ReadFloor>) -> Vec<(Registered, LogIndex)> {
        let mut ended = Vec::new();
        for read in reads {
            let Some(registered) = self.reads.remove(&read.read) else {
                continue;
            };
            match read.outcome {
                ReadOutcome::Floor(floor) => {
                    self.confirmed.push((read.read, floor));
                    ended.push((registered, floor));
                }
                ReadOutcome::Dropped => {}
            }
        }
        let applied = self.machine.applied;
        self.confirmed.retain(|(_, floor)| *floor > applied);
        ended
    }

    /// Where a snapshot at `index` stands, if the core still knows.
    #[must_use]
    pub fn meta_at(&self, index: LogIndex) -> Option<SnapshotMeta> {
        let (membership, membership_index) = self.node.membership_at(index)?;
        let term = self.memory.term_at(index)?;
        Some(SnapshotMeta {
            last: quorate_raft::EntryId { term, index },
            membership: membership.clone(),
            membership_index,
        })
    }
}
