//! Recovery from a lost quorum, by hand: data of an epoch that has ended stays out (*fenced*), and
//! one member may be told to begin the next epoch alone.
//!
//! A node is told by `--epoch` which life of the cluster it is to take part in. A directory of an
//! earlier one does not open its log: no vote, no campaign, no reads, and no peer hears of it.
//! `Recover` makes such a directory the only member of the new epoch. All that its log holds stays,
//! committed or not: the log gets one more entry, a membership of this member alone, which is in
//! force as soon as it stands there. The identity comes first and says so (`recovering`), so that a
//! crash in between is completed by the next start and never leaves a log that can elect itself in
//! an epoch in which others still vote. Everybody else of the old membership counts as removed when
//! that entry is applied.
//! Must not know: who decides that a quorum is lost.

use super::core::Core;
use super::genesis::{HISTORY_DIR, WAL_DIR};
use super::lifecycle::{Idle, Life};
use super::owner::LifeError;
use super::types::{AdminError, Recover, RequestError};
use crate::kv;
use crate::storage::{Identity, Recovered, Verdict, Wal, WalOptions};
use quorate_raft::{
    Entry, EntryId, HardState, LogIndex, Membership, Payload, Persist, PersistId, Term,
};
use std::sync::Arc;

/// Whether data of this identity stays out of the epoch that a node is told to take part in.
pub(super) fn is_fenced(identity: &Identity, told: u64) -> bool {
    identity.epoch < told
}

impl Life {
    /// Stays out, until `Recover` or `Join` gives the directory a part in the new epoch.
    pub(super) fn stay_fenced(&mut self, identity: Identity) -> Result<Idle, LifeError> {
        let (epoch, told) = (identity.epoch, self.config.epoch);
        tracing::warn!(
            member = %identity.member_id,
            epoch,
            told,
            "the data of this member is of an epoch that has ended: it neither votes, campaigns nor \
             serves. It waits for Recover, if it is the one to survive, or to be replaced"
        );
        self.wait(&RequestError::Fenced { epoch, told })
    }

    /// Whether this directory can begin the epoch alone; its log is open afterwards. Nothing else
    /// is changed.
    pub(super) fn check_recovery(&mut self, recover: Recover) -> Result<(), AdminError> {
        let invalid =
            |text: String| Err(AdminError::Invalid(format!("{text}. Nothing was changed")));
        let Some(identity) = self.dir.identity() else {
            return Err(RequestError::Unjoined.into());
        };
        if recover.cluster_uuid != identity.cluster_uuid {
            return Err(AdminError::AlreadyJoined {
                member_id: identity.member_id.0,
                cluster: uuid::Uuid::from_bytes(identity.cluster_uuid).to_string(),
            });
        }
        let told = self.config.epoch;
        if recover.epoch != told {
            return invalid(format!(
                "epoch {} cannot begin on a node that was started with --epoch={told}: start it with \
                 --epoch={}",
                recover.epoch, recover.epoch
            ));
        }
        if let Err(text) = self.open_to_recover(&identity) {
            return invalid(text);
        }
        let in_force = self
            .opened
            .as_ref()
            .and_then(|(_, recovered)| in_force(recovered));
        if !in_force.is_some_and(|membership| membership.is_voter(identity.member_id)) {
            return invalid(format!(
                "member {} does not vote by its own log: recover from a member that does",
                identity.member_id
            ));
        }
        Ok(())
    }

    /// Opens the log of a directory that is whole; what is damaged would have to be sent again by
    /// others, and there are none in a new epoch.
    fn open_to_recover(&mut self, identity: &Identity) -> Result<(), String> {
        const REMEDY: &str = "recover from another member, or restore a backup";
        if self.opened.is_some() {
            return Ok(());
        }
        let mut options = WalOptions::new(identity.directory_id, identity.incarnation);
        options.was_member = true;
        let disk = Arc::clone(&self.doors.disk);
        let examined =
            Wal::examine(disk, WAL_DIR, options).map_err(|error| format!("{error}: {REMEDY}"))?;
        if examined.recovered().verdict == Verdict::Corrupt {
            let damage = examined.damage().join("; ");
            return Err(format!("its log is damaged ({damage}): {REMEDY}"));
        }
        let begins_late = examined.recovered().base.is_some();
        let state = kv::Store::peek_members(&*self.doors.disk, HISTORY_DIR);
        if begins_late && !matches!(state, Ok(Some(_))) {
            return Err(format!(
                "its history is damaged, and its log does not reach back to the beginning: {REMEDY}"
            ));
        }
        let opened = examined
            .go_on()
            .map_err(|error| format!("{error}: {REMEDY}"))?;
        self.opened = Some(opened);
        Ok(())
    }

    /// Begins the epoch alone. Durable on return; a failure on the way ends the process, and the
    /// next start completes it.
    pub(super) fn begin_epoch(&mut self, epoch: u64) -> Result<(), LifeError> {
        self.dir.begin_recovery(epoch)?;
        let identity = self.dir.identity();
        let identity = identity.expect("it was checked that the directory is a member's");
        let (mut wal, mut recovered) = self.opened.take().expect("the check has opened the log");
        self.complete_epoch(&identity, &mut wal, &mut recovered)?;
        self.opened = Some((wal, recovered));
        tracing::warn!(
            member = %identity.member_id,
            epoch,
            "this member begins a new epoch alone; what only others held is lost"
        );
        Ok(())
    }

    /// Puts the membership that begins the epoch at the end of the log, unless it stands there.
    pub(super) fn complete_epoch(
        &mut self,
        identity: &Identity,
        wal: &mut Wal,
        recovered: &mut Recovered,
    ) -> Result<(), LifeError> {
        if recovered.verdict == Verdict::Corrupt {
            let damage = "found while a lost quorum was being recovered".to_owned();
            return Err(LifeError::SingleVoterDamaged { damage });
        }
        let alone = Membership::of_voters([identity.member_id]);
        if in_force(recovered) != Some(&alone) {
            let persist = last_words(recovered, alone);
            wal.append(std::slice::from_ref(&persist))?;
            wal.sync()?;
            recovered.hard_state = persist.hard_state.unwrap_or_default();
            recovered.entries.extend(persist.entries);
        }
        Ok(self.dir.end_recovery()?)
    }
}

impl Core {
    /// A member that runs: the epoch has begun, or another one has.
    pub(super) fn already_recovered(&self, recover: Recover) -> Result<(), AdminError> {
        let ours = self.config.cluster_uuid == recover.cluster_uuid;
        if ours && self.config.epoch == recover.epoch && !self.removed {
            return Ok(());
        }
        Err(AdminError::Invalid(format!(
            "this member takes part in epoch {}: a later one begins on a member that was started \
             with --epoch of it, and in no other cluster. Nothing was changed",
            self.config.epoch
        )))
    }
}

/// The newest membership in the log, committed or not.
fn in_force(recovered: &Recovered) -> Option<&Membership> {
    let of_entry = |entry: &'_ Entry| matches!(entry.payload, Payload::Membership { .. });
    let newest = recovered.entries.iter().rev().find(|entry| of_entry(entry));
    match newest.map(|entry| &entry.payload) {
        Some(Payload::Membership { membership, .. }) => Some(&**membership),
        _ => recovered.base.as_ref().map(|base| &base.membership),
    }
}

/// The entry behind all others that makes `membership` the one in force, in a term of its own.
fn last_words(recovered: &Recovered, membership: Membership) -> Persist {
    let base = recovered.base.as_ref().map(|base| base.last);
    let last = recovered.entries.last().map(|entry| entry.id).or(base);
    let last = last.unwrap_or_default();
    let term = Term(recovered.hard_state.term.max(last.term).0 + 1);
    let index = LogIndex(last.index.0 + 1);
    let payload = Payload::Membership {
        membership: Arc::new(membership),
        context: Arc::from([]),
    };
    let id = EntryId { term, index };
    Persist {
        id: PersistId(0),
        hard_state: Some(HardState { term, vote: None }),
        entries: vec![Entry { id, payload }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::MemberId;

    fn recovered(entries: Vec<Entry>, term: u64) -> Recovered {
        Recovered {
            hard_state: HardState {
                term: Term(term),
                vote: None,
            },
            base: None,
            entries,
            commit: LogIndex(0),
            verdict: Verdict::CleanEnd,
            damaged: Vec::new(),
            salvaged: Vec::new(),
        }
    }

    fn entry(term: u64, index: u64, voters: &[u64]) -> Entry {
        let id = EntryId {
            term: Term(term),
            index: LogIndex(index),
        };
        let voters = voters.iter().copied().map(MemberId);
        let payload = Payload::Membership {
            membership: Arc::new(Membership::of_voters(voters)),
            context: Arc::from([]),
        };
        Entry { id, payload }
    }

    #[test]
    fn the_epoch_begins_behind_every_entry_and_in_a_term_nobody_has_voted_in() {
        let found = recovered(vec![entry(3, 1, &[1, 2, 3]), entry(4, 2, &[1, 2])], 9);
        assert_eq!(
            in_force(&found),
            Some(&Membership::of_voters([MemberId(1), MemberId(2)])),
            "the newest counts, committed or not"
        );
        let alone = Membership::of_voters([MemberId(1)]);
        let persist = last_words(&found, alone.clone());
        assert_eq!(persist.entries, [entry(10, 3, &[1])]);
        let begun = recovered(persist.entries, 10);
        assert_eq!(in_force(&begun), Some(&alone), "and it is not put twice");
    }
}
