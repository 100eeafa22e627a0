//! Walking through the keys of an interval at a revision, in bounded chunks.

use super::index::{Entry, Version, Want};
use super::state::{CHUNK_ENTRIES, Shared, State};
use super::types::Interval;
use std::ops::ControlFlow;

/// Which state is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// What readers see at a revision.
    At(i64),
    /// What the writer itself sees: everything in the index, also of its unfinished command.
    Own,
}

impl View {
    /// The version of `entry` in this view, if the key exists there.
    pub(super) fn of(self, entry: &Entry) -> Option<&Version> {
        match self {
            Self::At(revision) => entry.at(revision),
            Self::Own => Some(entry.latest()).filter(|version| !version.is_deletion()),
        }
    }

    /// Whether the counts of the tree are those of this view.
    pub(super) fn is_counted(self, state: &State) -> bool {
        match self {
            Self::At(revision) => state.is_exactly(revision),
            Self::Own => true,
        }
    }
}

/// In which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// A walk that can be interrupted between chunks, while the lock is not held.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    interval: &'a Interval,
    view: View,
    direction: Direction,
    /// Forward: the next key is at or after it. Backward: before it; none is the very end.
    next: Option<Vec<u8>>,
    done: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(interval: &'a Interval, view: View, direction: Direction) -> Self {
        let next = match (direction, interval) {
            (Direction::Forward, _) => Some(interval.start().to_vec()),
            (Direction::Backward, Interval::Between { end, .. }) => Some(end.to_vec()),
            (Direction::Backward, Interval::Key(_) | Interval::From(_)) => None,
        };
        Self {
            interval,
            view,
            direction,
            next,
            done: false,
        }
    }

    /// Whether nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Hands the keys of one chunk to `found`, which ends the whole walk by breaking.
    pub(super) fn step(
        &mut self,
        state: &State,
        mut found: impl FnMut(&[u8], &Version) -> ControlFlow<()>,
    ) {
        if let Interval::Key(key) = self.interval {
            if let Some(version) = state.index.get(key).and_then(|entry| self.view.of(entry)) {
                let _ = found(key, version);
            }
            self.done = true;
            return;
        }
        let want = if self.view.is_counted(state) {
            Want::Live
        } else {
            Want::All
        };
        let from = self.next.take();
        let mut left = CHUNK_ENTRIES;
        // Without a break from within, the visit came to the end.
        self.done = true;
        let mut visit = |entry: &Entry| {
            if !self.interval.contains(entry.key()) {
                return ControlFlow::Break(());
            }
            if left == 0 {
                self.done = false;
                self.next = Some(entry.key().to_vec());
                return ControlFlow::Break(());
            }
            left -= 1;
            match self.view.of(entry) {
                Some(version) => found(entry.key(), version),
                None => ControlFlow::Continue(()),
            }
        };
        match self.direction {
            Direction::Forward => {
                state
                    .index
                    .visit(from.as_deref().unwrap_or_default(), want, &mut visit);
            }
            Direction::Backward => {
                state.index.visit_back(from.as_deref(), want, &mut visit);
            }
        }
        if self.direction == Direction::Backward
            && let Some(next) = &mut self.next
        {
            // `next` itself has not been looked at; the next chunk begins before its successor.
            next.push(0);
        }
    }

    /// Walks to the end, taking the lock for each chunk.
    pub(super) fn run(
        mut self,
        shared: &Shared,
        mut found: impl FnMut(&[u8], &Version) -> ControlFlow<()>,
    ) {
        while !self.done {
            self.step(&shared.state.read(), &mut found);
        }
    }
}

/// How many keys of `interval` exist in `view`. O(log n) when the view is the newest state.
pub(super) fn count(shared: &Shared, interval: &Interval, view: View) -> u64 {
    let mut walk = Walk::new(interval, view, Direction::Forward);
    let mut count = 0;
    {
        let state = shared.state.read();
        if view.is_counted(&state) {
            return state.index.count(interval);
        }
        walk.step(&state, |_, _| {
            count += 1;
            ControlFlow::Continue(())
        });
    }
    walk.run(shared, |_, _| {
        count += 1;
        ControlFlow::Continue(())
    });
    count
}
