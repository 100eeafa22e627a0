//! Clients, administrators and misfortune: what they do in one tick.

use crate::checkers::Violation;
use crate::host::Registered;
use crate::options::Storage;
use crate::store::Store;
use crate::world::World;
use quorate_raft::{Change, MemberId, ReadId, RoleKind, SnapshotMeta};
use std::sync::Arc;

/// Most members that ever exist in one history.
const MEMBERS_MAX: u64 = 9;

impl World {
    /// One tick's worth of everything.
    pub(crate) fn act(&mut self) -> Result<(), Violation> {
        let members: Vec<MemberId> = self.hosts.keys().copied().collect();
        for member in &members {
            self.clients(*member)?;
        }
        if self.faults {
            self.administrator(&members)?;
            self.misfortune(&members);
        }
        Ok(())
    }

    fn clients(&mut self, member: MemberId) -> Result<(), Violation> {
        // After the healing, enough traffic goes on to show that everything works again, and it
        // ends early enough for all of it to settle.
        if self.quiet() {
            return Ok(());
        }
        if self.tape.chance(self.options.proposals) {
            let count = self.tape.between(1, 3);
            let first = self.next_request;
            self.next_request += count;
            self.with_now(member, |running| {
                let mut commands: Vec<Arc<[u8]>> = (first..first + count)
                    .map(|request| request.to_le_bytes().into())
                    .collect();
                if running
                    .node
                    .propose(&mut commands, &mut running.out)
                    .is_ok()
                {
                    running.proposed.extend(first..first + count);
                }
            })?;
        }
        if self.tape.chance(self.options.reads) {
            let read = ReadId(self.next_read);
            self.next_read += 1;
            let (due, sequence) = (self.checks.floor, self.sequence);
            self.with_now(member, |running| {
                let leads = running.node.role() == RoleKind::Leader;
                let led = leads.then(|| running.node.term());
                running
                    .reads
                    .insert(read, Registered { due, sequence, led });
                if running.node.read(read, &mut running.out).is_err() {
                    running.reads.remove(&read);
                }
            })?;
        }
        Ok(())
    }

    fn leader(&self) -> Option<MemberId> {
        let leads = |id: &&MemberId| {
            let running = self.hosts[*id].running.as_ref();
            running.is_some_and(|running| running.node.role() == RoleKind::Leader)
        };
        self.hosts.keys().rev().find(leads).copied()
    }

    fn administrator(&mut self, members: &[MemberId]) -> Result<(), Violation> {
        if self.tape.chance(self.options.changes)
            && let Some(leader) = self.leader()
        {
            self.change(leader)?;
        }
        if self.tape.chance(self.options.transfers)
            && let (Some(leader), Some(to)) = (self.leader(), self.tape.pick(members).copied())
        {
            self.with_now(leader, |running| {
                let _ = running.node.transfer_leadership(to, &mut running.out);
            })?;
        }
        if self.tape.chance(self.options.transfers)
            && let Some(member) = self.tape.pick(members).copied()
        {
            self.with_now(member, |running| running.node.campaign(&mut running.out))?;
        }
        Ok(())
    }

    fn change(&mut self, leader: MemberId) -> Result<(), Violation> {
        let mut changes = vec![self.one_change(leader)];
        if self.tape.chance(300) {
            changes.push(self.one_change(leader));
        }
        for change in &changes {
            let (Change::AddLearner(id) | Change::AddVoter(id) | Change::Remove(id)) = change;
            if !self.hosts.contains_key(id) {
                self.add_host(*id, &SnapshotMeta::default());
            }
        }
        let context: Arc<[u8]> = Arc::from(&b"context"[..]);
        self.log(|| format!("{leader} is asked for {changes:?}"));
        self.with_now(leader, |running| {
            let expected = running.node.status().membership_index;
            let _ = running
                .node
                .propose_membership(&changes, expected, context, &mut running.out);
        })
    }

    fn one_change(&mut self, leader: MemberId) -> Change {
        let Some(running) = &self.hosts[&leader].running else {
            return Change::Remove(leader);
        };
        let membership = running.node.membership();
        let voters: Vec<MemberId> = membership.voters.iter().copied().collect();
        let learners: Vec<MemberId> = membership.learners.iter().copied().collect();
        let fresh = self.next_member <= MEMBERS_MAX;
        match self.tape.below(5) {
            0 if fresh => {
                self.next_member += 1;
                Change::AddLearner(MemberId(self.next_member - 1))
            }
            1 if fresh => {
                self.next_member += 1;
                Change::AddVoter(MemberId(self.next_member - 1))
            }
            2 if !learners.is_empty() => {
                Change::AddVoter(*self.tape.pick(&learners).expect("not empty"))
            }
            3 => Change::AddLearner(*self.tape.pick(&voters).unwrap_or(&leader)),
            _ => Change::Remove(*self.tape.pick(&voters).unwrap_or(&leader)),
        }
    }

    fn misfortune(&mut self, members: &[MemberId]) {
        if self.tape.chance(self.options.crash)
            && let Some(member) = self.tape.pick(members).copied()
        {
            self.crash(member);
            self.maybe_rot(member);
        }
        if self.tape.chance(self.options.crash / 8) {
            // The power of the whole site.
            members.iter().for_each(|member| self.crash(*member));
        }
        if self.tape.chance(self.options.partition) {
            let what = self.net.partition(members, &mut self.tape);
            self.log(|| format!("network: {what}"));
        }
        if self.tape.chance(80) {
            self.net.heal();
        }
    }

    /// Damages the disk of a crashed member: only one member of a history, and only where a
    /// minority is enough to carry on.
    fn maybe_rot(&mut self, member: MemberId) {
        let wanted = self.options.rot
            && self.options.storage == Storage::Wal
            && self.options.voters >= 3
            && self.options.changes == 0;
        if !wanted {
            return;
        }
        self.options.rot = false;
        let host = self
            .hosts
            .get_mut(&member)
            .expect("members are never forgotten");
        if let Store::Wal(store) = &mut host.store {
            store.rot(&mut self.tape);
            self.log(|| format!("{member}: a bit of its disk rots"));
        }
    }
}
