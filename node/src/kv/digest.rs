//! The rolling digest of everything the state machine has done.
//!
//! Two members at the same applied index have the same digest, or one of them is wrong (N11, G17).
//! It covers effects, not requests, in their order; it costs one CRC per record.

use crate::storage::revision_log::Record;

/// A 64-bit digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest(pub(super) u64);

impl Digest {
    /// Folds one record in.
    pub(super) fn add(&mut self, record: &Record<'_>) {
        match *record {
            Record::Put {
                key,
                value,
                create,
                mod_rev,
                version,
                lease,
            } => self.fold(
                1,
                [
                    mod_rev.main,
                    mod_rev.sub.into(),
                    create,
                    version,
                    lease.cast_unsigned(),
                ],
                key,
                value,
            ),
            Record::Delete { key, mod_rev } => {
                self.fold(2, [mod_rev.main, mod_rev.sub.into(), 0, 0, 0], key, &[]);
            }
            Record::Compaction { revision } => self.fold(3, [revision, 0, 0, 0, 0], &[], &[]),
            Record::Meta { kind, key, bytes } => {
                self.fold(4, [kind as u64, 0, 0, 0, 0], key, bytes);
            }
        }
    }

    fn fold(&mut self, kind: u64, numbers: [u64; 5], key: &[u8], value: &[u8]) {
        // Lengths stand in front, so that no two records give the same bytes.
        let lengths = [kind, key.len() as u64, value.len() as u64];
        let mut head = [0; 64];
        for (place, number) in head.chunks_exact_mut(8).zip(lengths.iter().chain(&numbers)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&head);
        let crc = crc32c::crc32c_append(crc, key);
        let crc = crc32c::crc32c_append(crc, value);
        // A multiplication by an odd number and xor-shifts are reversible: no two digests
        // before give the same digest after.
        let mut mixed = self.0 ^ (u64::from(crc) | numbers[0] << 32);
        mixed = (mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = (mixed ^ mixed >> 29)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .wrapping_add(1);
    }
}
