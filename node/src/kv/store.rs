//! The single writer: applies commands in log order.
//!
//! Lives on the replica's thread. Nothing here waits for a disk, except where a command itself
//! needs a stored value (compares by value, `ignore_value`, answers with previous values).
//! Must not know: who leads, what time it is.

use super::change::Change;
use super::command::{Applied, Command, Compact, Op, RequestId, Response};
use super::compactor::Compactor;
use super::digest::Digest;
use super::error::{Error, Fatal};
use super::membership::Members;
use super::range::Found;
use super::reader::Reader;
use super::rebuild;
use super::state::Shared;
use super::txn::{self, Check, Run};
use super::types::{DeleteRange, DeleteRangeResult, Put, PutResult, Revision, Txn};
use super::walk::View;
use crate::env::Disk;
use crate::storage::revision_log::{
    self, AppliedMark, MetaKind, Opened, Options, Record, RevisionLog,
};
use bytes::Bytes;
use quorate_raft::{EntryId, LogIndex, Membership};
use std::sync::Arc;

/// The one row of [`MetaKind::Membership`].
pub(super) const MEMBERS_ROW: &[u8] = b"members";

/// The state machine.
pub struct Store {
    shared: Arc<Shared>,
    log: RevisionLog,
    digest: Digest,
    applied: EntryId,
    membership_index: LogIndex,
    /// Whose requests are answered in full; none: everybody's.
    origin: Option<u64>,
}

impl Store {
    /// Opens the revision log in `dir` and rebuilds the index from it. The state is that of the
    /// log's last mark: the WAL is replayed from there.
    ///
    /// # Errors
    /// [`Fatal::Log`], and [`Fatal::UnreadableMembers`] for membership data of a newer version.
    pub fn open(disk: Arc<dyn Disk>, dir: &str, options: Options) -> Result<(Self, Opened), Fatal> {
        let mut rebuild = rebuild::Rebuild::default();
        let (log, opened) = RevisionLog::open(disk, dir, options, &mut |r| rebuild.visit(&r))?;
        let (state, members) = rebuild.finish()?;
        let store = Self {
            shared: Arc::new(Shared::new(state, log.reader(), members)),
            log,
            digest: Digest(opened.mark.digest),
            applied: opened.mark.applied,
            membership_index: opened.mark.membership_index,
            origin: None,
        };
        Ok((store, opened))
    }

    /// The members that a revision log on disk tells, and the index of the entry that made them so,
    /// without opening or changing it; `None` when it tells none.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn peek_members(disk: &dyn Disk, dir: &str) -> Result<Option<(LogIndex, Members)>, Fatal> {
        let row = revision_log::peek_row(disk, dir, MetaKind::Membership, MEMBERS_ROW)?;
        let members = |(mark, bytes): (AppliedMark, Vec<u8>)| {
            let members = Members::decode(&bytes.into()).map_err(Fatal::UnreadableMembers)?;
            Ok((mark.membership_index, members))
        };
        row.map(members).transpose()
    }

    /// Names whose requests need their answer here. Commands of others are executed just the
    /// same, but keys and values are not collected for an answer that nobody waits for.
    pub fn answer_only(&mut self, member: u64) {
        self.origin = Some(member);
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// Index of the entry that brought the membership in force at [`Store::applied`].
    #[must_use]
    pub fn membership_index(&self) -> LogIndex {
        self.membership_index
    }

    /// Digest of everything done so far; equal on all members at the same applied entry.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest.0
    }

    /// A handle for readers on other threads.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// The background half of compaction, to be driven by a thread of the replica. One per store.
    #[must_use]
    pub fn compactor(&self) -> Compactor {
        Compactor::new(Arc::clone(&self.shared), self.log.compactor())
    }

    /// The revision log, for syncing, snapshots and sizes.
    #[must_use]
    pub fn log(&self) -> &RevisionLog {
        &self.log
    }

    /// The revision log, for what changes it. Records are appended by the store alone.
    pub fn log_mut(&mut self) -> &mut RevisionLog {
        &mut self.log
    }

    /// Passes an entry without a command.
    pub fn apply_empty(&mut self, entry: EntryId) {
        self.advance(entry);
    }

    /// Executes a command.
    ///
    /// # Errors
    /// [`Fatal`]: the member must stop, since it cannot do what the others do.
    ///
    /// # Panics
    /// If `entry` is not after the last one applied.
    pub fn apply(
        &mut self,
        entry: EntryId,
        command: &Arc<[u8]>,
    ) -> Result<(RequestId, Applied), Fatal> {
        let command = decode(entry, command)?;
        self.advance(entry);
        let request = command.request;
        let answer = self.origin.is_none_or(|origin| origin == request.member);
        let (revision, result) = match self.execute(&command.op, answer) {
            Ok((revision, response)) => (revision, Ok(response)),
            Err(Stop::Refused(error)) => (self.revision(), Err(error)),
            Err(Stop::Fatal(fatal)) => return Err(fatal),
        };
        Ok((
            request,
            Applied {
                revision: Revision(revision),
                result,
            },
        ))
    }

    /// Executes the context of a Raft membership entry (may be empty) and mirrors the membership
    /// that it brings. Never refuses: see [`Members::apply_raft`].
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub fn apply_membership(
        &mut self,
        entry: EntryId,
        membership: &Membership,
        context: &Arc<[u8]>,
    ) -> Result<Option<(RequestId, Applied)>, Fatal> {
        let command = match context.as_ref() {
            [] => None,
            _ => Some(decode(entry, context)?),
        };
        self.advance(entry);
        self.membership_index = entry.index;
        let op = match command.as_ref().map(|command| &command.op) {
            Some(Op::Member(op)) => Some(op),
            Some(_) | None => None,
        };
        let mut members = self.members();
        members.apply_raft(membership, op);
        let response = Response::Members(members.list());
        self.save_members(members);
        let applied = Applied {
            revision: Revision(self.revision()),
            result: Ok(response),
        };
        Ok(command.map(|command| (command.request, applied)))
    }

    /// Ends a batch: what was applied since the last call is one unit for recovery.
    pub fn end_batch(&mut self) {
        self.log.mark(AppliedMark {
            applied: self.applied,
            membership_index: self.membership_index,
            digest: self.digest.0,
        });
    }

    fn advance(&mut self, entry: EntryId) {
        assert!(
            entry.index > self.applied.index,
            "entry {entry} is applied after {}",
            self.applied
        );
        self.applied = entry;
    }

    fn revision(&self) -> i64 {
        self.shared.state.read().revision
    }

    fn members(&self) -> Members {
        Members::clone(&self.shared.members.load())
    }

    /// Appends a record that is not about a key.
    fn record(&mut self, record: &Record<'_>) {
        self.digest.add(record);
        self.log.append(record);
    }

    fn execute(&mut self, op: &Op, answer: bool) -> Result<(i64, Response), Stop> {
        match op {
            Op::Noop => Ok((self.revision(), Response::Done)),
            Op::Put(put) => self.put(put, answer),
            Op::DeleteRange(delete) => self.delete(delete, answer),
            Op::Txn(txn) => self.txn(txn, answer),
            Op::Compact(compact) => self.compact(*compact),
            Op::Member(op) => {
                let mut members = self.members();
                members.apply(op)?;
                let list = members.list();
                self.save_members(members);
                Ok((self.revision(), Response::Members(list)))
            }
            Op::ClusterVersion(version) => {
                let mut members = self.members();
                members.cluster_version.clone_from(version);
                self.save_members(members);
                Ok((self.revision(), Response::Done))
            }
        }
    }

    fn change(&mut self) -> Change<'_> {
        Change::begin(&self.shared, &mut self.log, &mut self.digest)
    }

    fn put(&mut self, put: &Put, answer: bool) -> Result<(i64, Response), Stop> {
        Check::new(&self.shared).put(put)?;
        // Before the index is looked into, so that what is found there stays readable.
        let pin = (answer && put.prev_kv).then(|| self.shared.log.pin());
        let mut change = self.change();
        let before = change.put(put)?;
        let revision = change.publish();
        let prev_kv = match (before, pin) {
            (Some(before), Some(pin)) => Some(Found::new(put.key.clone(), before).read(&pin)?),
            _ => None,
        };
        Ok((revision, Response::Put(PutResult { prev_kv })))
    }

    fn delete(&mut self, delete: &DeleteRange, answer: bool) -> Result<(i64, Response), Stop> {
        let pin = (answer && delete.prev_kv).then(|| self.shared.log.pin());
        let mut change = self.change();
        let (deleted, before) = change.delete(delete, pin.is_some());
        let revision = change.publish();
        let prev_kvs = match pin {
            Some(pin) => before
                .into_iter()
                .map(|f| f.read(&pin))
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        Ok((
            revision,
            Response::DeleteRange(DeleteRangeResult { deleted, prev_kvs }),
        ))
    }

    fn txn(&mut self, txn: &Txn, answer: bool) -> Result<(i64, Response), Stop> {
        let path = txn::choose(&self.shared, txn, View::Own)?;
        Check::new(&self.shared).txn(txn, &path)?;
        let shared = Arc::clone(&self.shared);
        let pin = shared.log.pin();
        let mut run = Run {
            shared: &shared,
            pin: &pin,
            change: self.change(),
            answer,
        };
        let result = run.txn(txn, &path)?;
        Ok((run.change.publish(), Response::Txn(result)))
    }

    /// The logical half: from now on reads below are refused, on every member at this entry.
    fn compact(&mut self, compact: Compact) -> Result<(i64, Response), Stop> {
        let wanted = compact.revision;
        let current = {
            let state = self.shared.state.read();
            if wanted.0 <= state.compacted {
                return Err(Error::Compacted {
                    compacted: Revision(state.compacted),
                }
                .into());
            }
            if wanted.0 > state.revision {
                return Err(Error::FutureRevision {
                    current: Revision(state.revision),
                }
                .into());
            }
            state.revision
        };
        // Above the compacted revision, which is -1 at least, nothing is negative.
        self.record(&Record::Compaction {
            revision: wanted.0.cast_unsigned(),
        });
        self.shared.state.write().compacted = wanted.0;
        Ok((current, Response::Compact))
    }

    fn save_members(&mut self, members: Members) {
        let bytes = members.encode();
        let record = Record::Meta {
            kind: MetaKind::Membership,
            key: MEMBERS_ROW,
            bytes: &bytes,
        };
        self.record(&record);
        self.shared.members.store(Arc::new(members));
    }
}

fn decode(entry: EntryId, command: &Arc<[u8]>) -> Result<Command, Fatal> {
    // Shares the entry's bytes: values are not copied on their way into the revision log.
    Command::decode(&Bytes::from_owner(Arc::clone(command))).map_err(|reason| {
        Fatal::UnreadableCommand {
            index: entry.index.0,
            reason,
        }
    })
}

/// Why a command was not executed.
enum Stop {
    /// Refused, on every member alike.
    Refused(Error),
    /// This member must stop.
    Fatal(Fatal),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Fatal> for Stop {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

impl From<revision_log::Error> for Stop {
    fn from(error: revision_log::Error) -> Self {
        Self::Fatal(error.into())
    }
}
