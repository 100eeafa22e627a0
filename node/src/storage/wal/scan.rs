//! Reads one segment: its records up to the first bad position, and what lies behind that (W3).
//!
//! A pure function of the bytes. It judges nothing: that needs the whole log ([`super::survey`]).

use super::record::{self, HEADER_BYTES, Header, HeaderReader, Item, Position};
use super::segment::{BLOCK_BYTES, SegmentHeader};
use crate::storage::recovery::Flaw;

/// What a segment holds.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// Which segment, by its file's name.
    pub id: u32,
    /// Its header, when that is whole and of this log and segment.
    pub header: Option<SegmentHeader>,
    /// Whether its header is whole, but of another log.
    pub is_foreign: bool,
    /// The records up to `end`, chained.
    pub items: Vec<Item>,
    /// Whole records behind `end`. They were written, but what lies between is not known.
    pub later: Vec<Item>,
    /// What stands at `end`; `None` when the segment is sealed there.
    pub flaw: Option<Flaw>,
    /// The segment named by a seal, also by one behind `end`.
    pub next: Option<u32>,
    /// The first position that is not a good record.
    pub end: u32,
    /// Whether there is anything but zeros from `end` on.
    pub tail_is_dirty: bool,
    /// Checksum of the last good record: the next one must name it.
    pub chain: u32,
    /// The highest watermark in any header or record.
    pub synced: Position,
    /// The highest incarnation in any header or record.
    pub incarnation: u64,
    /// Length of the file.
    pub file_bytes: u64,
}

impl Scan {
    /// A segment whose file is not there.
    pub(crate) fn missing(id: u32) -> Self {
        Self {
            id,
            header: None,
            is_foreign: false,
            items: Vec::new(),
            later: Vec::new(),
            flaw: Some(Flaw::Missing),
            next: None,
            end: 0,
            tail_is_dirty: false,
            chain: 0,
            synced: Position::default(),
            incarnation: 0,
            file_bytes: 0,
        }
    }

    /// Where the first bad byte is.
    pub(crate) const fn end_position(&self) -> Position {
        Position {
            segment: self.id,
            offset: self.end,
        }
    }

    /// Whether it ends with its seal.
    pub(crate) const fn is_sealed(&self) -> bool {
        self.flaw.is_none()
    }

    fn note(&mut self, header: &Header) {
        self.synced = self.synced.max(header.synced);
        self.incarnation = self.incarnation.max(header.incarnation);
    }

    fn keep(&mut self, item: Item, later: bool) {
        if let Item::Seal { next } = item {
            self.next = Some(next);
        }
        if later {
            self.later.push(item)
        } else {
            self.items.push(item)
        }
    }
}

/// Scans the bytes of segment `id` of the log `log_id`. `planted` is 0 outside of tester builds.
pub(crate) fn scan(bytes: &[u8], id: u32, log_id: &[u8; 16], planted: u32) -> Scan {
    let mut scan = Scan::missing(id);
    scan.file_bytes = bytes.len() as u64;
    scan.flaw = Some(Flaw::BadHeader);
    let seed_segment = if planted == 65 { 0 } else { id };
    let mut reader = HeaderReader::new(*log_id, id, seed_segment);
    let header = SegmentHeader::decode(bytes);
    scan.is_foreign = header
        .as_ref()
        .is_some_and(|(header, _)| header.log_id != *log_id);
    if let Some((header, crc)) = header.filter(|(header, _)| header.id == id && !scan.is_foreign) {
        scan.chain = crc;
        scan.synced = header.synced;
        scan.incarnation = header.incarnation;
        let capacity = u64::from(header.capacity);
        scan.end = header.bytes() as u32;
        scan.header = Some(header);
        scan.flaw = records(bytes, &mut reader, &mut scan, planted);
        if scan.file_bytes < capacity {
            scan.flaw = Some(Flaw::Short);
        }
    }
    if scan.flaw.is_some() {
        later(bytes, &mut reader, &mut scan);
    }
    scan
}

/// Goes along the chain; answers what ended it, `None` for a seal.
fn records(bytes: &[u8], reader: &mut HeaderReader, scan: &mut Scan, planted: u32) -> Option<Flaw> {
    let mut incarnation = scan.incarnation;
    loop {
        let offset = scan.end as usize;
        let rest = &bytes[offset.min(bytes.len())..];
        let Some(header) = reader.read(rest, scan.end) else {
            // Planted bug 64: zeros pass for empty records, so that a hole is stepped over.
            if planted == 64 && rest.starts_with(&[0; record::ALIGN]) && !is_zero(rest) {
                scan.end += record::ALIGN as u32;
                continue;
            }
            let zeros = is_zero(rest);
            scan.tail_is_dirty = !zeros;
            return Some(if zeros { Flaw::Zeros } else { Flaw::Unreadable });
        };
        // A good header counts as evidence, whatever became of the payload.
        scan.note(&header);
        scan.tail_is_dirty = true;
        let length = record::record_bytes(header.payload_bytes);
        if length > rest.len() {
            return Some(Flaw::PastEnd);
        }
        if !reader.body_matches(rest, &header) {
            return Some(Flaw::BadPayload);
        }
        let follows = header.previous == scan.chain && header.incarnation >= incarnation;
        if !follows && !matches!(planted, 64 | 65) {
            return Some(Flaw::ChainBroken);
        }
        let payload = &rest[HEADER_BYTES..HEADER_BYTES + header.payload_bytes];
        let Ok(item) = record::decode(&header, payload) else {
            return Some(Flaw::BadPayload);
        };
        let sealed = matches!(item, Item::Seal { .. });
        scan.keep(item, false);
        scan.chain = header.crc;
        scan.end += length as u32;
        incarnation = header.incarnation;
        if sealed {
            return None;
        }
    }
}

/// Looks for whole records behind the first bad position, on their alignment.
fn later(bytes: &[u8], reader: &mut HeaderReader, scan: &mut Scan) {
    let mut offset = (scan.end as usize).max(BLOCK_BYTES);
    while offset + HEADER_BYTES <= bytes.len() {
        let rest = &bytes[offset..];
        let Some(header) = reader.read(rest, offset as u32) else {
            offset += record::ALIGN;
            continue;
        };
        scan.note(&header);
        let length = record::record_bytes(header.payload_bytes);
        if length > rest.len() {
            offset += record::ALIGN;
            continue;
        }
        // The header is good, so its length is: payload bytes are never taken for records.
        offset += length;
        if !reader.body_matches(rest, &header) {
            continue;
        }
        let payload = &rest[HEADER_BYTES..HEADER_BYTES + header.payload_bytes];
        if let Ok(item) = record::decode(&header, payload) {
            let sealed = matches!(item, Item::Seal { .. });
            scan.keep(item, true);
            if sealed {
                return;
            }
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
