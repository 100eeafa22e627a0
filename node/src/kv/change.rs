//! One command's writes: all at one main revision, visible to readers together.
//!
//! The lock is taken at the first write and kept to the end of a small command. Before IO, and
//! between chunks of a large delete, it is given back; readers then see the state before the
//! command, because they see nothing above the published revision.

use super::digest::Digest;
use super::error::Fatal;
use super::index::Version;
use super::range::{self, Found};
use super::state::{Shared, State};
use super::types::{DeleteRange, LeaseId, Put};
use super::walk::{Direction, View, Walk};
use crate::storage::revision_log::{Record, Revision, RevisionLog};
use bytes::Bytes;
use parking_lot::RwLockWriteGuard;
use std::ops::ControlFlow;

/// A command being executed.
pub(super) struct Change<'a> {
    shared: &'a Shared,
    log: &'a mut RevisionLog,
    digest: &'a mut Digest,
    lock: Option<RwLockWriteGuard<'a, State>>,
    /// The store's revision before.
    start: i64,
    /// The next sub-revision: the number of writes so far.
    sub: u32,
}

impl<'a> Change<'a> {
    pub(super) fn begin(
        shared: &'a Shared,
        log: &'a mut RevisionLog,
        digest: &'a mut Digest,
    ) -> Self {
        let start = shared.state.read().revision;
        Self {
            shared,
            log,
            digest,
            lock: None,
            start,
            sub: 0,
        }
    }

    /// What a response header says now: one more than before once something was written.
    pub(super) fn revision(&self) -> i64 {
        self.start + i64::from(self.sub > 0)
    }

    /// Gives the lock back. Must be called before IO and before reading through `walk`.
    pub(super) fn release(&mut self) {
        if let Some(mut state) = self.lock.take() {
            state.writing = self.sub > 0;
        }
    }

    /// Writes a key; the version before, if the key existed.
    ///
    /// A missing key under `ignore_value` or `ignore_lease` was refused by the check before.
    pub(super) fn put(&mut self, put: &Put) -> Result<Option<Version>, Fatal> {
        let (mut value, mut lease) = (put.value.clone(), put.lease);
        if put.ignore_value || put.ignore_lease {
            let (old_value, old_lease) = self.current(&put.key)?;
            value = if put.ignore_value { old_value } else { value };
            lease = if put.ignore_lease { old_lease } else { lease };
        }
        let (main, sub) = self.next_revision();
        let (log, digest) = (&mut *self.log, &mut *self.digest);
        let state = self.lock.get_or_insert_with(|| self.shared.state.write());
        let before = state.index.upsert(&put.key, |before| {
            let (create, version) = match before {
                Some(before) if !before.is_deletion() => (before.create, before.version + 1),
                Some(_) | None => (main, 1),
            };
            let record = Record::Put {
                key: &put.key,
                value: &value,
                create: create.cast_unsigned(),
                mod_rev: Revision {
                    main: main.cast_unsigned(),
                    sub,
                },
                version: version.cast_unsigned(),
                lease: lease.0,
            };
            digest.add(&record);
            Version {
                main,
                create,
                version,
                sub,
                location: log.append(&record),
            }
        });
        Ok(before.filter(|version| !version.is_deletion()))
    }

    /// Deletes the keys of an interval; what they were, if asked for.
    pub(super) fn delete(&mut self, delete: &DeleteRange, wanted: bool) -> (i64, Vec<Found>) {
        let mut walk = Walk::new(&delete.interval, View::Own, Direction::Forward);
        let mut deleted = 0;
        let mut before = Vec::new();
        while !walk.is_done() {
            // Between chunks readers get their turn.
            self.release();
            let state = self.lock.get_or_insert_with(|| self.shared.state.write());
            let mut chunk = Vec::new();
            walk.step(state, |key, version| {
                chunk.push(Found::new(Bytes::copy_from_slice(key), *version));
                ControlFlow::Continue(())
            });
            for found in &chunk {
                self.delete_one(&found.key);
                deleted += 1;
            }
            if wanted {
                before.append(&mut chunk);
            }
        }
        (deleted, before)
    }

    fn delete_one(&mut self, key: &[u8]) {
        let (main, sub) = self.next_revision();
        let (log, digest) = (&mut *self.log, &mut *self.digest);
        let state = self.lock.get_or_insert_with(|| self.shared.state.write());
        state.index.upsert(key, |_| {
            let mod_rev = Revision {
                main: main.cast_unsigned(),
                sub,
            };
            let record = Record::Delete { key, mod_rev };
            digest.add(&record);
            Version {
                main,
                create: 0,
                version: 0,
                sub,
                location: log.append(&record),
            }
        });
    }

    /// Value and lease of a key as it is now.
    fn current(&mut self, key: &Bytes) -> Result<(Bytes, LeaseId), Fatal> {
        self.release();
        let pin = self.shared.log.pin();
        let version = {
            let state = self.shared.state.read();
            state
                .index
                .get(key)
                .and_then(|entry| View::Own.of(entry))
                .copied()
        };
        let version = version.expect("the check before execution follows every write of the txn");
        Ok(range::read(&pin, &version)?)
    }

    fn next_revision(&mut self) -> (i64, u32) {
        let sub = self.sub;
        self.sub = sub
            .checked_add(1)
            .expect("a command writes fewer than 2^32 keys");
        (self.start + 1, sub)
    }

    /// Shows readers what was written; the revision after.
    pub(super) fn publish(mut self) -> i64 {
        let revision = self.revision();
        if self.sub > 0 {
            let state = self.lock.get_or_insert_with(|| self.shared.state.write());
            state.revision = revision;
            state.writing = false;
        }
        revision
    }
}
