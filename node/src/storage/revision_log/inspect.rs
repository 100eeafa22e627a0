//! What is in a revision log, for people: read only, whatever state it is in.
//!
//! Must not know: how it is printed.

use super::error::Error;
use super::manifest::{Listed, Manifest};
use super::record::{AppliedMark, Location, MetaKind, Recovered};
use super::seal::{self, Opened};
use super::{recover, segment, watermark};
use crate::env::{Disk, OpenMode};

/// What a segment is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// Complete, with an index.
    Sealed,
    /// Being appended to.
    Open,
    /// Not part of the log: left by a crash, removed at the next start.
    Unlisted,
}

/// One segment file, as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub id: u32,
    /// The file.
    pub path: String,
    /// What it is to the log.
    pub state: SegmentState,
    /// Length of the file.
    pub bytes: u64,
    /// Records in it, without marks.
    pub records: u64,
    /// Marks in it.
    pub marks: u64,
    /// Smallest and largest revision (main); 0 and 0 when there is none.
    pub revisions: (u64, u64),
    /// The last mark in it.
    pub last_mark: Option<AppliedMark>,
    /// Nothing that a compaction at this revision made obsolete is in it.
    pub compacted_at: u64,
    /// Offset behind the last complete batch, when what follows will be cut at the next start.
    pub torn_at: Option<u64>,
    /// What is wrong with it, for people.
    pub damage: Option<String>,
}

/// Looks at every segment of the log in `dir`, in the order of history, unlisted ones last. With
/// `verify`, reads and checks every record; without, only what a start would read.
///
/// # Errors
/// [`Error::Read`] when the directory cannot be read, [`Error::Corrupt`] and [`Error::Version`]
/// for the manifest. Damage of a segment is in its [`SegmentInfo`].
pub fn inspect(disk: &dyn Disk, dir: &str, verify: bool) -> Result<Vec<SegmentInfo>, Error> {
    let names = disk.list(dir).map_err(Error::read(dir))?;
    let manifest = Manifest::read(disk, dir)?.unwrap_or_default();
    let claim = watermark::read(disk, dir)?;
    let mut infos = Vec::new();
    let last = manifest.segments.len().saturating_sub(1);
    for (at, listed) in manifest.segments.iter().enumerate() {
        let state = if at == last {
            SegmentState::Open
        } else {
            SegmentState::Sealed
        };
        infos.push(look(disk, dir, listed, state, claim, verify));
    }
    for id in names.iter().filter_map(|name| segment::number(name)) {
        if !manifest.segments.iter().any(|listed| listed.id == id) {
            let listed = Listed {
                id,
                nonce: 0,
                len: 0,
                compacted_at: 0,
            };
            let mut info = blank(dir, &listed, SegmentState::Unlisted);
            info.bytes = disk
                .open(&info.path, OpenMode::ReadOnly)
                .and_then(|file| file.len())
                .map_err(Error::read(&info.path))?;
            infos.push(info);
        }
    }
    Ok(infos)
}

/// The newest opaque row of a log that is not open, and the mark behind which it stands, without
/// changing anything; `None` when there is no such row. Only whole batches count.
///
/// # Errors
/// [`Error::Read`], [`Error::Corrupt`] and [`Error::Version`], as for [`super::RevisionLog::open`].
pub fn peek_row(
    disk: &dyn Disk,
    dir: &str,
    kind: MetaKind,
    row: &[u8],
) -> Result<Option<(AppliedMark, Vec<u8>)>, Error> {
    let Some(manifest) = Manifest::read(disk, dir)? else {
        return Ok(None);
    };
    let mut found = None;
    let mut mark = manifest.installed.as_ref().map(|i| i.mark);
    for listed in &manifest.segments {
        let path = segment::path(dir, listed.id);
        let file = recover::open_listed(disk, &path, listed, OpenMode::ReadOnly)?;
        let opened = Opened {
            file: file.as_ref(),
            path: &path,
            id: listed.id,
            nonce: listed.nonce,
        };
        let mut visit = |record: Recovered<'_>, _: Location| match record {
            Recovered::Meta {
                kind: of,
                key,
                bytes,
            } if of == kind && key == row => {
                found = Some(bytes.to_vec());
            }
            Recovered::Meta { .. }
            | Recovered::Put { .. }
            | Recovered::Delete { .. }
            | Recovered::Compaction { .. } => {}
        };
        let bytes = file.len().map_err(Error::read(&path))?;
        if let Some(trailer) = segment::read_trailer(file.as_ref(), &path, listed.nonce, bytes)? {
            seal::visit_index(&opened, &trailer, &mut visit)?;
            mark = trailer.last_mark.or(mark);
        } else {
            let tail = recover::examine_tail(&opened, bytes, 0)?;
            recover::visit_tail(&opened, tail.end, &mut visit)?;
            mark = tail.mark.or(mark);
        }
    }
    Ok(found.map(|bytes| (mark.unwrap_or_default(), bytes)))
}

/// What is known of a segment before it is looked at.
fn blank(dir: &str, listed: &Listed, state: SegmentState) -> SegmentInfo {
    SegmentInfo {
        id: listed.id,
        path: segment::path(dir, listed.id),
        state,
        bytes: 0,
        records: 0,
        marks: 0,
        revisions: (0, 0),
        last_mark: None,
        compacted_at: listed.compacted_at,
        torn_at: None,
        damage: None,
    }
}

/// Looks at one listed segment.
fn look(
    disk: &dyn Disk,
    dir: &str,
    listed: &Listed,
    state: SegmentState,
    claim: Option<(u64, u64)>,
    verify: bool,
) -> SegmentInfo {
    let mut info = blank(dir, listed, state);
    if let Err(error) = read_into(&mut info, disk, listed, claim, verify) {
        info.damage = Some(error.to_string());
    }
    info
}

/// Fills in what the file says, as far as it can be read.
fn read_into(
    info: &mut SegmentInfo,
    disk: &dyn Disk,
    listed: &Listed,
    claim: Option<(u64, u64)>,
    verify: bool,
) -> Result<(), Error> {
    let path = info.path.clone();
    let file = recover::open_listed(disk, &path, listed, OpenMode::ReadOnly)?;
    let opened = Opened {
        file: file.as_ref(),
        path: &path,
        id: listed.id,
        nonce: listed.nonce,
    };
    info.bytes = file.len().map_err(Error::read(&path))?;
    let trailer = segment::read_trailer(file.as_ref(), &path, listed.nonce, info.bytes)?;
    if let Some(trailer) = trailer {
        // A seal that a crash kept from the manifest counts: the next start goes on from it.
        info.state = SegmentState::Sealed;
        (info.marks, info.last_mark) = (trailer.marks, trailer.last_mark);
        (info.records, info.revisions) = (trailer.entries, trailer.revisions);
        if listed.len != 0 && listed.len != info.bytes {
            return Err(opened.corrupt(info.bytes.min(listed.len), "length of a sealed segment"));
        }
        return match verify {
            true => seal::verify(&opened, &trailer, info.bytes),
            false => seal::visit_index(&opened, &trailer, &mut |_, _| {}),
        };
    }
    if info.state == SegmentState::Sealed {
        let at = info.bytes.saturating_sub(segment::TRAILER_BYTES);
        return Err(opened.corrupt(at, "trailer"));
    }
    let proved = claim
        .filter(|(nonce, _)| *nonce == listed.nonce)
        .map_or(0, |(_, end)| end);
    let tail = recover::examine_tail(&opened, info.bytes, proved)?;
    (info.marks, info.last_mark, info.records) = (tail.marks, tail.mark, tail.records);
    info.torn_at = (tail.end < info.bytes).then_some(tail.end);
    recover::visit_tail(&opened, tail.end, &mut |found, _| {
        if let Recovered::Put { mod_rev, .. } | Recovered::Delete { mod_rev, .. } = found {
            let (low, high) = info.revisions;
            let low = if low == 0 {
                mod_rev.main
            } else {
                low.min(mod_rev.main)
            };
            info.revisions = (low, high.max(mod_rev.main));
        }
    })
}
