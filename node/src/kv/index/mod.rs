//! The key index: every key in order, with all its versions that are not compacted away.
//!
//! Values live in the revision log; a version here says where. The newest version of a key stands
//! inline, older ones in a list that most keys do not have. The tree (`tree`) counts living keys
//! per subtree, so that seeking and counting an interval at the newest revision cost O(log n).
//!
//! Assumes versions of a key arrive in growing order. Must not know: locks, requests, disks.

mod tree;

#[cfg(test)]
mod tests;

use super::types::Interval;
use crate::storage::revision_log::Location;
use std::ops::ControlFlow;
use tree::Tree;
pub use tree::Want;

/// One version of a key. 40 bytes: there may be very many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Main revision of the change.
    pub main: i64,
    /// Revision of the put that (re-)created the key; 0 for a deletion.
    pub create: i64,
    /// Puts since the creation; 0 marks a deletion.
    pub version: i64,
    /// Place within the transaction.
    pub sub: u32,
    /// Where the record lies.
    pub location: Location,
}

impl Version {
    /// Whether the key is gone from here on.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.version == 0
    }
}

/// A key with its versions.
#[derive(Debug)]
pub struct Entry {
    key: Box<[u8]>,
    latest: Version,
    /// Versions before `latest`, oldest first. Boxed: most keys have none, and 8 bytes are less
    /// than 24.
    #[expect(
        clippy::box_collection,
        reason = "8 bytes in a million keys instead of 24"
    )]
    older: Option<Box<Vec<Version>>>,
}

impl Entry {
    fn new(key: &[u8], latest: Version) -> Self {
        Self {
            key: key.into(),
            latest,
            older: None,
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The newest version, be it a deletion.
    #[must_use]
    pub fn latest(&self) -> &Version {
        &self.latest
    }

    /// Whether the key exists now.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.latest.is_deletion()
    }

    /// The version in force at main revision `revision`, unless the key did not exist then.
    #[must_use]
    pub fn at(&self, revision: i64) -> Option<&Version> {
        let found = if self.latest.main <= revision {
            Some(&self.latest)
        } else {
            let older = self.older();
            older
                .partition_point(|v| v.main <= revision)
                .checked_sub(1)
                .map(|last| &older[last])
        };
        found.filter(|version| !version.is_deletion())
    }

    /// All versions, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = &Version> {
        self.older().iter().chain(std::iter::once(&self.latest))
    }

    fn older(&self) -> &[Version] {
        self.older.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Whether a compaction at a later revision would find something to remove.
    fn is_stale(&self) -> bool {
        self.older.is_some() || self.latest.is_deletion()
    }

    fn push(&mut self, version: Version) {
        let last = (self.latest.main, self.latest.sub);
        assert!(
            last < (version.main, version.sub),
            "version {}/{} of a key follows {}/{}",
            version.main,
            version.sub,
            last.0,
            last.1
        );
        self.older.get_or_insert_default().push(self.latest);
        self.latest = version;
    }

    fn holds(&self, main: i64, sub: u32) -> bool {
        (self.latest.main, self.latest.sub) == (main, sub)
            || self
                .older()
                .binary_search_by_key(&(main, sub), |v| (v.main, v.sub))
                .is_ok()
    }

    fn find_mut(&mut self, main: i64, sub: u32) -> Option<&mut Version> {
        if (self.latest.main, self.latest.sub) == (main, sub) {
            return Some(&mut self.latest);
        }
        let older = self.older.as_deref_mut()?;
        let at = older
            .binary_search_by_key(&(main, sub), |v| (v.main, v.sub))
            .ok()?;
        older.get_mut(at)
    }

    /// Whether a compaction at `revision` removes something.
    #[must_use]
    pub fn is_prunable(&self, revision: i64) -> bool {
        // What comes first decides: if it stays, it is in force at `revision` or later than it.
        match self.older() {
            [] => !kept(&self.latest, None, revision),
            [only] => !kept(only, Some(self.latest.main), revision),
            [first, second, ..] => !kept(first, Some(second.main), revision),
        }
    }

    /// Removes what a compaction at `revision` does not keep; true if nothing is left.
    fn prune(&mut self, revision: i64, removed: &mut impl FnMut(&Version)) -> bool {
        let latest = self.latest;
        if let Some(older) = self.older.as_deref_mut() {
            let count = older.len();
            let mut at = 0;
            // `retain` hands the versions over in order; the one behind each decides.
            let next: Vec<i64> = older.iter().skip(1).map(|v| v.main).collect();
            older.retain(|version| {
                let after = if at + 1 < count {
                    next[at]
                } else {
                    latest.main
                };
                at += 1;
                let keep = kept(version, Some(after), revision);
                if !keep {
                    removed(version);
                }
                keep
            });
            if older.is_empty() {
                self.older = None;
            } else if older.len() * 2 < older.capacity() {
                older.shrink_to_fit();
            }
        }
        // A deletion below the compaction is the newest of its key only if nothing follows it.
        let empty = self.older.is_none() && !kept(&latest, None, revision);
        if empty {
            removed(&latest);
        }
        empty
    }
}

/// Whether a compaction at `compacted` keeps a version that is followed by one at `next`.
///
/// Everything at `compacted` or later stays, so that reads and watches from there see all of it,
/// a deletion at exactly that revision included. Of what is older, only a version that is still
/// in force at `compacted` stays.
#[must_use]
pub fn kept(version: &Version, next: Option<i64>, compacted: i64) -> bool {
    version.main >= compacted || !version.is_deletion() && next.is_none_or(|next| next > compacted)
}

/// All keys.
#[derive(Debug, Default)]
pub struct Index {
    tree: Tree,
}

impl Index {
    /// Keys that exist now.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.tree.live() as u64
    }

    /// The entry of `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.tree.get(key)
    }

    /// Adds a version of `key` that `make` makes from what there is; the version before.
    ///
    /// # Panics
    /// If it is not newer than all others of the key: the writer has lost count of revisions.
    pub fn upsert(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<&Version>) -> Version,
    ) -> Option<Version> {
        self.tree.upsert(key, make)
    }

    /// Removes what a compaction at `revision` does not keep of `key`, and tells where it lay.
    pub fn prune(&mut self, key: &[u8], revision: i64, removed: &mut Vec<Location>) {
        self.tree.edit(key, |entry| {
            entry.prune(revision, &mut |version| removed.push(version.location))
        });
    }

    /// Whether this version of `key` is still here.
    #[must_use]
    pub fn holds(&self, key: &[u8], main: i64, sub: u32) -> bool {
        self.get(key).is_some_and(|entry| entry.holds(main, sub))
    }

    /// Notes that the record of a version has moved; false if that version is gone.
    pub fn relocate(&mut self, key: &[u8], main: i64, sub: u32, location: Location) -> bool {
        let mut found = false;
        self.tree.edit(key, |entry| {
            if let Some(version) = entry.find_mut(main, sub) {
                version.location = location;
                found = true;
            }
            false
        });
        found
    }

    /// Hands the entries at or after `from` to `visit` in order, until it breaks. With a `want`,
    /// subtrees without such entries are skipped; single others may still come.
    pub fn visit(&self, from: &[u8], want: Want, mut visit: impl FnMut(&Entry) -> ControlFlow<()>) {
        // Whether it ended early, the visitor knows.
        let _ = self.tree.visit(from, want, &mut visit);
    }

    /// As [`Index::visit`], backwards from the last entry before `before` (none: from the end).
    pub fn visit_back(
        &self,
        before: Option<&[u8]>,
        want: Want,
        mut visit: impl FnMut(&Entry) -> ControlFlow<()>,
    ) {
        let _ = self.tree.visit_back(before, want, &mut visit);
    }

    /// How many keys of `interval` exist now.
    #[must_use]
    pub fn count(&self, interval: &Interval) -> u64 {
        match interval {
            Interval::Key(key) => u64::from(self.get(key).is_some_and(Entry::is_alive)),
            Interval::From(start) => (self.tree.live() - self.tree.live_before(start)) as u64,
            Interval::Between { start, end } => {
                self.tree
                    .live_before(end)
                    .saturating_sub(self.tree.live_before(start)) as u64
            }
        }
    }
}
