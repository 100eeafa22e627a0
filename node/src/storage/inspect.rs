//! `quorate wal inspect DIR`: what is in a data directory, and what a start would make of it.
//!
//! Reads only: it takes no lock, syncs nothing and repairs nothing, so that it may be used on a
//! directory in use (then the end of the log is a moment's) and on a damaged one.

use super::codec::Cursor;
use super::error::{Error, IoContext};
use super::identity::{self, Copies, Identity};
use super::recovery::{Place, SlotsFound, SlotsVerdict, Verdict};
use super::slots;
use super::wal::record::Item;
use super::wal::segment::{SegmentHeader, Start, file_name, parse_file_name};
use super::wal::survey::Judged;
use super::wal::{DamagedRange, Found, load};
use crate::env::{Disk, OpenMode, read_full};
use quorate_raft::{Entry, LogIndex};
use serde::Serialize;
use std::fmt;

/// What [`inspect`] found. Prints as an aligned table, and serializes for `--output json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The directory.
    pub directory: String,
    /// Whose it is.
    pub identity: IdentityReport,
    /// Term and vote.
    pub vote: VoteReport,
    /// Everything before it is known to have been synced (`segment+offset`).
    pub watermark: String,
    /// What the copy of the watermark outside the segments says, when it is good.
    pub watermark_copy: Option<String>,
    /// The segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// Files of segments that are no longer part of the log.
    pub leftovers: Vec<String>,
    /// The entry that the log begins behind (`term/index`).
    pub base: String,
    /// The last whole entry (`term/index`).
    pub last: String,
    /// How many entries the log holds between them.
    pub entries: u64,
    /// A commit index seen.
    pub commit: u64,
    /// Log indexes in doubt.
    pub damaged: Vec<DamagedRange>,
    /// Whole entries behind damage.
    pub salvaged: u64,
    /// What the log is worth.
    pub verdict: Verdict,
    /// Why a start would be refused, when it would.
    pub refused: Option<String>,
}

/// The identity of a directory, for people.
#[derive(Clone, Debug, Serialize)]
pub struct IdentityReport {
    /// `unjoined`, `member`, `removed`, `missing`, `damaged` or `newer format`.
    pub state: &'static str,
    /// Whether both copies are good and equal.
    pub copies_equal: bool,
    /// Cluster UUID in hexadecimal.
    pub cluster_uuid: Option<String>,
    /// Cluster ID in hexadecimal.
    pub cluster_id: Option<String>,
    /// Member ID in hexadecimal.
    pub member_id: Option<String>,
    /// Directory ID in hexadecimal.
    pub directory_id: Option<String>,
    /// How often the directory was started.
    pub incarnation: Option<u64>,
}

/// Term and vote, for people.
#[derive(Clone, Debug, Serialize)]
pub struct VoteReport {
    /// What the two slots look like.
    pub slots: SlotsFound,
    /// The newer good term.
    pub term: Option<u64>,
    /// The vote in it, in hexadecimal.
    pub vote: Option<String>,
    /// How the table judges the slots.
    pub judged: &'static str,
    /// What a start would do.
    pub verdict: SlotsVerdict,
}

/// One segment, for people.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// Its file.
    pub file: String,
    /// Length of the file.
    pub bytes: u64,
    /// `continues`, `reset`, `resume`, or `unknown` without a good header.
    pub start: &'static str,
    /// Whole, chained records.
    pub records: u64,
    /// Whole records behind the first bad position.
    pub later_records: u64,
    /// Index of the first entry in it.
    pub first: Option<u64>,
    /// Index of the last entry in it.
    pub last: Option<u64>,
    /// Where the good records end.
    pub end: u32,
    /// Whether it is the last one.
    pub place: Place,
    /// How the table judges it; `sealed` for a segment that ends as it should.
    pub judged: &'static str,
}

/// Looks at the data directory at the root of `disk`; the log is in `dir` below it. Changes
/// nothing.
///
/// # Errors
/// [`Error::Io`] when the directory cannot be listed or read; damage is no error.
pub fn inspect(disk: &dyn Disk, dir: &str) -> Result<Report, Error> {
    let copies = identity::read_copies(disk)?;
    let member = match &copies {
        Copies::Good(record, _) => record.member_identity(),
        Copies::None | Copies::Bad | Copies::Mixed | Copies::Newer(_) => None,
    };
    let log_id = match &copies {
        Copies::Good(record, _) => record.directory_id,
        Copies::None | Copies::Bad | Copies::Mixed | Copies::Newer(_) => {
            log_id_of_segments(disk, dir)?
        }
    };
    let found = load(disk, dir, log_id, member.is_some(), 0, OpenMode::ReadOnly)?;
    Ok(report(disk.display(""), &copies, member, &found))
}

/// The log's ID as its segments have it, for a directory without a good identity.
fn log_id_of_segments(disk: &dyn Disk, dir: &str) -> Result<[u8; 16], Error> {
    let shown = || disk.display(dir);
    if !disk.exists(dir).context("look for", shown)? {
        return Ok([0; 16]);
    }
    for name in disk.list(dir).context("list", shown)? {
        let Some(id) = parse_file_name(&name) else {
            continue;
        };
        let path = format!("{dir}/{}", file_name(id));
        let file = disk
            .open(&path, OpenMode::ReadOnly)
            .context("open", || disk.display(&path))?;
        let mut head = vec![0; 64 * 1024];
        let count = read_full(&*file, &mut head, 0).unwrap_or(0);
        if let Some((header, _)) = SegmentHeader::decode(&head[..count]) {
            return Ok(header.log_id);
        }
    }
    Ok([0; 16])
}

fn report(directory: String, copies: &Copies, member: Option<Identity>, found: &Found) -> Report {
    let folded = &found.folded;
    let refused = if let Some(path) = &found.foreign {
        Some(format!("{path} is a log segment of another data directory"))
    } else {
        (found.slots_row.verdict == SlotsVerdict::Refuse).then(|| found.slots_row.label.to_owned())
    };
    Report {
        directory,
        identity: identity_report(copies, member),
        vote: vote_report(found),
        watermark: found.survey.watermark.to_string(),
        watermark_copy: found.copy.map(|copy| copy.to_string()),
        segments: found.survey.segments.iter().map(segment_report).collect(),
        leftovers: found
            .survey
            .leftovers
            .iter()
            .map(|id| file_name(*id))
            .collect(),
        base: folded
            .base
            .as_ref()
            .map(|base| base.last)
            .unwrap_or_default()
            .to_string(),
        last: folded.last().to_string(),
        entries: folded.entries.len() as u64,
        commit: folded.commit.0,
        damaged: folded.damaged.clone(),
        salvaged: folded.salvaged.len() as u64,
        verdict: found.verdict(),
        refused,
    }
}

fn identity_report(copies: &Copies, member: Option<Identity>) -> IdentityReport {
    let (state, copies_equal, record) = match copies {
        Copies::Good(record, equal) => {
            let state = match member {
                None => "unjoined",
                Some(member) if member.removed => "removed",
                Some(member) if member.stale => "stale",
                Some(member) if member.recovering => "recovering",
                Some(_) => "member",
            };
            (state, *equal, Some(record))
        }
        Copies::None => ("missing", false, None),
        Copies::Bad => ("damaged", false, None),
        Copies::Mixed => ("of two directories", false, None),
        Copies::Newer(_) => ("newer format", false, None),
    };
    IdentityReport {
        state,
        copies_equal,
        cluster_uuid: member.map(|member| hex(&member.cluster_uuid)),
        cluster_id: member.map(|member| format!("{:x}", member.cluster_id)),
        member_id: member.map(|member| member.member_id.to_string()),
        directory_id: record.map(|record| hex(&record.directory_id)),
        incarnation: record.map(|record| record.incarnation),
    }
}

fn vote_report(found: &Found) -> VoteReport {
    let newest = found
        .slots
        .as_ref()
        .and_then(|(_, pair)| slots::newest(*pair));
    VoteReport {
        slots: found.slots_found,
        term: newest.map(|slot| slot.hard_state.term.0),
        vote: newest
            .and_then(|slot| slot.hard_state.vote)
            .map(|vote| vote.to_string()),
        judged: found.slots_row.label,
        verdict: found.slots_row.verdict,
    }
}

fn segment_report(judged: &Judged) -> SegmentReport {
    let scan = &judged.scan;
    let entries = || {
        scan.items.iter().filter_map(|item| match item {
            Item::Entry(Entry { id, .. }) => Some(id.index),
            _ => None,
        })
    };
    SegmentReport {
        file: file_name(scan.id),
        bytes: scan.file_bytes,
        start: match scan.header.as_ref().map(|header| header.start) {
            Some(Start::Continues) => "continues",
            Some(Start::Reset) => "reset",
            Some(Start::Resume) => "resume",
            None => "unknown",
        },
        records: scan.items.len() as u64,
        later_records: scan.later.len() as u64,
        first: entries().next().map(|index: LogIndex| index.0),
        last: entries().next_back().map(|index: LogIndex| index.0),
        end: scan.end,
        place: judged.place,
        judged: judged.row.map_or("sealed", |row| row.label),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut cursor = Cursor::new(bytes);
    let mut text = String::with_capacity(bytes.len() * 2);
    while let Ok(byte) = cursor.u8() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn or_dash<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = &self.identity;
        writeln!(f, "directory    {}", self.directory)?;
        writeln!(
            f,
            "identity     {}, member {} of cluster {}, directory {}, start {}{}",
            identity.state,
            or_dash(identity.member_id.as_ref()),
            or_dash(identity.cluster_id.as_ref()),
            or_dash(identity.directory_id.as_ref()),
            or_dash(identity.incarnation),
            if identity.copies_equal {
                ""
            } else {
                " (copies differ)"
            },
        )?;
        writeln!(
            f,
            "vote         term {}, vote {} ({})",
            or_dash(self.vote.term),
            or_dash(self.vote.vote.as_ref()),
            self.vote.judged,
        )?;
        let copy = or_dash(self.watermark_copy.as_ref());
        writeln!(f, "synced to    {} (copy outside: {copy})", self.watermark)?;
        writeln!(
            f,
            "log          {} entries from {} to {}, commit {} seen",
            self.entries, self.base, self.last, self.commit
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:<14} {:>10} {:<10} {:>8} {:>6} {:>10} {:>10} {:>10}  JUDGED",
            "SEGMENT", "BYTES", "START", "RECORDS", "LATER", "FIRST", "LAST", "END"
        )?;
        for segment in &self.segments {
            writeln!(
                f,
                "{:<14} {:>10} {:<10} {:>8} {:>6} {:>10} {:>10} {:>10}  {}",
                segment.file,
                segment.bytes,
                segment.start,
                segment.records,
                segment.later_records,
                or_dash(segment.first),
                or_dash(segment.last),
                format!("{:#x}", segment.end),
                segment.judged,
            )?;
        }
        for leftover in &self.leftovers {
            writeln!(f, "{leftover:<14} released; its file will be used again")?;
        }
        writeln!(f)?;
        for range in &self.damaged {
            let to = or_dash(range.to);
            writeln!(f, "in doubt     indexes {} to {to}", range.from)?;
        }
        if let Some(why) = &self.refused {
            return writeln!(f, "verdict      a start would be refused: {why}");
        }
        writeln!(f, "verdict      {}", self.verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::RealDisk;
    use crate::storage::{Wal, WalOptions};
    use quorate_raft::{EntryId, HardState, MemberId, Payload, Persist, PersistId, Term};
    use std::sync::Arc;

    fn directory() -> (tempfile::TempDir, Arc<RealDisk>) {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::new(root.path()));
        let options = WalOptions {
            segment_bytes: 16384,
            ..WalOptions::new([7; 16], 1)
        };
        let (mut wal, _) = Wal::open(Arc::clone(&disk) as _, "wal", options).unwrap();
        let entry = |index| Entry {
            id: EntryId {
                term: Term(2),
                index: LogIndex(index),
            },
            payload: Payload::Command(Arc::from(&b"value"[..])),
        };
        let hard_state = Some(HardState {
            term: Term(2),
            vote: Some(MemberId(0x2f)),
        });
        let entries = (1..=3).map(entry).collect();
        wal.append(&[Persist {
            id: PersistId(1),
            hard_state,
            entries,
        }])
        .unwrap();
        wal.sync().unwrap();
        wal.note_idle().unwrap();
        (root, disk)
    }

    #[test]
    fn the_report_names_what_is_there() {
        let (root, disk) = directory();
        let text = inspect(&*disk, "wal").unwrap().to_string();
        let text = text.replace(&root.path().display().to_string(), "DIR");
        let expected = "\
directory    DIR
identity     missing, member - of cluster -, directory -, start - (copies differ)
vote         term 2, vote 2f (term and vote are good)
synced to    00000001+0x10a8 (copy outside: 00000001+0x10a8)
log          3 entries from 0/0 to 2/3, commit 0 seen

SEGMENT             BYTES START       RECORDS  LATER      FIRST       LAST        END  JUDGED
00000001.wal        16384 continues         5      0          1          3     0x2030  clean end

verdict      clean end
";
        assert_eq!(text, expected);
    }

    #[test]
    fn looking_at_a_damaged_directory_changes_nothing() {
        let (root, disk) = directory();
        let path = root.path().join("wal/00000001.wal");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096 + 60] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let before = std::fs::read_dir(root.path().join("wal")).unwrap().count();
        let report = inspect(&*disk, "wal").unwrap();
        assert_eq!(report.verdict, Verdict::Corrupt);
        assert!(
            report.to_string().contains("in doubt     indexes 2 to 2"),
            "{report}"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["segments"][0]["judged"], "synced bytes lost");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(
            std::fs::read_dir(root.path().join("wal")).unwrap().count(),
            before
        );
    }

    #[test]
    fn an_empty_directory_is_reported_as_such() {
        let root = tempfile::tempdir().unwrap();
        let report = inspect(&RealDisk::new(root.path()), "wal").unwrap();
        assert_eq!(report.vote.judged, "new");
        assert!(report.segments.is_empty());
    }
}
