//! Frames: how one record looks on disk, and the checksums that guard it.
//!
//! A frame is a 16-byte header, a body, and zeros up to a multiple of 8 bytes. The header has its
//! own checksum, so that a damaged length cannot hide what follows (W1); a scan that lost its way
//! finds the next frame on the 8-byte grid. Both checksums are seeded with the segment's nonce and
//! the frame's offset: bytes of another segment, or written to the wrong place (F11), never
//! validate (W4).
//! Must not know: files, what a state machine means by a record.

use super::record::{AppliedMark, MetaKind, Record, Revision};
use quorate_raft::{EntryId, LogIndex, Term};

/// Frames start on multiples of this.
pub(super) const ALIGN_BYTES: u64 = 8;
/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 16;
/// A body is never longer; a longer length is damage, and nothing is allocated for it (F14).
pub(super) const BODY_BYTES_MAX: usize = 256 << 20;

/// Bytes of a put's body before key and value.
pub(super) const PUT_FIXED_BYTES: usize = 40;
/// Bytes of a deletion's body before the key.
const DELETE_FIXED_BYTES: usize = 12;
/// Bytes of a meta row's body before key and content.
const META_FIXED_BYTES: usize = 8;
/// Bytes of a mark's body.
const MARK_BYTES: usize = 48;

/// What a frame carries. On disk: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A version of a key.
    Put = 1,
    /// A tombstone.
    Delete = 2,
    /// The compacted revision.
    Compaction = 3,
    /// An opaque row.
    Meta = 4,
    /// The end of an apply batch.
    Mark = 5,
    /// A block of a sealed segment's footer index.
    Index = 6,
    /// Checksums of a sealed segment's chunks.
    Chunks = 7,
}

impl Kind {
    /// The kind with this number on disk.
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Put),
            2 => Some(Self::Delete),
            3 => Some(Self::Compaction),
            4 => Some(Self::Meta),
            5 => Some(Self::Mark),
            6 => Some(Self::Index),
            7 => Some(Self::Chunks),
            _ => None,
        }
    }
}

/// A verified frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What the body is.
    pub kind: Kind,
    /// Length of the body without padding.
    pub body_len: u32,
    /// Checksum of the padded body.
    pub body_crc: u32,
}

impl Header {
    /// Bytes of the whole frame.
    pub const fn frame_len(&self) -> usize {
        HEADER_BYTES + padded(self.body_len as usize)
    }
}

/// The mark as it stands on disk: what the state machine said, and what proves the batch whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// What the state machine said.
    pub said: AppliedMark,
    /// Everything of this segment before this offset was durable when the mark was made (W2).
    pub synced: u64,
    /// Records of the batch.
    pub records: u32,
    /// Checksum over the body checksums of the batch, in order.
    pub batch_crc: u32,
}

/// `len`, rounded up to the grid.
pub(super) const fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN_BYTES as usize)
}

/// What both checksums of a frame start from.
fn seed(nonce: u64, offset: u64) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&nonce.to_le_bytes());
    place[8..].copy_from_slice(&offset.to_le_bytes());
    crc32c::crc32c(&place)
}

/// Appends one frame to `out`, whose body `fill` writes. Answers the checksum of the body.
///
/// # Panics
/// When the body is longer than [`BODY_BYTES_MAX`]: requests are bounded far below.
pub(super) fn encode(
    out: &mut Vec<u8>,
    nonce: u64,
    offset: u64,
    kind: Kind,
    fill: impl FnOnce(&mut Vec<u8>),
) -> u32 {
    let start = out.len();
    out.resize(start + HEADER_BYTES, 0);
    fill(out);
    let body_len = out.len() - start - HEADER_BYTES;
    assert!(
        body_len <= BODY_BYTES_MAX,
        "a record of {body_len} bytes exceeds every limit"
    );
    out.resize(start + HEADER_BYTES + padded(body_len), 0);
    let body_len = u32::try_from(body_len).expect("BODY_BYTES_MAX fits 32 bits");
    seal_frame(&mut out[start..], nonce, offset, kind, body_len)
}

/// Writes the header of a frame whose padded body is in place. Answers the body's checksum.
fn seal_frame(frame: &mut [u8], nonce: u64, offset: u64, kind: Kind, body_len: u32) -> u32 {
    let seed = seed(nonce, offset);
    let (header, body) = frame.split_at_mut(HEADER_BYTES);
    let body_crc = crc32c::crc32c_append(seed, body);
    header[4..8].copy_from_slice(&body_crc.to_le_bytes());
    header[8..12].copy_from_slice(&body_len.to_le_bytes());
    header[12..16].copy_from_slice(&[kind as u8, 0, 0, 0]);
    let header_crc = crc32c::crc32c_append(seed, &header[4..]);
    header[..4].copy_from_slice(&header_crc.to_le_bytes());
    body_crc
}

/// The header at the start of `bytes`, if it is whole, ours, and stands where it was written.
pub(super) fn decode_header(bytes: &[u8], nonce: u64, offset: u64) -> Option<Header> {
    let header = bytes.get(..HEADER_BYTES)?;
    // Most positions that a forward scan tries are no header: the cheap tests come first.
    let kind = Kind::from_number(header[12])?;
    let body_len = u32_at(header, 8);
    if header[13..] != [0, 0, 0] || body_len as usize > BODY_BYTES_MAX {
        return None;
    }
    let crc = crc32c::crc32c_append(seed(nonce, offset), &header[4..]);
    (crc == u32_at(header, 0)).then(|| Header {
        kind,
        body_len,
        body_crc: u32_at(header, 4),
    })
}

/// Whether `padded_body` is the body that `header` promises.
pub(super) fn body_is_whole(header: &Header, padded_body: &[u8], nonce: u64, offset: u64) -> bool {
    padded_body.len() == padded(header.body_len as usize)
        && crc32c::crc32c_append(seed(nonce, offset), padded_body) == header.body_crc
}

/// Appends a record's frame to `out`. Answers the checksum of its body.
pub(super) fn encode_record(out: &mut Vec<u8>, nonce: u64, at: u64, record: &Record<'_>) -> u32 {
    match *record {
        Record::Put {
            key,
            value,
            create,
            mod_rev,
            version,
            lease,
        } => encode(out, nonce, at, Kind::Put, |body| {
            body.reserve(PUT_FIXED_BYTES + key.len() + value.len() + ALIGN_BYTES as usize);
            body.extend_from_slice(&mod_rev.main.to_le_bytes());
            body.extend_from_slice(&mod_rev.sub.to_le_bytes());
            body.extend_from_slice(&len_u32(key).to_le_bytes());
            body.extend_from_slice(&create.to_le_bytes());
            body.extend_from_slice(&version.to_le_bytes());
            body.extend_from_slice(&lease.to_le_bytes());
            body.extend_from_slice(key);
            body.extend_from_slice(value);
        }),
        Record::Delete { key, mod_rev } => encode(out, nonce, at, Kind::Delete, |body| {
            body.extend_from_slice(&mod_rev.main.to_le_bytes());
            body.extend_from_slice(&mod_rev.sub.to_le_bytes());
            body.extend_from_slice(key);
        }),
        Record::Compaction { revision } => encode(out, nonce, at, Kind::Compaction, |body| {
            body.extend_from_slice(&revision.to_le_bytes());
        }),
        Record::Meta { kind, key, bytes } => encode(out, nonce, at, Kind::Meta, |body| {
            body.extend_from_slice(&[kind as u8, 0, 0, 0]);
            body.extend_from_slice(&len_u32(key).to_le_bytes());
            body.extend_from_slice(key);
            body.extend_from_slice(bytes);
        }),
    }
}

/// The record in a verified frame; `None` when the body is not one of a record.
pub(super) fn decode_record<'a>(header: &Header, body: &'a [u8]) -> Option<Record<'a>> {
    match header.kind {
        Kind::Put => {
            let fixed = body.get(..PUT_FIXED_BYTES)?;
            let rest = &body[PUT_FIXED_BYTES..];
            let key_len = u32_at(fixed, 12) as usize;
            Some(Record::Put {
                key: rest.get(..key_len)?,
                value: &rest[key_len..],
                create: u64_at(fixed, 16),
                mod_rev: Revision {
                    main: u64_at(fixed, 0),
                    sub: u32_at(fixed, 8),
                },
                version: u64_at(fixed, 24),
                lease: i64::from_le_bytes(u64_at(fixed, 32).to_le_bytes()),
            })
        }
        Kind::Delete => {
            let fixed = body.get(..DELETE_FIXED_BYTES)?;
            let mod_rev = Revision {
                main: u64_at(fixed, 0),
                sub: u32_at(fixed, 8),
            };
            Some(Record::Delete {
                key: &body[DELETE_FIXED_BYTES..],
                mod_rev,
            })
        }
        Kind::Compaction => (body.len() == 8).then(|| Record::Compaction {
            revision: u64_at(body, 0),
        }),
        Kind::Meta => {
            let fixed = body.get(..META_FIXED_BYTES)?;
            let rest = &body[META_FIXED_BYTES..];
            let key_len = u32_at(fixed, 4) as usize;
            let kind = MetaKind::from_number(fixed[0])?;
            Some(Record::Meta {
                kind,
                key: rest.get(..key_len)?,
                bytes: &rest[key_len..],
            })
        }
        Kind::Mark | Kind::Index | Kind::Chunks => None,
    }
}

/// Appends a mark's frame to `out`.
pub(super) fn encode_mark(out: &mut Vec<u8>, nonce: u64, at: u64, mark: &Mark) {
    encode(out, nonce, at, Kind::Mark, |body| {
        encode_applied(body, &mark.said);
        body.extend_from_slice(&mark.synced.to_le_bytes());
        body.extend_from_slice(&mark.records.to_le_bytes());
        body.extend_from_slice(&mark.batch_crc.to_le_bytes());
    });
}

/// The mark in a verified frame.
pub(super) fn decode_mark(body: &[u8]) -> Option<Mark> {
    (body.len() == MARK_BYTES).then(|| Mark {
        said: decode_applied(body).expect("the length was checked"),
        synced: u64_at(body, 32),
        records: u32_at(body, 40),
        batch_crc: u32_at(body, 44),
    })
}

/// Bytes of an encoded [`AppliedMark`].
pub(super) const APPLIED_BYTES: usize = 32;

/// Appends what the state machine said at a mark.
pub(super) fn encode_applied(out: &mut Vec<u8>, said: &AppliedMark) {
    out.extend_from_slice(&said.applied.term.0.to_le_bytes());
    out.extend_from_slice(&said.applied.index.0.to_le_bytes());
    out.extend_from_slice(&said.membership_index.0.to_le_bytes());
    out.extend_from_slice(&said.digest.to_le_bytes());
}

/// What the state machine said at a mark, from the first [`APPLIED_BYTES`] of `bytes`.
pub(super) fn decode_applied(bytes: &[u8]) -> Option<AppliedMark> {
    let bytes = bytes.get(..APPLIED_BYTES)?;
    Some(AppliedMark {
        applied: EntryId {
            term: Term(u64_at(bytes, 0)),
            index: LogIndex(u64_at(bytes, 8)),
        },
        membership_index: LogIndex(u64_at(bytes, 16)),
        digest: u64_at(bytes, 24),
    })
}

/// The little-endian number at `at`; the caller has checked the length.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes make a u32"))
}

/// The little-endian number at `at`; the caller has checked the length.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(
        bytes[at..at + 8]
            .try_into()
            .expect("eight bytes make a u64"),
    )
}

/// A key's length as it stands on disk.
fn len_u32(key: &[u8]) -> u32 {
    u32::try_from(key.len()).expect("keys are bounded far below 4 GiB by the request limit")
}
