//! `log-matching`, `log-shape`, `leader-append-only`, `match-is-durable`, `state-hash`,
//! `apply-once`.

use super::{Checks, Hosts, Violation, ensure};
use crate::host::Running;
use crate::machine::{Machine, fingerprint};
use quorate_raft::{Entry, LogIndex, MemberId, Persist, RoleKind};

impl Checks {
    /// A member is about to write these entries; `memory` does not hold them yet.
    ///
    /// # Errors
    /// A violation.
    pub fn appended(
        &mut self,
        id: MemberId,
        persist: &Persist,
        running: &Running,
    ) -> Result<(), Violation> {
        let first = persist.entries.first().map(|entry| entry.id.index);
        let leads = running.node.role() == RoleKind::Leader;
        let last = running.memory.last();
        let cuts = first.is_some_and(|first| first <= last.index);
        ensure(!(leads && cuts), "leader-append-only", || {
            format!("leader {id}, whose log ends at {last}, writes {first:?} again")
        })?;
        let mut before = persist.entries.first().map(|entry| {
            let index = entry.id.index.previous();
            (index, running.memory.term_at(index))
        });
        for entry in &persist.entries {
            let (index, term) = before.expect("there is a first entry");
            ensure(entry.id.index == index.next(), "log-shape", || {
                format!("{id} writes entry {} after index {index}", entry.id)
            })?;
            ensure(
                term.is_none_or(|term| term <= entry.id.term),
                "log-shape",
                || format!("{id} writes entry {} after a newer term {term:?}", entry.id),
            )?;
            self.same_everywhere(id, entry, term)?;
            before = Some((entry.id.index, Some(entry.id.term)));
        }
        Ok(())
    }

    /// Equal (index, term) means equal content and equal predecessor, hence equal prefixes.
    fn same_everywhere(
        &mut self,
        id: MemberId,
        entry: &Entry,
        before: Option<quorate_raft::Term>,
    ) -> Result<(), Violation> {
        let (content, first) = *self
            .entries
            .entry(entry.id)
            .or_insert((fingerprint(entry), before));
        ensure(content == fingerprint(entry), "log-matching", || {
            format!("{id} holds another entry {} than the others", entry.id)
        })?;
        let agree = before.is_none() || first.is_none() || before == first;
        ensure(agree, "log-matching", || {
            format!(
                "entry {} follows term {first:?} and, at {id}, term {before:?}",
                entry.id
            )
        })
    }

    /// A member applied an entry.
    ///
    /// # Errors
    /// A violation.
    pub fn applied(
        &mut self,
        id: MemberId,
        entry: &Entry,
        machine: &mut Machine,
    ) -> Result<(), Violation> {
        if let Err(what) = machine.apply(entry) {
            return Err(Violation {
                property: "apply-once",
                what: format!("{id}: {what}"),
            });
        }
        let digest = *self.digests.entry(entry.id.index).or_insert(machine.digest);
        ensure(digest == machine.digest, "state-hash", || {
            format!("{id} differs from the others after entry {}", entry.id)
        })
    }

    /// What a leader believes of its peers is on their disks.
    ///
    /// # Errors
    /// A violation.
    pub fn matches_are_durable(&self, id: MemberId, hosts: &Hosts) -> Result<(), Violation> {
        let Some(running) = hosts.get(&id).and_then(|host| host.running.as_ref()) else {
            return Ok(());
        };
        if running.node.role() != RoleKind::Leader {
            return Ok(());
        }
        for peer in running.node.status().peers {
            let Some(host) = hosts.get(&peer.id) else {
                continue;
            };
            let durable = host.store.durable();
            // A newer term may have cut what this leader, not knowing of it, still counts on.
            if durable.hard_state.term > running.node.term() || peer.matched == LogIndex(0) {
                continue;
            }
            let same = match running.memory.term_at(peer.matched) {
                Some(term) => durable.holds(quorate_raft::EntryId {
                    term,
                    index: peer.matched,
                }),
                None => durable.last().index >= peer.matched,
            };
            ensure(same && peer.next > peer.matched, "match-is-durable", || {
                format!(
                    "{id} counts {} of {}, which has {}; next is {}",
                    peer.matched,
                    peer.id,
                    durable.last(),
                    peer.next
                )
            })?;
        }
        Ok(())
    }
}
