//! Bytes of values that several files on disk share: membership and snapshot position.
//!
//! Little-endian, lengths checked against what is there before anything is allocated (F14).
//! An accidental change of these bytes fails a golden test; see `docs/on-disk-format.md`.

use quorate_raft::{EntryId, LogIndex, MemberId, Membership, SnapshotMeta, Term};
use std::collections::BTreeSet;

/// Members that one membership may name, over its four sets.
pub const MEMBERSHIP_IDS_MAX: usize = 400;
/// Bytes of the context that a joint membership may keep for the entry that leaves it.
pub const LEAVE_CONTEXT_BYTES_MAX: usize = 32 * 1024;

/// Bytes that are not what they should be: too short, too long, or out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed bytes: {0}")]
pub struct Malformed(pub &'static str);

/// Takes values from the front of a slice, never beyond its end.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if count > self.rest.len() {
            return Err(Malformed("ends too early"));
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The next byte.
    ///
    /// # Errors
    /// When there is none.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// The next two bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next four bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next eight bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// All that is left.
    #[must_use]
    pub const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was taken.
    ///
    /// # Errors
    /// When something is left over.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed("has bytes left over"))
        }
    }
}

/// Appends a membership: four counts, the IDs of the four sets in ascending order, length and bytes
/// of the context to leave with.
pub fn put_membership(buf: &mut Vec<u8>, membership: &Membership) {
    let sets = sets(membership);
    for set in sets {
        let count = u16::try_from(set.len()).unwrap_or(u16::MAX);
        buf.extend_from_slice(&count.to_le_bytes());
    }
    for id in sets.into_iter().flatten() {
        buf.extend_from_slice(&id.0.to_le_bytes());
    }
    let context = &membership.leave_context;
    let length = u32::try_from(context.len()).unwrap_or(u32::MAX);
    buf.extend_from_slice(&length.to_le_bytes());
    buf.extend_from_slice(context);
}

/// Bytes that [`put_membership`] appends.
#[must_use]
pub fn membership_bytes(membership: &Membership) -> usize {
    8 + 8 * membership_ids(membership) + 4 + membership.leave_context.len()
}

/// How many IDs the four sets of a membership hold, to compare with [`MEMBERSHIP_IDS_MAX`].
#[must_use]
pub fn membership_ids(membership: &Membership) -> usize {
    sets(membership).iter().map(|set| set.len()).sum()
}

fn sets(membership: &Membership) -> [&BTreeSet<MemberId>; 4] {
    let Membership {
        voters,
        outgoing,
        learners,
        learners_next,
        leave_context: _,
    } = membership;
    [voters, outgoing, learners, learners_next]
}

/// Reads what [`put_membership`] wrote.
///
/// # Errors
/// When the bytes end too early, name more than [`MEMBERSHIP_IDS_MAX`] members, or a set is not in
/// ascending order.
pub fn take_membership(cursor: &mut Cursor<'_>) -> Result<Membership, Malformed> {
    let counts = [cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?];
    if counts
        .iter()
        .map(|count| usize::from(*count))
        .sum::<usize>()
        > MEMBERSHIP_IDS_MAX
    {
        return Err(Malformed("names too many members"));
    }
    let mut sets: [BTreeSet<MemberId>; 4] = Default::default();
    for (set, count) in sets.iter_mut().zip(counts) {
        for _ in 0..count {
            let id = MemberId(cursor.u64()?);
            if set.last().is_some_and(|last| *last >= id) {
                return Err(Malformed("names members out of order"));
            }
            set.insert(id);
        }
    }
    let [voters, outgoing, learners, learners_next] = sets;
    let length = cursor.u32()? as usize;
    if length > LEAVE_CONTEXT_BYTES_MAX {
        return Err(Malformed("holds too long a context"));
    }
    let leave_context = cursor.take(length)?.into();
    Ok(Membership {
        voters,
        outgoing,
        learners,
        learners_next,
        leave_context,
    })
}

/// Appends an entry ID: term, then index.
pub fn put_entry_id(buf: &mut Vec<u8>, id: EntryId) {
    buf.extend_from_slice(&id.term.0.to_le_bytes());
    buf.extend_from_slice(&id.index.0.to_le_bytes());
}

/// Reads what [`put_entry_id`] wrote.
///
/// # Errors
/// When the bytes end too early.
pub fn take_entry_id(cursor: &mut Cursor<'_>) -> Result<EntryId, Malformed> {
    Ok(EntryId {
        term: Term(cursor.u64()?),
        index: LogIndex(cursor.u64()?),
    })
}

/// Appends the position of a snapshot: entry ID, membership index, membership.
pub fn put_snapshot_meta(buf: &mut Vec<u8>, meta: &SnapshotMeta) {
    put_entry_id(buf, meta.last);
    buf.extend_from_slice(&meta.membership_index.0.to_le_bytes());
    put_membership(buf, &meta.membership);
}

/// Reads what [`put_snapshot_meta`] wrote.
///
/// # Errors
/// As for [`take_membership`].
pub fn take_snapshot_meta(cursor: &mut Cursor<'_>) -> Result<SnapshotMeta, Malformed> {
    let last = take_entry_id(cursor)?;
    let membership_index = LogIndex(cursor.u64()?);
    Ok(SnapshotMeta {
        last,
        membership: take_membership(cursor)?,
        membership_index,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn meta() -> SnapshotMeta {
        SnapshotMeta {
            last: EntryId {
                term: Term(3),
                index: LogIndex(9),
            },
            membership: Membership {
                voters: [1, 2].map(MemberId).into(),
                outgoing: [7].map(MemberId).into(),
                learners: [3].map(MemberId).into(),
                learners_next: BTreeSet::new(),
                leave_context: Arc::from(&b"names"[..]),
            },
            membership_index: LogIndex(8),
        }
    }

    #[test]
    fn a_snapshot_position_survives_its_bytes() {
        let mut bytes = Vec::new();
        put_snapshot_meta(&mut bytes, &meta());
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(take_snapshot_meta(&mut cursor), Ok(meta()));
        assert_eq!(cursor.finish(), Ok(()));
    }

    #[test]
    fn f14_a_hostile_member_count_is_refused_before_it_is_believed() {
        let mut bytes = vec![0xff; 8];
        bytes.extend_from_slice(&[0; 64]);
        let refused = take_membership(&mut Cursor::new(&bytes));
        assert_eq!(refused, Err(Malformed("names too many members")));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_or_read_back_the_same(bytes: Vec<u8>) {
            let mut cursor = Cursor::new(&bytes);
            if let Ok(meta) = take_snapshot_meta(&mut cursor) {
                let mut again = Vec::new();
                put_snapshot_meta(&mut again, &meta);
                prop_assert_eq!(&bytes[..again.len()], &again[..]);
            }
        }
    }
}
