//! Which segments to rewrite: the oldest that are worth it, with neighbours as far as they fit.
//!
//! Decides from sizes alone. Must not know: how rewriting is done, which records are obsolete.

use super::manifest::{Listed, Manifest};
use super::segment::Segment;
use super::shared::Shared;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// A segment is rewritten when this share of it is dead, in percent.
const DEAD_PERCENT_MIN: u64 = 30;
/// A segment with less than this part of a full one alive is joined with a neighbour like it.
const SMALL_SHARE: u64 = 4;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Nothing is worth it.
    Nothing,
    /// Rewrite these, by position in the manifest.
    Rewrite(Range<usize>),
    /// See whether this one holds anything obsolete: it keeps tombstones of later ones alive.
    Check(usize),
}

/// Chooses the oldest segments that are worth rewriting, with neighbours as far as they fit.
pub(super) fn choose(shared: &Shared, manifest: &Manifest, compacted: u64) -> Choice {
    let sealed = manifest.sealed();
    let view = shared.view.read();
    let weighed: Vec<Weight> = sealed
        .iter()
        .map(|listed| {
            Weight::of(
                listed,
                &view.segments[&listed.id],
                shared.options.segment_bytes,
            )
        })
        .collect();
    let (mut floor, mut blocker) = (u64::MAX, None);
    for (at, (listed, weight)) in sealed.iter().zip(&weighed).enumerate() {
        // Tombstones kept for what they hide can go once everything before is free of it.
        let is_free = floor.min(compacted) >= listed.compacted_at;
        let freed = if is_free { weight.hiding } else { 0 };
        let joins = weight.is_small && weighed.get(at + 1).is_some_and(|next| next.is_small);
        if weight.is_much(weight.dead + freed) || joins {
            return Choice::Rewrite(at..extend(&weighed, at, shared.options.segment_bytes));
        }
        if weight.is_much(weight.hiding) && floor < compacted {
            return blocker.map_or(Choice::Nothing, Choice::Check);
        }
        if listed.compacted_at < floor {
            (floor, blocker) = (listed.compacted_at, Some(at));
        }
    }
    Choice::Nothing
}

/// The end of the run that begins at `at`: neighbours that are worth it, as long as all that is
/// live in them fits one segment.
fn extend(weighed: &[Weight], at: usize, full: u64) -> usize {
    let mut live = weighed[at].live();
    let mut end = at + 1;
    while let Some(next) = weighed.get(end) {
        live += next.live();
        if live > full || !(next.is_small || next.is_much(next.dead)) {
            break;
        }
        end += 1;
    }
    end
}

/// What a segment weighs.
struct Weight {
    /// Length of the file.
    len: u64,
    /// Of it, bytes of records that nobody needs.
    dead: u64,
    /// Of it, bytes of tombstones that are kept for what they hide.
    hiding: u64,
    /// So little is live that it is joined with a small neighbour.
    is_small: bool,
}

impl Weight {
    fn of(listed: &Listed, segment: &Segment, full: u64) -> Self {
        let dead = segment.dead.load(Ordering::Relaxed).min(listed.len);
        let hiding = segment
            .hiding
            .load(Ordering::Relaxed)
            .min(listed.len - dead);
        let is_small = listed.len - dead < full / SMALL_SHARE;
        Self {
            len: listed.len,
            dead,
            hiding,
            is_small,
        }
    }

    /// Whether getting rid of so many bytes is worth rewriting the segment.
    fn is_much(&self, bytes: u64) -> bool {
        bytes * 100 >= self.len * DEAD_PERCENT_MIN
    }

    fn live(&self) -> u64 {
        self.len - self.dead
    }
}
