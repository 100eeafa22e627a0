//! Snapshots: when a member takes one, how it travels, and how it replaces a log.
//!
//! The driver's part, as `node::replica` has it: data durable first, then the log's new base, then
//! the core.

use crate::checkers::Violation;
use crate::machine::Machine;
use crate::world::{Event, World};
use quorate_raft::{InstallOutcome, LogIndex, MemberId, SnapshotMeta, SnapshotWanted, Term};

/// A snapshot on its way.
pub(crate) struct Transfer {
    from: MemberId,
    to: MemberId,
    term: Term,
    meta: SnapshotMeta,
    machine: Machine,
}

impl World<'_> {
    /// Takes a snapshot when enough has been applied since the last.
    pub(crate) fn maybe_snapshot(&mut self, member: MemberId) -> Result<(), Violation> {
        let every = self.options.snapshot_every;
        let Some(running) = &self.hosts[&member].running else {
            return Ok(());
        };
        let last = self.hosts[&member].store.durable().machine.applied.0;
        if every == 0 || running.machine.applied.0 < last + every {
            return Ok(());
        }
        self.snapshot(member)
    }

    /// Makes the machine durable and lets the log begin a little behind it.
    pub(crate) fn snapshot(&mut self, member: MemberId) -> Result<(), Violation> {
        let keep = self.tape.below(6);
        let host = &self.hosts[&member];
        let Some(running) = &host.running else {
            return Ok(());
        };
        let durable = host.store.durable();
        let at = running.machine.applied;
        // W10: nothing durable runs ahead of the durable log.
        if at > durable.last().index || at <= durable.machine.applied {
            return Ok(());
        }
        let base = LogIndex(at.0.saturating_sub(keep)).max(durable.base.last.index);
        let (Some(meta), Some(base)) = (running.meta_at(at), running.meta_at(base)) else {
            return Ok(());
        };
        self.checks.snapshot(member, &meta, running)?;
        let machine = running.machine.clone();
        self.log(|| {
            format!(
                "{member}: snapshot at {}, log begins after {}",
                meta.last, base.last
            )
        });
        if let Err(what) = self
            .host(member)
            .store
            .save_snapshot(&machine, &meta, &base)
        {
            self.log(|| format!("{member}: the disk failed: {what}"));
            self.crash(member);
            return Ok(());
        }
        if let Some(running) = &mut self.host(member).running {
            running.node.trim(base.last.index);
            running.memory.rebase(&base);
        }
        Ok(())
    }

    pub(crate) fn send_snapshot(
        &mut self,
        from: MemberId,
        wanted: SnapshotWanted,
    ) -> Result<(), Violation> {
        if self.hosts[&from].store.durable().machine.applied < wanted.at_least {
            self.snapshot(from)?;
        }
        let delay = 3 * self.tape.between(100, self.options.delay_us.max(100));
        let host = &self.hosts[&from];
        if host.running.is_none() {
            return Ok(());
        }
        let (life, durable) = (host.life, host.store.durable());
        let transfer = Transfer {
            from,
            to: wanted.to,
            term: wanted.term,
            meta: durable.machine_meta.clone(),
            machine: durable.machine.clone(),
        };
        let lost = self.faults && self.tape.chance(self.options.loss);
        let enough = transfer.machine.applied >= wanted.at_least;
        let outcome = if lost || !enough {
            Err(())
        } else {
            Ok(transfer.meta.last.index)
        };
        self.log(|| {
            format!(
                "{from}: a snapshot for {}: {wanted:?}, {outcome:?}",
                wanted.to
            )
        });
        if outcome.is_ok() {
            self.push(delay, Event::Snapshot(Box::new(transfer)));
        }
        self.push(
            2 * delay,
            Event::SnapshotSent {
                from,
                life,
                to: wanted.to,
                outcome,
            },
        );
        Ok(())
    }

    pub(crate) fn install(&mut self, transfer: Transfer) -> Result<(), Violation> {
        let Transfer {
            from,
            to,
            term,
            meta,
            machine,
        } = transfer;
        if !self.net.connected(from, to) {
            return Ok(());
        }
        let fresh = |world: &Self| {
            let running = world.hosts.get(&to).and_then(|host| host.running.as_ref());
            running.is_some_and(|running| {
                term >= running.node.term() && meta.last.index > running.node.commit()
            })
        };
        if !fresh(self) {
            return Ok(());
        }
        // Everything begun earlier comes before the snapshot on disk.
        let life = self.hosts[&to].life;
        while self.hosts[&to].store.busy() {
            self.sync(to, life)?;
        }
        if !fresh(self) {
            return Ok(());
        }
        self.log(|| format!("{to}: installs the snapshot at {} from {from}", meta.last));
        if self
            .host(to)
            .store
            .save_snapshot(&machine, &meta, &meta)
            .is_err()
        {
            self.crash(to);
            return Ok(());
        }
        let mut installed = true;
        self.with(to, life, |running| {
            running.memory.rebase(&meta);
            let outcome = running
                .node
                .install_snapshot(from, term, meta, &mut running.out);
            installed = outcome == InstallOutcome::Installed;
            running.machine = machine;
            running.commit = running.commit.max(running.node.commit());
        })?;
        assert!(installed, "the driver offered a snapshot that is news");
        Ok(())
    }
}
