//! Which cluster is looked at next, and when. Pure: time comes in as a value.
//!
//! One pass per cluster at a time and a bounded number in all, so that a cluster that never
//! becomes ready delays no other (H54). Whoever fails waits longer each time. Must not know: what a
//! pass does, what woke a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::Requeue;
use crate::planted::Bug;

/// Between the first sign of a change and the pass, so that signs that come together cost one pass.
const SETTLE: Duration = Duration::from_millis(50);
/// After a first look that found something to wait for; doubles while nothing else happens.
const SOON: Duration = Duration::from_millis(250);
/// The longest such pause.
const SOON_MAX: Duration = Duration::from_secs(5);
/// While a refusal stands.
const REFUSED: Duration = Duration::from_secs(15);
/// When nothing is to be done.
const IDLE: Duration = Duration::from_secs(60);
/// After a pass that failed; doubles with each in a row.
const FAILED: Duration = Duration::from_secs(1);
/// The longest such pause.
const FAILED_MAX: Duration = Duration::from_secs(60);

/// A cluster, by namespace and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How a pass ended, as far as the queue is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// When the plan wants another look.
    Again(Requeue),
    /// It failed as a whole.
    Failed,
    /// The cluster is gone.
    Gone,
}

#[derive(Clone, Debug)]
struct Entry {
    due: Instant,
    running: bool,
    /// A change was seen while a pass ran.
    touched: bool,
    /// It is to be dropped when its pass ends.
    dropped: bool,
    /// Looks in a row that found something to wait for, or passes in a row that failed.
    streak: u32,
    last: Option<Ended>,
}

/// The clusters and when each is due.
#[derive(Debug)]
pub struct Queue {
    entries: BTreeMap<Key, Entry>,
    running: usize,
    running_max: usize,
}

impl Queue {
    /// With at most this many passes at the same time.
    #[must_use]
    pub fn new(running_max: usize) -> Queue {
        Queue {
            entries: BTreeMap::new(),
            running: 0,
            running_max: running_max.max(1),
        }
    }

    /// A cluster, or something of it, has changed.
    pub fn touch(&mut self, key: Key, now: Instant) {
        let due = now + SETTLE;
        let entry = self.entries.entry(key).or_insert(Entry {
            due,
            running: false,
            touched: false,
            dropped: false,
            streak: 0,
            last: None,
        });
        entry.dropped = false;
        if entry.running {
            entry.touched = true;
        } else if entry.last != Some(Ended::Failed) {
            // Who fails is not hurried by the traces of its own failures.
            entry.due = entry.due.min(due);
        }
    }

    /// The cluster is in the queue.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.entries.get(key).is_some_and(|entry| !entry.dropped)
    }

    /// The cluster is nobody's business of ours any more.
    pub fn drop_key(&mut self, key: &Key) {
        match self.entries.get_mut(key) {
            Some(entry) if entry.running => entry.dropped = true,
            _ => drop(self.entries.remove(key)),
        }
    }

    /// The cluster that has been due longest, if a pass may begin. Its pass is to be ended by
    /// [`Queue::end`].
    pub fn take(&mut self, now: Instant) -> Option<Key> {
        let alone = Bug::OneClusterAtATime.lives() && self.running > 0;
        if self.running >= self.running_max || alone {
            return None;
        }
        let waiting = self.entries.iter_mut().filter(|(_, entry)| !entry.running);
        let (key, entry) = waiting.min_by_key(|(_, entry)| entry.due)?;
        if entry.due > now {
            return None;
        }
        entry.running = true;
        entry.touched = false;
        self.running += 1;
        Some(key.clone())
    }

    /// A pass has ended. `jitter` is a number from 0 to 255 that spreads pauses.
    pub fn end(&mut self, key: &Key, ended: Ended, jitter: u8, now: Instant) {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.running) else {
            return;
        };
        self.running -= 1;
        if entry.dropped || (ended == Ended::Gone && !entry.touched) {
            self.entries.remove(key);
            return;
        }
        entry.running = false;
        entry.streak = match entry.last == Some(ended) && !matches!(ended, Ended::Gone) {
            true => entry.streak.saturating_add(1),
            false => 0,
        };
        entry.last = Some(ended);
        let doubled = |first: Duration, max: Duration| {
            first.saturating_mul(1 << entry.streak.min(10)).min(max)
        };
        let pause = match ended {
            Ended::Again(Requeue::Now) | Ended::Gone => Duration::ZERO,
            Ended::Again(Requeue::Soon) => doubled(SOON, SOON_MAX),
            Ended::Again(Requeue::Refused) => REFUSED,
            Ended::Again(Requeue::Idle) => IDLE,
            Ended::Failed => doubled(FAILED, FAILED_MAX),
        };
        let spread = pause / 4 * u32::from(jitter) / 256;
        entry.due = now + pause + spread;
        if entry.touched && ended != Ended::Failed {
            entry.due = entry.due.min(now + SETTLE);
        }
    }

    /// When the next pass may begin; `None` while none may, or there is no cluster.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        if self.running >= self.running_max {
            return None;
        }
        let waiting = self.entries.values().filter(|entry| !entry.running);
        waiting.map(|entry| entry.due).min()
    }

    /// Clusters that are due and wait for their turn.
    #[must_use]
    pub fn depth(&self, now: Instant) -> usize {
        let due = |entry: &&Entry| !entry.running && entry.due <= now;
        self.entries.values().filter(due).count()
    }

    /// Passes that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key {
            namespace: "data".to_owned(),
            name: name.to_owned(),
        }
    }

    /// Any moment: the tests count from it.
    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "an arbitrary moment to count from"
        )]
        Instant::from_std(std::time::Instant::now())
    }

    #[test]
    fn one_that_never_ends_delays_no_other_and_is_not_begun_twice() {
        let now = start();
        let mut queue = Queue::new(2);
        queue.touch(key("stuck"), now);
        let later = now + SETTLE;
        assert_eq!(queue.take(later), Some(key("stuck")));
        for _ in 0..50 {
            queue.touch(key("stuck"), later);
            queue.touch(key("other"), later);
            assert_eq!(queue.take(later + SETTLE), Some(key("other")));
            assert_eq!(
                queue.take(later + SETTLE),
                None,
                "two passes of one cluster"
            );
            queue.end(&key("other"), Ended::Again(Requeue::Idle), 0, later);
        }
    }

    #[test]
    fn no_more_passes_run_than_allowed_and_the_longest_waiting_goes_first() {
        let now = start();
        let mut queue = Queue::new(2);
        for (index, name) in ["c", "b", "a"].into_iter().enumerate() {
            queue.touch(key(name), now + Duration::from_millis(index as u64));
        }
        let later = now + Duration::from_secs(1);
        assert_eq!(queue.depth(later), 3);
        assert_eq!(queue.take(later), Some(key("c")));
        assert_eq!(queue.take(later), Some(key("b")));
        assert_eq!(queue.take(later), None);
        assert_eq!(queue.next(), None);
        queue.end(&key("c"), Ended::Gone, 0, later);
        assert_eq!(queue.take(later), Some(key("a")));
    }

    #[test]
    fn a_change_during_a_pass_is_looked_at_after_it() {
        let now = start();
        let mut queue = Queue::new(1);
        queue.touch(key("a"), now);
        let now = now + SETTLE;
        assert!(queue.take(now).is_some());
        queue.touch(key("a"), now);
        queue.end(&key("a"), Ended::Again(Requeue::Idle), 0, now);
        assert_eq!(queue.next(), Some(now + SETTLE));
        assert!(queue.take(now + SETTLE).is_some());
        queue.touch(key("a"), now);
        // It was deleted and made again while the pass found nothing.
        queue.end(&key("a"), Ended::Gone, 0, now);
        assert!(queue.next().is_some());
    }

    #[test]
    fn failures_in_a_row_pause_longer_and_changes_do_not_hurry_them() {
        let mut now = start();
        let mut queue = Queue::new(1);
        queue.touch(key("a"), now);
        now += SETTLE;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(queue.take(now).is_some());
            queue.end(&key("a"), Ended::Failed, 0, now);
            queue.touch(key("a"), now);
            let due = queue.next().unwrap();
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(queue.take(now).is_some());
        queue.end(&key("a"), Ended::Again(Requeue::Soon), 255, now);
        let due = queue.next().unwrap() - now;
        assert!(due > SOON && due < SOON * 2, "{due:?}");
    }
}
