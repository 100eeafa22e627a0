//! Rebuilding the index from what the revision log reports at start.

use super::error::Fatal;
use super::index::{Index, Version};
use super::membership::Members;
use super::state::State;
use super::store::MEMBERS_ROW;
use crate::storage::revision_log::{MetaKind, Recovered, Revision};
use bytes::Bytes;

/// The revision of a store in which nothing was written.
const FIRST_REVISION: i64 = 1;
/// The compacted revision of a store that was never compacted.
const NEVER_COMPACTED: i64 = -1;

/// Collects the records of history in order.
pub(super) struct Rebuild {
    index: Index,
    revision: i64,
    compacted: i64,
    members: Option<Bytes>,
}

impl Default for Rebuild {
    fn default() -> Self {
        Self {
            index: Index::default(),
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
        self.index.upsert(key, |_| version);
    }

    /// What readers and the writer begin with. Versions that a compaction forgot are still in the
    /// index; they are invisible, and pruned in the background.
    pub(super) fn finish(self) -> Result<(State, Members), Fatal> {
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
