//! A segment file: its name and its header, which fills its first blocks, mostly one.
//!
//! The header says where the log stood when the segment began: the entry before it and the
//! membership in force there. A log cut free of its older segments therefore still knows where it
//! starts (C7), and a log that restarts behind a snapshot needs nothing but a new segment.

use super::record::Position;
use crate::storage::codec::{self, Cursor};
use quorate_raft::SnapshotMeta;

/// Bytes that fail together: the header has blocks of its own, and marks are kept out of the block
/// that holds what they cover (W2).
pub(crate) const BLOCK_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"QRT-WAL1";
const FIXED_BYTES: usize = 64;
/// Term, index and membership index of the base.
const BASE_BYTES: usize = 24;
/// A header never has more blocks than the largest membership needs.
const BLOCKS_MAX: usize = 12;

/// Bytes that a header takes, with a membership of this size; records start behind it.
pub(crate) const fn header_bytes(membership_bytes: usize) -> usize {
    (FIXED_BYTES + BASE_BYTES + membership_bytes).next_multiple_of(BLOCK_BYTES)
}

/// How the log goes on with this segment. On disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Start {
    /// After the last record of the segment before.
    Continues = 1,
    /// Anew behind a snapshot: nothing older counts.
    Reset = 2,
    /// After damage, behind the last entry known to be whole; the leader fills in the rest.
    Resume = 3,
}

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Which log: the directory's ID.
    pub log_id: [u8; 16],
    /// Which segment, as in its name.
    pub id: u32,
    /// Length of the file.
    pub capacity: u32,
    /// Which start of the member began it.
    pub incarnation: u64,
    /// How the log goes on here.
    pub start: Start,
    /// Whether nothing was under repair when it began.
    pub whole: bool,
    /// Checksum of the last record of the segment before; 0 when nothing is continued.
    pub previous: u32,
    /// The oldest segment that was part of the log.
    pub oldest: u32,
    /// The watermark.
    pub synced: Position,
    /// The entry before the first of this segment, and the membership there.
    pub base: SnapshotMeta,
}

/// Name of a segment's file.
pub(crate) fn file_name(id: u32) -> String {
    format!("{id:08x}.wal")
}

/// The segment that a file name stands for.
pub(crate) fn parse_file_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".wal")?;
    if digits.len() != 8 || digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok()
}

impl SegmentHeader {
    /// Bytes that it takes; records start behind it.
    pub(crate) fn bytes(&self) -> usize {
        header_bytes(codec::membership_bytes(&self.base.membership))
    }

    /// Its blocks, and their checksum, which is where the chain of this segment begins.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let bytes = self.bytes();
        assert!(
            bytes <= BLOCKS_MAX * BLOCK_BYTES,
            "memberships are bounded to fit"
        );
        let mut block = Vec::with_capacity(bytes);
        block.extend_from_slice(&MAGIC);
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&self.id.to_le_bytes());
        block.extend_from_slice(&self.log_id);
        block.extend_from_slice(&self.incarnation.to_le_bytes());
        block.extend_from_slice(&self.capacity.to_le_bytes());
        block.extend_from_slice(&self.oldest.to_le_bytes());
        block.extend_from_slice(&self.synced.segment.to_le_bytes());
        block.extend_from_slice(&self.synced.offset.to_le_bytes());
        block.extend_from_slice(&self.previous.to_le_bytes());
        block.extend_from_slice(&[
            self.start as u8,
            u8::from(self.whole),
            (bytes / BLOCK_BYTES) as u8,
            0,
        ]);
        assert_eq!(
            block.len(),
            FIXED_BYTES,
            "the fixed part of a segment header has a fixed size"
        );
        codec::put_snapshot_meta(&mut block, &self.base);
        block.resize(bytes, 0);
        let crc = crc32c::crc32c(&block);
        block[8..12].copy_from_slice(&crc.to_le_bytes());
        (block, crc)
    }

    /// Reads the header at the start of a segment's bytes; `None` when it is not whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let blocks = usize::from(*bytes.get(FIXED_BYTES - 2)?);
        if blocks == 0 || blocks > BLOCKS_MAX {
            return None;
        }
        let block = bytes.get(..blocks * BLOCK_BYTES)?;
        let mut cursor = Cursor::new(block);
        if cursor.array::<8>().ok()? != MAGIC {
            return None;
        }
        let crc = cursor.u32().ok()?;
        let sum = crc32c::crc32c(&block[..8]);
        let sum = crc32c::crc32c_append(sum, &[0; 4]);
        if crc32c::crc32c_append(sum, &block[12..]) != crc {
            return None;
        }
        let id = cursor.u32().ok()?;
        let log_id = cursor.array().ok()?;
        let incarnation = cursor.u64().ok()?;
        let capacity = cursor.u32().ok()?;
        let oldest = cursor.u32().ok()?;
        let synced = Position {
            segment: cursor.u32().ok()?,
            offset: cursor.u32().ok()?,
        };
        let previous = cursor.u32().ok()?;
        let [start, whole, _, _] = cursor.array().ok()?;
        let start = match start {
            1 => Start::Continues,
            2 => Start::Reset,
            3 => Start::Resume,
            _ => return None,
        };
        let base = codec::take_snapshot_meta(&mut cursor).ok()?;
        let header = Self {
            log_id,
            id,
            capacity,
            incarnation,
            start,
            whole: whole == 1,
            previous,
            oldest,
            synced,
            base,
        };
        // The length is covered by the checksum, and must be what the content says.
        (header.bytes() == block.len()).then_some((header, crc))
    }
}
