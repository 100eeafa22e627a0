//! Snapshots: the log up to its last durable mark, as chunks that can be read in any order.
//!
//! Taking one copies only the unsealed tail: sealed segments are linked into a directory of the
//! snapshot, where compaction cannot reach them. The manifest names every chunk's checksum; its own
//! digest names the snapshot. The directory goes with the last handle, or at the next start.
//! Must not know: who receives it, what the opaque meta means.

use super::error::Error;
use super::frame::{self, APPLIED_BYTES, u32_at, u64_at};
use super::manifest::Listed;
use super::record::AppliedMark;
use super::seal::{self, CHUNK_BYTES, Opened};
use super::segment::{self, HEADER_BYTES};
use super::shared::Shared;
use super::{receive, recover};
use crate::env::{Disk, File, OpenMode, read_full};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// The newest snapshot format that this program reads, and the one it writes.
const FORMAT: u16 = 1;
/// First bytes of a snapshot's manifest.
const MAGIC: [u8; 8] = *b"QRREVSNP";
/// Bytes of a manifest before the opaque meta.
const FIXED_BYTES: usize = 32 + APPLIED_BYTES;
/// Bytes of one file in a manifest, without its checksums.
const FILE_BYTES: usize = 24;
/// Bytes of the digest at the end.
const DIGEST_BYTES: usize = 32;
/// A chunk on the wire is one of these, then the bytes.
const RAW: u8 = 0;
/// See [`RAW`].
const LZ4: u8 = 1;

/// Names a snapshot: the start of the digest over its manifest, and so over every chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId(pub u64);

/// Lower-case hexadecimal.
impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a snapshot consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    /// Where it stands.
    pub mark: AppliedMark,
    /// Opaque bytes of the caller.
    pub meta: Vec<u8>,
    /// Sealed segments, in the order of history.
    pub files: Vec<SnapshotFile>,
}

/// One sealed segment of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SnapshotFile {
    /// Identity of the segment.
    pub nonce: u64,
    /// Length in bytes.
    pub len: u64,
    /// As in the log's manifest.
    pub compacted_at: u64,
    /// Checksum of each chunk, the last one shorter perhaps.
    pub sums: Vec<u32>,
}

/// One chunk of a snapshot: where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkPlace {
    /// Position of its file in [`Contents::files`].
    pub file: usize,
    /// Offset in that file.
    pub offset: u64,
    /// Bytes.
    pub len: usize,
    /// Checksum of the bytes.
    pub sum: u32,
}

impl Contents {
    /// The manifest as bytes, with its digest.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        for count in [CHUNK_BYTES, self.files.len(), self.meta.len(), 0] {
            let count = u32::try_from(count).expect("a snapshot has far fewer than 2^32 parts");
            out.extend_from_slice(&count.to_le_bytes());
        }
        frame::encode_applied(&mut out, &self.mark);
        out.extend_from_slice(&self.meta);
        for file in &self.files {
            for number in [file.nonce, file.len, file.compacted_at] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        for sum in self.files.iter().flat_map(|file| &file.sums) {
            out.extend_from_slice(&sum.to_le_bytes());
        }
        let digest = Sha256::digest(&out);
        out.extend_from_slice(&digest);
        out
    }

    /// The contents that a manifest describes. Every length is checked against the bytes that are
    /// there before anything is allocated for it (F14).
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let refuse = |what| Error::SnapshotRefused { what };
        let damaged = || refuse("its manifest is damaged");
        let body = bytes
            .len()
            .checked_sub(DIGEST_BYTES)
            .filter(|len| *len >= FIXED_BYTES);
        let (body, digest) = bytes.split_at(body.ok_or_else(damaged)?);
        if body[..8] != MAGIC || Sha256::digest(body)[..] != *digest {
            return Err(damaged());
        }
        if body[8..10] != FORMAT.to_le_bytes() || u32_at(body, 16) as usize != CHUNK_BYTES {
            return Err(refuse(
                "its format is not known to this version; upgrade this member",
            ));
        }
        let (count, meta_len) = (u32_at(body, 20) as usize, u32_at(body, 24) as usize);
        let mark = frame::decode_applied(&body[32..]).ok_or_else(damaged)?;
        let rest = &body[FIXED_BYTES..];
        let (meta, rest) = rest.split_at_checked(meta_len).ok_or_else(damaged)?;
        let table = count.checked_mul(FILE_BYTES).ok_or_else(damaged)?;
        let (table, mut sums) = rest.split_at_checked(table).ok_or_else(damaged)?;
        let mut files = Vec::with_capacity(count);
        for entry in table.chunks_exact(FILE_BYTES) {
            let len = u64_at(entry, 8);
            let bytes = usize::try_from(len.div_ceil(CHUNK_BYTES as u64))
                .ok()
                .and_then(|chunks| chunks.checked_mul(4))
                .ok_or_else(damaged)?;
            let (own, later) = sums.split_at_checked(bytes).ok_or_else(damaged)?;
            sums = later;
            let sums = own.chunks_exact(4).map(|sum| u32_at(sum, 0)).collect();
            let (nonce, compacted_at) = (u64_at(entry, 0), u64_at(entry, 16));
            files.push(SnapshotFile {
                nonce,
                len,
                compacted_at,
                sums,
            });
        }
        if !sums.is_empty() {
            return Err(damaged());
        }
        Ok(Self {
            mark,
            meta: meta.to_vec(),
            files,
        })
    }

    /// How many chunks there are.
    pub fn chunk_count(&self) -> u32 {
        let count: usize = self.files.iter().map(|file| file.sums.len()).sum();
        u32::try_from(count).expect("the manifest holds four bytes for each and is bounded")
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    /// Where a chunk belongs; `None` when there is none with this number.
    pub fn place(&self, number: u32) -> Option<ChunkPlace> {
        let mut number = number as usize;
        for (at, file) in self.files.iter().enumerate() {
            if let Some(sum) = file.sums.get(number) {
                let offset = (number * CHUNK_BYTES) as u64;
                let len = (file.len - offset).min(CHUNK_BYTES as u64) as usize;
                return Some(ChunkPlace {
                    file: at,
                    offset,
                    len,
                    sum: *sum,
                });
            }
            number -= file.sums.len();
        }
        None
    }

    /// Number of the first chunk of a file.
    pub fn first_chunk(&self, file: usize) -> u32 {
        let before: usize = self.files[..file].iter().map(|file| file.sums.len()).sum();
        u32::try_from(before).expect("the manifest holds four bytes for each and is bounded")
    }
}

/// The name of the snapshot with this manifest.
pub(super) fn id_of(manifest: &[u8]) -> SnapshotId {
    let digest = manifest.len().saturating_sub(DIGEST_BYTES);
    SnapshotId(
        manifest
            .get(digest..digest + 8)
            .map_or(0, |bytes| u64_at(bytes, 0)),
    )
}

/// Takes snapshots, from any thread.
#[derive(Clone)]
pub struct Snapshotter {
    shared: Arc<Shared>,
}

impl Snapshotter {
    /// Of the log behind `shared`.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The mark that a snapshot taken now would stand at: the last durable one. A membership that
    /// goes into `meta` must be the one in force there (C10).
    #[must_use]
    pub fn mark(&self) -> AppliedMark {
        self.shared.progress.lock().synced
    }

    /// Takes a snapshot at the last durable mark; `meta` computes what goes along with it from
    /// that mark. Copies at most one segment; the log goes on meanwhile.
    ///
    /// # Errors
    /// [`Error::Aborted`] when the directory could not be made, for lack of space perhaps.
    /// [`Error::Corrupt`] when a segment is damaged.
    pub fn take(&self, meta: impl FnOnce(&AppliedMark) -> Vec<u8>) -> Result<Snapshot, Error> {
        let shared = &self.shared;
        let number = shared.allocate_segment();
        let dir = Directory {
            disk: Arc::clone(&shared.disk),
            path: path(&shared.dir, number),
        };
        shared
            .disk
            .create_dir(&dir.path)
            .map_err(|e| aborted(e, "create", &dir.path))?;
        let linked = link(shared, &dir)?;
        let mut files = Vec::new();
        for (at, listed) in linked.sealed.iter().enumerate() {
            files.push(describe(&dir, at, listed)?);
        }
        if let Some(tail) = &linked.tail {
            files.push(copy_tail(&dir, files.len(), tail)?);
        }
        let contents = Contents {
            mark: linked.mark,
            meta: meta(&linked.mark),
            files,
        };
        let manifest = Bytes::from(contents.encode());
        let id = id_of(&manifest);
        Ok(Snapshot {
            inner: Arc::new(Inner {
                id,
                dir,
                contents,
                manifest,
            }),
        })
    }
}

/// What a snapshot is made of.
struct Linked {
    mark: AppliedMark,
    sealed: Vec<Listed>,
    tail: Option<UnsealedTail>,
}

/// The durable part of the segment being appended to.
struct UnsealedTail {
    file: Box<dyn File>,
    id: u32,
    nonce: u64,
    end: u64,
}

/// Links sealed segments and opens the tail, all at one durable mark.
fn link(shared: &Shared, dir: &Directory) -> Result<Linked, Error> {
    // The flusher waits meanwhile, so that mark, list and tail belong together.
    let flush = shared.flush.lock();
    let manifest = shared.manifest.lock();
    let sealed = manifest.sealed().to_vec();
    for (at, listed) in sealed.iter().enumerate() {
        let (from, to) = (segment::path(&shared.dir, listed.id), dir.file(at));
        shared
            .disk
            .hard_link(&from, &to)
            .map_err(|e| aborted(e, "link", &to))?;
    }
    let tail = if flush.written > HEADER_BYTES {
        let path = segment::path(&shared.dir, flush.id);
        let file = shared
            .disk
            .open(&path, OpenMode::ReadOnly)
            .map_err(Error::read(&path))?;
        Some(UnsealedTail {
            file,
            id: flush.id,
            nonce: flush.nonce,
            end: flush.written,
        })
    } else {
        None
    };
    let mark = shared.progress.lock().synced;
    Ok(Linked { mark, sealed, tail })
}

/// Names the chunks of a sealed segment: most from its table, the last ones by reading them.
fn describe(dir: &Directory, at: usize, listed: &Listed) -> Result<SnapshotFile, Error> {
    let path = dir.file(at);
    let file = recover::open_listed(dir.disk.as_ref(), &path, listed, OpenMode::ReadOnly)?;
    let opened = Opened {
        file: file.as_ref(),
        path: &path,
        id: listed.id,
        nonce: listed.nonce,
    };
    let trailer = segment::read_trailer(file.as_ref(), &path, listed.nonce, listed.len)?
        .ok_or_else(|| opened.corrupt(listed.len - segment::TRAILER_BYTES, "trailer"))?;
    let mut sums = seal::read_chunk_table(&opened, &trailer, listed.len)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = (sums.len() * CHUNK_BYTES) as u64;
    while offset < listed.len {
        let want = (listed.len - offset).min(CHUNK_BYTES as u64) as usize;
        let read = read_full(file.as_ref(), &mut buffer[..want], offset);
        if read.map_err(Error::read(&path))? < want {
            return Err(opened.corrupt(offset, "bytes written before, which are missing"));
        }
        sums.push(crc32c::crc32c(&buffer[..want]));
        offset += want as u64;
    }
    let Listed {
        nonce,
        len,
        compacted_at,
        ..
    } = *listed;
    Ok(SnapshotFile {
        nonce,
        len,
        compacted_at,
        sums,
    })
}

/// Copies the durable tail into a file of its own and seals it there.
fn copy_tail(dir: &Directory, at: usize, tail: &UnsealedTail) -> Result<SnapshotFile, Error> {
    let path = dir.file(at);
    let file = dir.disk.open(&path, OpenMode::CreateNew);
    let file = file.map_err(|e| aborted(e, "create", &path))?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < tail.end {
        let want = (tail.end - offset).min(CHUNK_BYTES as u64) as usize;
        let read = read_full(tail.file.as_ref(), &mut buffer[..want], offset);
        let read = read.map_err(Error::read(&path))?;
        file.write_all_at(&buffer[..read], offset)
            .map_err(|e| aborted(e, "write", &path))?;
        offset += want as u64;
    }
    // Sealing verifies every record, and so the copy.
    let opened = Opened {
        file: file.as_ref(),
        path: &path,
        id: tail.id,
        nonce: tail.nonce,
    };
    let (_, len) = seal::seal(&opened, tail.end).map_err(|error| match error {
        Error::Write { .. } => Error::Aborted {
            cause: error.to_string(),
        },
        other => other,
    })?;
    describe(
        dir,
        at,
        &Listed {
            id: tail.id,
            nonce: tail.nonce,
            len,
            compacted_at: 0,
        },
    )
}

/// A snapshot, until its last handle is dropped.
#[derive(Clone)]
pub struct Snapshot {
    inner: Arc<Inner>,
}

/// What the handles of a snapshot share.
struct Inner {
    id: SnapshotId,
    dir: Directory,
    contents: Contents,
    manifest: Bytes,
}

impl Snapshot {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.inner.id
    }

    /// Where it stands: everything up to here is contained, nothing beyond.
    #[must_use]
    pub fn mark(&self) -> AppliedMark {
        self.inner.contents.mark
    }

    /// Its manifest, which the receiver is given first.
    #[must_use]
    pub fn manifest(&self) -> Bytes {
        self.inner.manifest.clone()
    }

    /// How many chunks it has, numbered from 0.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        self.inner.contents.chunk_count()
    }

    /// Bytes of all chunks, not compressed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.contents.bytes()
    }

    /// A chunk as it goes over the wire, compressed when asked and worth it. Any chunk may be
    /// asked for at any time, any number of times.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the bytes on disk are damaged: they are never sent (F10).
    /// [`Error::ChunkRefused`] when there is no such chunk.
    pub fn chunk(&self, number: u32, compress: bool) -> Result<Bytes, Error> {
        let Inner { dir, contents, .. } = &*self.inner;
        let what = "the snapshot has no chunk with this number";
        let place = contents
            .place(number)
            .ok_or(Error::ChunkRefused { number, what })?;
        let path = dir.file(place.file);
        let file = dir
            .disk
            .open(&path, OpenMode::ReadOnly)
            .map_err(Error::read(&path))?;
        let mut wire = vec![RAW; 1 + place.len];
        let read = read_full(file.as_ref(), &mut wire[1..], place.offset);
        let read = read.map_err(Error::read(&path))?;
        if read < place.len || crc32c::crc32c(&wire[1..]) != place.sum {
            let (offset, what) = (place.offset, "checksum of a chunk");
            return Err(Error::Corrupt {
                path,
                segment: 0,
                offset,
                what,
            });
        }
        if compress {
            let packed = lz4_flex::block::compress(&wire[1..]);
            if packed.len() < place.len {
                wire.truncate(1);
                wire[0] = LZ4;
                wire.extend_from_slice(&packed);
            }
        }
        Ok(Bytes::from(wire))
    }
}

/// Undoes [`Snapshot::chunk`]: the bytes that belong at a place, or why they do not.
pub(super) fn unpack<'w>(
    wire: &'w [u8],
    place: &ChunkPlace,
    scratch: &'w mut Vec<u8>,
) -> Result<&'w [u8], &'static str> {
    let (codec, packed) = wire.split_first().ok_or("it is empty")?;
    let bytes = match *codec {
        RAW => packed,
        LZ4 => {
            // Never more than the place holds, whatever the bytes say (F14).
            scratch.resize(place.len, 0);
            let len = lz4_flex::block::decompress_into(packed, scratch);
            &scratch[..len.map_err(|_| "it cannot be decompressed")?]
        }
        _ => return Err("its compression is not known"),
    };
    match bytes.len() == place.len && crc32c::crc32c(bytes) == place.sum {
        true => Ok(bytes),
        false => Err("its checksum does not match the manifest"),
    }
}

/// The directory of a snapshot; removed with its last handle.
struct Directory {
    disk: Arc<dyn Disk>,
    path: String,
}

impl Directory {
    /// The file at a position of the snapshot.
    fn file(&self, at: usize) -> String {
        format!("{}/{at:08}.rev", self.path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = remove_dir(self.disk.as_ref(), &self.path);
    }
}

/// Removes a directory of files, and the files.
pub(super) fn remove_dir(disk: &dyn Disk, dir: &str) -> Result<(), Error> {
    for name in disk.list(dir).map_err(Error::read(dir))? {
        let path = format!("{dir}/{name}");
        disk.remove(&path).map_err(Error::write("remove", &path))?;
    }
    disk.remove_dir(dir).map_err(Error::write("remove", dir))
}

/// The directory of a snapshot.
fn path(dir: &str, number: u32) -> String {
    format!("{dir}/snapshot-{number:08}")
}

/// Removes what earlier lives left: directories of snapshots, and a received one that the log has
/// overtaken.
pub(super) fn remove_left_overs(disk: &dyn Disk, dir: &str, at: AppliedMark) -> Result<(), Error> {
    for name in disk.list(dir).map_err(Error::read(dir))? {
        if name.starts_with("snapshot-") {
            remove_dir(disk, &format!("{dir}/{name}"))?;
        }
    }
    receive::remove_overtaken(disk, dir, at)
}

/// For failures to make a snapshot: nothing of the log has changed.
fn aborted(source: std::io::Error, what: &'static str, path: &str) -> Error {
    Error::Aborted {
        cause: Error::write(what, path)(source).to_string(),
    }
}
