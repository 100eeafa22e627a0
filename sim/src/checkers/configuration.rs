//! `config-from-log`, `one-pending-config`, `config-after-own-term`, `snapshot-committed`.

use super::{Checks, Violation, ensure};
use crate::host::Running;
use quorate_raft::{Entry, MemberId, Payload, RoleKind, SnapshotMeta};

impl Checks {
    /// A member is about to write an entry; if it carries a membership and the member leads, the
    /// rules for changes apply. `memory` does not hold the entry yet.
    ///
    /// # Errors
    /// A violation.
    pub fn membership_appended(
        &self,
        id: MemberId,
        entry: &Entry,
        running: &Running,
    ) -> Result<(), Violation> {
        let Payload::Membership { membership, .. } = &entry.payload else {
            return Ok(());
        };
        let own = running.node.role() == RoleKind::Leader && entry.id.term == running.node.term();
        if !own {
            return Ok(());
        }
        let commit = running.node.commit();
        ensure(
            running.memory.term_at(commit) == Some(entry.id.term),
            "config-after-own-term",
            || {
                format!(
                    "{id} appends {} before committing an entry of its own term",
                    entry.id
                )
            },
        )?;
        let (before, index) = running.memory.newest_membership();
        ensure(index <= commit, "one-pending-config", || {
            format!(
                "{id} appends {} while {index} is not committed (commit {commit})",
                entry.id
            )
        })?;
        let leaves = before.outgoing.is_empty()
            || (membership.outgoing.is_empty() && membership.voters == before.voters);
        ensure(leaves, "one-pending-config", || {
            format!("{id} appends {membership:?} while {before:?} is joint")
        })
    }

    /// The membership in force is the newest in the log, else that at its base.
    ///
    /// # Errors
    /// A violation.
    pub fn membership_in_force(&self, id: MemberId, running: &Running) -> Result<(), Violation> {
        let (newest, index) = running.memory.newest_membership();
        let followed = running.node.membership();
        ensure(
            // Most often it is the very same object.
            std::ptr::eq(followed, newest) || followed == newest,
            "config-from-log",
            || format!("{id} follows {followed:?}; its log says {newest:?} at {index}"),
        )
    }

    /// A snapshot stands at a committed entry, with the membership in force there.
    ///
    /// # Errors
    /// A violation.
    pub fn snapshot(
        &self,
        id: MemberId,
        meta: &SnapshotMeta,
        running: &Running,
    ) -> Result<(), Violation> {
        let committed = self.committed.get(&meta.last.index).map(|(term, _)| *term);
        let same = meta.last.index.0 == 0 || committed == Some(meta.last.term);
        ensure(same, "snapshot-committed", || {
            format!(
                "{id} takes a snapshot at {}; committed there is {committed:?}",
                meta.last
            )
        })?;
        let newest = running
            .memory
            .entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.payload {
                Payload::Membership { membership, .. } if entry.id.index <= meta.last.index => {
                    Some(&**membership)
                }
                Payload::Membership { .. } | Payload::Empty | Payload::Command(_) => None,
            });
        let expected = newest.unwrap_or(&running.memory.base.membership);
        ensure(&meta.membership == expected, "snapshot-committed", || {
            format!(
                "{id}: the snapshot at {} carries {:?}, not {expected:?}",
                meta.last, meta.membership
            )
        })
    }
}
