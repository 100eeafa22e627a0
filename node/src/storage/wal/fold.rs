//! Plays the records of a surveyed log: what entries it holds, and which are in doubt.
//!
//! Up to the first damage everything is whole. Behind it, whole records are kept apart
//! (*salvaged*): they were written once, but whether the lost bytes cut or replaced them is
//! unknown. The doubt ends with a `Repaired` record, which is written when the leader has confirmed
//! the log, or with a restart behind a snapshot while nothing was under repair.

use super::record::Item;
use super::segment::{SegmentHeader, Start};
use super::survey::{Judged, Survey};
use crate::storage::recovery::{Flaw, Verdict};
use quorate_raft::{Entry, EntryId, LogIndex, SnapshotMeta, Term};

/// Log indexes whose content is in doubt: this member may have held and acknowledged them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DamagedRange {
    /// The first index in doubt.
    #[serde(serialize_with = "index")]
    pub from: LogIndex,
    /// The last one; `None` when nothing readable follows.
    #[serde(serialize_with = "maybe_index")]
    pub to: Option<LogIndex>,
}

fn index<S: serde::Serializer>(index: &LogIndex, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(index.0)
}

// The signature is serde's.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn maybe_index<S: serde::Serializer>(index: &Option<LogIndex>, to: S) -> Result<S::Ok, S::Error> {
    match index {
        Some(index) => to.serialize_some(&index.0),
        None => to.serialize_none(),
    }
}

/// What must be known of a segment to release it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentState {
    /// Which one.
    pub id: u32,
    /// Its header's base: the entry before its first.
    pub base: LogIndex,
    /// The highest index of an entry in it.
    pub highest: LogIndex,
    /// Whether its base was cut from the log later: then the log cannot begin with it.
    pub base_was_cut: bool,
}

impl SegmentState {
    /// A segment without entries.
    pub(crate) fn new(header: &SegmentHeader) -> Self {
        Self {
            id: header.id,
            base: header.base.last.index,
            highest: LogIndex(0),
            base_was_cut: false,
        }
    }
}

/// What a log says.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// Where it begins.
    pub base: Option<SnapshotMeta>,
    /// The entries, contiguous behind `base`, whole.
    pub entries: Vec<Entry>,
    /// Entries behind damage, in the order of their indexes, with holes.
    pub salvaged: Vec<Entry>,
    /// What is in doubt; empty unless under repair.
    pub damaged: Vec<DamagedRange>,
    /// The highest commit index seen.
    pub commit: LogIndex,
    /// Whether the log cannot be written behind its end: it goes on in a new segment.
    pub needs_resume: bool,
    /// The segments, oldest first.
    pub segments: Vec<SegmentState>,
    /// The highest term of any entry found, also of salvaged and cut ones.
    pub term: Term,
}

impl Folded {
    /// The entry at the end of the whole part.
    pub(crate) fn last(&self) -> EntryId {
        let base = self.base.as_ref().map(|base| base.last).unwrap_or_default();
        self.entries.last().map_or(base, |entry| entry.id)
    }

    fn cut(&mut self, from: LogIndex) {
        let keep = self.entries.partition_point(|entry| entry.id.index < from);
        self.entries.truncate(keep);
        for segment in &mut self.segments {
            segment.base_was_cut |= segment.base >= from;
        }
    }
}

struct Folder {
    log: Folded,
    /// The first index in doubt of the damage being passed; the records that follow are salvaged.
    doubt: Option<LogIndex>,
    /// Whether anything was salvaged since the doubt began.
    behind_damage: bool,
}

/// Plays a surveyed log.
pub(crate) fn fold(survey: &Survey) -> Folded {
    let mut folder = Folder {
        log: Folded::default(),
        doubt: None,
        behind_damage: false,
    };
    for judged in &survey.segments {
        folder.segment(judged);
    }
    folder.finish()
}

impl Folder {
    fn segment(&mut self, judged: &Judged) {
        let scan = &judged.scan;
        let corrupt = judged.verdict() == Verdict::Corrupt;
        if corrupt && matches!(scan.flaw, Some(Flaw::Gap | Flaw::Missing | Flaw::BadHeader)) {
            self.damage();
        }
        self.log.segments.push(SegmentState {
            id: scan.id,
            base: scan
                .header
                .as_ref()
                .map_or(LogIndex(0), |header| header.base.last.index),
            highest: LogIndex(0),
            base_was_cut: false,
        });
        if let Some(header) = &scan.header {
            self.header(header, scan.flaw == Some(Flaw::Gap));
        }
        for item in &scan.items {
            self.item(item);
        }
        if corrupt {
            self.damage();
            for item in &scan.later {
                self.item(item);
            }
        }
    }

    fn header(&mut self, header: &SegmentHeader, gap: bool) {
        let first = self.log.segments.len() == 1;
        match header.start {
            Start::Reset => {
                self.close_doubt(None);
                self.log.entries.clear();
                self.log.base = Some(header.base.clone());
                if header.whole {
                    self.log.damaged.clear();
                    self.log.salvaged.clear();
                }
                for segment in &mut self.log.segments {
                    segment.highest = LogIndex(0);
                }
            }
            Start::Resume => self.resume(header),
            Start::Continues if first => self.log.base = Some(header.base.clone()),
            Start::Continues => {
                let same = header.base.last == self.log.last();
                if self.doubt.is_none() && !gap && !same {
                    self.damage();
                }
            }
        }
    }

    /// The log went on behind its whole part, which must still be whole now.
    fn resume(&mut self, header: &SegmentHeader) {
        let at = header.base.last;
        if at.index == LogIndex(0) {
            self.log.base = Some(header.base.clone());
        }
        let base = self.log.base.as_ref().map(|base| base.last);
        let holds = base == Some(at) || self.log.entries.iter().any(|entry| entry.id == at);
        if holds {
            self.close_doubt(None);
            self.log.cut(at.index.next());
        } else {
            self.damage();
        }
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Entry(entry) => {
                self.log.term = self.log.term.max(entry.id.term);
                if let Some(segment) = self.log.segments.last_mut() {
                    segment.highest = segment.highest.max(entry.id.index);
                }
                self.entry(entry);
            }
            Item::Cut(from) => self.cut(*from),
            // Behind damage it speaks of entries that may be lost, with others in their places.
            Item::Mark { commit } if !self.behind_damage => {
                self.log.commit = self.log.commit.max(*commit);
            }
            Item::Mark { commit: _ } => {}
            Item::Repaired if !self.behind_damage => {
                self.log.damaged.clear();
                self.log.salvaged.clear();
            }
            // Written before the damage, though it stands behind it: it says nothing about it.
            Item::Repaired => {}
            Item::Seal { .. } | Item::Release { .. } | Item::Pad => {}
        }
    }

    fn entry(&mut self, entry: &Entry) {
        if !self.behind_damage && entry.id.index != self.log.last().index.next() {
            // Whole records that do not fit together: something between them is lost.
            self.damage();
        }
        if !self.behind_damage {
            self.log.entries.push(entry.clone());
            return;
        }
        self.close_doubt(Some(entry.id.index));
        self.log
            .salvaged
            .retain(|kept| kept.id.index < entry.id.index);
        self.log.salvaged.push(entry.clone());
    }

    fn cut(&mut self, from: LogIndex) {
        if self.behind_damage {
            self.log.salvaged.retain(|kept| kept.id.index < from);
            return;
        }
        let base = self
            .log
            .base
            .as_ref()
            .map_or(LogIndex(0), |base| base.last.index);
        if from <= base {
            self.damage()
        } else {
            self.log.cut(from)
        }
    }

    /// Something is lost here; what follows is salvaged.
    fn damage(&mut self) {
        self.behind_damage = true;
        let whole = self.log.last().index;
        let seen = self
            .log
            .salvaged
            .last()
            .map_or(whole, |entry| entry.id.index.max(whole));
        self.doubt.get_or_insert(seen.next());
    }

    /// Ends the doubt at the next readable entry, or without one.
    fn close_doubt(&mut self, next: Option<LogIndex>) {
        if let Some(from) = self.doubt.take() {
            // The next entry may stand lower: then the lost bytes held a cut, and what they put in
            // its place ends right before it. At least one index stays in doubt.
            let from = next.map_or(from, |next| from.min(next));
            let to = next.map(|next| next.previous().max(from));
            self.log.damaged.push(DamagedRange { from, to });
        }
        if next.is_none() {
            self.behind_damage = false;
        }
    }

    fn finish(mut self) -> Folded {
        self.log.needs_resume = self.behind_damage;
        if self.doubt.is_some() {
            self.close_doubt(None);
        }
        self.log.commit = self.log.commit.min(self.log.last().index);
        self.log
    }
}
