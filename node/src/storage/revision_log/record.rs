//! What the revision log holds, as values: records, where they stand, and what `open` finds.
//!
//! Must not know: how a record looks on disk (`frame.rs` does), what a key means.

use super::frame::{self, Header};
use bytes::Bytes;
use quorate_raft::{EntryId, LogIndex};
use std::fmt;

/// Position of a change in history: etcd's revision, and the order within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Grows by one with each changing transaction.
    pub main: u64,
    /// Order within one transaction, from 0.
    pub sub: u32,
}

/// `main.sub`.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

/// Where a record stands. Twelve bytes, because the key index holds one per version.
///
/// Valid while a [`super::Pin`] taken before it was looked up is held; compaction moves records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The segment's number in this directory.
    segment: u32,
    /// Offset in the segment, in units of [`frame::ALIGN_BYTES`].
    slot: u32,
    /// Bytes of the whole frame: header, body, padding.
    len: u32,
}

impl Location {
    /// A location from its parts; `offset` must be aligned, as all frames are.
    pub(crate) fn new(segment: u32, offset: u64, len: u32) -> Self {
        assert!(
            offset.is_multiple_of(frame::ALIGN_BYTES),
            "offset {offset} of a record is not aligned"
        );
        let slot = u32::try_from(offset / frame::ALIGN_BYTES)
            .expect("a segment is sealed long before 32 GiB: BATCH_BYTES_MAX bounds a batch");
        Self { segment, slot, len }
    }

    /// Number of the segment that holds the record.
    #[must_use]
    pub const fn segment(self) -> u32 {
        self.segment
    }

    /// Offset of the record in its segment, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.slot as u64 * frame::ALIGN_BYTES
    }

    /// Bytes that the record takes on disk.
    #[must_use]
    pub const fn disk_bytes(self) -> u32 {
        self.len
    }

    /// Offset of what follows the record.
    pub(super) const fn end(self) -> u64 {
        self.offset() + self.len as u64
    }
}

/// `segment:offset`.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset())
    }
}

/// Which table of the state machine an opaque record belongs to. On disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MetaKind {
    /// Members: names, addresses, tombstones.
    Membership = 1,
    /// Cluster-wide values: version, UUID.
    Cluster = 2,
    /// Leases.
    Lease = 3,
    /// Users, roles, and whether auth is on.
    Auth = 4,
    /// Alarms.
    Alarm = 5,
}

impl MetaKind {
    /// The kind with this number on disk.
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Membership),
            2 => Some(Self::Cluster),
            3 => Some(Self::Lease),
            4 => Some(Self::Auth),
            5 => Some(Self::Alarm),
            _ => None,
        }
    }
}

/// How far the state machine has come: ends an apply batch, and names what recovery finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppliedMark {
    /// The last entry whose effects are all contained.
    pub applied: EntryId,
    /// Index of the entry that brought the membership in force at `applied`.
    pub membership_index: LogIndex,
    /// The state machine's own digest of its state, 0 when it keeps none.
    pub digest: u64,
}

/// One thing to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A new version of a key.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its value, which may be empty.
        value: &'a [u8],
        /// Revision (main) at which the key was created.
        create: u64,
        /// Revision of this change.
        mod_rev: Revision,
        /// Changes of the key since its creation, this one included.
        version: u64,
        /// Lease that holds the key, 0 for none.
        lease: i64,
    },
    /// A key's end (tombstone).
    Delete {
        /// The key.
        key: &'a [u8],
        /// Revision of the deletion.
        mod_rev: Revision,
    },
    /// History below this revision may go.
    Compaction {
        /// The compacted revision (main).
        revision: u64,
    },
    /// An opaque row of the state machine. The newest of each kind and key survives compaction.
    Meta {
        /// The table.
        kind: MetaKind,
        /// The row.
        key: &'a [u8],
        /// Its content; empty means that the row is gone.
        bytes: &'a [u8],
    },
}

/// One record that `open` found, in the order of history and without its value.
///
/// All that is on disk is reported: also versions that a later [`Recovered::Compaction`] makes
/// obsolete, because segments are rewritten later, and a tombstone outlives what it hides. The
/// visitor applies the last compaction once the visit has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered<'a> {
    /// A version of a key.
    Put {
        /// The key.
        key: &'a [u8],
        /// Revision (main) at which the key was created.
        create: u64,
        /// Revision of this change.
        mod_rev: Revision,
        /// Changes of the key since its creation, this one included.
        version: u64,
        /// Lease that holds the key, 0 for none.
        lease: i64,
        /// Length of the value, in bytes.
        value_len: u32,
        /// Where the record stands.
        location: Location,
    },
    /// A key's end.
    Delete {
        /// The key.
        key: &'a [u8],
        /// Revision of the deletion.
        mod_rev: Revision,
        /// Where the record stands.
        location: Location,
    },
    /// History below this revision may go.
    Compaction {
        /// The compacted revision (main).
        revision: u64,
    },
    /// An opaque row; the last one of each kind and key counts.
    Meta {
        /// The table.
        kind: MetaKind,
        /// The row.
        key: &'a [u8],
        /// Its content; empty means that the row is gone.
        bytes: &'a [u8],
    },
}

/// A record that was read: checksums are verified, memory is shared.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The whole frame.
    frame: Bytes,
    /// Its header, verified.
    header: Header,
}

impl Stored {
    /// Wraps a frame whose checksums and whose body were verified.
    pub(super) fn new(frame: Bytes, header: Header) -> Self {
        Self { frame, header }
    }

    /// The record, borrowed.
    #[must_use]
    pub fn record(&self) -> Record<'_> {
        frame::decode_record(&self.header, self.body())
            .expect("Stored is made only from frames whose body was decoded before")
    }

    /// The key; empty for a record without one.
    #[must_use]
    pub fn key(&self) -> Bytes {
        match self.record() {
            Record::Put { key, .. } | Record::Delete { key, .. } | Record::Meta { key, .. } => {
                self.frame.slice_ref(key)
            }
            Record::Compaction { .. } => Bytes::new(),
        }
    }

    /// The value of a put or the content of a meta row, without a copy; empty for the others.
    #[must_use]
    pub fn value(&self) -> Bytes {
        match self.record() {
            Record::Put { value, .. } => self.frame.slice_ref(value),
            Record::Meta { bytes, .. } => self.frame.slice_ref(bytes),
            Record::Delete { .. } | Record::Compaction { .. } => Bytes::new(),
        }
    }

    /// The body, without padding.
    fn body(&self) -> &[u8] {
        &self.frame[frame::HEADER_BYTES..frame::HEADER_BYTES + self.header.body_len as usize]
    }
}
