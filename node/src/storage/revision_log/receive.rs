//! Receiving a snapshot: chunks in any order, any number of times, across restarts; then the swap.
//!
//! Chunks are written into files beside the log. What has arrived is found again by reading it
//! back, so that there is no record of progress that could lie. Segments that this member has
//! already, from an earlier snapshot, are linked instead of fetched. When everything is there and
//! verified, one rename makes it the log, together with its mark and the opaque meta (D3, D8).
//! Must not know: where chunks come from, what the meta means.

use super::error::Error;
use super::manifest::{self, Listed, Manifest};
use super::record::AppliedMark;
use super::seal::{self, CHUNK_BYTES, Opened};
use super::segment;
use super::snapshot::{self, ChunkPlace, Contents, SnapshotFile, SnapshotId, unpack};
use super::{Installed, Options};
use crate::env::{Disk, File, OpenMode, read_full};
use std::sync::Arc;

/// Longest manifest of a snapshot that is accepted (F14): enough for 16 TiB.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It was missing and is there now.
    Stored,
    /// It was there already.
    Duplicate,
}

/// A snapshot that is arriving. Dropping it keeps what has arrived for the next try.
pub struct SnapshotReceiver {
    disk: Arc<dyn Disk>,
    /// Directory of the log.
    dir: String,
    id: SnapshotId,
    contents: Contents,
    parts: Vec<Part>,
}

/// One file of the snapshot.
struct Part {
    path: String,
    file: Box<dyn File>,
    /// Whether each chunk is there.
    present: Vec<bool>,
}

impl SnapshotReceiver {
    /// Begins to receive the snapshot with this manifest, or goes on where an earlier try of the
    /// same one ended. `dir` is the directory of the log, which may be open meanwhile.
    ///
    /// # Errors
    /// [`Error::SnapshotRefused`] when the manifest is damaged, of a newer version, or describes
    /// more than there is room for. [`Error::Aborted`] when files could not be made.
    pub fn begin(disk: Arc<dyn Disk>, dir: &str, manifest: &[u8]) -> Result<Self, Error> {
        if manifest.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(Error::SnapshotRefused {
                what: "its manifest is too long",
            });
        }
        let contents = Contents::decode(manifest)?;
        let incoming = incoming(dir);
        prepare(disk.as_ref(), dir, &incoming, manifest).map_err(aborted)?;
        let own = Manifest::read(disk.as_ref(), dir)
            .ok()
            .flatten()
            .unwrap_or_default();
        let mut parts = Vec::with_capacity(contents.files.len());
        for (at, file) in contents.files.iter().enumerate() {
            parts.push(open_part(disk.as_ref(), dir, at, file, &own)?);
        }
        disk.sync_dir(&incoming)
            .map_err(|e| aborted(Error::write("sync", &incoming)(e)))?;
        let id = snapshot::id_of(manifest);
        let receiver = Self {
            disk,
            dir: dir.to_owned(),
            id,
            contents,
            parts,
        };
        receiver.check_room()?;
        Ok(receiver)
    }

    /// The snapshot's name.
    #[must_use]
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Where the snapshot stands.
    #[must_use]
    pub fn mark(&self) -> AppliedMark {
        self.contents.mark
    }

    /// The opaque bytes that the sender gave along.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        &self.contents.meta
    }

    /// How many chunks there are.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        self.contents.chunk_count()
    }

    /// Numbers of the chunks that are missing, ascending.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        let all = self.parts.iter().flat_map(|part| part.present.iter());
        (0..)
            .zip(all)
            .filter(|(_, present)| !**present)
            .map(|(number, _)| number)
    }

    /// Takes one chunk of the snapshot named `id`.
    ///
    /// # Errors
    /// [`Error::SnapshotRefused`] for a chunk of another snapshot (D5). [`Error::ChunkRefused`],
    /// with its number, for one that is not what the manifest says (D9). [`Error::Aborted`] when
    /// it could not be written.
    pub fn write_chunk(
        &mut self,
        id: SnapshotId,
        number: u32,
        wire: &[u8],
    ) -> Result<Received, Error> {
        if id != self.id {
            return Err(Error::SnapshotRefused {
                what: "the chunk belongs to another transfer",
            });
        }
        let refuse = |what| Error::ChunkRefused { number, what };
        let what = "the snapshot has no chunk with this number";
        let place = self.contents.place(number).ok_or_else(|| refuse(what))?;
        let mut scratch = Vec::new();
        let bytes = unpack(wire, &place, &mut scratch).map_err(refuse)?;
        let part = &mut self.parts[place.file];
        let present = &mut part.present[(place.offset / CHUNK_BYTES as u64) as usize];
        // A part that is linked to a segment of the log is whole, so that it is never written.
        if *present {
            return Ok(Received::Duplicate);
        }
        let write = part.file.write_all_at(bytes, place.offset);
        write.map_err(|e| aborted(Error::write("write", &part.path)(e)))?;
        *present = true;
        Ok(Received::Stored)
    }

    /// Makes everything durable and reads it all back: every chunk, then every record.
    ///
    /// # Errors
    /// [`Error::SnapshotIncomplete`]. [`Error::ChunkRefused`] for a chunk that did not survive:
    /// it counts as missing from then on. [`Error::Corrupt`] when the sender's data is damaged:
    /// nothing here can repair that. A failed sync aborts the transfer: the parts are removed.
    pub fn verify(&mut self) -> Result<(), Error> {
        let mut missing = self.missing();
        if let Some(first) = missing.next() {
            let missing = 1 + u32::try_from(missing.count()).unwrap_or(u32::MAX);
            return Err(Error::SnapshotIncomplete { first, missing });
        }
        drop(missing);
        for at in 0..self.parts.len() {
            let part = &self.parts[at];
            if let Err(source) = part.file.sync_all() {
                // What was written is unknown now (W6): no part of this try is trusted again.
                let error = aborted(Error::write("sync", &part.path)(source));
                let _ = snapshot::remove_dir(self.disk.as_ref(), &incoming(&self.dir));
                return Err(error);
            }
            part.file
                .drop_cache(0, 0)
                .map_err(Error::read(&part.path))?;
            self.verify_part(at)?;
        }
        Ok(())
    }

    /// Reads one part back.
    fn verify_part(&mut self, at: usize) -> Result<(), Error> {
        let described = &self.contents.files[at];
        let part = &mut self.parts[at];
        let present = present_chunks(part.file.as_ref(), &part.path, described)?;
        if let Some(lost) = present.iter().position(|present| !present) {
            part.present = present;
            let number = self.contents.first_chunk(at) + lost as u32;
            return Err(Error::ChunkRefused {
                number,
                what: "it did not survive on this disk",
            });
        }
        let Part { file, path, .. } = &*part;
        let (_, nonce) = segment::read_header(file.as_ref(), path, 0)?;
        let opened = Opened {
            file: file.as_ref(),
            path,
            id: 0,
            nonce: described.nonce,
        };
        if nonce != described.nonce {
            return Err(opened.corrupt(0, "segment, which is another one"));
        }
        let trailer = segment::read_trailer(file.as_ref(), path, nonce, described.len)?;
        let trailer = trailer.ok_or_else(|| opened.corrupt(described.len, "trailer"))?;
        seal::verify(&opened, &trailer, described.len)
    }

    /// Verifies the snapshot and makes it the log: after a crash at any point, the log is the old
    /// one or the new one with its mark and meta. The log in `dir` must be closed: it is opened
    /// again afterwards. May be repeated after an error or a crash.
    ///
    /// # Errors
    /// Those of [`SnapshotReceiver::verify`], and fatal ones when the swap failed.
    pub fn install(&mut self, options: &Options) -> Result<Installed, Error> {
        self.verify()?;
        let (disk, dir) = (self.disk.as_ref(), self.dir.as_str());
        // A log that is damaged has perhaps no manifest: numbers then start above every file.
        let old = Manifest::read(disk, dir).ok().flatten().unwrap_or_default();
        let names = disk.list(dir).map_err(Error::read(dir))?;
        let highest = names
            .iter()
            .filter_map(|name| segment::number(name))
            .max()
            .unwrap_or(0);
        let mut next = old.next_segment.max(highest + 1);
        let mut segments = Vec::with_capacity(self.parts.len() + 1);
        for (part, described) in self.parts.iter().zip(&self.contents.files) {
            let to = segment::path(dir, next);
            disk.hard_link(&part.path, &to)
                .map_err(Error::write("link", &to))?;
            let SnapshotFile {
                nonce,
                len,
                compacted_at,
                ..
            } = *described;
            segments.push(Listed {
                id: next,
                nonce,
                len,
                compacted_at,
            });
            next += 1;
        }
        let nonce = segment::nonce(options.identity, next);
        segment::create(disk, &segment::path(dir, next), next, nonce)?;
        segments.push(Listed {
            id: next,
            nonce,
            len: 0,
            compacted_at: 0,
        });
        disk.sync_dir(dir).map_err(Error::write("sync", dir))?;
        let Contents { mark, meta, .. } = &self.contents;
        let installed = Installed {
            mark: *mark,
            meta: meta.clone(),
        };
        let (generation, next_segment) = (old.generation, next + 1);
        let mut new = Manifest {
            generation,
            next_segment,
            installed: Some(installed.clone()),
            segments,
        };
        new.write(disk, dir)?;
        // From here on the new log is the log. What stays of the old one goes at the next open.
        manifest::remove_orphans(disk, dir, &new.segments)?;
        snapshot::remove_dir(disk, &incoming(dir))?;
        Ok(installed)
    }

    /// Gives the transfer up and removes what has arrived.
    ///
    /// # Errors
    /// [`Error::Aborted`] when something could not be removed.
    pub fn abandon(self) -> Result<(), Error> {
        snapshot::remove_dir(self.disk.as_ref(), &incoming(&self.dir)).map_err(aborted)
    }

    /// Refuses a snapshot that there is no room for.
    fn check_room(&self) -> Result<(), Error> {
        let place = |number| self.contents.place(number);
        let wanted: u64 = self
            .missing()
            .filter_map(place)
            .map(|p: ChunkPlace| p.len as u64)
            .sum();
        let free = self.disk.free_bytes().map_err(Error::read(&self.dir))?;
        match wanted <= free {
            true => Ok(()),
            false => Err(Error::SnapshotRefused {
                what: "there is no room for it on this disk",
            }),
        }
    }
}

/// Where parts arrive.
fn incoming(dir: &str) -> String {
    format!("{dir}/incoming")
}

/// Makes the directory of parts one of the snapshot with this manifest.
fn prepare(disk: &dyn Disk, dir: &str, incoming: &str, manifest: &[u8]) -> Result<(), Error> {
    let own = format!("{incoming}/SNAPSHOT");
    if disk.exists(&own).map_err(Error::read(&own))? {
        if manifest::read_whole(disk, &own, MANIFEST_BYTES_MAX)? == manifest {
            return Ok(());
        }
        snapshot::remove_dir(disk, incoming)?;
    } else if disk.exists(incoming).map_err(Error::read(incoming))? {
        snapshot::remove_dir(disk, incoming)?;
    }
    disk.create_dir(dir).map_err(Error::write("create", dir))?;
    disk.create_dir(incoming)
        .map_err(Error::write("create", incoming))?;
    disk.sync_dir(dir).map_err(Error::write("sync", dir))?;
    manifest::replace_file(disk, incoming, "SNAPSHOT", manifest)
}

/// Opens a part: what arrived before, or a link to the same segment of this member, or nothing.
fn open_part(
    disk: &dyn Disk,
    dir: &str,
    at: usize,
    described: &SnapshotFile,
    own: &Manifest,
) -> Result<Part, Error> {
    let path = format!("{}/{at:08}.part", incoming(dir));
    let linked = format!("{}/{at:08}.have", incoming(dir));
    if disk.exists(&linked).map_err(Error::read(&linked))? {
        disk.remove(&linked)
            .map_err(|e| aborted(Error::write("remove", &linked)(e)))?;
    }
    let same = |l: &&Listed| l.nonce == described.nonce && l.len == described.len;
    if let Some(listed) = own.sealed().iter().find(same) {
        let from = segment::path(dir, listed.id);
        // Only a link that is whole is kept: writing into it would write into the log.
        if disk.hard_link(&from, &linked).is_ok() {
            let file = disk
                .open(&linked, OpenMode::ReadOnly)
                .map_err(Error::read(&linked))?;
            let present = present_chunks(file.as_ref(), &linked, described)?;
            if present.iter().all(|present| *present) {
                return Ok(Part {
                    path: linked,
                    file,
                    present,
                });
            }
            disk.remove(&linked)
                .map_err(|e| aborted(Error::write("remove", &linked)(e)))?;
        }
    }
    let file = disk.open(&path, OpenMode::OpenOrCreate);
    let file = file.map_err(|e| aborted(Error::write("create", &path)(e)))?;
    let present = present_chunks(file.as_ref(), &path, described)?;
    Ok(Part {
        path,
        file,
        present,
    })
}

/// Which chunks of a part are there, found by reading them.
fn present_chunks(
    file: &dyn File,
    path: &str,
    described: &SnapshotFile,
) -> Result<Vec<bool>, Error> {
    let len = file.len().map_err(Error::read(path))?;
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut present = vec![false; described.sums.len()];
    for (number, (sum, present)) in described.sums.iter().zip(&mut present).enumerate() {
        let offset = (number * CHUNK_BYTES) as u64;
        if offset >= len {
            break;
        }
        let want = (described.len - offset).min(CHUNK_BYTES as u64) as usize;
        let read = read_full(file, &mut buffer[..want], offset).map_err(Error::read(path))?;
        *present = read == want && crc32c::crc32c(&buffer[..want]) == *sum;
    }
    Ok(present)
}

/// Removes a received snapshot that the log has reached or overtaken.
pub(super) fn remove_overtaken(disk: &dyn Disk, dir: &str, at: AppliedMark) -> Result<(), Error> {
    let incoming = incoming(dir);
    if !disk.exists(&incoming).map_err(Error::read(&incoming))? {
        return Ok(());
    }
    let own = format!("{incoming}/SNAPSHOT");
    let contents = manifest::read_whole(disk, &own, MANIFEST_BYTES_MAX);
    let contents = contents.and_then(|bytes| Contents::decode(&bytes));
    match contents {
        Ok(contents) if contents.mark.applied.index > at.applied.index => Ok(()),
        // Overtaken, or a try that never came as far as its manifest.
        _ => snapshot::remove_dir(disk, &incoming),
    }
}

/// Before the swap nothing of the log changes: failures end the transfer, not the member.
fn aborted(error: Error) -> Error {
    match error {
        Error::Write { .. } => Error::Aborted {
            cause: error.to_string(),
        },
        other => other,
    }
}
