//! When to compact, and at which revision: facts in, decisions out.
//!
//! PURE. Every member samples its own revision, so that a new leader goes on where the last one
//! was; only the leader compacts. Samples are facts, "at this time the store was at this revision",
//! and stay true whatever the settings become.
//! Must not know: clocks, the replica, how a compaction is proposed.
//! Caveat: samples are not durable. After a restart nothing is compacted until one is old enough.

use crate::config::AutoCompaction;
use std::collections::VecDeque;

/// A retention longer than this is nevertheless enforced this often, ms.
const PERIOD_MS_MAX: u64 = 3_600_000;
/// Looks per period: how exact a retention by time is, and how soon a failure is made good.
const LOOKS_PER_PERIOD: u64 = 10;
/// How often a retention by revisions is enforced, ms.
const REVISION_INTERVAL_MS: u64 = 300_000;
/// Revision of the empty store: nothing lies below it.
const FIRST_REVISION: i64 = 1;

/// What is known at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Now, ms since some fixed point; a clock that goes back only delays.
    pub now_ms: u64,
    /// Whether this member leads.
    pub leads: bool,
    /// The state machine of this member; `None` while it has no whole one.
    pub store: Option<StoreFacts>,
}

/// How far the state machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFacts {
    /// UUID of the history that the revisions belong to.
    pub cluster_uuid: [u8; 16],
    /// The newest revision.
    pub revision: i64,
    /// The newest compaction, by whomever; -1 for none.
    pub compacted: i64,
}

/// What to do now, and when to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Compact at this revision, and tell the outcome to [`Schedule::compacted`] if it is done.
    pub compact: Option<i64>,
    /// When the next look is due, ms; `None`: not before the settings change.
    pub look_at_ms: Option<u64>,
}

/// At `at_ms` the store was at `revision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at_ms: u64,
    revision: i64,
}

/// The memory between looks.
#[derive(Debug, Default)]
pub struct Schedule {
    settings: AutoCompaction,
    /// When to look next; `None` before the first look under these settings.
    look_at_ms: Option<u64>,
    /// Oldest first, times and revisions rising; a revision that stays is noted once. At most one
    /// per look within the retention, and one before it.
    samples: VecDeque<Sample>,
    /// Whose revisions the samples are.
    cluster_uuid: Option<[u8; 16]>,
    /// The look whose compaction was done last under these settings.
    compacted_at_ms: Option<u64>,
}

impl Schedule {
    /// From now on these settings hold. When they are others than before, what is due by them is
    /// decided at the next look, from the samples there are.
    pub fn set(&mut self, settings: AutoCompaction) {
        if settings != self.settings {
            self.settings = settings;
            self.look_at_ms = None;
            self.compacted_at_ms = None;
        }
    }

    /// Decides. A look before it is due changes nothing.
    pub fn look(&mut self, facts: &Facts) -> Decision {
        let (step_ms, at_once) = match self.settings {
            AutoCompaction::Off => {
                return Decision {
                    compact: None,
                    look_at_ms: None,
                };
            }
            AutoCompaction::Periodic { retention_ms } => (step_ms(retention_ms), true),
            AutoCompaction::Revision { .. } => (REVISION_INTERVAL_MS, false),
        };
        let next_ms = facts.now_ms.saturating_add(step_ms);
        let due_ms = match self.look_at_ms {
            // The clock has gone back: what was planned by it would come too late.
            Some(due_ms) if due_ms > next_ms => facts.now_ms,
            Some(due_ms) => due_ms,
            None if at_once => facts.now_ms,
            None => next_ms,
        };
        if facts.now_ms < due_ms {
            self.look_at_ms = Some(due_ms);
            return Decision {
                compact: None,
                look_at_ms: Some(due_ms),
            };
        }
        self.look_at_ms = Some(next_ms);
        let compact = facts.store.and_then(|store| {
            let revision = self.forgettable(facts.now_ms, &store)?;
            let worth_it = revision > store.compacted.max(FIRST_REVISION);
            (facts.leads && worth_it).then_some(revision)
        });
        Decision {
            compact,
            look_at_ms: Some(next_ms),
        }
    }

    /// What the look at `at_ms` asked for is done, by us or by somebody else. Without this the
    /// next look tries again.
    pub fn compacted(&mut self, at_ms: u64) {
        self.compacted_at_ms = Some(at_ms);
    }

    /// The revision below which nothing needs to be kept, if that is to be enforced now.
    fn forgettable(&mut self, now_ms: u64, store: &StoreFacts) -> Option<i64> {
        match self.settings {
            AutoCompaction::Off => None,
            AutoCompaction::Revision { keep } => Some(store.revision.saturating_sub_unsigned(keep)),
            AutoCompaction::Periodic { retention_ms } => {
                self.sample(now_ms, store);
                let aged = self.aged(now_ms.checked_sub(retention_ms)?)?;
                let period_ms = retention_ms.min(PERIOD_MS_MAX);
                let is_due = self
                    .compacted_at_ms
                    .is_none_or(|at_ms| now_ms < at_ms || now_ms - at_ms >= period_ms);
                is_due.then_some(aged)
            }
        }
    }

    fn sample(&mut self, now_ms: u64, store: &StoreFacts) {
        let newest = self.samples.back().map_or(0, |sample| sample.revision);
        if self.cluster_uuid != Some(store.cluster_uuid) || newest > store.revision {
            // Another history: its revisions say nothing about this one.
            self.samples.clear();
            self.cluster_uuid = Some(store.cluster_uuid);
        }
        while self
            .samples
            .back()
            .is_some_and(|sample| sample.at_ms > now_ms)
        {
            self.samples.pop_back();
        }
        if self
            .samples
            .back()
            .is_none_or(|sample| sample.revision < store.revision)
        {
            self.samples.push_back(Sample {
                at_ms: now_ms,
                revision: store.revision,
            });
        }
    }

    /// The newest revision known to have been reached by then; forgets those that came before.
    fn aged(&mut self, cutoff_ms: u64) -> Option<i64> {
        while self
            .samples
            .get(1)
            .is_some_and(|second| second.at_ms <= cutoff_ms)
        {
            self.samples.pop_front();
        }
        let oldest = self.samples.front()?;
        (oldest.at_ms <= cutoff_ms).then_some(oldest.revision)
    }
}

/// Time between two looks, rounded up: ten of them must not fall short of the period.
fn step_ms(retention_ms: u64) -> u64 {
    retention_ms
        .min(PERIOD_MS_MAX)
        .div_ceil(LOOKS_PER_PERIOD)
        .max(1)
}

#[cfg(test)]
mod tests;
