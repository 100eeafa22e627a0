//! One segment file: its header, its trailer, its name, and what is known about it in memory.
//!
//! ```text
//! header 64 | records and marks ... | index frames ... | chunk table frame | trailer 128
//!           ^ HEADER_BYTES          ^ data_end         ^ table_at          ^ length - 128
//! ```
//! An unsealed segment ends after its last record. Must not know: which segments form the log
//! (`manifest.rs`), how sealing comes about (`seal.rs`).

use super::error::Error;
use super::frame::{self, u32_at, u64_at};
use super::record::AppliedMark;
use crate::env::{Disk, File, read_full};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes before the first record.
pub(super) const HEADER_BYTES: u64 = 64;
/// Bytes after the chunk table of a sealed segment.
pub(super) const TRAILER_BYTES: u64 = 128;
/// The newest segment format that this program reads, and the one it writes.
pub(super) const FORMAT: u16 = 1;

/// First bytes of a segment.
const HEADER_MAGIC: [u8; 8] = *b"QRREVSEG";
/// First bytes of a trailer.
const TRAILER_MAGIC: [u8; 8] = *b"QRREVEND";

/// What the log knows about a segment, apart from its content.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its number in this directory, which names the file.
    pub id: u32,
    /// Its identity, in every checksum; the same on every member that holds a copy.
    pub nonce: u64,
    /// The file.
    pub path: String,
    /// Bytes written.
    pub len: AtomicU64,
    /// Bytes durable.
    pub synced: AtomicU64,
    /// Bytes of records that no revision needs any more.
    pub dead: AtomicU64,
    /// Bytes of tombstones that are kept only for what they hide in earlier segments.
    pub hiding: AtomicU64,
    /// It left the log; only pinned readers still use it.
    retired: AtomicBool,
}

impl Segment {
    /// A segment of which `len` bytes are durable.
    pub fn new(dir: &str, id: u32, nonce: u64, len: u64) -> Self {
        let (len, synced) = (AtomicU64::new(len), AtomicU64::new(len));
        let (dead, hiding) = (AtomicU64::new(0), AtomicU64::new(0));
        let retired = AtomicBool::new(false);
        Self {
            id,
            nonce,
            path: path(dir, id),
            len,
            synced,
            dead,
            hiding,
            retired,
        }
    }

    /// Notes that the segment left the log.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether the segment left the log.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

/// The file of a segment.
pub(super) fn path(dir: &str, id: u32) -> String {
    format!("{dir}/{id:08}.rev")
}

/// The number of the segment whose file has this name.
pub(super) fn number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".rev")?;
    (digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// The nonce of a new segment: unlike for any other number, member and incarnation.
pub(super) fn nonce(identity: u64, id: u32) -> u64 {
    // The finaliser of SplitMix64: a bijection, so that different inputs never meet.
    let mut z = identity ^ u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The first bytes of a segment.
pub(super) fn encode_header(id: u32, nonce: u64) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(&HEADER_MAGIC);
    header[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..16].copy_from_slice(&id.to_le_bytes());
    header[16..24].copy_from_slice(&nonce.to_le_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The number at creation and the nonce that a segment's header names.
pub(super) fn read_header(file: &dyn File, path: &str, id: u32) -> Result<(u32, u64), Error> {
    let mut header = [0; HEADER_BYTES as usize];
    let read = read_full(file, &mut header, 0).map_err(Error::read(path))?;
    let corrupt = |what| Error::Corrupt {
        path: path.to_owned(),
        segment: id,
        offset: 0,
        what,
    };
    if read < header.len() || header[..8] != HEADER_MAGIC {
        return Err(corrupt("segment header"));
    }
    if crc32c::crc32c(&header[..60]) != u32_at(&header, 60) {
        return Err(corrupt("checksum of the segment header"));
    }
    check_version(path, &header)?;
    Ok((u32_at(&header, 12), u64_at(&header, 16)))
}

/// Refuses a file of a newer version; `bytes` starts with magic and version, checksum verified.
fn check_version(path: &str, bytes: &[u8]) -> Result<(), Error> {
    let found = u16::from_le_bytes([bytes[8], bytes[9]]);
    match found {
        FORMAT => Ok(()),
        _ => Err(Error::Version {
            path: path.to_owned(),
            found,
            known: FORMAT,
        }),
    }
}

/// The last bytes of a sealed segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trailer {
    /// Offset of the first index frame.
    pub data_end: u64,
    /// Entries in the index.
    pub entries: u64,
    /// Offset of the chunk table's frame.
    pub table_at: u64,
    /// Smallest and largest revision (main) of its puts and deletions; 0 and 0 when there is none.
    pub revisions: (u64, u64),
    /// The newest compacted revision recorded in it, 0 when there is none.
    pub compacted: u64,
    /// Marks in it.
    pub marks: u64,
    /// The last mark in it.
    pub last_mark: Option<AppliedMark>,
}

impl Trailer {
    /// The trailer as bytes.
    pub fn encode(&self, nonce: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER_BYTES as usize);
        out.extend_from_slice(&TRAILER_MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[u8::from(self.last_mark.is_some()), 0, 0, 0, 0, 0]);
        for number in [
            nonce,
            self.data_end,
            self.entries,
            self.table_at,
            self.revisions.0,
            self.revisions.1,
            self.compacted,
            self.marks,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        frame::encode_applied(&mut out, &self.last_mark.unwrap_or_default());
        out.resize(TRAILER_BYTES as usize - 4, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The trailer in `bytes`; `None` when they are not the one of this segment.
    fn decode(bytes: &[u8], nonce: u64) -> Option<Self> {
        let whole = bytes.len() == TRAILER_BYTES as usize
            && bytes[..8] == TRAILER_MAGIC
            && crc32c::crc32c(&bytes[..124]) == u32_at(bytes, 124)
            && u64_at(bytes, 16) == nonce;
        if !whole {
            return None;
        }
        let said = frame::decode_applied(&bytes[80..112])?;
        Some(Self {
            data_end: u64_at(bytes, 24),
            entries: u64_at(bytes, 32),
            table_at: u64_at(bytes, 40),
            revisions: (u64_at(bytes, 48), u64_at(bytes, 56)),
            compacted: u64_at(bytes, 64),
            marks: u64_at(bytes, 72),
            last_mark: (bytes[10] == 1).then_some(said),
        })
    }
}

/// The trailer at the end of a file of `len` bytes; `None` when the segment is not sealed.
pub(super) fn read_trailer(
    file: &dyn File,
    path: &str,
    nonce: u64,
    len: u64,
) -> Result<Option<Trailer>, Error> {
    let Some(at) = len
        .checked_sub(TRAILER_BYTES)
        .filter(|at| *at >= HEADER_BYTES)
    else {
        return Ok(None);
    };
    let mut bytes = [0; TRAILER_BYTES as usize];
    let read = read_full(file, &mut bytes, at).map_err(Error::read(path))?;
    let Some(trailer) = Trailer::decode(&bytes[..read], nonce) else {
        return Ok(None);
    };
    check_version(path, &bytes)?;
    // Positions that contradict each other are damage, whatever the checksum says.
    let ordered = HEADER_BYTES <= trailer.data_end
        && trailer.data_end <= trailer.table_at
        && trailer.table_at < at;
    Ok(ordered.then_some(trailer))
}

/// Creates a segment file with its header, synced; the caller syncs the directory.
///
/// A file that has the name already was never in a manifest: it is of a crash, and goes.
pub(super) fn create(
    disk: &dyn Disk,
    path: &str,
    id: u32,
    nonce: u64,
) -> Result<Box<dyn File>, Error> {
    use crate::env::OpenMode::CreateNew;
    if disk.exists(path).map_err(Error::read(path))? {
        disk.remove(path).map_err(Error::write("remove", path))?;
    }
    let file = disk
        .open(path, CreateNew)
        .map_err(Error::write("create", path))?;
    file.write_all_at(&encode_header(id, nonce), 0)
        .map_err(Error::write("write", path))?;
    file.sync_all().map_err(Error::write("sync", path))?;
    Ok(file)
}
