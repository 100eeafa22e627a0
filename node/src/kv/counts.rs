//! Counts of what is left after a page, for clients that list an old revision page by page.
//!
//! The tree counts the newest state only. A page of an older one would have to count all that
//! follows it by walking, each page anew. What is alive at a revision never changes, so the count
//! behind a page follows from the count of the page.

use super::types::Interval;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Pages remembered; one per listing in progress is needed.
const PAGES_MAX: usize = 256;

#[derive(Debug, PartialEq, Eq)]
struct Page {
    revision: i64,
    start: Bytes,
    end: Option<Bytes>,
}

/// The newest pages last.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pages: Mutex<VecDeque<(Page, u64)>>,
}

fn page(revision: i64, start: Bytes, interval: &Interval) -> Option<Page> {
    let end = match interval {
        Interval::Key(_) => return None,
        Interval::From(_) => None,
        Interval::Between { end, .. } => Some(end.clone()),
    };
    Some(Page {
        revision,
        start,
        end,
    })
}

impl Counts {
    /// How many keys of `interval` are alive at `revision`, if a page before it told.
    pub(super) fn get(&self, revision: i64, interval: &Interval) -> Option<u64> {
        let wanted = page(revision, interval.start().clone(), interval)?;
        let pages = self.pages.lock();
        pages
            .iter()
            .rev()
            .find(|(page, _)| *page == wanted)
            .map(|(_, count)| *count)
    }

    /// Notes that `count` keys of `interval` follow `last`.
    pub(super) fn note(&self, revision: i64, interval: &Interval, last: &[u8], count: u64) {
        // Where a client goes on: the smallest key after `last`.
        let start = Bytes::from([last, &[0]].concat());
        let Some(next) = page(revision, start, interval) else {
            return;
        };
        let mut pages = self.pages.lock();
        if pages.len() == PAGES_MAX {
            pages.pop_front();
        }
        pages.push_back((next, count));
    }
}
