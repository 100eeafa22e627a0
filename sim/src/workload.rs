//! Clients, administrators and misfortune: what they do in one tick.

use crate::checkers::Violation;
use crate::host::{Host, Registered};
use crate::options::COMMAND_BYTES_MIN;
use crate::store::Damage;
use crate::world::World;
use quorate_raft::{Change, MemberId, ReadId, RoleKind, SnapshotMeta};
use std::sync::Arc;

/// Most members that ever exist in one history.
const MEMBERS_MAX: u64 = 9;

impl World<'_> {
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
            let count = self.tape.between(1, self.options.batch);
            let first = self.next_request;
            self.next_request += count;
            let largest = self.options.command_bytes;
            let smallest = if self.options.one_size {
                largest
            } else {
                COMMAND_BYTES_MIN
            };
            let mut commands: Vec<Arc<[u8]>> = (first..first + count)
                .map(|request| command(request, self.tape.between(smallest, largest)))
                .collect();
            self.with_now(member, |running| {
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

    /// Those who believe that they lead.
    fn leaders(&self) -> Vec<MemberId> {
        let leads = |host: &&Host| {
            let running = host.running.as_ref();
            running.is_some_and(|running| running.node.role() == RoleKind::Leader)
        };
        self.hosts
            .values()
            .filter(leads)
            .map(|host| host.id)
            .collect()
    }

    /// A member for misfortune to strike: in some seeds a leader more often than not.
    fn aimed(&mut self, members: &[MemberId]) -> MemberId {
        let leaders = self.leaders();
        let strike = if self.tape.chance(self.options.aim) && !leaders.is_empty() {
            &leaders[..]
        } else {
            members
        };
        *self.tape.pick(strike).expect("a cluster has members")
    }

    fn administrator(&mut self, members: &[MemberId]) -> Result<(), Violation> {
        if self.tape.chance(self.options.changes)
            && let Some(leader) = self.tape.pick(&self.leaders()).copied()
        {
            self.change(leader)?;
        }
        if self.tape.chance(self.options.transfers)
            && let Some(leader) = self.tape.pick(&self.leaders()).copied()
            && let Some(to) = self.tape.pick(members).copied()
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
        if self.tape.chance(self.options.crash) {
            let member = self.aimed(members);
            let stop = self.tape.chance(self.options.stop);
            let host = self.host(member);
            if !stop || host.running.is_none() || !host.store.can_stop() {
                self.crash(member);
            } else {
                self.stop_soon(member, 16);
            }
        }
        if self.tape.chance(self.options.crash / 8) {
            // The power of the whole site.
            members.iter().for_each(|member| self.crash(*member));
        }
        if self.tape.chance(self.options.partition) {
            let aim = self.aimed(members);
            let what = self.net.partition(members, aim, &mut self.tape);
            self.log(|| format!("network: {what} ({aim})"));
        }
        if self.tape.chance(self.options.heal) {
            self.net.heal();
            self.log(|| "network: whole again".to_owned());
        }
    }

    /// Lets the machine of a member stop within its next disk operations, wherever that is.
    fn stop_soon(&mut self, member: MemberId, operations_max: u64) {
        let operations = self.tape.below(operations_max);
        self.host(member).store.stop_after(operations);
        self.log(|| format!("{member}: its machine stops after {operations} disk operations"));
    }

    /// In seeds that have such crashes, recovery is interrupted as well (N10).
    pub(crate) fn maybe_stop_recovery(&mut self, member: MemberId) {
        let wanted = self.faults && self.options.crash > 0;
        if wanted && self.tape.chance(self.options.stop / 3) {
            self.stop_soon(member, 12);
        }
    }

    /// Damages the log of a member that is down: only one member of a history, so that a minority
    /// is enough to carry on.
    pub(crate) fn maybe_rot(&mut self, member: MemberId) {
        if !self.faults || !self.options.rot || self.tape.chance(300) {
            return;
        }
        let host = self
            .hosts
            .get_mut(&member)
            .expect("members are never forgotten");
        match host.store.damage(&mut self.tape) {
            Damage::None => {}
            Damage::Undecidable => self.summary.undecidable += 1,
            Damage::Done(what) => {
                self.options.rot = false;
                self.log(|| format!("{member}: {what}"));
            }
        }
    }
}

/// A command of a size: the number of its request, and bytes that depend on it. None
/// but the number holds zeros, which could pass for bytes that were never written.
fn command(request: u64, bytes: u64) -> Arc<[u8]> {
    let mut command = vec![request as u8 | 1; bytes as usize];
    command[..COMMAND_BYTES_MIN as usize].copy_from_slice(&request.to_le_bytes());
    command.into()
}
