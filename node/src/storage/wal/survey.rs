//! Puts the scanned segments in order and gathers the evidence about each.
//!
//! Pure. Used alike by recovery, which acts on it, and by `quorate wal inspect`, which only prints.

use super::record::{Item, Position};
use super::scan::Scan;
use super::segment::Start;
use crate::storage::recovery::{self, Evidence, Flaw, Place, Row, Verdict};

/// One segment of the log, with what was found and how the table judges it.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    /// What it holds.
    pub scan: Scan,
    /// Where it stands.
    pub place: Place,
    /// The row that applies; `None` for a sealed segment without a flaw.
    pub row: Option<&'static Row>,
}

impl Judged {
    /// The verdict on this segment alone.
    pub(crate) fn verdict(&self) -> Verdict {
        self.row.map_or(Verdict::CleanEnd, |row| row.verdict)
    }
}

/// The whole log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// Its segments, oldest first, without holes: a missing one is there as [`Scan::missing`].
    pub segments: Vec<Judged>,
    /// Files of segments released earlier.
    pub leftovers: Vec<u32>,
    /// An empty last segment whose predecessor was never sealed: a roll was interrupted (W8).
    pub void: Option<u32>,
    /// X: everything before it is known to have been synced.
    pub watermark: Position,
    /// The highest incarnation found.
    pub incarnation: u64,
    /// The number of the next segment: above every one that there is proof of.
    pub next_id: u32,
}

/// Surveys scans in ascending order of their numbers. `copy` is the watermark from outside the
/// segments; `log_expected` says that there must be a log even when no segment is left.
pub(crate) fn survey(
    mut scans: Vec<Scan>,
    copy: Option<Position>,
    log_expected: bool,
    planted: u32,
) -> Survey {
    let mut survey = Survey::default();
    for scan in &scans {
        survey.watermark = survey.watermark.max(scan.synced);
        survey.incarnation = survey.incarnation.max(scan.incarnation);
    }
    survey.watermark = survey.watermark.max(copy.unwrap_or_default());
    if is_void(&scans, survey.watermark) {
        survey.void = scans.pop().map(|scan| scan.id);
    }
    let oldest = oldest(&scans, survey.watermark);
    survey.leftovers = scans
        .iter()
        .map(|scan| scan.id)
        .filter(|id| *id < oldest)
        .collect();
    scans.retain(|scan| scan.id >= oldest);
    let last = scans.last().map_or(0, |scan| scan.next.unwrap_or(scan.id));
    let last = last
        .max(survey.watermark.segment)
        .max(u32::from(log_expected));
    if last > 0 {
        fill_holes(&mut scans, oldest.max(1).min(last), last);
    }
    survey.next_id = last + 1;
    let mut watermark = survey.watermark;
    if planted == 67 && end_at_first_bad_record(&mut scans) {
        watermark = Position::default();
    }
    mark_gaps(&mut scans, planted);
    let count = scans.len();
    for (number, scan) in scans.into_iter().enumerate() {
        let place = if number + 1 == count {
            Place::Last
        } else {
            Place::Earlier
        };
        let row = row_of(&scan, place, watermark, planted);
        survey.segments.push(Judged { scan, place, row });
    }
    survey
}

/// The oldest segment that is still part of the log, by headers and release records. A release
/// counts also behind damage: its files are touched only after it was synced. Not so in a torn end:
/// that is about to be cut off, and must not take files along whose release it would forget.
fn oldest(scans: &[Scan], watermark: Position) -> u32 {
    let headers = scans
        .iter()
        .filter_map(|scan| scan.header.as_ref())
        .map(|header| header.oldest);
    let last = scans.last().map_or(0, |scan| scan.id);
    let records = scans.iter().flat_map(|scan| {
        let stays = scan.id != last || scan.end_position() < watermark;
        scan.items
            .iter()
            .chain(scan.later.iter().filter(move |_| stays))
    });
    let released = records.filter_map(|item| match item {
        Item::Release { oldest } => Some(*oldest),
        _ => None,
    });
    let named = headers.chain(released).max();
    // Without any evidence the log begins with the first file there is.
    named.unwrap_or_else(|| scans.first().map_or(0, |scan| scan.id))
}

fn is_void(scans: &[Scan], watermark: Position) -> bool {
    let [.., before, last] = scans else {
        return false;
    };
    let unused = last.items.is_empty()
        && last.later.is_empty()
        && matches!(last.flaw, Some(Flaw::Zeros | Flaw::Unreadable));
    // A watermark at its start would say that the seal had been synced.
    unused && !before.is_sealed() && before.id + 1 == last.id && watermark < last.end_position()
}

fn fill_holes(scans: &mut Vec<Scan>, first: u32, last: u32) {
    let mut whole = Vec::with_capacity(scans.len());
    let mut expected = first;
    for scan in scans.drain(..) {
        push_missing(&mut whole, expected, scan.id);
        expected = scan.id + 1;
        whole.push(scan);
    }
    push_missing(&mut whole, expected, last + 1);
    *scans = whole;
}

/// One entry stands for all that is missing in a row: a number read from a damaged file must not
/// decide how much is allocated.
fn push_missing(whole: &mut Vec<Scan>, from: u32, to: u32) {
    if from < to {
        whole.push(Scan::missing(from));
    }
}

/// A segment continues its predecessor only if its header names the last record there.
fn mark_gaps(scans: &mut [Scan], planted: u32) {
    for number in 1..scans.len() {
        let (before, rest) = scans.split_at_mut(number);
        let (before, scan) = (&before[number - 1], &mut rest[0]);
        let Some(header) = &scan.header else { continue };
        let continues = header.start == Start::Continues && planted != 65;
        if continues && before.is_sealed() && header.previous != before.chain {
            scan.flaw = Some(Flaw::Gap);
        }
    }
}

/// Planted bug 67: a bad record in an earlier segment passes for a torn end: the log ends there.
fn end_at_first_bad_record(scans: &mut Vec<Scan>) -> bool {
    let earlier = scans.len().saturating_sub(1);
    let bad = scans[..earlier]
        .iter()
        .position(|scan| scan.header.is_some() && scan.flaw.is_some());
    if let Some(number) = bad {
        scans.truncate(number + 1);
    }
    bad.is_some()
}

fn row_of(scan: &Scan, place: Place, watermark: Position, planted: u32) -> Option<&'static Row> {
    let flaw = scan.flaw?;
    let mut evidence = Evidence {
        place,
        flaw,
        later_record: !scan.later.is_empty(),
        was_synced: scan.end_position() < watermark,
    };
    // Planted bug 63: a bad checksum always passes for a torn end.
    if planted == 63 && place == Place::Last {
        evidence.was_synced = false;
    }
    // Planted bug 69: a later record alone passes for proof that this one had been synced.
    if planted == 69 && evidence.later_record {
        evidence.was_synced = true;
    }
    Some(recovery::judge(&evidence))
}
