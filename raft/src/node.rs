//! One member's consensus: the entry points.

use crate::config::{Config, Restored};
use crate::error::{
    ChangeError, InstallOutcome, ProposeError, ReadError, StartError, TransferError,
};
use crate::membership::{Change, Membership};
use crate::message::{Envelope, SnapshotMeta};
use crate::output::{Output, RoleKind, Status};
use crate::types::{EntryId, HardState, LogIndex, MemberId, PersistId, ReadId, Term};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One member's consensus.
#[derive(Clone, Debug)]
pub struct Node {
    config: Config,
    restored: Restored,
}

#[allow(missing_docs, clippy::missing_errors_doc)]
impl Node {
    pub fn new(config: Config, restored: Restored) -> Result<Self, StartError> {
        Ok(Self { config, restored })
    }
    pub fn tick(&mut self, _out: &mut Output) {}
    pub fn step(&mut self, _envelope: Envelope, _out: &mut Output) {}
    pub fn propose(
        &mut self,
        _commands: &mut Vec<Arc<[u8]>>,
        _out: &mut Output,
    ) -> Result<EntryId, ProposeError> {
        Err(ProposeError::NotLeader(None))
    }
    pub fn propose_membership(
        &mut self,
        _changes: &[Change],
        _expected: LogIndex,
        _context: Arc<[u8]>,
        _out: &mut Output,
    ) -> Result<EntryId, ChangeError> {
        Err(ChangeError::NotLeader(None))
    }
    pub fn read(&mut self, _read: ReadId, _out: &mut Output) -> Result<(), ReadError> {
        Err(ReadError::NoLeader)
    }
    pub fn transfer_leadership(
        &mut self,
        _to: MemberId,
        _out: &mut Output,
    ) -> Result<(), TransferError> {
        Err(TransferError::NotLeader(None))
    }
    pub fn campaign(&mut self, _out: &mut Output) {}
    pub fn persisted(&mut self, _id: PersistId, _out: &mut Output) {}
    pub fn trim(&mut self, _up_to: LogIndex) {}
    pub fn snapshot_sent(
        &mut self,
        _to: MemberId,
        _outcome: Result<LogIndex, ()>,
        _out: &mut Output,
    ) {
    }
    pub fn install_snapshot(
        &mut self,
        _from: MemberId,
        _term: Term,
        _meta: SnapshotMeta,
        _out: &mut Output,
    ) -> InstallOutcome {
        InstallOutcome::Ignored
    }
    pub fn status(&self) -> Status {
        Status {
            id: self.config.id,
            role: RoleKind::Follower,
            term: self.term(),
            leader: None,
            commit: self.commit(),
            applied: self.commit(),
            last: self.last(),
            durable: self.commit(),
            first: self.commit().next(),
            membership_index: self.restored.snapshot.membership_index,
            membership_settled: true,
            transferring_to: None,
            peers: Vec::new(),
        }
    }
    pub fn membership(&self) -> &Membership {
        &self.restored.snapshot.membership
    }
    /// The membership in force at `index` and the index of its entry: what a snapshot at `index`
    /// must carry (C10). `None` when `index` lies before the log.
    pub fn membership_at(&self, _index: LogIndex) -> Option<(&Membership, LogIndex)> {
        Some((
            &self.restored.snapshot.membership,
            self.restored.snapshot.membership_index,
        ))
    }
    /// Term of the entry at `index`, while the log in memory reaches that far.
    pub fn term_at(&self, _index: LogIndex) -> Option<Term> {
        None
    }
    pub fn leader(&self) -> Option<MemberId> {
        None
    }
    pub fn id(&self) -> MemberId {
        self.config.id
    }
    pub fn term(&self) -> Term {
        self.restored.hard_state.term
    }
    pub fn hard_state(&self) -> HardState {
        self.restored.hard_state
    }
    pub fn role(&self) -> RoleKind {
        RoleKind::Follower
    }
    pub fn commit(&self) -> LogIndex {
        self.restored.snapshot.last.index
    }
    pub fn last(&self) -> EntryId {
        self.restored.snapshot.last
    }
    pub fn durable(&self) -> LogIndex {
        self.restored.snapshot.last.index
    }
}
