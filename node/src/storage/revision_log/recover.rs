//! Opening: from what is on disk to the last complete mark.
//!
//! | Found | Proof that it was durable | Decision |
//! |---|---|---|
//! | whole records after the last mark | any | cut behind the mark: the batch never ended |
//! | a bad frame in the last segment | none beyond it | torn: cut behind the last mark |
//! | a bad frame in the last segment | a later mark, a footer, or the watermark | corrupt |
//! | the last segment shorter than proved | the watermark | corrupt |
//! | the last segment carries a trailer | - | sealed, the roll was cut short: go on with it |
//! | anything wrong in an earlier segment, or one missing | the manifest | corrupt |
//! | a segment that is not listed | - | of a change that did not come about: removed |
//!
//! Cutting loses nothing that counts: the WAL is released only behind what was synced here, and is
//! replayed from the mark. Every step may be repeated after a crash (N10, F9).
//! Must not know: what a record means.

use super::error::Error;
use super::flush::{self, Flush};
use super::frame::{self, Kind, Mark};
use super::manifest::{self, Listed, Manifest};
use super::record::{AppliedMark, Location, Recovered};
use super::scan::{Scanner, Step};
use super::seal::{self, Opened as OpenedFile};
use super::segment::{self, HEADER_BYTES, Segment};
use super::shared::{Progress, Rows, Shared, View, note_row};
use super::tail::Tail;
use super::watermark::Watermark;
use super::{Opened, Options, RevisionLog, snapshot};
use crate::env::{Disk, File, OpenMode};
use parking_lot::{Condvar, Mutex, RwLock};
use quorate_raft::LogIndex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// What the visit gathers for the log itself.
#[derive(Default)]
struct Gathered {
    /// The newest opaque rows.
    rows: Rows,
    /// Records of rows that have newer ones.
    dead: Vec<Location>,
    /// The newest compacted revision.
    compacted: u64,
    /// The last mark.
    mark: Option<AppliedMark>,
    /// Segments by number.
    segments: BTreeMap<u32, Arc<Segment>>,
}

impl Gathered {
    /// Notes what the log needs of a record, and passes it on.
    fn visit(&mut self, found: Recovered<'_>, at: Location, visit: &mut dyn FnMut(Recovered<'_>)) {
        match found {
            Recovered::Meta { kind, key, bytes } => {
                self.dead
                    .extend(note_row(&mut self.rows, kind, key, at, bytes.is_empty()));
            }
            Recovered::Compaction { revision } => self.compacted = self.compacted.max(revision),
            Recovered::Put { .. } | Recovered::Delete { .. } => {}
        }
        visit(found);
    }

    /// Notes a segment.
    fn add(&mut self, dir: &str, id: u32, nonce: u64, len: u64) {
        self.segments
            .insert(id, Arc::new(Segment::new(dir, id, nonce, len)));
    }
}

/// Opens the log; see [`RevisionLog::open`].
pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &str,
    options: Options,
    visit: &mut dyn FnMut(Recovered<'_>),
) -> Result<(RevisionLog, Opened), Error> {
    disk.create_dir(dir).map_err(Error::write("create", dir))?;
    let parent = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
    disk.sync_dir(parent)
        .map_err(Error::write("sync", parent))?;
    let mut manifest = match Manifest::read(disk.as_ref(), dir)? {
        Some(manifest) => manifest,
        None => create(disk.as_ref(), dir, options.identity)?,
    };
    let mut gathered = Gathered::default();
    for listed in manifest.sealed() {
        visit_sealed(disk.as_ref(), dir, listed, &mut gathered, visit)?;
    }
    let (watermark, claim) = Watermark::open(disk.as_ref(), dir)?;
    let active = open_active(
        disk.as_ref(),
        dir,
        *manifest.active(),
        claim,
        &mut gathered,
        visit,
    )?;
    let mark = gathered
        .mark
        .or(manifest.installed.as_ref().map(|i| i.mark))
        .unwrap_or_default();
    // Only now, when everything is known to be whole, are left-overs removed.
    manifest::remove_orphans(disk.as_ref(), dir, &manifest.segments)?;
    snapshot::remove_left_overs(disk.as_ref(), dir, mark)?;
    let (file, end) = match active {
        Active::Open { file, end } => (file, end),
        Active::Sealed { len } => {
            let file = finish_roll(disk.as_ref(), dir, options.identity, &mut manifest, len)?;
            (file, HEADER_BYTES)
        }
    };
    let Listed { id, nonce, .. } = *manifest.active();
    gathered.add(dir, id, nonce, end);
    let opened = Opened {
        mark,
        installed: manifest.installed.clone(),
    };
    let flush = Flush {
        file,
        id,
        nonce,
        written: end,
        watermark,
    };
    Ok((
        assemble(disk, dir, options, manifest, flush, gathered, mark),
        opened,
    ))
}

/// Puts the parts together and starts the flusher.
fn assemble(
    disk: Arc<dyn Disk>,
    dir: &str,
    options: Options,
    manifest: Manifest,
    flush: Flush,
    gathered: Gathered,
    mark: AppliedMark,
) -> RevisionLog {
    let Gathered {
        rows,
        dead,
        compacted,
        segments,
        ..
    } = gathered;
    let (id, end) = (flush.id, flush.written);
    let active = Arc::clone(&segments[&id]);
    let progress = Progress {
        allowed: mark.applied.index,
        synced: mark,
        synced_compaction: compacted,
        appended_compaction: compacted,
        ..Progress::default()
    };
    let view = View {
        tail: Tail::new(id, end),
        segments,
        epoch: Arc::new(()),
        retired: VecDeque::new(),
    };
    let gone = rows.values().filter(|row| row.gone).map(|row| row.newest);
    for location in dead.into_iter().chain(gone) {
        let bytes = u64::from(location.disk_bytes());
        view.segments[&location.segment()]
            .dead
            .fetch_add(bytes, Ordering::Relaxed);
    }
    let shared = Arc::new(Shared {
        disk,
        dir: dir.to_owned(),
        options,
        view: RwLock::new(view),
        progress: Mutex::new(progress),
        wake: Condvar::new(),
        flush: Mutex::new(flush),
        next_segment: AtomicU32::new(manifest.next_segment),
        manifest: Mutex::new(manifest),
        handles: super::read::Handles::default(),
        failure: OnceLock::new(),
        damage: OnceLock::new(),
        rows: Mutex::new(rows),
    });
    RevisionLog::assemble(shared, active, end, mark, compacted)
}

/// Creates the log in an empty directory. A crash leaves nothing that a repetition minds.
fn create(disk: &dyn Disk, dir: &str, identity: u64) -> Result<Manifest, Error> {
    for name in disk.list(dir).map_err(Error::read(dir))? {
        let Some(id) = segment::number(&name) else {
            continue;
        };
        let path = format!("{dir}/{name}");
        let file = disk
            .open(&path, OpenMode::ReadOnly)
            .map_err(Error::read(&path))?;
        // A first segment without its manifest is of a crash right here, and holds no record yet.
        if file.len().map_err(Error::read(&path))? > HEADER_BYTES {
            let (path, what) = (
                manifest::path(dir),
                "manifest of the segments that are there",
            );
            return Err(Error::Corrupt {
                path,
                segment: id,
                offset: 0,
                what,
            });
        }
    }
    manifest::remove_orphans(disk, dir, &[])?;
    let nonce = segment::nonce(identity, 1);
    segment::create(disk, &segment::path(dir, 1), 1, nonce)?;
    disk.sync_dir(dir).map_err(Error::write("sync", dir))?;
    let segments = vec![Listed {
        id: 1,
        nonce,
        len: 0,
        compacted_at: 0,
    }];
    let mut manifest = Manifest {
        next_segment: 2,
        segments,
        ..Manifest::default()
    };
    manifest.write(disk, dir)?;
    Ok(manifest)
}

/// Opens a listed segment's file and checks that it is the one listed.
pub(super) fn open_listed(
    disk: &dyn Disk,
    path: &str,
    listed: &Listed,
    mode: OpenMode,
) -> Result<Box<dyn File>, Error> {
    let corrupt = |what| Error::Corrupt {
        path: path.to_owned(),
        segment: listed.id,
        offset: 0,
        what,
    };
    if !disk.exists(path).map_err(Error::read(path))? {
        return Err(corrupt("segment, which is missing"));
    }
    let file = disk.open(path, mode).map_err(Error::read(path))?;
    // The number in the header is the one at creation, on another member perhaps.
    let (_, nonce) = segment::read_header(file.as_ref(), path, listed.id)?;
    match nonce == listed.nonce {
        true => Ok(file),
        false => Err(corrupt("segment, which is another one")),
    }
}

/// Reports the records of a sealed segment, from its footer.
fn visit_sealed(
    disk: &dyn Disk,
    dir: &str,
    listed: &Listed,
    gathered: &mut Gathered,
    visit: &mut dyn FnMut(Recovered<'_>),
) -> Result<(), Error> {
    let path = segment::path(dir, listed.id);
    let file = open_listed(disk, &path, listed, OpenMode::ReadOnly)?;
    let opened = OpenedFile {
        file: file.as_ref(),
        path: &path,
        id: listed.id,
        nonce: listed.nonce,
    };
    let len = file.len().map_err(Error::read(&path))?;
    if len != listed.len {
        return Err(opened.corrupt(len.min(listed.len), "length of a sealed segment"));
    }
    let trailer = segment::read_trailer(file.as_ref(), &path, listed.nonce, len)?
        .ok_or_else(|| opened.corrupt(len.saturating_sub(segment::TRAILER_BYTES), "trailer"))?;
    seal::visit_index(&opened, &trailer, &mut |found, at| {
        gathered.visit(found, at, visit)
    })?;
    gathered.mark = trailer.last_mark.or(gathered.mark);
    gathered.add(dir, listed.id, listed.nonce, len);
    Ok(())
}

/// What the last segment turned out to be.
enum Active {
    /// Open for appending at `end`; all before is durable.
    Open { file: Box<dyn File>, end: u64 },
    /// Sealed already: a crash came between the seal and the manifest.
    Sealed { len: u64 },
}

/// Opens the last segment, cuts what is torn, and reports its records.
fn open_active(
    disk: &dyn Disk,
    dir: &str,
    listed: Listed,
    claim: Option<(u64, u64)>,
    gathered: &mut Gathered,
    visit: &mut dyn FnMut(Recovered<'_>),
) -> Result<Active, Error> {
    let path = segment::path(dir, listed.id);
    let file = open_listed(disk, &path, &listed, OpenMode::Existing)?;
    // What a killed process left in the page cache becomes durable or fails loudly; then the
    // device is asked, not the cache (W6).
    file.sync_all().map_err(Error::write("sync", &path))?;
    file.drop_cache(0, 0).map_err(Error::read(&path))?;
    let len = file.len().map_err(Error::read(&path))?;
    if segment::read_trailer(file.as_ref(), &path, listed.nonce, len)?.is_some() {
        visit_sealed(disk, dir, &Listed { len, ..listed }, gathered, visit)?;
        return Ok(Active::Sealed { len });
    }
    let opened = OpenedFile {
        file: file.as_ref(),
        path: &path,
        id: listed.id,
        nonce: listed.nonce,
    };
    let proved = claim
        .filter(|(nonce, _)| *nonce == listed.nonce)
        .map_or(0, |(_, end)| end);
    let tail = examine_tail(&opened, len, proved)?;
    visit_tail(&opened, tail.end, &mut |found, at| {
        gathered.visit(found, at, visit)
    })?;
    gathered.mark = tail.mark.or(gathered.mark);
    if tail.end < len {
        file.set_len(tail.end).map_err(Error::write("cut", &path))?;
        file.sync_all().map_err(Error::write("sync", &path))?;
    }
    Ok(Active::Open {
        file,
        end: tail.end,
    })
}

/// Reports the records of an unsealed segment up to `end`, which must have been examined.
pub(super) fn visit_tail(
    segment: &OpenedFile<'_>,
    end: u64,
    visit: &mut dyn FnMut(Recovered<'_>, Location),
) -> Result<(), Error> {
    let OpenedFile {
        file,
        path,
        id,
        nonce,
    } = *segment;
    let mut scanner = Scanner::new(file, path, nonce, HEADER_BYTES, end);
    loop {
        let at = scanner.position();
        let (offset, header, bytes) = match scanner.next()? {
            Step::End => return Ok(()),
            Step::Bad { what } => return Err(segment.corrupt(at, what)),
            Step::Frame {
                offset,
                header,
                bytes,
            } => (offset, header, bytes),
        };
        let body = &bytes[frame::HEADER_BYTES..][..header.body_len as usize];
        if header.kind != Kind::Mark {
            let frame_len = u32::try_from(bytes.len()).expect("frames are below 4 GiB");
            let at = Location::new(id, offset, frame_len);
            let found = seal::recovered(&header, body, at);
            visit(
                found.ok_or_else(|| segment.corrupt(offset, "body of a record"))?,
                at,
            );
        }
    }
}

/// The whole part of an unsealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WholeTail {
    /// The last mark, if there is one.
    pub mark: Option<AppliedMark>,
    /// Offset behind it.
    pub end: u64,
    /// Records before `end`.
    pub records: u64,
    /// Marks before `end`.
    pub marks: u64,
    /// Where the first bad frame stands, if there is one.
    pub torn_at: Option<u64>,
}

/// Finds the last complete mark of an unsealed segment, of which `proved` bytes are known to have
/// been durable. Damage before what is proved, here or further on, is an error.
pub(super) fn examine_tail(
    segment: &OpenedFile<'_>,
    len: u64,
    mut proved: u64,
) -> Result<WholeTail, Error> {
    let mut tail = WholeTail {
        mark: None,
        end: HEADER_BYTES,
        records: 0,
        marks: 0,
        torn_at: None,
    };
    let mut batch = Batch::default();
    let mut scanner = Scanner::new(segment.file, segment.path, segment.nonce, HEADER_BYTES, len);
    let bad = loop {
        match scanner.next()? {
            Step::End => break None,
            Step::Bad { what } => break Some(what),
            Step::Frame {
                offset,
                header,
                bytes,
            } => match header.kind {
                Kind::Index | Kind::Chunks => {
                    // A footer is begun only once all records before it are durable.
                    proved = proved.max(offset);
                    break None;
                }
                Kind::Mark => {
                    let body = &bytes[frame::HEADER_BYTES..][..header.body_len as usize];
                    let mark = frame::decode_mark(body).filter(|mark| batch.is_ended_by(mark));
                    let Some(mark) = mark else {
                        return Err(segment.corrupt(offset, "checksum of an apply batch"));
                    };
                    proved = proved.max(mark.synced);
                    tail.mark = Some(mark.said);
                    tail.end = offset + header.frame_len() as u64;
                    tail.records += u64::from(batch.records);
                    tail.marks += 1;
                    batch = Batch::default();
                }
                Kind::Put | Kind::Delete | Kind::Compaction | Kind::Meta => {
                    batch.add(header.body_crc);
                }
            },
        }
    };
    let position = scanner.position();
    if bad.is_some() {
        tail.torn_at = Some(position);
        proved = proved.max(proof_beyond(&mut scanner)?);
    }
    // `end` is what is kept. Marks are what is synced up to, so that keeping less than what is
    // proved means that something before `proved` is bad or missing.
    if tail.end < proved {
        let what = bad.unwrap_or("bytes written before, which are missing");
        return Err(segment.corrupt(position, what));
    }
    Ok(tail)
}

/// Scans on behind a bad frame (W3): how much do later marks and footers prove to have been
/// durable? A later whole record proves nothing: a disk may keep the second of two unsynced writes.
fn proof_beyond(scanner: &mut Scanner<'_>) -> Result<u64, Error> {
    let mut proved = 0;
    while scanner.resume()? {
        while let Step::Frame { header, bytes, .. } = scanner.next()? {
            let body = &bytes[frame::HEADER_BYTES..][..header.body_len as usize];
            match header.kind {
                Kind::Mark => {
                    proved = frame::decode_mark(body).map_or(proved, |m| proved.max(m.synced));
                }
                Kind::Index | Kind::Chunks => {
                    proved = seal::data_end(body).map_or(proved, |end| proved.max(end));
                }
                Kind::Put | Kind::Delete | Kind::Compaction | Kind::Meta => {}
            }
        }
    }
    Ok(proved)
}

/// Sums up an apply batch, when it is written and when it is read back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    /// Records so far.
    pub records: u32,
    /// Checksum over their body checksums.
    pub crc: u32,
}

impl Batch {
    /// Adds a record, by the checksum of its body.
    pub fn add(&mut self, body_crc: u32) {
        self.records += 1;
        self.crc = crc32c::crc32c_append(self.crc, &body_crc.to_le_bytes());
    }

    /// Whether this is the batch that a mark ends.
    fn is_ended_by(&self, mark: &Mark) -> bool {
        self.records == mark.records && self.crc == mark.batch_crc
    }
}

/// Does the rest of a roll that a crash cut short: the last listed segment is sealed.
fn finish_roll(
    disk: &dyn Disk,
    dir: &str,
    identity: u64,
    manifest: &mut Manifest,
    len: u64,
) -> Result<Box<dyn File>, Error> {
    let id = manifest.next_segment;
    let nonce = segment::nonce(identity, id);
    let file = segment::create(disk, &segment::path(dir, id), id, nonce)?;
    disk.sync_dir(dir).map_err(Error::write("sync", dir))?;
    let sealed = manifest
        .segments
        .last_mut()
        .expect("a manifest lists a segment");
    sealed.len = len;
    manifest.segments.push(Listed {
        id,
        nonce,
        len: 0,
        compacted_at: 0,
    });
    manifest.next_segment = id + 1;
    manifest.write(disk, dir)?;
    Ok(file)
}

impl RevisionLog {
    /// A log whose parts are in place; starts the flusher's thread when there is to be one.
    fn assemble(
        shared: Arc<Shared>,
        active: Arc<Segment>,
        end: u64,
        mark: AppliedMark,
        compacted: u64,
    ) -> Self {
        let flusher = shared.options.background.then(|| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("revision-log".to_owned());
            thread
                .spawn(move || flush::run(&shared))
                .expect("a process that cannot start its flusher cannot run")
        });
        let (frame, batch) = (Vec::new(), Batch::default());
        Self {
            shared,
            active,
            end,
            frame,
            batch,
            mark,
            compacted,
            flusher,
        }
    }

    /// Lets marks up to this log index become durable (W10). Never goes back.
    pub fn allow_durable(&self, up_to: LogIndex) {
        let mut progress = self.shared.progress.lock();
        progress.allowed = progress.allowed.max(up_to);
        let wake = progress.idle;
        drop(progress);
        if wake {
            self.shared.wake.notify_one();
        }
    }
}
