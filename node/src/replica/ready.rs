//! Carries out what the core asks for: the one place where the order of [`Output`] is executed.
//!
//! `collect` takes everything out of an `Output`, field by field, without `..`: a new field does
//! not compile until somebody decides what becomes of it. What depends on a sync waits here until
//! the driver reports it. Must not know: how bytes reach disk or peers.

use super::backlog::payload_bytes;
use super::core::{Core, Effects};
use crate::kv::{Applied, Fatal, OpKind, RequestId, Response};
use crate::transport::PeerMessage;
use quorate_raft::{Entry, Notice, Output, Payload, ReadFloor, ReadOutcome, RoleKind};

/// A quorum round of reads that takes longer is counted as slow, as in etcd.
const SLOW_READ_MS: u64 = 500;
/// Entries applied before the loop looks at its inbox again.
const APPLY_BATCH_MAX: usize = 1024;
/// Entries beyond the bound that are dropped together: trimming has a price per call.
const TRIM_STEP: usize = 512;

impl Core {
    /// Moves what the core asks for into effects; returns whether there was anything.
    pub(super) fn collect(&mut self) -> bool {
        let Output {
            persist,
            messages,
            after_persist,
            apply,
            reads,
            snapshots,
            notices,
        } = std::mem::take(&mut self.out);
        let some = !(persist.is_empty()
            && messages.is_empty()
            && after_persist.is_empty()
            && apply.is_empty()
            && reads.is_empty()
            && snapshots.is_empty()
            && notices.is_empty());
        self.effects.persist.extend(persist);
        self.counts.sent += messages.len() as u64;
        for envelope in messages {
            self.effects
                .send
                .push((envelope.to.0, PeerMessage::Raft(envelope)));
        }
        self.after_persist.extend(after_persist);
        while let Some((id, _)) = self.after_persist.front()
            && *id <= self.durable_persist
            && let Some((_, envelope)) = self.after_persist.pop_front()
        {
            self.effects
                .send
                .push((envelope.to.0, PeerMessage::Raft(envelope)));
        }
        self.to_apply.extend(apply);
        let applied = self.applied().index;
        for ReadFloor { read, outcome } in reads {
            match outcome {
                ReadOutcome::Floor(floor) => {
                    let age_ms = self.reads.round_age_ms(read, self.now_ms);
                    self.counts.slow_reads += u64::from(age_ms >= SLOW_READ_MS);
                    self.reads.confirm(read, floor, applied);
                }
                ReadOutcome::Dropped => {
                    self.counts.reads_dropped += 1;
                    self.reads.retry(read);
                }
            }
        }
        self.effects.snapshots.extend(snapshots);
        for notice in notices {
            self.notice(&notice);
        }
        some
    }

    /// What the driver is to do now.
    pub(super) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Applies committed entries and answers who waits for them; returns whether more wait that
    /// could be applied now.
    ///
    /// Applying pauses while too much of it is in memory only (F12). The disk decides when it goes
    /// on; Raft, ticks and reads of what is applied do not wait. `watch` hears of each command as
    /// soon as it is applied, and whether it was carried out or refused.
    ///
    /// # Errors
    /// [`Fatal`]: this member must stop.
    pub(super) fn apply(&mut self, watch: &mut dyn FnMut(OpKind, bool)) -> Result<bool, Fatal> {
        if self.to_apply.is_empty() || self.pauses() {
            return Ok(false);
        }
        let mut answers: Vec<(u64, Applied)> = Vec::new();
        for _ in 0..APPLY_BATCH_MAX {
            if self.store().log().is_over_limit() {
                break;
            }
            let Some(entry) = self.to_apply.pop() else {
                break;
            };
            let answer = if self.is_contained(&entry) {
                None
            } else {
                self.apply_one(&entry)?
            };
            if let Some((_, applied)) = &answer {
                watch(kind_of(&entry.payload), applied.result.is_ok());
            }
            if let Some((request, applied)) = answer {
                if let Ok(Response::Members(members)) = &applied.result {
                    self.members = members.as_slice().into();
                    self.effects.peers_changed = true;
                }
                if request.member == self.config.boot_nonce {
                    self.note_proof(request.counter, entry.id.index);
                    answers.push((request.counter, applied));
                }
            }
            if entry.id.term > self.applied_term {
                self.applied_term = entry.id.term;
                self.proposals.term_applied(entry.id.term);
            }
            self.counts.applied += 1;
            let bytes = payload_bytes(&entry);
            self.retained.entries.push_back((entry.id.index, bytes));
            self.retained.bytes += bytes;
        }
        self.store_mut().end_batch();
        self.allow_durable();
        self.reads.applied(self.applied().index);
        for (counter, applied) in answers {
            if self.own == Some(counter) {
                self.own = None;
            }
            self.own_command_applied(counter, &applied);
            self.proposals.answer(counter, Ok(applied));
        }
        self.maybe_trim();
        Ok(!self.to_apply.is_empty() && !self.pauses())
    }

    /// Whether applying waits for the state on disk; says so once when that begins or ends.
    fn pauses(&mut self) -> bool {
        let log = self.store().log();
        let (paused, unsynced_bytes) = (log.is_over_limit(), log.tail_bytes());
        if paused != self.apply_paused {
            self.apply_paused = paused;
            let waiting_bytes = self.to_apply.bytes();
            if paused {
                tracing::warn!(
                    unsynced_bytes,
                    waiting_bytes,
                    "applying pauses: the disk of the data directory is slower than the writes"
                );
            } else {
                tracing::info!(waiting_bytes, "applying goes on");
            }
        }
        paused
    }

    fn apply_one(&mut self, entry: &Entry) -> Result<Option<(RequestId, Applied)>, Fatal> {
        match &entry.payload {
            Payload::Empty => {
                self.store_mut().apply_empty(entry.id);
                Ok(None)
            }
            Payload::Command(command) => self.store_mut().apply(entry.id, command).map(Some),
            Payload::Membership {
                membership,
                context,
            } => {
                let answer = self
                    .store_mut()
                    .apply_membership(entry.id, membership, context)?;
                self.members = self.store().reader().members().list().into();
                self.effects.peers_changed = true;
                let removed = &self.store().reader().members().removed;
                if removed.contains(&self.raft.id().0) {
                    self.removed = true;
                }
                Ok(answer)
            }
        }
    }

    /// Lets the core forget entries beyond what is kept for followers that lag.
    fn maybe_trim(&mut self) {
        let retained = &mut self.retained;
        let (entries_max, bytes_max) = (self.config.catchup_entries, self.config.catchup_bytes_max);
        if retained.entries.len() < entries_max + TRIM_STEP && retained.bytes <= bytes_max {
            return;
        }
        let mut target = None;
        while retained.entries.len() > entries_max || retained.bytes > bytes_max {
            let Some((index, bytes)) = retained.entries.pop_front() else {
                break;
            };
            retained.bytes -= bytes;
            target = Some(index);
        }
        if let Some(target) = target {
            self.raft.trim(target);
            self.trimmed = target;
            self.maybe_release();
        }
    }

    /// Lets the disk forget what is trimmed and contained in the durable state (W10).
    pub(super) fn maybe_release(&mut self) {
        let up_to = self.trimmed.min(self.store().log().synced().index);
        if up_to > self.released {
            self.released = up_to;
            self.effects.release = Some(up_to);
        }
    }

    /// A snapshot has replaced the state up to `last`.
    pub(super) fn state_replaced(&mut self, last: quorate_raft::EntryId) {
        self.to_apply.skip_to(last.index);
        self.retained = super::core::Retained::default();
        self.trimmed = last.index;
        self.applied_term = self.applied_term.max(last.term);
        self.proposals.snapshot_installed(last.term);
        self.reads.applied(last.index);
        self.members = self.store().reader().members().list().into();
        self.removed |= self.store().reader().members().removed.contains(&self.id());
        self.effects.peers_changed = true;
    }

    fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::RoleChanged {
                from,
                to,
                term,
                why,
            } => {
                tracing::info!(?from, ?to, %term, ?why, "role changed");
                if *to == RoleKind::PreCandidate {
                    self.counts.campaigns += 1;
                }
                if *from == RoleKind::Leader {
                    self.refuse_calls_of_lost_leadership();
                }
            }
            Notice::LeaderChanged { leader, term } => {
                match leader {
                    Some(leader) => tracing::info!(%leader, %term, "leader"),
                    None => tracing::info!(%term, "no leader"),
                }
                self.leader_changed();
                self.transfer_observed(*leader);
            }
            Notice::TransferAborted { to } => {
                tracing::warn!(%to, "leadership transfer given up");
                self.transfer_aborted();
            }
            Notice::VoteRefused { candidate, why } => {
                tracing::debug!(%candidate, ?why, "vote refused");
            }
            Notice::MembershipChanged { index, rolled_back } => {
                tracing::info!(%index, rolled_back, "membership in force");
                self.effects.peers_changed = true;
            }
            Notice::LogCut { from } => tracing::info!(%from, "conflicting end of the log cut"),
            Notice::MessageIgnored { from, what } => tracing::debug!(%from, what, "ignored"),
            Notice::SnapshotInstalled { last } => tracing::info!(%last, "snapshot installed"),
        }
    }
}

fn kind_of(payload: &Payload) -> OpKind {
    match payload {
        Payload::Empty => OpKind::Internal,
        Payload::Command(command) => OpKind::of(command),
        Payload::Membership { .. } => OpKind::Member,
    }
}
