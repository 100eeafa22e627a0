//! Sealing: the index, the chunk table and the trailer behind the records of a segment.
//!
//! The index repeats of every record what the key index needs (all but the value), so that `open`
//! reads footers only. The chunk table has the checksum of each full chunk before it, so that a
//! snapshot can name them without reading the segment.
//! Sealing reads the records back and verifies each: what was written is what is on disk.
//! Must not know: when to seal.

use super::error::Error;
use super::frame::{self, Header, Kind, PUT_FIXED_BYTES, u32_at, u64_at};
use super::record::{Location, Record, Recovered};
use super::scan::{Scanner, Step};
use super::segment::{HEADER_BYTES, TRAILER_BYTES, Trailer};
use crate::env::{File, read_full};

/// Bytes of a chunk: what one checksum of the chunk table covers, and what a snapshot is sent in.
pub const CHUNK_BYTES: usize = 1 << 20;
/// An index frame is closed beyond this.
const INDEX_BLOCK_BYTES: usize = 64 << 10;
/// Bytes of an index entry before its item.
const ENTRY_FIXED_BYTES: usize = 13;
/// Bytes of a chunk table before its checksums.
const TABLE_FIXED_BYTES: usize = 16;

/// A segment file that is open for sealing or for reading as a whole.
pub(super) struct Opened<'f> {
    /// The file.
    pub file: &'f dyn File,
    /// Its name, for messages.
    pub path: &'f str,
    /// Its number, for messages and locations.
    pub id: u32,
    /// Its identity.
    pub nonce: u64,
}

impl Opened<'_> {
    /// Damage of this file.
    pub fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        Error::Corrupt {
            path: self.path.to_owned(),
            segment: self.id,
            offset,
            what,
        }
    }
}

/// Writes footer and trailer behind the records, which end at `data_end`, and syncs the file.
/// Answers the trailer and the length of the file.
pub(super) fn seal(segment: &Opened<'_>, data_end: u64) -> Result<(Trailer, u64), Error> {
    let (trailer, mut writer) = write_index(segment, data_end)?;
    let table_at = writer.position;
    let mut sums = ChunkSums::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < table_at {
        let want = buffer.len().min((table_at - at) as usize);
        let read = read_full(segment.file, &mut buffer[..want], at);
        if read.map_err(Error::read(segment.path))? < want {
            return Err(segment.corrupt(at, "bytes written before, which are missing"));
        }
        sums.add(&buffer[..want]);
        at += want as u64;
    }
    writer.frame(Kind::Chunks, |body| {
        body.extend_from_slice(&data_end.to_le_bytes());
        body.extend_from_slice(&(CHUNK_BYTES as u64).to_le_bytes());
        for sum in &sums.full {
            body.extend_from_slice(&sum.to_le_bytes());
        }
    })?;
    let trailer = Trailer {
        table_at,
        ..trailer
    };
    let bytes = trailer.encode(segment.nonce);
    let write = |offset| segment.file.write_all_at(&bytes, offset);
    write(writer.position).map_err(Error::write("write", segment.path))?;
    segment
        .file
        .sync_all()
        .map_err(Error::write("sync", segment.path))?;
    Ok((trailer, writer.position + TRAILER_BYTES))
}

/// Reads the records of a segment and writes their index behind them.
fn write_index<'s>(
    segment: &'s Opened<'s>,
    data_end: u64,
) -> Result<(Trailer, FrameWriter<'s>), Error> {
    let mut trailer = Trailer {
        data_end,
        ..Trailer::default()
    };
    let mut writer = FrameWriter {
        segment,
        position: data_end,
        frame: Vec::new(),
    };
    let mut block = Vec::with_capacity(INDEX_BLOCK_BYTES * 2);
    let Opened {
        file, path, nonce, ..
    } = *segment;
    let mut scanner = Scanner::new(file, path, nonce, HEADER_BYTES, data_end);
    loop {
        let at = scanner.position();
        match scanner.next()? {
            Step::End => break,
            Step::Bad { what } => return Err(segment.corrupt(at, what)),
            Step::Frame {
                offset,
                header,
                bytes,
            } => {
                let body = &bytes[frame::HEADER_BYTES..][..header.body_len as usize];
                note_in_trailer(&mut trailer, &header, body)
                    .ok_or_else(|| segment.corrupt(offset, "body of a record"))?;
                if encode_entry(&mut block, &header, offset, body) {
                    trailer.entries += 1;
                }
                if block.len() >= INDEX_BLOCK_BYTES {
                    writer.index(data_end, &mut block)?;
                }
            }
        }
    }
    if !block.is_empty() {
        writer.index(data_end, &mut block)?;
    }
    Ok((trailer, writer))
}

/// Adds what a frame says to the summary. `None` when its body is not what its kind promises.
fn note_in_trailer(trailer: &mut Trailer, header: &Header, body: &[u8]) -> Option<()> {
    if header.kind == Kind::Mark {
        trailer.last_mark = Some(frame::decode_mark(body)?.said);
        trailer.marks += 1;
        return Some(());
    }
    match frame::decode_record(header, body)? {
        Record::Put { mod_rev, .. } | Record::Delete { mod_rev, .. } => {
            let (low, high) = trailer.revisions;
            let low = if low == 0 {
                mod_rev.main
            } else {
                low.min(mod_rev.main)
            };
            trailer.revisions = (low, high.max(mod_rev.main));
        }
        Record::Compaction { revision } => trailer.compacted = trailer.compacted.max(revision),
        Record::Meta { .. } => {}
    }
    Some(())
}

/// Appends the index entry of a frame: its place, its length, and its body without the value.
/// False for a mark, which has none.
fn encode_entry(block: &mut Vec<u8>, header: &Header, offset: u64, body: &[u8]) -> bool {
    let item = match header.kind {
        Kind::Put => &body[..PUT_FIXED_BYTES + u32_at(body, 12) as usize],
        Kind::Delete | Kind::Compaction | Kind::Meta => body,
        Kind::Mark | Kind::Index | Kind::Chunks => return false,
    };
    let slot = u32::try_from(offset / frame::ALIGN_BYTES).expect("locations bound the offset");
    let item_len = u32::try_from(item.len()).expect("BODY_BYTES_MAX fits 32 bits");
    block.push(header.kind as u8);
    block.extend_from_slice(&slot.to_le_bytes());
    block.extend_from_slice(&header.body_len.to_le_bytes());
    block.extend_from_slice(&item_len.to_le_bytes());
    block.extend_from_slice(item);
    true
}

/// Reports every record of a sealed segment from its index, with the record's location.
pub(super) fn visit_index(
    segment: &Opened<'_>,
    trailer: &Trailer,
    visit: &mut dyn FnMut(Recovered<'_>, Location),
) -> Result<(), Error> {
    let Opened {
        file,
        path,
        id,
        nonce,
    } = *segment;
    let mut scanner = Scanner::new(file, path, nonce, trailer.data_end, trailer.table_at);
    let mut entries = 0;
    loop {
        let at = scanner.position();
        match scanner.next()? {
            Step::End => break,
            Step::Bad { what } => return Err(segment.corrupt(at, what)),
            Step::Frame {
                offset,
                header,
                bytes,
            } => {
                let body = &bytes[frame::HEADER_BYTES..][..header.body_len as usize];
                if header.kind != Kind::Index || data_end(body) != Some(trailer.data_end) {
                    return Err(segment.corrupt(offset, "index frame"));
                }
                let mut block = &body[8..];
                while !block.is_empty() {
                    let (header, location, item) = decode_entry(&mut block, id)
                        .ok_or_else(|| segment.corrupt(offset, "index entry"))?;
                    let found = recovered(&header, item, location)
                        .ok_or_else(|| segment.corrupt(offset, "index entry"))?;
                    visit(found, location);
                    entries += 1;
                }
            }
        }
    }
    if entries != trailer.entries {
        return Err(segment.corrupt(trailer.data_end, "number of index entries"));
    }
    Ok(())
}

/// Where the records of a segment end, by the body of any frame behind them. All before it was
/// durable when the frame was written; what is between need not be.
pub(super) fn data_end(body: &[u8]) -> Option<u64> {
    body.get(..8).map(|bytes| u64_at(bytes, 0))
}

/// Takes one entry from the front of an index block.
fn decode_entry<'b>(block: &mut &'b [u8], id: u32) -> Option<(Header, Location, &'b [u8])> {
    let (fixed, rest) = block.split_at_checked(ENTRY_FIXED_BYTES)?;
    let (item, rest) = rest.split_at_checked(u32_at(fixed, 9) as usize)?;
    *block = rest;
    let kind = match fixed[0] {
        1 => Kind::Put,
        2 => Kind::Delete,
        3 => Kind::Compaction,
        4 => Kind::Meta,
        _ => return None,
    };
    let body_len = u32_at(fixed, 5);
    if body_len as usize > frame::BODY_BYTES_MAX || item.len() > body_len as usize {
        return None;
    }
    let header = Header {
        kind,
        body_len,
        body_crc: 0,
    };
    let offset = u64::from(u32_at(fixed, 1)) * frame::ALIGN_BYTES;
    let frame_len = u32::try_from(header.frame_len()).ok()?;
    Some((header, Location::new(id, offset, frame_len), item))
}

/// What `open` reports of a record whose body, at least without the value, is `item`.
pub(super) fn recovered<'i>(
    header: &Header,
    item: &'i [u8],
    location: Location,
) -> Option<Recovered<'i>> {
    Some(match frame::decode_record(header, item)? {
        Record::Put {
            key,
            create,
            mod_rev,
            version,
            lease,
            ..
        } => {
            let value_len = (header.body_len as usize).checked_sub(PUT_FIXED_BYTES + key.len())?;
            let value_len = u32::try_from(value_len).ok()?;
            Recovered::Put {
                key,
                create,
                mod_rev,
                version,
                lease,
                value_len,
                location,
            }
        }
        Record::Delete { key, mod_rev } => Recovered::Delete {
            key,
            mod_rev,
            location,
        },
        Record::Compaction { revision } => Recovered::Compaction { revision },
        Record::Meta { kind, key, bytes } => Recovered::Meta { kind, key, bytes },
    })
}

/// The chunk table of a sealed segment: the checksum of each full chunk before it.
pub(super) fn read_chunk_table(
    segment: &Opened<'_>,
    trailer: &Trailer,
    len: u64,
) -> Result<Vec<u32>, Error> {
    let Opened {
        file, path, nonce, ..
    } = *segment;
    let end = len - TRAILER_BYTES;
    let mut scanner = Scanner::new(file, path, nonce, trailer.table_at, end);
    let corrupt = || segment.corrupt(trailer.table_at, "chunk table");
    let Step::Frame { header, bytes, .. } = scanner.next()? else {
        return Err(corrupt());
    };
    let body = &bytes[frame::HEADER_BYTES..][..header.body_len as usize];
    let expected = TABLE_FIXED_BYTES + trailer.table_at as usize / CHUNK_BYTES * 4;
    let ours = header.kind == Kind::Chunks
        && body.len() == expected
        && data_end(body) == Some(trailer.data_end)
        && u64_at(body, 8) == CHUNK_BYTES as u64;
    if !ours {
        return Err(corrupt());
    }
    Ok(body[TABLE_FIXED_BYTES..]
        .chunks_exact(4)
        .map(|sum| u32_at(sum, 0))
        .collect())
}

/// Verifies every frame of a sealed segment, records, index and table: the scrub, and the last
/// check of a received snapshot.
pub(super) fn verify(segment: &Opened<'_>, trailer: &Trailer, len: u64) -> Result<(), Error> {
    let Opened {
        file, path, nonce, ..
    } = *segment;
    let mut scanner = Scanner::new(file, path, nonce, HEADER_BYTES, len - TRAILER_BYTES);
    loop {
        let at = scanner.position();
        match scanner.next()? {
            Step::End => break,
            Step::Bad { what } => return Err(segment.corrupt(at, what)),
            Step::Frame {
                offset,
                header,
                bytes,
            } => {
                let body = &bytes[frame::HEADER_BYTES..][..header.body_len as usize];
                let is_data = offset < trailer.data_end;
                let ours = match header.kind {
                    Kind::Index => !is_data && offset < trailer.table_at,
                    Kind::Chunks => offset == trailer.table_at,
                    Kind::Mark => is_data && frame::decode_mark(body).is_some(),
                    Kind::Put | Kind::Delete | Kind::Compaction | Kind::Meta => {
                        is_data && frame::decode_record(&header, body).is_some()
                    }
                };
                if !ours {
                    return Err(segment.corrupt(offset, "frame of this kind at this place"));
                }
            }
        }
    }
    read_chunk_table(segment, trailer, len)?;
    visit_index(segment, trailer, &mut |_, _| {})
}

/// Checksums of the chunks of a stream of bytes.
#[derive(Default)]
pub(super) struct ChunkSums {
    /// Of each full chunk.
    pub full: Vec<u32>,
    /// Of what came after the last full chunk.
    partial: u32,
    /// Bytes that came after the last full chunk.
    partial_len: usize,
}

impl ChunkSums {
    /// Adds the next bytes of the stream.
    pub fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let take = bytes.len().min(CHUNK_BYTES - self.partial_len);
            let (now, later) = bytes.split_at(take);
            self.partial = crc32c::crc32c_append(self.partial, now);
            self.partial_len += take;
            bytes = later;
            if self.partial_len == CHUNK_BYTES {
                self.full.push(std::mem::take(&mut self.partial));
                self.partial_len = 0;
            }
        }
    }
}

/// Writes frames one after the other.
struct FrameWriter<'s> {
    segment: &'s Opened<'s>,
    /// Where the next frame goes.
    position: u64,
    frame: Vec<u8>,
}

impl FrameWriter<'_> {
    /// Writes one index frame and empties the block.
    fn index(&mut self, data_end: u64, block: &mut Vec<u8>) -> Result<(), Error> {
        self.frame(Kind::Index, |out| {
            out.extend_from_slice(&data_end.to_le_bytes());
            out.append(block);
        })
    }

    /// Writes one frame.
    fn frame(&mut self, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        self.frame.clear();
        frame::encode(
            &mut self.frame,
            self.segment.nonce,
            self.position,
            kind,
            fill,
        );
        let write = self.segment.file.write_all_at(&self.frame, self.position);
        write.map_err(Error::write("write", self.segment.path))?;
        self.position += self.frame.len() as u64;
        Ok(())
    }
}
