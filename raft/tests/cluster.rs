//! A cluster in memory: real nodes, a network and disks that do what they are told. Scripts and
//! random runs drive it; `checker.rs` watches every step.
//!
//! A disk keeps what is synced apart from what is only written. A crash loses the rest, except for
//! as many of the oldest unsynced writes as the caller lets survive.

use crate::checker::Checker;
use quorate_raft::{
    Change, ChangeError, Config, Entry, EntryId, Envelope, HardState, InstallOutcome, LogIndex,
    MemberId, Membership, Node, Notice, Output, Payload, Persist, PersistId, ProposeError,
    ReadError, ReadFloor, ReadId, Repair, Restored, SnapshotMeta, SnapshotWanted, Term,
    TransferError,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a member would find after losing power now.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub base: SnapshotMeta,
    pub entries: Vec<Entry>,
}

impl Disk {
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base.last, |entry| entry.id)
    }

    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.last.index {
            return Some(self.base.last.term);
        }
        let at = index.0.checked_sub(self.base.last.index.0 + 1)?;
        self.entries
            .get(usize::try_from(at).unwrap())
            .map(|entry| entry.id.term)
    }

    /// Whether it holds this entry, in the log or within the snapshot.
    pub fn holds(&self, id: EntryId) -> bool {
        id.index < self.base.last.index || self.term_at(id.index) == Some(id.term)
    }

    pub fn write(&mut self, persist: &Persist) {
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = persist.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
            // A write that was overtaken by an installed snapshot.
            let after_base = self.last().index;
            let new = persist
                .entries
                .iter()
                .filter(|entry| entry.id.index > after_base);
            self.entries.extend(new.cloned());
        }
    }

    /// The log begins after `meta`: the rule of `Node::install_snapshot`.
    pub fn install(&mut self, meta: &SnapshotMeta) {
        let agrees = self.term_at(meta.last.index) == Some(meta.last.term);
        self.entries
            .retain(|entry| agrees && entry.id.index > meta.last.index);
        self.base = meta.clone();
    }

    pub fn membership(&self) -> &Membership {
        let newest = self
            .entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.payload {
                Payload::Membership { membership, .. } => Some(&**membership),
                Payload::Empty | Payload::Command(_) => None,
            });
        newest.unwrap_or(&self.base.membership)
    }
}

/// One member: its node while it runs, its disk, what it has applied.
pub struct Member {
    pub config: Config,
    pub node: Option<Node>,
    /// What is synced.
    pub disk: Disk,
    /// What is written, synced or not.
    pub written: Disk,
    /// Writes not reported as durable yet, oldest first.
    pub writes: VecDeque<Write>,
    /// Messages that wait for a write.
    pub deferred: Vec<(PersistId, Envelope)>,
    pub disk_held: bool,
    /// The disk has lost what it held, and has not got it back.
    pub damaged: bool,
    /// Applied entries, by index; contiguous.
    pub applied: BTreeMap<LogIndex, Entry>,
}

pub struct Write {
    pub persist: Persist,
    pub reported: bool,
}

/// A fact for a script to print.
#[derive(Debug)]
pub enum Event {
    Notice(MemberId, Notice),
    Read(MemberId, ReadFloor),
    Applied(MemberId, Vec<Entry>),
    SnapshotWanted(MemberId, SnapshotWanted),
    Written(MemberId, Persist),
}

#[derive(Default)]
pub struct Cluster {
    pub members: BTreeMap<MemberId, Member>,
    /// Messages on their way, oldest first.
    pub network: VecDeque<Envelope>,
    /// Links that lose everything, one way each.
    pub cut: BTreeSet<(MemberId, MemberId)>,
    pub wanted: Vec<(MemberId, SnapshotWanted)>,
    pub events: Vec<Event>,
    pub checker: Checker,
    /// Snapshots are sent by the caller.
    pub snapshots_held: bool,
    /// Print every event and message as it happens.
    pub trace: bool,
    next_read: u64,
}

impl Cluster {
    pub fn add(&mut self, config: Config, base: SnapshotMeta) {
        let disk = Disk {
            base,
            ..Disk::default()
        };
        let id = config.id;
        let member = Member {
            config,
            node: None,
            written: disk.clone(),
            disk,
            writes: VecDeque::new(),
            deferred: Vec::new(),
            disk_held: false,
            damaged: false,
            applied: BTreeMap::new(),
        };
        assert!(
            self.members.insert(id, member).is_none(),
            "member {id} exists"
        );
        self.restart(id);
    }

    pub fn member(&self, id: MemberId) -> &Member {
        self.members
            .get(&id)
            .unwrap_or_else(|| panic!("no member {id}"))
    }

    pub fn member_mut(&mut self, id: MemberId) -> &mut Member {
        self.members
            .get_mut(&id)
            .unwrap_or_else(|| panic!("no member {id}"))
    }

    pub fn node(&self, id: MemberId) -> &Node {
        self.member(id)
            .node
            .as_ref()
            .unwrap_or_else(|| panic!("member {id} is down"))
    }

    pub fn is_up(&self, id: MemberId) -> bool {
        self.member(id).node.is_some()
    }

    pub fn up(&self) -> Vec<MemberId> {
        self.members
            .iter()
            .filter(|(_, m)| m.node.is_some())
            .map(|(id, _)| *id)
            .collect()
    }

    pub fn start(&mut self, id: MemberId, applied: LogIndex) -> Result<(), String> {
        self.start_with(id, applied, None)
    }

    /// The disk of a member that is down has lost the entries from `from` on, or its state machine:
    /// it starts under repair.
    pub fn start_damaged(&mut self, id: MemberId, from: LogIndex, lost: Repair) {
        let member = self.member_mut(id);
        member.damaged = true;
        let disk = &mut member.disk;
        if lost == Repair::Log {
            disk.entries.retain(|entry| entry.id.index < from);
        }
        let base = disk.base.last.index;
        self.start_with(id, base, Some(lost))
            .unwrap_or_else(|error| panic!("member {id} cannot start: {error}"));
    }

    pub fn repaired(&mut self, id: MemberId) {
        self.member_mut(id).damaged = false;
        self.with(id, |node, out| node.repaired(out));
    }

    fn start_with(
        &mut self,
        id: MemberId,
        applied: LogIndex,
        repair: Option<Repair>,
    ) -> Result<(), String> {
        let member = self.member_mut(id);
        let restored = Restored {
            hard_state: member.disk.hard_state,
            snapshot: member.disk.base.clone(),
            entries: member.disk.entries.clone(),
            commit: applied,
            applied,
            repair,
        };
        let node = Node::new(member.config.clone(), restored).map_err(|e| e.to_string())?;
        member.written = member.disk.clone();
        member.applied.retain(|index, _| *index <= applied);
        member.node = Some(node);
        self.checker.started(id, &self.members);
        Ok(())
    }

    pub fn restart(&mut self, id: MemberId) {
        let base = self.member(id).disk.base.last.index;
        self.start(id, base)
            .unwrap_or_else(|error| panic!("member {id} cannot start: {error}"));
    }

    /// The power goes. Of the unsynced writes, the oldest `keep` happen to be on the disk.
    pub fn crash(&mut self, id: MemberId, keep: usize) {
        let member = self.member_mut(id);
        member.node = None;
        for write in member.writes.drain(..).take(keep) {
            member.disk.write(&write.persist);
        }
        member.deferred.clear();
        self.checker.crashed(id);
        self.wanted.retain(|(leader, _)| *leader != id);
    }

    /// One step of one node, and all that follows at once.
    fn with<T>(&mut self, id: MemberId, act: impl FnOnce(&mut Node, &mut Output) -> T) -> T {
        let mut out = Output::default();
        let member = self.member_mut(id);
        let node = member
            .node
            .as_mut()
            .unwrap_or_else(|| panic!("member {id} is down"));
        let before = node.clone();
        let result = act(node, &mut out);
        self.carry_out(id, &before, out);
        result
    }

    fn carry_out(&mut self, id: MemberId, before: &Node, out: Output) {
        let Output {
            persist,
            messages,
            after_persist,
            apply,
            reads,
            snapshots,
            notices,
        } = out;
        self.events
            .extend(notices.into_iter().map(|notice| Event::Notice(id, notice)));
        for persist in persist {
            self.checker.written(id, &persist, before, &self.members);
            let member = self.members.get_mut(&id).expect("it has just stepped");
            member.written.write(&persist);
            if member.disk_held {
                self.events.push(Event::Written(id, persist.clone()));
            }
            member.writes.push_back(Write {
                persist,
                reported: false,
            });
        }
        for read in reads {
            self.checker.read_ended(&read);
            self.events.push(Event::Read(id, read));
        }
        if !apply.is_empty() {
            self.checker.applied(id, before, &apply, &self.members);
            let member = self.members.get_mut(&id).expect("it has just stepped");
            member
                .applied
                .extend(apply.iter().map(|entry| (entry.id.index, entry.clone())));
            self.events.push(Event::Applied(id, apply));
        }
        for wanted in snapshots {
            self.wanted.push((id, wanted));
            self.events.push(Event::SnapshotWanted(id, wanted));
        }
        self.members
            .get_mut(&id)
            .expect("it has just stepped")
            .deferred
            .extend(after_persist);
        for envelope in messages {
            self.send(envelope);
        }
        if self.trace {
            self.events
                .drain(..)
                .for_each(|event| println!("{event:?}"));
        }
        self.checker.stepped(id, before, &self.members);
    }

    fn send(&mut self, envelope: Envelope) {
        if self.trace {
            println!("    {envelope:?}");
        }
        self.checker.sent(&envelope, &self.members);
        self.network.push_back(envelope);
    }

    pub fn tick(&mut self, id: MemberId) {
        self.with(id, Node::tick);
    }

    pub fn campaign(&mut self, id: MemberId) {
        self.with(id, Node::campaign);
    }

    pub fn propose(&mut self, id: MemberId, commands: &[&str]) -> Result<EntryId, ProposeError> {
        let mut commands: Vec<Arc<[u8]>> = commands
            .iter()
            .map(|command| Arc::from(command.as_bytes()))
            .collect();
        self.with(id, |node, out| node.propose(&mut commands, out))
    }

    pub fn change(
        &mut self,
        id: MemberId,
        changes: &[Change],
        expected: LogIndex,
        context: &str,
    ) -> Result<EntryId, ChangeError> {
        let context = Arc::from(context.as_bytes());
        self.with(id, |node, out| {
            node.propose_membership(changes, expected, context, out)
        })
    }

    pub fn transfer(&mut self, id: MemberId, to: MemberId) -> Result<(), TransferError> {
        self.with(id, |node, out| node.transfer_leadership(to, out))
    }

    pub fn abandon(&mut self, id: MemberId) {
        self.with(id, |node, out| node.abandon_transfer(out));
    }

    pub fn read(&mut self, id: MemberId) -> Result<ReadId, ReadError> {
        self.next_read += 1;
        let read = ReadId(self.next_read);
        self.checker.read_began(id, read);
        let asked = self.with(id, |node, out| node.read(read, out));
        if asked.is_err() {
            self.checker.read_refused(read);
        }
        asked.map(|()| read)
    }

    /// Hands a message to its receiver; lost if the link is cut or the receiver is down.
    pub fn deliver(&mut self, envelope: Envelope) -> bool {
        let lost = self.cut.contains(&(envelope.from, envelope.to))
            || self
                .members
                .get(&envelope.to)
                .is_none_or(|member| member.node.is_none());
        if !lost {
            self.with(envelope.to, |node, out| node.step(envelope, out));
        }
        !lost
    }

    /// Reports the unreported write at `position`, counted from the oldest, as durable.
    pub fn complete(&mut self, id: MemberId, position: usize) {
        let member = self.member_mut(id);
        let mut unreported = member.writes.iter_mut().filter(|write| !write.reported);
        let write = unreported.nth(position).expect("no such write");
        write.reported = true;
        let name = write.persist.id;
        // A write counts as synced once all before it are: recovery stops at the first gap.
        while member.writes.front().is_some_and(|write| write.reported) {
            let write = member.writes.pop_front().expect("it is there");
            member.disk.write(&write.persist);
        }
        self.with(id, |node, out| node.persisted(name, out));
        let member = self.member_mut(id);
        let waiting_for = member.writes.front().map(|write| write.persist.id);
        let (now, later) = std::mem::take(&mut member.deferred)
            .into_iter()
            .partition(|(needs, _)| waiting_for.is_none_or(|oldest| *needs < oldest));
        member.deferred = later;
        let now: Vec<(PersistId, Envelope)> = now;
        for (_, envelope) in now {
            self.send(envelope);
        }
    }

    pub fn unreported(&self, id: MemberId) -> usize {
        self.member(id)
            .writes
            .iter()
            .filter(|write| !write.reported)
            .count()
    }

    /// Takes a checkpoint and drops the log before it, in memory and on disk.
    pub fn trim(&mut self, id: MemberId, up_to: LogIndex) {
        let node = self.node(id);
        let up_to = up_to.min(node.status().applied).min(node.durable());
        let Some(meta) = self.snapshot_meta(id, up_to) else {
            return;
        };
        let member = self.member_mut(id);
        member.node.as_mut().expect("it runs").trim(up_to);
        for disk in [&mut member.disk, &mut member.written] {
            disk.entries
                .retain(|entry| entry.id.index > meta.last.index);
            disk.base = meta.clone();
        }
    }

    /// A snapshot of `id` at `index`, if its log still reaches there.
    pub fn snapshot_meta(&self, id: MemberId, index: LogIndex) -> Option<SnapshotMeta> {
        let node = self.node(id);
        let (membership, membership_index) = node.membership_at(index)?;
        let last = EntryId {
            term: node.term_at(index)?,
            index,
        };
        Some(SnapshotMeta {
            last,
            membership: membership.clone(),
            membership_index,
        })
    }

    /// The newest snapshot that `id` can send: applied and durable there.
    pub fn newest_snapshot(&self, id: MemberId) -> (SnapshotMeta, BTreeMap<LogIndex, Entry>) {
        let node = self.node(id);
        let index = node.status().applied.min(node.durable());
        let meta = self
            .snapshot_meta(id, index)
            .expect("applied entries are at or above the base");
        let data = self.member(id).applied.range(..=index);
        (
            meta,
            data.map(|(index, entry)| (*index, entry.clone())).collect(),
        )
    }

    /// A snapshot has arrived: data and WAL first, then the core.
    pub fn install(
        &mut self,
        from: MemberId,
        to: MemberId,
        term: Term,
        meta: &SnapshotMeta,
        data: &BTreeMap<LogIndex, Entry>,
    ) -> InstallOutcome {
        let commit = self.node(to).commit();
        if meta.last.index > commit && term >= self.node(to).term() {
            let member = self.member_mut(to);
            let Member {
                disk,
                written,
                writes,
                ..
            } = member;
            writes.iter().for_each(|write| disk.write(&write.persist));
            disk.install(meta);
            written.install(meta);
            member.applied = data.clone();
            self.checker.installed(to, meta.last.index);
        }
        let meta = meta.clone();
        self.with(to, |node, out| node.install_snapshot(from, term, meta, out))
    }

    pub fn snapshot_sent(&mut self, id: MemberId, to: MemberId, outcome: Result<LogIndex, ()>) {
        self.wanted
            .retain(|(leader, wanted)| *leader != id || wanted.to != to);
        self.with(id, |node, out| node.snapshot_sent(to, outcome, out));
    }

    /// Takes the snapshot `id` wants to send to `to` there, at once.
    pub fn send_snapshot(&mut self, id: MemberId, to: MemberId, term: Term) -> bool {
        let (meta, data) = self.newest_snapshot(id);
        let lost =
            self.cut.contains(&(id, to)) || !self.members.contains_key(&to) || !self.is_up(to);
        if lost {
            self.snapshot_sent(id, to, Err(()));
        } else {
            let _ = self.install(id, to, term, &meta, &data);
            self.snapshot_sent(id, to, Ok(meta.last.index));
        }
        !lost
    }

    /// Lets everything happen that can without time passing: writes of disks that are not held,
    /// then messages, then snapshots.
    pub fn settle(&mut self) {
        loop {
            for id in self.up() {
                while !self.member(id).disk_held && self.unreported(id) > 0 {
                    self.complete(id, 0);
                }
            }
            if let Some(envelope) = self.network.pop_front() {
                self.deliver(envelope);
            } else if let Some((leader, wanted)) = self.wanted.first().copied()
                && !self.snapshots_held
            {
                self.send_snapshot(leader, wanted.to, wanted.term);
            } else {
                return;
            }
        }
    }
}
