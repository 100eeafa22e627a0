//! Rebuilding the index from what the revision log reports at start.
//!
//! Keys arrive in the order of history, which is no order at all for the tree: every insertion
//! would miss the cache some twenty times. So records are collected, sorted by key and inserted
//! along the tree, a batch at a time.

use super::error::Fatal;
use super::index::{Index, Version};
use super::membership::Members;
use super::state::State;
use super::store::MEMBERS_ROW;
use crate::storage::revision_log::{MetaKind, Recovered, Revision};
use bytes::Bytes;
use std::ops::Range;

/// The revision of a store in which nothing was written.
const FIRST_REVISION: i64 = 1;
/// The compacted revision of a store that was never compacted.
const NEVER_COMPACTED: i64 = -1;

/// Records sorted at a time: some twenty megabytes for as long as the start takes.
const BATCH_RECORDS: usize = 1 << 18;

/// Collects the records of history in order.
pub(super) struct Rebuild {
    index: Index,
    batch: Batch,
    revision: i64,
    compacted: i64,
    members: Option<Bytes>,
}

impl Default for Rebuild {
    fn default() -> Self {
        Self {
            index: Index::default(),
            batch: Batch::default(),
            revision: FIRST_REVISION,
            compacted: NEVER_COMPACTED,
            members: None,
        }
    }
}

impl Rebuild {
    /// Takes the next record.
    pub(super) fn visit(&mut self, record: &Recovered<'_>) {
        match *record {
            Recovered::Put {
                key,
                create,
                mod_rev,
                version,
                location,
                ..
            } => {
                let Revision { main, sub } = mod_rev;
                let (main, create) = (main.cast_signed(), create.cast_signed());
                let version = version.cast_signed();
                self.add(
                    key,
                    Version {
                        main,
                        create,
                        version,
                        sub,
                        location,
                    },
                );
            }
            Recovered::Delete {
                key,
                mod_rev,
                location,
            } => {
                let Revision { main, sub } = mod_rev;
                let main = main.cast_signed();
                self.add(
                    key,
                    Version {
                        main,
                        create: 0,
                        version: 0,
                        sub,
                        location,
                    },
                );
            }
            Recovered::Compaction { revision } => {
                self.compacted = self.compacted.max(revision.cast_signed());
            }
            Recovered::Meta {
                kind: MetaKind::Membership,
                key: MEMBERS_ROW,
                bytes,
            } => {
                self.members = Some(Bytes::copy_from_slice(bytes));
            }
            // Tables of later versions: kept in the log, not understood here.
            Recovered::Meta { .. } => {}
        }
    }

    fn add(&mut self, key: &[u8], version: Version) {
        self.revision = self.revision.max(version.main);
        self.batch.push(key, version);
        if self.batch.records.len() == BATCH_RECORDS {
            self.batch.insert_into(&mut self.index);
        }
    }

    /// What readers and the writer begin with. Versions that a compaction forgot are still in the
    /// index; they are invisible, and pruned in the background.
    pub(super) fn finish(mut self) -> Result<(State, Members), Fatal> {
        self.batch.insert_into(&mut self.index);
        let members = match &self.members {
            Some(bytes) => Members::decode(bytes).map_err(Fatal::UnreadableMembers)?,
            None => Members::default(),
        };
        let state = State {
            index: self.index,
            // A compaction is never above the revision it was applied at.
            revision: self.revision.max(self.compacted),
            compacted: self.compacted,
            pruned: NEVER_COMPACTED,
            writing: false,
        };
        Ok((state, members))
    }
}

/// Records to be inserted together. Their keys lie one behind the other in one buffer.
#[derive(Default)]
struct Batch {
    keys: Vec<u8>,
    records: Vec<Collected>,
}

struct Collected {
    /// The eight bytes of the key behind what all keys of the batch begin with: decides most
    /// comparisons without a look at the key.
    head: u64,
    key: Range<usize>,
    version: Version,
}

impl Batch {
    fn push(&mut self, key: &[u8], version: Version) {
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        self.records.push(Collected {
            head: 0,
            key: start..self.keys.len(),
            version,
        });
    }

    /// Inserts all records and forgets them.
    fn insert_into(&mut self, index: &mut Index) {
        let keys = self.keys.as_slice();
        let shared = shared_prefix(keys, &self.records);
        for record in &mut self.records {
            record.head = head(&keys[record.key.clone()][shared..]);
        }
        // Stable: versions of a key stay in the order in which they came.
        self.records.sort_by(|a, b| {
            let by_key = || keys[a.key.clone()].cmp(&keys[b.key.clone()]);
            a.head.cmp(&b.head).then_with(by_key)
        });
        for record in self.records.drain(..) {
            index.upsert(&keys[record.key], |_| record.version);
        }
        self.keys.clear();
    }
}

/// How many bytes all keys begin with in common.
fn shared_prefix(keys: &[u8], records: &[Collected]) -> usize {
    let Some(first) = records.first() else {
        return 0;
    };
    let first = &keys[first.key.clone()];
    records.iter().fold(first.len(), |shared, record| {
        let key = &keys[record.key.clone()];
        first[..shared]
            .iter()
            .zip(key)
            .take_while(|(a, b)| a == b)
            .count()
    })
}

/// The first eight bytes, such that the order of numbers is that of bytes, ties aside.
fn head(bytes: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = bytes.len().min(8);
    head[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(head)
}
