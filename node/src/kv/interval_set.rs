//! A set of keys made of intervals, merged as they come, so that a request with very many of them
//! is still checked in O(n log n).

use super::types::Interval;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Disjoint intervals by their start; no end means "all from here".
#[derive(Debug, Default)]
pub(super) struct IntervalSet {
    merged: BTreeMap<Bytes, Option<Bytes>>,
}

impl IntervalSet {
    /// Adds all keys of `interval`.
    pub(super) fn add(&mut self, interval: &Interval) {
        match interval {
            Interval::Key(key) => {
                let end = Bytes::from([key.as_ref(), &[0]].concat());
                self.insert(key.clone(), Some(end));
            }
            Interval::From(start) => self.insert(start.clone(), None),
            Interval::Between { start, end } if start < end => {
                self.insert(start.clone(), Some(end.clone()));
            }
            Interval::Between { .. } => {}
        }
    }

    /// Adds all keys of `other`.
    pub(super) fn add_all(&mut self, other: Self) {
        for (start, end) in other.merged {
            self.insert(start, end);
        }
    }

    /// Whether `key` is in the set.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let last = self.merged.range::<[u8], _>(upto).next_back();
        last.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end.as_ref()))
    }

    fn insert(&mut self, mut start: Bytes, mut end: Option<Bytes>) {
        // Those that touch or overlap are the last ones that begin at or before our end.
        loop {
            let upto = (
                Bound::Unbounded,
                end.as_ref().map_or(Bound::Unbounded, Bound::Included),
            );
            let Some((from, to)) = self.merged.range::<Bytes, _>(upto).next_back() else {
                break;
            };
            if to.as_ref().is_some_and(|to| *to < start) {
                break;
            }
            let (from, to) = (from.clone(), to.clone());
            self.merged.remove(&from);
            start = start.min(from);
            // No end is later than any end.
            end = end.zip(to).map(|(ours, theirs)| ours.max(theirs));
        }
        self.merged.insert(start, end);
    }
}
