//! The manifest: which segments form the log, in the order of history. Replaced as a whole, by
//! rename, so that a crash leaves the old list or the new one (D3, D8).
//!
//! The last segment listed is the one being appended to; all before it are sealed. A segment file
//! that is not listed belongs to a change that did not come about, and is removed at open.
//! Must not know: what is in a segment.

use super::error::Error;
use super::frame::{self, APPLIED_BYTES, u32_at, u64_at};
use super::record::AppliedMark;
use super::{Installed, segment};
use crate::env::{Disk, OpenMode, read_full};

/// The newest manifest format that this program reads, and the one it writes.
const FORMAT: u16 = 1;
/// First bytes of a manifest.
const MAGIC: [u8; 8] = *b"QRREVMAN";
/// Bytes before the opaque meta.
const FIXED_BYTES: usize = 40 + APPLIED_BYTES;
/// Bytes of one listed segment.
const LISTED_BYTES: usize = 32;
/// Longest manifest that is read; longer is damage (F14). Enough for two million segments.
const BYTES_MAX: u64 = 64 << 20;

/// One segment of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its number, which names the file.
    pub id: u32,
    /// Its identity, which its header repeats.
    pub nonce: u64,
    /// Length of the sealed file; 0 for the segment being appended to.
    pub len: u64,
    /// Versions that a compaction at this revision made obsolete are not in it.
    pub compacted_at: u64,
}

/// The list of segments and what goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Grows by one with each manifest written.
    pub generation: u64,
    /// No segment with this number or a higher one is listed or ever was.
    pub next_segment: u32,
    /// The newest snapshot that was installed.
    pub installed: Option<Installed>,
    /// In the order of history.
    pub segments: Vec<Listed>,
}

/// The manifest's file.
pub(super) fn path(dir: &str) -> String {
    format!("{dir}/MANIFEST")
}

impl Manifest {
    /// Reads the manifest; `None` when there is none.
    pub fn read(disk: &dyn Disk, dir: &str) -> Result<Option<Self>, Error> {
        let path = path(dir);
        if !disk.exists(&path).map_err(Error::read(&path))? {
            return Ok(None);
        }
        let bytes = read_whole(disk, &path, BYTES_MAX)?;
        Self::decode(&bytes, &path).map(Some)
    }

    /// Writes the manifest as the successor of what is there: afterwards it is durable, or the
    /// error is fatal.
    pub fn write(&mut self, disk: &dyn Disk, dir: &str) -> Result<(), Error> {
        self.generation += 1;
        replace_file(disk, dir, "MANIFEST", &self.encode())
    }

    /// The manifest as bytes.
    fn encode(&self) -> Vec<u8> {
        let (mark, meta) = match &self.installed {
            Some(installed) => (installed.mark, installed.meta.as_slice()),
            None => (AppliedMark::default(), &[][..]),
        };
        let mut out = Vec::with_capacity(FIXED_BYTES + meta.len() + self.segments.len() * 32 + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[u8::from(self.installed.is_some()), 0, 0, 0, 0, 0]);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.next_segment.to_le_bytes());
        out.extend_from_slice(&count(self.segments.len()).to_le_bytes());
        out.extend_from_slice(&count(meta.len()).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        frame::encode_applied(&mut out, &mark);
        out.extend_from_slice(meta);
        for listed in &self.segments {
            out.extend_from_slice(&listed.id.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&listed.nonce.to_le_bytes());
            out.extend_from_slice(&listed.len.to_le_bytes());
            out.extend_from_slice(&listed.compacted_at.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// The manifest in `bytes`.
    fn decode(bytes: &[u8], path: &str) -> Result<Self, Error> {
        let corrupt = |what| Error::Corrupt {
            path: path.to_owned(),
            segment: 0,
            offset: 0,
            what,
        };
        let body = bytes.len().checked_sub(4).filter(|len| *len >= FIXED_BYTES);
        let body = &bytes[..body.ok_or_else(|| corrupt("manifest"))?];
        if body[..8] != MAGIC || crc32c::crc32c(body) != u32_at(bytes, body.len()) {
            return Err(corrupt("checksum of the manifest"));
        }
        let found = u16::from_le_bytes([body[8], body[9]]);
        if found != FORMAT {
            return Err(Error::Version {
                path: path.to_owned(),
                found,
                known: FORMAT,
            });
        }
        let (segments, meta) = (u32_at(body, 28) as usize, u32_at(body, 32) as usize);
        if body.len() != FIXED_BYTES + meta + segments * LISTED_BYTES {
            return Err(corrupt("length of the manifest"));
        }
        let (fixed, rest) = body.split_at(FIXED_BYTES);
        let (meta, segments) = rest.split_at(meta);
        let mark = frame::decode_applied(&fixed[40..]).ok_or_else(|| corrupt("manifest"))?;
        let installed = (body[10] == 1).then(|| Installed {
            mark,
            meta: meta.to_vec(),
        });
        let listed = |entry: &[u8]| Listed {
            id: u32_at(entry, 0),
            nonce: u64_at(entry, 8),
            len: u64_at(entry, 16),
            compacted_at: u64_at(entry, 24),
        };
        let segments: Vec<_> = segments.chunks_exact(LISTED_BYTES).map(listed).collect();
        let next_segment = u32_at(body, 24);
        let sound = !segments.is_empty()
            && segments.iter().all(|s| s.id < next_segment)
            && segments.iter().rev().skip(1).all(|s| s.len > 0);
        match sound {
            true => Ok(Self {
                generation: u64_at(body, 16),
                next_segment,
                installed,
                segments,
            }),
            false => Err(corrupt("list of segments")),
        }
    }

    /// The segment being appended to.
    pub fn active(&self) -> &Listed {
        self.segments
            .last()
            .expect("a manifest lists at least the segment being appended to")
    }

    /// Every segment but the one being appended to.
    pub fn sealed(&self) -> &[Listed] {
        &self.segments[..self.segments.len().saturating_sub(1)]
    }
}

/// Replaces a file of `dir` as a whole: written beside it, synced, renamed, directory synced.
pub(super) fn replace_file(
    disk: &dyn Disk,
    dir: &str,
    name: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let (path, new) = (format!("{dir}/{name}"), format!("{dir}/{name}.new"));
    let file = disk
        .open(&new, OpenMode::OpenOrCreate)
        .map_err(Error::write("create", &new))?;
    file.set_len(0).map_err(Error::write("cut", &new))?;
    file.write_all_at(bytes, 0)
        .map_err(Error::write("write", &new))?;
    file.sync_all().map_err(Error::write("sync", &new))?;
    disk.rename(&new, &path)
        .map_err(Error::write("rename", &new))?;
    disk.sync_dir(dir).map_err(Error::write("sync", dir))
}

/// Reads a file as a whole, from the device (W6), refusing one that is longer than `bytes_max`.
pub(super) fn read_whole(disk: &dyn Disk, path: &str, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let file = disk
        .open(path, OpenMode::ReadOnly)
        .map_err(Error::read(path))?;
    let len = file.len().map_err(Error::read(path))?;
    if len > bytes_max {
        let what = "length of the file";
        return Err(Error::Corrupt {
            path: path.to_owned(),
            segment: 0,
            offset: bytes_max,
            what,
        });
    }
    file.drop_cache(0, 0).map_err(Error::read(path))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = read_full(file.as_ref(), &mut bytes, 0).map_err(Error::read(path))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Removes segment files that the manifest does not list, and what a crash left half written.
pub(super) fn remove_orphans(disk: &dyn Disk, dir: &str, keep: &[Listed]) -> Result<(), Error> {
    for name in disk.list(dir).map_err(Error::read(dir))? {
        let orphan = match segment::number(&name) {
            Some(id) => !keep.iter().any(|listed| listed.id == id),
            None => name.ends_with(".new"),
        };
        if orphan {
            let path = format!("{dir}/{name}");
            disk.remove(&path).map_err(Error::write("remove", &path))?;
        }
    }
    Ok(())
}

/// A count as it stands on disk.
fn count(count: usize) -> u32 {
    u32::try_from(count).expect("manifests are bounded far below 4 GiB")
}
