//! One history: virtual time, one queue of events, every member, and the phases of a seed.
//!
//! Everything happens in one thread, ordered by (time, sequence number). Time jumps to the next
//! event. All choices come from the tape. Fault phase first; then everything heals, clients go on
//! until they are served again, and fall silent; then what must be true at the end is asked.

use crate::checkers::{Checks, Hosts, Violation};
use crate::host::{Host, Running};
use crate::machine::mix;
use crate::net::Net;
use crate::options::{Options, Storage, TICK_US};
use crate::snapshots::Transfer;
use crate::store::{Durable, Recovery, Store, parallel::Parallel, wal::WalStore};
use crate::tape::Tape;
use crate::trace::{self, Trace};
use quorate_raft::{
    Envelope, LogIndex, MemberId, Membership, Notice, Output, Persist, PersistId, SnapshotMeta,
};
use std::collections::BTreeMap;

/// What can happen.
pub(crate) enum Event {
    /// Raft's clock ticks at a member.
    Tick { member: MemberId, life: u64 },
    /// A message arrives.
    Deliver(Envelope),
    /// A whole snapshot arrives.
    Snapshot(Box<Transfer>),
    /// The sender of a snapshot learns how the transfer ended.
    SnapshotSent {
        from: MemberId,
        life: u64,
        to: MemberId,
        outcome: Result<LogIndex, ()>,
    },
    /// A sync ends.
    Sync { member: MemberId, life: u64 },
    /// A crashed member starts again.
    Restart { member: MemberId },
    /// Clients and misfortune act, once a tick.
    Act,
}

/// How a seed ended well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Stands for everything that happened, byte for byte.
    pub hash: u64,
    /// Events handled.
    pub events: u64,
    /// Entries committed.
    pub committed: u64,
    /// Requests acknowledged.
    pub acknowledged: u64,
    /// Processes ended, with or without the power of their machine.
    pub crashes: u64,
    /// Snapshots that replaced a log.
    pub installs: u64,
    /// Members that found their log damaged.
    pub damaged: u64,
    /// Damage that no log could tell from a torn end: power was lost before the proof of a sync
    /// was on disk, and what had been synced then rots. Outside of what is promised, so not done.
    pub undecidable: u64,
}

impl Summary {
    /// Adds another history to this one.
    pub fn add(&mut self, other: &Self) {
        let Self {
            hash,
            events,
            committed,
            acknowledged,
            crashes,
            installs,
            damaged,
            undecidable,
        } = other;
        // In whatever order histories are added, the sum is the same.
        self.hash = self.hash.wrapping_add(*hash);
        self.events += events;
        self.committed += committed;
        self.acknowledged += acknowledged;
        self.crashes += crashes;
        self.installs += installs;
        self.damaged += damaged;
        self.undecidable += undecidable;
    }
}

/// A cluster and its surroundings.
pub struct World<'t> {
    pub(crate) options: Options,
    pub(crate) tape: Tape,
    pub(crate) now: u64,
    pub(crate) sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(crate) hosts: Hosts,
    pub(crate) net: Net,
    pub(crate) checks: Checks,
    pub(crate) faults: bool,
    pub(crate) next_request: u64,
    pub(crate) next_read: u64,
    pub(crate) next_member: u64,
    pub(crate) healed_at: u64,
    pub(crate) acknowledged_at_healing: usize,
    trace: &'t mut Trace,
    pub(crate) summary: Summary,
}

/// Runs one seed from beginning to end.
///
/// # Errors
/// The first broken promise.
pub fn run(options: &Options, trace: &mut Trace) -> Result<Summary, Violation> {
    let mut world = World::new(options.clone(), trace);
    world.log(|| options.to_string());
    if let Err(violation) = world.history() {
        world.log(|| format!("violated: {violation}"));
        return Err(violation);
    }
    world.summary.committed = world.checks.committed.len() as u64;
    world.summary.acknowledged = world.checks.acknowledged.len() as u64;
    Ok(world.summary)
}

impl<'t> World<'t> {
    fn new(options: Options, trace: &'t mut Trace) -> Self {
        let mut world = Self {
            tape: Tape::new(options.seed.wrapping_add(0x5eed)),
            next_member: options.voters + 1,
            options,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            hosts: Hosts::new(),
            net: Net::default(),
            checks: Checks::default(),
            faults: true,
            next_request: 1,
            next_read: 1,
            healed_at: u64::MAX,
            acknowledged_at_healing: 0,
            trace,
            summary: Summary::default(),
        };
        let voters = (1..=world.options.voters).map(MemberId).collect();
        let first = SnapshotMeta {
            membership: Membership {
                voters,
                ..Membership::default()
            },
            ..SnapshotMeta::default()
        };
        for member in 1..=world.options.voters {
            world.add_host(MemberId(member), &first);
        }
        world.push(TICK_US, Event::Act);
        world
    }

    /// Creates a member and starts it.
    pub(crate) fn add_host(&mut self, id: MemberId, first: &SnapshotMeta) {
        let durable = Durable {
            base: first.clone(),
            machine_meta: first.clone(),
            ..Durable::default()
        };
        let store = match self.options.storage {
            Storage::Parallel => Store::Parallel(Box::new(Parallel::new(durable))),
            Storage::Wal => Store::Wal(Box::new(WalStore::new(durable, &self.options, id))),
        };
        self.hosts.insert(id, Host::new(id, store));
        self.start(id).expect("a new member starts");
    }

    pub(crate) fn push(&mut self, after_us: u64, event: Event) {
        self.sequence += 1;
        self.queue
            .insert((self.now + after_us, self.sequence), event);
    }

    /// Adds a line to the trace.
    pub(crate) fn log(&mut self, line: impl FnOnce() -> String) {
        self.trace.note(self.now, line);
    }

    pub(crate) fn note(&mut self, number: u64) {
        self.summary.hash = mix(self.summary.hash, number);
    }

    /// All phases of a seed.
    fn history(&mut self) -> Result<(), Violation> {
        self.run_until(self.options.ticks * TICK_US)?;
        self.heal()?;
        self.settle()
    }

    pub(crate) fn run_until(&mut self, end: u64) -> Result<(), Violation> {
        while self.now < end {
            self.next()?;
        }
        Ok(())
    }

    /// Handles the next event.
    fn next(&mut self) -> Result<(), Violation> {
        let ((time, _), event) = self.queue.pop_first().expect("the clock always ticks");
        assert!(time >= self.now, "time goes forward");
        self.now = time;
        self.summary.events += 1;
        self.note(time);
        match event {
            Event::Tick { member, life } => self.tick(member, life),
            Event::Deliver(envelope) => self.deliver(envelope),
            Event::Snapshot(transfer) => self.install(*transfer),
            Event::SnapshotSent {
                from,
                life,
                to,
                outcome,
            } => self.with(from, life, |running| {
                running.node.snapshot_sent(to, outcome, &mut running.out);
            }),
            Event::Sync { member, life } => self.sync(member, life),
            Event::Restart { member } => self.restart(member),
            Event::Act => {
                self.push(TICK_US, Event::Act);
                self.act()
            }
        }
    }

    /// Lets a running member do something, if it still lives the same life, and carries out what
    /// its core asks for.
    pub(crate) fn with(
        &mut self,
        member: MemberId,
        life: u64,
        work: impl FnOnce(&mut Running),
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&member).filter(|host| host.life == life) else {
            return Ok(());
        };
        let Some(running) = &mut host.running else {
            return Ok(());
        };
        work(running);
        self.carry_out(member)
    }

    /// Like [`World::with`], whichever life it is.
    pub(crate) fn with_now(
        &mut self,
        member: MemberId,
        work: impl FnOnce(&mut Running),
    ) -> Result<(), Violation> {
        let life = self.hosts.get(&member).map_or(0, |host| host.life);
        self.with(member, life, work)
    }

    fn tick(&mut self, member: MemberId, life: u64) -> Result<(), Violation> {
        let slow = self.faults && self.options.slow_clock > 0 && member.0.is_multiple_of(3);
        let period = if slow {
            TICK_US + TICK_US * self.options.slow_clock / 1000
        } else {
            TICK_US
        };
        let alive = self
            .hosts
            .get(&member)
            .is_some_and(|host| host.life == life);
        if alive {
            self.push(period, Event::Tick { member, life });
        }
        self.with(member, life, |running| running.node.tick(&mut running.out))?;
        self.checks.matches_are_durable(member, &self.hosts)
    }

    fn deliver(&mut self, envelope: Envelope) -> Result<(), Violation> {
        if !self.net.connected(envelope.from, envelope.to) {
            return Ok(());
        }
        self.log(|| trace::message(&envelope));
        self.checks.heartbeat_answered(&envelope);
        self.with_now(envelope.to, |running| {
            running.node.step(envelope, &mut running.out)
        })
    }

    pub(crate) fn sync(&mut self, member: MemberId, life: u64) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&member).filter(|host| host.life == life) else {
            return Ok(());
        };
        match host.store.finish(&mut self.tape) {
            Ok(done) => {
                for id in done {
                    self.report(member, life, id)?;
                }
                Ok(())
            }
            Err(what) => {
                self.fail(member, &what);
                Ok(())
            }
        }
    }

    fn report(&mut self, member: MemberId, life: u64, id: PersistId) -> Result<(), Violation> {
        let mut released = Vec::new();
        self.log(|| format!("{member}: write {} is durable", id.0));
        self.with(member, life, |running| released = running.persisted(id))?;
        for envelope in released {
            self.send(envelope)?;
        }
        Ok(())
    }

    /// Carries out what a member's core has asked for, until it asks for nothing more.
    fn carry_out(&mut self, member: MemberId) -> Result<(), Violation> {
        let Some(mut running) = self
            .hosts
            .get_mut(&member)
            .and_then(|host| host.running.take())
        else {
            return Ok(());
        };
        let Output {
            persist,
            messages,
            after_persist,
            apply,
            reads,
            snapshots,
            notices,
        } = std::mem::take(&mut running.out);
        if let Err(what) = self.persist(member, persist, &mut running)? {
            self.host(member).running = Some(running);
            self.fail(member, &what);
            return Ok(());
        }
        for notice in &notices {
            self.notice(member, notice, &running)?;
        }
        for entry in &apply {
            self.checks.applied(member, entry, &mut running.machine)?;
            if let quorate_raft::Payload::Command(bytes) = &entry.payload {
                let request = crate::machine::request_of(bytes);
                if running.proposed.remove(&request) {
                    self.checks.acknowledge(request, entry.id.index);
                }
            }
        }
        for (registered, floor) in running.take_reads(reads) {
            self.checks.read(member, floor, registered.due)?;
            if registered.led == Some(running.node.term()) {
                self.checks
                    .confirmed_freshly(member, registered.sequence, &running)?;
            }
        }
        running.waiting.extend(after_persist);
        let released = running.released();
        self.checks.membership_in_force(member, &running)?;
        self.note(running.node.term().0);
        self.note(running.node.commit().0);
        self.host(member).running = Some(running);
        self.checks.commits(member, &self.hosts)?;
        self.after_commit(member);
        for envelope in messages.into_iter().chain(released) {
            self.send(envelope)?;
        }
        for wanted in snapshots {
            self.send_snapshot(member, wanted)?;
        }
        self.maybe_snapshot(member)
    }

    /// Begins the writes that a member's core asks for. The inner error is the device's.
    fn persist(
        &mut self,
        member: MemberId,
        writes: Vec<Persist>,
        running: &mut Running,
    ) -> Result<Result<(), String>, Violation> {
        for write in writes {
            self.checks.granted(member, &write, running)?;
            self.checks.appended(member, &write, running)?;
            for entry in &write.entries {
                self.checks.membership_appended(member, entry, running)?;
                running.memory.append(entry);
            }
            self.note(write.id.0);
            self.log(|| format!("{member}: {}", trace::write(&write)));
            let host = self.host(member);
            let life = host.life;
            host.store.note_commit(running.node.commit());
            if let Err(what) = host.store.begin(write) {
                return Ok(Err(what));
            }
            let slow = member.0 == self.options.slow_disk && self.faults;
            let delay = self.tape.between(1, self.options.sync_us);
            let delay = if slow { 10 * delay } else { delay };
            self.push(delay, Event::Sync { member, life });
        }
        Ok(Ok(()))
    }

    pub(crate) fn host(&mut self, member: MemberId) -> &mut Host {
        self.hosts
            .get_mut(&member)
            .expect("members are never forgotten")
    }

    fn after_commit(&mut self, member: MemberId) {
        if let Some(running) = &mut self.host(member).running {
            running.commit = running.node.commit();
        }
    }

    fn notice(
        &mut self,
        member: MemberId,
        notice: &Notice,
        running: &Running,
    ) -> Result<(), Violation> {
        self.log(|| format!("{member}: {}", trace::notice(notice)));
        match notice {
            Notice::RoleChanged { to, term, .. } => self.checks.role(member, *to, *term, running),
            Notice::SnapshotInstalled { .. } => {
                self.summary.installs += 1;
                Ok(())
            }
            Notice::LeaderChanged { .. }
            | Notice::VoteRefused { .. }
            | Notice::MembershipChanged { .. }
            | Notice::LogCut { .. }
            | Notice::TransferAborted { .. }
            | Notice::MessageIgnored { .. } => Ok(()),
        }
    }

    pub(crate) fn send(&mut self, envelope: Envelope) -> Result<(), Violation> {
        let sender = self
            .hosts
            .get(&envelope.from)
            .expect("members are never forgotten");
        self.checks.sent(&envelope, sender.store.durable())?;
        self.checks.heartbeat_sent(&envelope, self.sequence);
        for delay in self.net.copies(&self.options, self.faults, &mut self.tape) {
            self.push(delay, Event::Deliver(envelope.clone()));
        }
        Ok(())
    }

    /// The disk of a member has failed, or its machine has stopped in the midst of something.
    pub(crate) fn fail(&mut self, member: MemberId, what: &str) {
        self.log(|| format!("{member}: the disk failed: {what}"));
        self.crash(member);
    }

    /// Ends the process of a member; what was not synced may be lost.
    pub(crate) fn crash(&mut self, member: MemberId) {
        let host = self
            .hosts
            .get_mut(&member)
            .expect("members are never forgotten");
        if host.running.take().is_none() {
            return;
        }
        self.log(|| format!("{member}: crashes"));
        self.lose_power(member);
    }

    fn lose_power(&mut self, member: MemberId) {
        let host = self
            .hosts
            .get_mut(&member)
            .expect("members are never forgotten");
        host.store.crash(&mut self.tape);
        self.summary.crashes += 1;
        let delay = self.tape.between(1, 40) * TICK_US;
        self.push(delay, Event::Restart { member });
    }

    pub(crate) fn restart(&mut self, member: MemberId) -> Result<(), Violation> {
        let host = self.host(member);
        if host.running.is_some() || host.damaged {
            return Ok(());
        }
        self.maybe_rot(member);
        self.maybe_stop_recovery(member);
        match self.host(member).store.recover() {
            Err(what) => Err(Violation {
                property: "nothing-lost",
                what: format!("{member}: {what}"),
            }),
            Ok(Recovery::Stopped) => {
                self.log(|| format!("{member}: crashes while it recovers"));
                self.lose_power(member);
                Ok(())
            }
            Ok(Recovery::Damaged(verdict)) => {
                self.host(member).damaged = true;
                self.summary.damaged += 1;
                self.log(|| format!("{member}: stays down, {verdict}"));
                Ok(())
            }
            Ok(Recovery::Ready) => {
                self.log(|| format!("{member}: starts"));
                self.start(member).map_err(|what| Violation {
                    property: "no-panic",
                    what: format!("{member} refuses what it recovered: {what}"),
                })
            }
        }
    }

    fn start(&mut self, member: MemberId) -> Result<(), quorate_raft::StartError> {
        let options = self.options.clone();
        let host = self.host(member);
        host.start(&options)?;
        let life = host.life;
        let phase = self.tape.between(1, TICK_US);
        self.push(phase, Event::Tick { member, life });
        Ok(())
    }
}
