//! `committed-immutable`, `committed-on-quorum`, `commit-current-term`, `commit-monotone`.

use super::{Checks, Hosts, Violation, ensure};
use crate::machine::fingerprint;
use quorate_raft::{EntryId, LogIndex, MemberId, Membership, RoleKind};
use std::collections::BTreeSet;

impl Checks {
    /// Looks at what a member has committed since it was looked at last.
    ///
    /// # Errors
    /// A violation.
    pub fn commits(&mut self, id: MemberId, hosts: &Hosts) -> Result<(), Violation> {
        let Some(running) = hosts.get(&id).and_then(|host| host.running.as_ref()) else {
            return Ok(());
        };
        let (before, now) = (running.commit, running.node.commit());
        ensure(before <= now, "commit-monotone", || {
            format!("{id} went back from commit {before} to {now}")
        })?;
        if before == now {
            return Ok(());
        }
        let own_term = running.memory.term_at(now) == Some(running.node.term());
        let leads = running.node.role() == RoleKind::Leader;
        ensure(!leads || own_term, "commit-current-term", || {
            format!(
                "leader {id} of term {} commits up to {now}, an entry of term {:?}",
                running.node.term(),
                running.memory.term_at(now)
            )
        })?;
        for entry in running.memory.between(before, now) {
            let known = self.committed.get(&entry.id.index).copied();
            let this = (entry.id.term, fingerprint(entry));
            ensure(
                known.is_none_or(|known| known == this),
                "committed-immutable",
                || {
                    format!(
                        "{id} commits entry {}; before, {known:?} was committed there",
                        entry.id
                    )
                },
            )?;
            if known.is_none() {
                self.committed.insert(entry.id.index, this);
                on_quorum(id, entry.id, running.node.membership(), hosts)?;
            }
        }
        Ok(())
    }

    /// The highest index that anyone has committed.
    #[must_use]
    pub fn last_committed(&self) -> LogIndex {
        self.committed
            .last_key_value()
            .map_or(LogIndex(0), |(index, _)| *index)
    }
}

fn on_quorum(
    id: MemberId,
    entry: EntryId,
    membership: &Membership,
    hosts: &Hosts,
) -> Result<(), Violation> {
    for half in [&membership.voters, &membership.outgoing] {
        let held = holders(half, entry, hosts);
        ensure(
            half.is_empty() || held * 2 > half.len(),
            "committed-on-quorum",
            || format!("{id} commits entry {entry}, which is on {held} of the disks of {half:?}"),
        )?;
    }
    Ok(())
}

fn holders(half: &BTreeSet<MemberId>, entry: EntryId, hosts: &Hosts) -> usize {
    half.iter()
        .filter(|id| {
            hosts
                .get(id)
                .is_some_and(|host| host.store.durable().holds(entry))
        })
        .count()
}
