//! A member that has lost a part of its log or its state machine: with other voters it repairs
//! itself from the leader; the only voter halts, and nothing is changed.
//!
//! At start it is decided what is lost, and whether anybody could make up for it. Then the member
//! runs without a vote, its answers count toward no quorum ([`Repair`]), and it serves nothing. The
//! leader sends entries or a snapshot. The repair has ended when an entry that this life of the
//! member has proposed itself is applied and durable here: the leader appended it after the start,
//! so that all that was ever acknowledged, and still matters, stands before it.
//! Must not know: which bytes are damaged, how entries travel.

use super::core::Core;
use super::disk::DiskJob;
use super::genesis::HISTORY_DIR;
use super::lifecycle::Life;
use super::owner::LifeError;
use super::shell::{Ended, Shell};
use crate::env::Disk;
use crate::kv;
use crate::storage::revision_log::{self, Opened, Options};
use crate::storage::{self, Examined, Identity, Recovered, Verdict};
use quorate_raft::{Entry, EntryId, LogIndex, MemberId, Payload, Repair, Restored, SnapshotMeta};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// Where a damaged history is kept until the member is whole again.
const DAMAGED_HISTORY_DIR: &str = "history.damaged";
/// Without it there is no history.
const HISTORY_MANIFEST: &str = "history/MANIFEST";

/// How the repair of a running member stands.
#[derive(Debug, Default)]
pub(super) struct Repairing {
    /// Where our own proposal stands in the log.
    proof: Option<LogIndex>,
    /// The end is being made durable.
    ending: bool,
}

/// Voters, and the index of the entry that made them so.
type Voters = (LogIndex, BTreeSet<MemberId>);

impl Life {
    /// A log that is damaged where it had been synced can only be repaired with others: the only
    /// voter halts before anything is changed (N6).
    pub(super) fn check_repairable(
        &self,
        identity: &Identity,
        examined: &Examined,
    ) -> Result<(), LifeError> {
        let damage = examined.damage().join("; ");
        if !self.has_other_voters(identity, examined.recovered()) {
            return Err(LifeError::SingleVoterDamaged { damage });
        }
        tracing::error!(
            damage,
            "the log of this member is damaged; it neither votes nor acknowledges until the leader \
             has sent again what is missing"
        );
        Ok(())
    }

    fn has_other_voters(&self, identity: &Identity, recovered: &Recovered) -> bool {
        let in_log = voters_in_log(recovered);
        let in_history = kv::Store::peek_members(&*self.doors.disk, HISTORY_DIR)
            .ok()
            .flatten()
            .map(|(index, members)| (index, voters_of(&members)));
        let newest = in_log.into_iter().chain(in_history);
        match newest.max_by_key(|(index, _)| *index) {
            Some((_, voters)) => voters.iter().any(|voter| *voter != identity.member_id),
            None => self.peers_seen,
        }
    }

    /// Opens the state machine. One that is damaged, or that ends before the log begins, is set
    /// aside: the log gives all of it back when it reaches back to the beginning, else the leader
    /// does. Returns whether a snapshot of the leader is needed.
    pub(super) fn open_history(
        &self,
        identity: &Identity,
        options: Options,
        recovered: &Recovered,
    ) -> Result<(kv::Store, Opened, bool), LifeError> {
        let disk = &self.history_disk();
        let base = recovered.base.as_ref();
        let base = base.map_or(LogIndex(0), |base| base.last.index);
        let open = || kv::Store::open(Arc::clone(disk), HISTORY_DIR, options);
        let manifest_is_there = disk.exists(HISTORY_MANIFEST).unwrap_or(false);
        let damage = if base > LogIndex(0) && !manifest_is_there {
            format!("there is no {}", disk.display(HISTORY_MANIFEST))
        } else {
            match open() {
                Ok((store, _)) if is_foreign(identity, &store) => {
                    format!("{} is that of another cluster", disk.display(HISTORY_DIR))
                }
                Ok((store, opened)) if store.applied().index >= base => {
                    forget_damaged(&**disk);
                    return Ok((store, opened, false));
                }
                Ok((store, _)) => format!(
                    "{} ends at entry {}, and the log begins behind {base}",
                    disk.display(HISTORY_DIR),
                    store.applied().index
                ),
                Err(kv::Fatal::Log(error)) if is_damage(&error) => error.to_string(),
                Err(other) => return Err(other.into()),
            }
        };
        let lost = base > LogIndex(0);
        if lost && !self.has_other_voters(identity, recovered) {
            return Err(LifeError::SingleVoterWithoutState { damage });
        }
        let from = if lost { "a snapshot" } else { "the log" };
        tracing::error!(
            damage,
            aside = disk.display(DAMAGED_HISTORY_DIR),
            "the history of this member is damaged; it is set aside and rebuilt from {from}"
        );
        set_aside(&**disk).map_err(|source| storage::Error::Io {
            action: "set aside",
            path: disk.display(HISTORY_DIR),
            source,
        })?;
        let (store, opened) = open()?;
        Ok((store, opened, lost))
    }
}

fn is_foreign(identity: &Identity, store: &kv::Store) -> bool {
    let theirs = store.reader().members().cluster.uuid;
    theirs != [0; 16] && theirs != identity.cluster_uuid
}

/// Whether the bytes are lost, and not only out of reach for now: a device that answers "input or
/// output error" to a read will do so again.
fn is_damage(error: &revision_log::Error) -> bool {
    const EIO: i32 = 5;
    match error {
        revision_log::Error::Read { source, .. } | revision_log::Error::Write { source, .. } => {
            let misplaced = matches!(
                source.kind(),
                io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
            );
            let unreadable = matches!(error, revision_log::Error::Read { .. })
                && source.raw_os_error() == Some(EIO);
            misplaced || unreadable
        }
        other => other.is_corrupt(),
    }
}

/// Gives the damaged history another name. A crash in between leaves a member without one, which
/// comes to the same; what was set aside first is the one that is worth keeping.
fn set_aside(disk: &dyn Disk) -> io::Result<()> {
    if disk.exists(DAMAGED_HISTORY_DIR)? {
        remove_tree(disk, HISTORY_DIR)?;
    } else if disk.exists(HISTORY_DIR)? {
        disk.rename(HISTORY_DIR, DAMAGED_HISTORY_DIR)?;
    }
    disk.sync_dir("")
}

/// Removes a history that was set aside, once there is a good one. It only takes room.
fn forget_damaged(disk: &dyn Disk) {
    if let Err(error) = remove_tree(disk, DAMAGED_HISTORY_DIR) {
        tracing::warn!(%error, "the damaged history that was set aside cannot be removed");
    }
}

/// Removes a directory of directories of files.
fn remove_tree(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    if !disk.exists(dir)? || disk.remove(dir).is_ok() {
        return Ok(());
    }
    for name in disk.list(dir)? {
        let path = format!("{dir}/{name}");
        // What is no file is a directory: of a snapshot that was coming or going.
        if disk.remove(&path).is_err() {
            for name in disk.list(&path)? {
                disk.remove(&format!("{path}/{name}"))?;
            }
            disk.remove_dir(&path)?;
        }
    }
    disk.remove_dir(dir)
}

/// The newest membership that the log still tells, also from behind the damage.
fn voters_in_log(recovered: &Recovered) -> Option<Voters> {
    let of_entry = |entry: &Entry| match &entry.payload {
        Payload::Membership { membership, .. } => {
            Some((entry.id.index, membership.all_voters().collect()))
        }
        Payload::Empty | Payload::Command(_) => None,
    };
    let salvaged = recovered.salvaged.iter().rev();
    let entries = salvaged.chain(recovered.entries.iter().rev());
    let base = || {
        let base = recovered.base.as_ref()?;
        let voters = base.membership.all_voters().collect();
        Some((base.membership_index, voters))
    };
    entries.filter_map(of_entry).next().or_else(base)
}

fn voters_of(members: &kv::Members) -> BTreeSet<MemberId> {
    let voters = members.members.values().filter(|member| !member.learner);
    voters.map(|member| MemberId(member.id)).collect()
}

/// What the core starts with: the log, and a state machine that has `applied` as its last entry.
pub(super) fn restored(recovered: Recovered, applied: EntryId, state_is_lost: bool) -> Restored {
    let Recovered {
        hard_state,
        base,
        entries,
        commit,
        verdict,
        ..
    } = recovered;
    let snapshot: SnapshotMeta = base.unwrap_or_default();
    let base = snapshot.last;
    // The first entry of a cluster is committed by construction.
    let mut commit = if entries.is_empty() {
        commit
    } else {
        commit.max(LogIndex(1))
    };
    let mut applied_index = applied.index;
    let repair = if state_is_lost {
        applied_index = base.index;
        Some(Repair::State)
    } else if verdict == Verdict::Corrupt {
        // What stands ahead of the damage may be older than what the state machine has applied, and
        // was replaced by what is lost. It is right as far as it is known to be committed: by the
        // log itself, or by the state machine when the log has its very last entry.
        let confirmed = applied == base || entries.iter().any(|entry| entry.id == applied);
        if confirmed {
            commit = commit.max(applied.index);
        }
        commit = commit.max(base.index);
        applied_index = applied.index.min(commit);
        Some(Repair::Log)
    } else {
        None
    };
    Restored {
        hard_state,
        snapshot,
        entries,
        commit,
        applied: applied_index,
        repair,
    }
}

impl Core {
    /// Whether this member is fetching again what it has lost.
    pub(super) fn is_repairing(&self) -> bool {
        self.repair.is_some()
    }

    /// Whether an entry of our own is still to come into the log.
    pub(super) fn wants_proof(&self) -> bool {
        self.repair
            .as_ref()
            .is_some_and(|repair| repair.proof.is_none())
    }

    /// A proposal of this life of the member has been applied.
    pub(super) fn note_proof(&mut self, counter: u64, index: LogIndex) {
        if self.own == Some(counter)
            && let Some(repair) = &mut self.repair
        {
            repair.proof.get_or_insert(index);
        }
    }

    /// Whether the state machine has an entry already: under repair the log is fetched again from
    /// further back.
    ///
    /// # Panics
    /// When the entry is another one than that which was applied: both are committed.
    pub(super) fn is_contained(&self, entry: &Entry) -> bool {
        let applied = self.applied();
        let contained = self.is_repairing() && entry.id.index <= applied.index;
        assert!(
            !contained || entry.id.index < applied.index || entry.id == applied,
            "entry {} is committed, and the state machine ends with {applied}: one of the two has \
             lost its data",
            entry.id
        );
        contained
    }

    /// Asks the driver to make the end of the repair durable, once there is proof of it.
    pub(super) fn maybe_end_repair(&mut self) {
        let (durable, applied) = (self.raft.durable(), self.applied().index);
        if let Some(repair) = &mut self.repair
            && !repair.ending
            && repair
                .proof
                .is_some_and(|proof| proof <= durable.min(applied))
        {
            repair.ending = true;
            self.effects.repaired = true;
        }
    }

    /// The end of the repair is durable.
    fn repair_ended(&mut self) {
        self.repair = None;
        self.raft.repaired(&mut self.out);
    }
}

impl Shell {
    /// Makes this member one like any other again: first on disk, then in what it says.
    pub(super) fn end_repair(&mut self) -> Result<(), Ended> {
        self.on_disk(DiskJob::Repaired)?;
        self.core.repair_ended();
        self.core.collect();
        let reader = self.core.store().reader();
        self.shared.reader.store(Some(Arc::new(reader)));
        forget_damaged(&*self.history.disk);
        tracing::info!(
            applied = %self.core.applied(),
            "repaired: this member is whole, votes and acknowledges again"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::{HardState, Term};

    fn id(term: u64, index: u64) -> EntryId {
        EntryId {
            term: Term(term),
            index: LogIndex(index),
        }
    }

    fn damaged(whole: &[EntryId], commit: u64) -> Recovered {
        let entry = |id: &EntryId| Entry {
            id: *id,
            payload: Payload::Empty,
        };
        Recovered {
            hard_state: HardState::default(),
            base: None,
            entries: whole.iter().map(entry).collect(),
            commit: LogIndex(commit),
            verdict: Verdict::Corrupt,
            damaged: Vec::new(),
            salvaged: Vec::new(),
        }
    }

    #[test]
    fn f10_what_a_damaged_log_has_left_is_committed_only_as_far_as_something_says_so() {
        let whole = [id(1, 1), id(1, 2), id(1, 3)];
        // (commit index in the log, last entry applied) -> (committed, applied) for the core
        let cases = [
            ((2, id(1, 2)), (2, 2)),
            ((1, id(1, 3)), (3, 3)),
            // Applied, but not by the log that is left: entry 3 may have been replaced.
            ((1, id(2, 3)), (1, 1)),
            ((2, id(2, 9)), (2, 2)),
            // The state machine's own end was lost in a crash: it is applied again.
            ((3, id(1, 1)), (3, 1)),
        ];
        for ((commit, applied), expected) in cases {
            let restored = restored(damaged(&whole, commit), applied, false);
            let found = (restored.commit.0, restored.applied.0);
            assert_eq!(found, expected, "{commit} {applied}");
            assert_eq!(restored.repair, Some(Repair::Log));
        }
    }
}
