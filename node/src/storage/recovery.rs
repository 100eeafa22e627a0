//! The verdict: what the bytes found at start mean, as two tables.
//!
//! The first judges the first bad position p of a segment against the watermark X (everything
//! before X is known to have been synced), the second judges the two vote slots. One row per case,
//! with a label and a reason; a test requires exactly one matching row for every combination.
//! Must not know: files, how the evidence was gathered.

use std::fmt;

/// What was found at the first position of a segment that is not a good record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// Zeros, up to the end of the file.
    Zeros,
    /// Bytes that are no record of this segment: of another life of it, or damaged.
    Unreadable,
    /// A good header whose payload does not match.
    BadPayload,
    /// A good header whose payload would end beyond the file.
    PastEnd,
    /// A whole record that does not follow the one before it.
    ChainBroken,
    /// The segment's header is damaged.
    BadHeader,
    /// The file is shorter than it was allocated.
    Short,
    /// The file is not there.
    Missing,
    /// The segment does not continue where the one before it ended.
    Gap,
}

/// Where the segment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The last one: where an interrupted write may be.
    Last,
    /// Any other: it was synced whole before the next one took a record.
    Earlier,
}

/// All that decides about one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where the segment stands.
    pub place: Place,
    /// What is at its first bad position p.
    pub flaw: Flaw,
    /// Whether a whole record follows somewhere behind p in the same segment.
    pub later_record: bool,
    /// Whether p lies before X: what was there had been synced.
    pub was_synced: bool,
}

/// What a log is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The log ends cleanly.
    CleanEnd,
    /// The end was never synced, so never acknowledged: it is cut off.
    Torn,
    /// Synced records are damaged. Nothing is cut; the member is *repairing*: it neither votes nor
    /// acknowledges until the leader has filled in what is in doubt. A single voter halts.
    Corrupt,
}

/// For people: what the verdict means for the member.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CleanEnd => "clean end",
            Self::Torn => "torn end: the unsynced rest is cut off at the next start",
            Self::Corrupt => "corrupt: the member repairs from the leader; a single voter halts",
        })
    }
}

/// One row of the first table.
#[derive(Debug)]
pub struct Row {
    /// Its name, in reports.
    pub label: &'static str,
    place: Option<Place>,
    flaws: &'static [Flaw],
    later_record: Option<bool>,
    was_synced: Option<bool>,
    /// What follows.
    pub verdict: Verdict,
}

const ANY: &[Flaw] = &[
    Flaw::Zeros,
    Flaw::Unreadable,
    Flaw::BadPayload,
    Flaw::PastEnd,
    Flaw::ChainBroken,
    Flaw::BadHeader,
    Flaw::Short,
    Flaw::Missing,
    Flaw::Gap,
];
const BAD_BYTES: &[Flaw] = &[
    Flaw::Unreadable,
    Flaw::BadPayload,
    Flaw::PastEnd,
    Flaw::ChainBroken,
];
const BYTES_OR_ZEROS: &[Flaw] = &[
    Flaw::Zeros,
    Flaw::Unreadable,
    Flaw::BadPayload,
    Flaw::PastEnd,
    Flaw::ChainBroken,
];
const BAD_FILE: &[Flaw] = &[Flaw::BadHeader, Flaw::Short, Flaw::Missing, Flaw::Gap];

const LAST: Option<Place> = Some(Place::Last);
const EARLIER: Option<Place> = Some(Place::Earlier);
const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

/// The first table. `None` matches anything.
pub const ROWS: &[Row] = &[
    // Nothing but what was allocated: the usual end of a log.
    row(
        "clean end",
        LAST,
        &[Flaw::Zeros],
        None,
        NO,
        Verdict::CleanEnd,
    ),
    // The last write did not complete, or old bytes of a recycled file begin here. Nothing at or
    // behind p was synced, so nothing there was acknowledged.
    row("torn record", LAST, BAD_BYTES, NO, NO, Verdict::Torn),
    // Inside one unsynced batch the disk may keep record 2 and lose record 1: a later record
    // alone proves nothing (W3).
    row("reordered batch", LAST, BAD_BYTES, YES, NO, Verdict::Torn),
    // A watermark beyond p says that p was synced: acknowledged data may be at stake.
    row(
        "synced bytes lost",
        LAST,
        BYTES_OR_ZEROS,
        None,
        YES,
        Verdict::Corrupt,
    ),
    // A file is visible only after its header and full length were synced: no crash does this.
    row("damaged file", LAST, BAD_FILE, None, None, Verdict::Corrupt),
    // No record enters a segment before the one ahead of it is sealed and synced (W8).
    row(
        "earlier segment damaged",
        EARLIER,
        ANY,
        None,
        None,
        Verdict::Corrupt,
    ),
];

const fn row(
    label: &'static str,
    place: Option<Place>,
    flaws: &'static [Flaw],
    later_record: Option<bool>,
    was_synced: Option<bool>,
    verdict: Verdict,
) -> Row {
    Row {
        label,
        place,
        flaws,
        later_record,
        was_synced,
        verdict,
    }
}

impl Row {
    fn matches(&self, evidence: &Evidence) -> bool {
        self.place.is_none_or(|place| place == evidence.place)
            && self.flaws.contains(&evidence.flaw)
            && self
                .later_record
                .is_none_or(|later| later == evidence.later_record)
            && self
                .was_synced
                .is_none_or(|synced| synced == evidence.was_synced)
    }
}

/// The row that applies.
#[must_use]
pub fn judge(evidence: &Evidence) -> &'static Row {
    ROWS.iter()
        .find(|row| row.matches(evidence))
        .expect("the table has a row for every combination: a test goes through all of them")
}

/// What the two slots of term and vote look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotsFound {
    /// Both good and equal.
    Equal,
    /// Both good, of different generations: a change was interrupted.
    Different,
    /// One good.
    OneBad,
    /// The file is there, and neither is good.
    BothBad,
    /// There is no file.
    Missing,
}

/// What to do about the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotsVerdict {
    /// Start a new log: this directory never promised anything.
    Create,
    /// Use the newer good slot, and make the other one equal before any message leaves.
    Use,
    /// Lost promise: refuse to start. The member comes back only under a new ID.
    Refuse,
}

/// All that decides about the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotsEvidence {
    /// What they look like.
    pub found: SlotsFound,
    /// Whether any segment of the log is there.
    pub log_exists: bool,
    /// Whether this directory has been a member: then there was a log and a vote file.
    pub was_member: bool,
    /// Whether the log holds an entry of a later term than the newer good slot: impossible unless
    /// both slots went back.
    pub log_is_newer: bool,
}

/// One row of the second table.
#[derive(Debug)]
pub struct SlotsRow {
    /// Its name, in reports and refusals.
    pub label: &'static str,
    found: &'static [SlotsFound],
    log_exists: Option<bool>,
    was_member: Option<bool>,
    log_is_newer: Option<bool>,
    /// What follows.
    pub verdict: SlotsVerdict,
}

const GOOD: &[SlotsFound] = &[SlotsFound::Equal, SlotsFound::Different, SlotsFound::OneBad];

/// The second table. `None` matches anything.
pub const SLOTS_ROWS: &[SlotsRow] = &[
    slots(
        "term and vote are good",
        GOOD,
        None,
        None,
        NO,
        SlotsVerdict::Use,
    ),
    slots(
        "the log holds entries of a later term than the vote file",
        GOOD,
        None,
        None,
        YES,
        SlotsVerdict::Refuse,
    ),
    slots(
        "both copies of term and vote are damaged",
        &[SlotsFound::BothBad],
        None,
        None,
        None,
        SlotsVerdict::Refuse,
    ),
    // The vote file is created before the first segment: it was there (A4).
    slots(
        "term and vote are missing beside a log",
        &[SlotsFound::Missing],
        YES,
        None,
        None,
        SlotsVerdict::Refuse,
    ),
    // The identity is written after the log was created.
    slots(
        "the log of this member is gone, with its term and vote",
        &[SlotsFound::Missing],
        NO,
        YES,
        None,
        SlotsVerdict::Refuse,
    ),
    slots(
        "new",
        &[SlotsFound::Missing],
        NO,
        NO,
        None,
        SlotsVerdict::Create,
    ),
];

const fn slots(
    label: &'static str,
    found: &'static [SlotsFound],
    log_exists: Option<bool>,
    was_member: Option<bool>,
    log_is_newer: Option<bool>,
    verdict: SlotsVerdict,
) -> SlotsRow {
    SlotsRow {
        label,
        found,
        log_exists,
        was_member,
        log_is_newer,
        verdict,
    }
}

impl SlotsRow {
    fn matches(&self, evidence: &SlotsEvidence) -> bool {
        self.found.contains(&evidence.found)
            && self
                .log_exists
                .is_none_or(|exists| exists == evidence.log_exists)
            && self
                .was_member
                .is_none_or(|member| member == evidence.was_member)
            && self
                .log_is_newer
                .is_none_or(|newer| newer == evidence.log_is_newer)
    }
}

/// The row that applies to the slots.
#[must_use]
pub fn judge_slots(evidence: &SlotsEvidence) -> &'static SlotsRow {
    SLOTS_ROWS
        .iter()
        .find(|row| row.matches(evidence))
        .expect("the table has a row for every combination: a test goes through all of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [bool; 2] = [false, true];

    #[test]
    fn f05_every_combination_of_evidence_has_exactly_one_row() {
        for place in [Place::Last, Place::Earlier] {
            for &flaw in ANY {
                for later_record in BOTH {
                    for was_synced in BOTH {
                        let evidence = Evidence {
                            place,
                            flaw,
                            later_record,
                            was_synced,
                        };
                        let rows: Vec<_> =
                            ROWS.iter().filter(|row| row.matches(&evidence)).collect();
                        assert_eq!(rows.len(), 1, "{evidence:?}: {rows:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn f05_what_was_synced_is_never_cut() {
        for &flaw in ANY {
            for later_record in BOTH {
                let evidence = Evidence {
                    place: Place::Last,
                    flaw,
                    later_record,
                    was_synced: true,
                };
                assert_eq!(judge(&evidence).verdict, Verdict::Corrupt, "{evidence:?}");
            }
        }
    }

    #[test]
    fn f08_a_torn_end_is_accepted_in_the_last_segment_only() {
        for &flaw in ANY {
            for later_record in BOTH {
                for was_synced in BOTH {
                    let evidence = Evidence {
                        place: Place::Earlier,
                        flaw,
                        later_record,
                        was_synced,
                    };
                    assert_eq!(judge(&evidence).verdict, Verdict::Corrupt, "{evidence:?}");
                }
            }
        }
    }

    #[test]
    fn a04_every_combination_of_slots_has_exactly_one_row() {
        use SlotsFound::{BothBad, Different, Equal, Missing, OneBad};
        for found in [Equal, Different, OneBad, BothBad, Missing] {
            for log_exists in BOTH {
                for was_member in BOTH {
                    for log_is_newer in BOTH {
                        let evidence = SlotsEvidence {
                            found,
                            log_exists,
                            was_member,
                            log_is_newer,
                        };
                        let rows: Vec<_> = SLOTS_ROWS
                            .iter()
                            .filter(|row| row.matches(&evidence))
                            .collect();
                        assert_eq!(rows.len(), 1, "{evidence:?}: {rows:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a04_a_log_without_its_vote_is_refused_and_never_becomes_term_zero() {
        for found in [SlotsFound::BothBad, SlotsFound::Missing] {
            for (log_exists, was_member) in [(true, false), (true, true), (false, true)] {
                let evidence = SlotsEvidence {
                    found,
                    log_exists,
                    was_member,
                    log_is_newer: false,
                };
                assert_eq!(
                    judge_slots(&evidence).verdict,
                    SlotsVerdict::Refuse,
                    "{evidence:?}"
                );
            }
        }
    }
}
