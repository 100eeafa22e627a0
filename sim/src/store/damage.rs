//! Damage to the files of a log: where, of which kind, and whether any log could notice it.
//!
//! One double fault is beyond what any log can tell: power is lost before the proof of a sync is on
//! disk, and what had been synced then rots; it reads as a torn end. Such damage is recognised here
//! by the one thing that is believed of the log, the highest proof that is left.

use super::wal::DIR;
use crate::disk::{SECTOR_BYTES, SimDisk};
use crate::tape::Tape;
use quorate_node::env::{Disk, OpenMode};
use quorate_node::storage::Position;
use quorate_node::storage::inspect::inspect;
use std::fmt;

/// What a failing read takes along, and the length of a segment's header.
const BLOCK_BYTES: usize = 4096;

/// What happens to the bytes.
#[derive(Clone, Copy)]
enum Kind {
    WrongBit(u64),
    Zeros(usize),
    Unreadable(usize),
}

/// One damage, not done yet.
pub(super) struct Harm {
    file: String,
    kind: Kind,
    /// The first byte that will read differently.
    first: usize,
}

impl Harm {
    /// Chooses a place and a kind; `None` where nothing would change.
    pub(super) fn draw(disk: &SimDisk, tape: &mut Tape) -> Option<Self> {
        let file = pick_file(disk, tape)?;
        let bytes = disk.durable(&path(&file))?;
        let last = bytes.iter().rposition(|byte| *byte != 0)?;
        // Headers are a small part of what is read; records are most of it.
        let behind_header = last > BLOCK_BYTES && tape.chance(900);
        let from = if behind_header { BLOCK_BYTES } else { 0 };
        let place = from + tape.below((last + 1 - from) as u64) as usize;
        let sector = place / SECTOR_BYTES;
        let (kind, first) = match tape.below(4) {
            0 => {
                let start = sector * SECTOR_BYTES;
                let skipped = bytes[start..].iter().position(|byte| *byte != 0)?;
                (Kind::Zeros(sector), start + skipped)
            }
            1 => (Kind::Unreadable(sector), place / BLOCK_BYTES * BLOCK_BYTES),
            _ => (Kind::WrongBit(place as u64 * 8 + tape.below(8)), place),
        };
        Some(Self { file, kind, first })
    }

    /// Does it.
    pub(super) fn inflict(&self, disk: &SimDisk) {
        let path = path(&self.file);
        match self.kind {
            Kind::WrongBit(bit) => disk.flip_bit(&path, bit),
            Kind::Zeros(sector) => disk.zero_sector(&path, sector),
            Kind::Unreadable(sector) => disk.make_unreadable(&path, sector),
        }
    }

    /// Whether bytes before `synced` are hit that nothing on the damaged disk proves to have been
    /// synced.
    pub(super) fn is_undecidable(&self, damaged: &SimDisk, synced: Position) -> bool {
        let Some(segment) = segment_number(&self.file) else {
            return false;
        };
        let offset = u32::try_from(self.first).unwrap_or(u32::MAX);
        let place = Position { segment, offset };
        read_from_device(damaged);
        let report = inspect(damaged, DIR).ok();
        let proved = report.and_then(|report| parse_position(&report.watermark));
        place < synced && proved.is_none_or(|proved| place >= proved)
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::WrongBit(_) => "has a wrong bit",
            Kind::Zeros(_) => "becomes zeros",
            Kind::Unreadable(_) => "cannot be read",
        };
        write!(f, "{} {what} from byte {} on", self.file, self.first)
    }
}

/// A file of the log: most often a segment, the one written last or one of those before it.
fn pick_file(disk: &SimDisk, tape: &mut Tape) -> Option<String> {
    let files = disk.list(DIR).ok()?;
    let segments: Vec<&String> = files
        .iter()
        .filter(|file| segment_number(file).is_some())
        .collect();
    let (last, earlier) = segments.split_last()?;
    match tape.below(8) {
        0 => tape.pick(&files).cloned(),
        1..4 if !earlier.is_empty() => tape.pick(earlier).copied().cloned(),
        _ => Some((*last).clone()),
    }
}

/// Lets a process that died before the machine did leave nothing in the page cache, as a start
/// does.
fn read_from_device(disk: &SimDisk) {
    for file in disk.list(DIR).unwrap_or_default() {
        if let Ok(file) = disk.open(&path(&file), OpenMode::Existing) {
            // A fork has no faults: neither can fail.
            let _ = file.sync().and_then(|()| file.drop_cache(0, 0));
        }
    }
}

fn path(file: &str) -> String {
    format!("{DIR}/{file}")
}

/// The number of a segment, by the name of its file.
fn segment_number(file: &str) -> Option<u32> {
    u32::from_str_radix(file.strip_suffix(".wal")?, 16).ok()
}

/// Reads back what [`Position`] prints.
fn parse_position(text: &str) -> Option<Position> {
    let (segment, offset) = text.split_once("+0x")?;
    Some(Position {
        segment: u32::from_str_radix(segment, 16).ok()?,
        offset: u32::from_str_radix(offset, 16).ok()?,
    })
}
