//! One record of the log: its bytes, and how it is told apart from everything else (W1, W4).
//!
//! A record is a header of 48 bytes and a payload, padded with zeros to 8. The header has its own
//! checksum, so that a damaged length cannot hide what follows; the second one covers header and
//! payload. Both are seeded with log ID, segment and incarnation, the first also with the offset:
//! bytes of another log, another life of the segment or another place never validate. Each record
//! names the checksum of the one before it: that is the chain.

use crate::storage::codec::{self, Cursor, Malformed};
use quorate_raft::{Entry, EntryId, LogIndex, Payload, Term};
use std::fmt;
use std::sync::Arc;

/// Bytes before the payload.
pub(crate) const HEADER_BYTES: usize = 48;
/// Records start at multiples of this.
pub(crate) const ALIGN: usize = 8;
/// Largest payload: the length has 24 bits.
pub const PAYLOAD_BYTES_MAX: usize = (1 << 24) - 1;

/// A place in the log: segment, and offset in it. Ordered as the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Which segment; the first is 1.
    pub segment: u32,
    /// Bytes from its start.
    pub offset: u32,
}

impl Position {
    const fn pack(self) -> u64 {
        (self.segment as u64) << 32 | self.offset as u64
    }

    const fn unpack(word: u64) -> Self {
        Self {
            segment: (word >> 32) as u32,
            offset: word as u32,
        }
    }
}

/// `segment+offset`, both as in file names and hex dumps.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}+{:#x}", self.segment, self.offset)
    }
}

/// What a record is. On disk: never renumber. 0 stays unused, so that zeros are no record (F6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    /// An entry without content.
    Empty = 1,
    /// An entry with a command.
    Command = 2,
    /// An entry with a membership.
    Membership = 3,
    /// Entries from `index` on are cut from the log.
    Cut = 4,
    /// Nothing new but the watermark; `index` is a commit index seen.
    Mark = 5,
    /// The segment ends here; `index` is the segment that follows.
    Seal = 6,
    /// Segments before number `index` are no longer part of the log.
    Release = 7,
    /// Damage before this record has been repaired by the leader.
    Repaired = 8,
    /// Fills a block.
    Pad = 9,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Empty,
            2 => Self::Command,
            3 => Self::Membership,
            4 => Self::Cut,
            5 => Self::Mark,
            6 => Self::Seal,
            7 => Self::Release,
            8 => Self::Repaired,
            9 => Self::Pad,
            _ => return None,
        })
    }
}

/// Names what may validate: one log, one segment, one incarnation.
///
/// Computed once per segment and start, not per record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    /// The seed of records that incarnation `incarnation` writes into a segment.
    pub(crate) fn new(log_id: &[u8; 16], segment: u32, incarnation: u64) -> Self {
        let crc = crc32c::crc32c(log_id);
        let crc = crc32c::crc32c_append(crc, &segment.to_le_bytes());
        Self(crc32c::crc32c_append(crc, &incarnation.to_le_bytes()))
    }
}

/// A record's header, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Checksum over the rest of the header and the payload.
    pub crc: u32,
    /// That of the record before.
    pub previous: u32,
    /// What it is.
    pub kind: Kind,
    /// Bytes of payload, without padding.
    pub payload_bytes: usize,
    /// Which start of the member wrote it.
    pub incarnation: u64,
    /// By kind.
    pub index: u64,
    /// Of an entry.
    pub term: u64,
    /// The watermark: everything before it was synced when this was written (W2).
    pub synced: Position,
}

/// What all records of one append share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    /// Of this segment and incarnation.
    pub seed: Seed,
    /// Which start of the member writes.
    pub incarnation: u64,
    /// The watermark.
    pub synced: Position,
}

/// Bytes a record takes with a payload of this size.
pub(crate) const fn record_bytes(payload_bytes: usize) -> usize {
    HEADER_BYTES + payload_bytes.next_multiple_of(ALIGN)
}

/// Appends a record that will stand at `offset` of its segment, with a payload written by `fill`;
/// answers its checksum. Allocates nothing once `buf` has grown.
pub(crate) fn push(
    buf: &mut Vec<u8>,
    stamp: &Stamp,
    offset: u32,
    previous: u32,
    kind: Kind,
    id: EntryId,
    fill: impl FnOnce(&mut Vec<u8>),
) -> u32 {
    let start = buf.len();
    let mut header = [0; HEADER_BYTES];
    buf.extend_from_slice(&header);
    fill(buf);
    let payload_bytes = buf.len() - start - HEADER_BYTES;
    assert!(
        payload_bytes <= PAYLOAD_BYTES_MAX,
        "payload of {payload_bytes} bytes was not refused"
    );
    buf.resize(start + record_bytes(payload_bytes), 0);
    let length_and_kind = payload_bytes as u32 | (kind as u32) << 24;
    header[8..12].copy_from_slice(&previous.to_le_bytes());
    header[12..16].copy_from_slice(&length_and_kind.to_le_bytes());
    header[16..24].copy_from_slice(&stamp.incarnation.to_le_bytes());
    header[24..32].copy_from_slice(&id.index.0.to_le_bytes());
    header[32..40].copy_from_slice(&id.term.0.to_le_bytes());
    header[40..48].copy_from_slice(&stamp.synced.pack().to_le_bytes());
    let crc = crc32c::crc32c_append(stamp.seed.0, &header[8..]);
    let crc = crc32c::crc32c_append(crc, &buf[start + HEADER_BYTES..]);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    let own = header_crc(stamp.seed, offset, &header);
    header[0..4].copy_from_slice(&own.to_le_bytes());
    buf[start..start + HEADER_BYTES].copy_from_slice(&header);
    crc
}

fn header_crc(seed: Seed, offset: u32, header: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed.0, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, &header[4..HEADER_BYTES])
}

/// Reads headers of one segment, remembering the seed of the incarnation seen last.
#[derive(Clone, Debug)]
pub(crate) struct HeaderReader {
    log_id: [u8; 16],
    segment: u32,
    /// What the seed is made of; differs from `segment` only in a planted bug.
    seed_segment: u32,
    cached: (u64, Seed),
}

impl HeaderReader {
    /// For one segment of one log.
    pub(crate) fn new(log_id: [u8; 16], segment: u32, seed_segment: u32) -> Self {
        Self {
            log_id,
            segment,
            seed_segment,
            cached: (0, Seed::new(&log_id, seed_segment, 0)),
        }
    }

    fn seed(&mut self, incarnation: u64) -> Seed {
        if self.cached.0 != incarnation {
            let seed = Seed::new(&self.log_id, self.seed_segment, incarnation);
            self.cached = (incarnation, seed);
        }
        self.cached.1
    }

    /// The header at the start of `bytes`, when one stands there and was written for exactly this
    /// place. Nothing is believed before its checksum is.
    pub(crate) fn read(&mut self, bytes: &[u8], offset: u32) -> Option<Header> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        // The kind first: it rejects zeros and most other bytes without a checksum.
        let kind = Kind::from_byte(bytes[15])?;
        let mut cursor = Cursor::new(bytes);
        let own = cursor.u32().ok()?;
        let crc = cursor.u32().ok()?;
        let previous = cursor.u32().ok()?;
        let payload_bytes = (cursor.u32().ok()? & 0x00ff_ffff) as usize;
        let incarnation = cursor.u64().ok()?;
        let index = cursor.u64().ok()?;
        let term = cursor.u64().ok()?;
        let synced = Position::unpack(cursor.u64().ok()?);
        // A watermark beyond the record itself cannot be true.
        if synced
            > (Position {
                segment: self.segment,
                offset,
            })
            && self.seed_segment != 0
        {
            return None;
        }
        if header_crc(self.seed(incarnation), offset, bytes) != own {
            return None;
        }
        Some(Header {
            crc,
            previous,
            kind,
            payload_bytes,
            incarnation,
            index,
            term,
            synced,
        })
    }

    /// Whether the padded payload that follows a header is the one it was written with.
    pub(crate) fn body_matches(&mut self, bytes: &[u8], header: &Header) -> bool {
        let seed = self.seed(header.incarnation);
        let end = record_bytes(header.payload_bytes);
        crc32c::crc32c_append(seed.0, &bytes[8..end]) == header.crc
    }
}

/// What a record says, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An entry.
    Entry(Entry),
    /// See [`Kind::Cut`].
    Cut(LogIndex),
    /// See [`Kind::Mark`].
    Mark {
        /// A commit index seen.
        commit: LogIndex,
    },
    /// See [`Kind::Seal`].
    Seal {
        /// The segment that follows.
        next: u32,
    },
    /// See [`Kind::Release`].
    Release {
        /// The oldest segment still part of the log.
        oldest: u32,
    },
    /// See [`Kind::Repaired`].
    Repaired,
    /// See [`Kind::Pad`].
    Pad,
}

/// Decodes a record whose checksums match.
///
/// # Errors
/// When the payload is not one that this version writes.
pub(crate) fn decode(header: &Header, payload: &[u8]) -> Result<Item, Malformed> {
    let id = EntryId {
        term: Term(header.term),
        index: LogIndex(header.index),
    };
    let segment = || u32::try_from(header.index).map_err(|_| Malformed("segment out of range"));
    let entry = |payload| Ok(Item::Entry(Entry { id, payload }));
    match header.kind {
        Kind::Empty => entry(Payload::Empty),
        Kind::Command => entry(Payload::Command(Arc::from(payload))),
        Kind::Membership => {
            let mut cursor = Cursor::new(payload);
            let membership = Arc::new(codec::take_membership(&mut cursor)?);
            entry(Payload::Membership {
                membership,
                context: Arc::from(cursor.rest()),
            })
        }
        Kind::Cut => Ok(Item::Cut(id.index)),
        Kind::Mark => Ok(Item::Mark { commit: id.index }),
        Kind::Seal => Ok(Item::Seal { next: segment()? }),
        Kind::Release => Ok(Item::Release { oldest: segment()? }),
        Kind::Repaired => Ok(Item::Repaired),
        Kind::Pad => Ok(Item::Pad),
    }
}

/// Kind and payload size of an entry's record.
pub(crate) fn entry_shape(entry: &Entry) -> (Kind, usize) {
    match &entry.payload {
        Payload::Empty => (Kind::Empty, 0),
        Payload::Command(bytes) => (Kind::Command, bytes.len()),
        Payload::Membership {
            membership,
            context,
        } => (
            Kind::Membership,
            codec::membership_bytes(membership) + context.len(),
        ),
    }
}

/// Appends the payload of an entry's record.
pub(crate) fn put_entry_payload(buf: &mut Vec<u8>, entry: &Entry) {
    match &entry.payload {
        Payload::Empty => {}
        Payload::Command(bytes) => buf.extend_from_slice(bytes),
        Payload::Membership {
            membership,
            context,
        } => {
            codec::put_membership(buf, membership);
            buf.extend_from_slice(context);
        }
    }
}
