//! Opening a log: read everything from the device, judge it, act on the verdict.
//!
//! Reading changes nothing. What recovery then writes may be interrupted anywhere, any number of
//! times: the next start finds evidence that leads to the same log (N10, F9).

use super::fold::{DamagedRange, Folded, SegmentState, fold};
use super::record::{Position, Stamp};
use super::segment::{self, SegmentHeader, Start};
use super::shape::LogShape;
use super::survey::{Survey, survey};
use super::watermark::{self, WatermarkCopy};
use super::{Files, Wal, WalOptions, files, scan, seed_for, segment_for};
use crate::env::{Disk, File, OpenMode, read_full};
use crate::storage::error::{Error, IoContext, misplaced};
use crate::storage::recovery::{
    Flaw, SlotsEvidence, SlotsFound, SlotsRow, SlotsVerdict, Verdict, judge_slots,
};
use crate::storage::slots::{self, SLOTS_FILE, SlotPair, Slots};
use quorate_raft::{Entry, HardState, LogIndex, SnapshotMeta};
use std::collections::VecDeque;
use std::sync::Arc;

/// What was found on disk. All of it is durable now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// Where the log begins: the entry before the first one, and the membership in force there.
    /// `None` for a log that begins with index 1.
    pub base: Option<SnapshotMeta>,
    /// The entries behind `base`, contiguous. Under repair, those ahead of the damage and those
    /// that the leader has sent since.
    pub entries: Vec<Entry>,
    /// A commit index seen before, at most that of the last entry; 0 for none.
    pub commit: LogIndex,
    /// What the log was judged to be. [`Verdict::Corrupt`] means under repair: no vote and no
    /// acknowledgement before [`Wal::repaired`]; a single voter must halt instead.
    pub verdict: Verdict,
    /// Which indexes are in doubt: this member may have held and acknowledged them.
    pub damaged: Vec<DamagedRange>,
    /// Whole entries found behind damage, with holes between. Each was written by this member once;
    /// a cut or a replacement of it may be among what is lost.
    pub salvaged: Vec<Entry>,
}

/// What lies in a log's directory, read and judged, nothing changed.
pub(crate) struct Found {
    /// Names in the directory.
    pub names: Vec<String>,
    /// Whether the directory exists.
    pub dir_exists: bool,
    /// The vote file, when there is one.
    pub slots: Option<(Box<dyn File>, SlotPair)>,
    /// What the slots look like.
    pub slots_found: SlotsFound,
    /// How they are judged.
    pub slots_row: &'static SlotsRow,
    /// The claim of the watermark's copy.
    pub copy: Option<Position>,
    /// The segments.
    pub survey: Survey,
    /// What they say.
    pub folded: Folded,
    /// A file that belongs to another log.
    pub foreign: Option<String>,
}

impl Found {
    /// The verdict on the log as a whole.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.folded.needs_resume || !self.folded.damaged.is_empty() {
            return Verdict::Corrupt;
        }
        self.survey
            .segments
            .last()
            .map_or(Verdict::CleanEnd, super::survey::Judged::verdict)
    }
}

/// Reads and judges the log in `dir`. With [`OpenMode::ReadOnly`] the disk is not even asked to
/// sync what is cached, so that a directory in use may be looked at.
pub(crate) fn load(
    disk: &dyn Disk,
    dir: &str,
    log_id: [u8; 16],
    was_member: bool,
    planted: u32,
    mode: OpenMode,
) -> Result<Found, Error> {
    let shown = || disk.display(dir);
    let dir_exists = disk.exists(dir).context("look for", shown)?;
    let names = if dir_exists {
        disk.list(dir).context("list", shown)?
    } else {
        Vec::new()
    };
    let slots = Slots::read(disk, dir, Some(log_id), mode)?;
    let slots_found = describe(slots.as_ref().map(|(_, pair)| *pair));
    let hard_state = slots.as_ref().and_then(|(_, pair)| slots::newest(*pair));
    let mut scans = Vec::new();
    let mut bytes = Vec::new();
    for id in names
        .iter()
        .filter_map(|name| segment::parse_file_name(name))
    {
        read_segment(
            disk,
            &format!("{dir}/{}", segment::file_name(id)),
            mode,
            &mut bytes,
        )?;
        scans.push(scan::scan(&bytes, id, &log_id, planted));
    }
    let foreign = scans.iter().find(|scan| scan.is_foreign);
    let foreign = foreign.map(|scan| format!("{dir}/{}", segment::file_name(scan.id)));
    let log_exists = !scans.is_empty();
    let copy = watermark::read(disk, dir, &log_id)?;
    // A member that ever stood in a term, or voted, had a log.
    let promised = hard_state.is_some_and(|slot| slot.hard_state != HardState::default());
    let log_expected = slots.is_some() && (was_member || promised);
    let survey = survey(scans, copy, log_expected, planted);
    let folded = fold(&survey);
    let term = hard_state
        .map(|slot| slot.hard_state.term)
        .unwrap_or_default();
    let slots_row = judge_slots(&SlotsEvidence {
        found: slots_found,
        log_exists,
        was_member,
        log_is_newer: folded.term > term,
    });
    Ok(Found {
        names,
        dir_exists,
        slots,
        slots_found,
        slots_row,
        copy,
        survey,
        folded,
        foreign,
    })
}

fn describe(pair: Option<SlotPair>) -> SlotsFound {
    match pair {
        None => SlotsFound::Missing,
        Some([None, None]) => SlotsFound::BothBad,
        Some([Some(one), Some(other)]) if one == other => SlotsFound::Equal,
        Some([Some(_), Some(_)]) => SlotsFound::Different,
        Some(_) => SlotsFound::OneBad,
    }
}

/// Reads a whole segment from the device, not from the page cache (W6). What an earlier process
/// wrote and did not sync is synced first: what is recovered counts as durable.
fn read_segment(
    disk: &dyn Disk,
    path: &str,
    mode: OpenMode,
    bytes: &mut Vec<u8>,
) -> Result<(), Error> {
    const PIECE: usize = 4096;
    let shown = || disk.display(path);
    let file = disk.open(path, mode).context("open", shown)?;
    if mode == OpenMode::Existing {
        file.sync().context("sync", shown)?;
        file.drop_cache(0, 0).context("read", shown)?;
    }
    let length = file.len().context("read", shown)?.min(u64::from(u32::MAX));
    bytes.clear();
    bytes.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
    if read_full(&*file, bytes, 0).is_ok() {
        return Ok(());
    }
    // Some of it cannot be read. Take what can; the rest becomes bytes that are no record and not
    // zeros either, for the table to judge.
    for start in (0..bytes.len()).step_by(PIECE) {
        let end = (start + PIECE).min(bytes.len());
        if read_full(&*file, &mut bytes[start..end], start as u64).is_err() {
            bytes[start..end].fill(0xff);
        }
    }
    Ok(())
}

/// A log that was read and judged. Nothing was changed: what the verdict means for the member may
/// be decided before anything is ([`Examined::go_on`]).
pub struct Examined {
    disk: Arc<dyn Disk>,
    dir: String,
    options: WalOptions,
    found: Found,
    recovered: Recovered,
}

/// See [`Wal::examine`].
pub(super) fn examine(
    disk: Arc<dyn Disk>,
    dir: &str,
    options: WalOptions,
) -> Result<Examined, Error> {
    assert!(
        options.segment_bytes >= super::SEGMENT_BYTES_MIN,
        "segments hold at least one block"
    );
    let planted = options.planted();
    let mode = OpenMode::Existing;
    let mut found = load(
        &*disk,
        dir,
        options.log_id,
        options.was_member,
        planted,
        mode,
    )
    .map_err(misplaced)?;
    refuse(&*disk, dir, &options, &found)?;
    let newest = found
        .slots
        .as_ref()
        .and_then(|(_, pair)| slots::newest(*pair));
    let recovered = Recovered {
        hard_state: newest.map(|slot| slot.hard_state).unwrap_or_default(),
        base: found
            .folded
            .base
            .clone()
            .filter(|base| *base != SnapshotMeta::default()),
        entries: std::mem::take(&mut found.folded.entries),
        commit: found.folded.commit,
        verdict: found.verdict(),
        damaged: std::mem::take(&mut found.folded.damaged),
        salvaged: std::mem::take(&mut found.folded.salvaged),
    };
    Ok(Examined {
        disk,
        dir: dir.to_owned(),
        options,
        found,
        recovered,
    })
}

impl Examined {
    /// What was found. Durable only after [`Examined::go_on`].
    #[must_use]
    pub const fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Which files are damaged, where, and how, for people.
    #[must_use]
    pub fn damage(&self) -> Vec<String> {
        let judged = self.found.survey.segments.iter();
        let corrupt = judged.filter(|judged| judged.verdict() == Verdict::Corrupt);
        let told = corrupt.map(|judged| {
            let file = segment::file_name(judged.scan.id);
            let path = self.disk.display(&format!("{}/{file}", self.dir));
            let label = judged.row.map_or("damaged", |row| row.label);
            match judged.scan.flaw {
                Some(Flaw::Missing) => format!("{path} is missing"),
                Some(_) | None => format!("{path}, byte {}: {label}", judged.scan.end),
            }
        });
        told.collect()
    }

    /// Acts on the verdict: creates what is new, cuts a torn end, goes on behind damage. Everything
    /// recovered is durable then.
    ///
    /// # Errors
    /// Fatal errors of the device. [`Error::NoSpace`] when the first segment finds no room.
    pub fn go_on(self) -> Result<(Wal, Recovered), Error> {
        let Self {
            disk,
            dir,
            options,
            mut found,
            recovered,
        } = self;
        if !found.dir_exists {
            disk.create_dir(&dir)
                .context("create", || disk.display(&dir))?;
            let parent = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
            disk.sync_dir(parent)
                .context("sync", || disk.display(parent))?;
        }
        let slots = match found.slots.take() {
            None => Slots::create(&*disk, &dir, options.log_id)?,
            Some((file, pair)) => {
                let path = disk.display(&format!("{dir}/{SLOTS_FILE}"));
                Slots::adopt(file, path, options.log_id, pair)?
            }
        };
        let copy = WatermarkCopy::open(&*disk, &dir, options.log_id)?;
        // Names that an earlier process left in the cache are relied on from here.
        disk.sync_dir(&dir).context("sync", || disk.display(&dir))?;
        let wal = continue_log(&disk, &dir, options, &found, &recovered, slots, copy)?;
        Ok((wal, recovered))
    }
}

fn refuse(disk: &dyn Disk, dir: &str, options: &WalOptions, found: &Found) -> Result<(), Error> {
    if let Some(path) = &found.foreign {
        return Err(Error::Foreign {
            path: disk.display(path),
            found: "is a log segment of another data directory".to_owned(),
            remedy: "Put back the directory's own log, or start over with an empty directory as a \
                     new member.",
        });
    }
    let lost = |why| {
        Err(Error::LostPromise {
            path: disk.display(dir),
            why,
        })
    };
    if found.slots_row.verdict == SlotsVerdict::Refuse {
        return lost(found.slots_row.label.to_owned());
    }
    let (written, now) = (found.survey.incarnation, options.incarnation);
    if written >= now {
        return lost(format!(
            "the log was written by start {written} of this directory, and this would be start \
             {now}: the identity file has gone back"
        ));
    }
    Ok(())
}

/// Brings the files into the state that writing goes on from.
fn continue_log(
    disk: &Arc<dyn Disk>,
    dir: &str,
    options: WalOptions,
    found: &Found,
    recovered: &Recovered,
    slots: Slots,
    copy: WatermarkCopy,
) -> Result<Wal, Error> {
    let survey = &found.survey;
    let next_id = survey.next_id.max(1);
    let mut files = Files::new(
        Arc::clone(disk),
        dir,
        &found.names,
        next_id,
        options.segment_bytes,
    )?;
    for id in survey.leftovers.iter().chain(&survey.void) {
        files.recycle(*id)?;
    }
    let mut shape = LogShape::new(recovered.base.clone().unwrap_or_default());
    for entry in &recovered.entries {
        shape.push(entry);
    }
    let (begun, offset) = match survey.segments.last() {
        Some(last) if !found.folded.needs_resume => reopen(&**disk, dir, last)?,
        _ => begin_anew(&mut files, &options, found, &shape)?,
    };
    let files::Begun {
        file,
        path,
        header,
        chain,
    } = begun;
    let end = Position {
        segment: header.id,
        offset,
    };
    let mut segments: VecDeque<SegmentState> = found.folded.segments.iter().copied().collect();
    if segments.back().is_none_or(|last| last.id != header.id) {
        segments.push_back(SegmentState::new(&header));
    }
    Ok(Wal {
        written_bytes: 0,
        files,
        slots,
        copy,
        file,
        path,
        capacity: header.capacity,
        stamp: Stamp {
            seed: seed_for(&options, header.id),
            incarnation: options.incarnation,
            synced: end,
        },
        chain,
        end,
        buf: Vec::new(),
        data_end: end,
        // What was found is synced, but no mark says so yet: the first idle moment writes one.
        marked: Position::default(),
        syncs_since_copy: 0,
        segments,
        release: None,
        shape,
        commit: recovered.commit,
        commit_written: recovered.commit,
        repairing: recovered.verdict == Verdict::Corrupt,
        stopped: false,
        options,
    })
}

/// Begins the first segment of a new log, or one that resumes a log behind damage.
fn begin_anew(
    files: &mut Files,
    options: &WalOptions,
    found: &Found,
    shape: &LogShape,
) -> Result<(files::Begun, u32), Error> {
    let damaged = !found.survey.segments.is_empty();
    let id = files.next_id();
    let header = SegmentHeader {
        log_id: options.log_id,
        id,
        capacity: 0,
        incarnation: options.incarnation,
        start: if damaged {
            Start::Resume
        } else {
            Start::Continues
        },
        whole: !damaged,
        previous: 0,
        oldest: found
            .folded
            .segments
            .first()
            .map_or(id, |segment| segment.id),
        synced: found.survey.watermark,
        base: shape.meta(),
    };
    let offset = header.bytes() as u32;
    // Here, no room is a clean refusal: nothing was promised yet by this start.
    let at_least = segment_for(0, header.bytes());
    files.provide(&[options.segment_bytes.max(at_least)])?;
    Ok((files.begin(options, at_least, header)?, offset))
}

/// Opens the last segment to write behind its end. A torn end is zeroed first, and that is synced,
/// before anything is written there under the new incarnation (W4).
fn reopen(
    disk: &dyn Disk,
    dir: &str,
    last: &super::survey::Judged,
) -> Result<(files::Begun, u32), Error> {
    const PIECE: usize = 64 * 1024;
    let path = format!("{dir}/{}", segment::file_name(last.scan.id));
    let shown = || disk.display(&path);
    let file = disk
        .open(&path, OpenMode::Existing)
        .context("open", shown)?;
    if last.scan.tail_is_dirty {
        let zeros = vec![0; PIECE];
        let mut at = u64::from(last.scan.end);
        while at < last.scan.file_bytes {
            let count = (last.scan.file_bytes - at).min(PIECE as u64);
            file.write_all_at(&zeros[..count as usize], at)
                .context("write", shown)?;
            at += count;
        }
        file.sync().context("sync", shown)?;
    }
    let header = last
        .scan
        .header
        .clone()
        .expect("a segment without a header is not continued");
    let begun = files::Begun {
        file,
        path: disk.display(&path),
        header,
        chain: last.scan.chain,
    };
    Ok((begun, last.scan.end))
}
