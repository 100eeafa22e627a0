//! The compactor in front of a replica of one.

use super::*;
use crate::env::real::SystemClock;
use crate::kv::Put;
use crate::replica::solo::Solo;
use std::sync::atomic::{AtomicU64, Ordering};

/// Time stands still until a test moves it.
#[derive(Default)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0
            .fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn monotonic_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn unix_ms(&self) -> u64 {
        self.monotonic_ns() / 1_000_000
    }
}

fn compactor(solo: &Solo, settings: AutoCompaction) -> AutoCompactor {
    with_clock(solo, settings, Arc::new(SystemClock::new()))
}

fn with_clock(solo: &Solo, settings: AutoCompaction, clock: Arc<dyn Clock>) -> AutoCompactor {
    let (_, settings) = watch::channel(settings);
    AutoCompactor::new(settings, solo.handle.clone(), clock)
}

async fn put(solo: &Solo, count: usize) {
    for _ in 0..count {
        let put = Put {
            key: "a".into(),
            ..Put::default()
        };
        solo.handle.propose(Op::Put(put)).await.unwrap();
    }
}

fn compacted(solo: &Solo) -> i64 {
    solo.handle.reader().unwrap().compact_revision().0
}

#[tokio::test]
async fn only_a_leader_proposes() {
    let (solo, clock) = (Solo::joined(), Arc::new(HandClock::default()));
    let settings = AutoCompaction::Revision { keep: 1 };
    let mut compactor = with_clock(&solo, settings, Arc::clone(&clock) as _);
    let interval = compactor.look().await.unwrap();
    assert_eq!(interval, Duration::from_secs(300));
    put(&solo, 5).await;
    for (role, expected) in [
        (Role::Follower, -1),
        (Role::Candidate, -1),
        (Role::Learner, -1),
        (Role::Leader, 5),
    ] {
        solo.change(|status| status.role = role);
        clock.advance(interval);
        assert_eq!(compactor.look().await, Some(interval));
        assert_eq!(compacted(&solo), expected, "{}", role.as_str());
    }
}

#[tokio::test]
async fn what_somebody_else_compacted_is_done_and_what_the_store_refuses_is_not() {
    let solo = Solo::joined();
    let compactor = compactor(&solo, AutoCompaction::Off);
    put(&solo, 3).await;
    for revision in [3, 3, 2] {
        compactor.propose(revision).await.unwrap();
    }
    assert_eq!(compacted(&solo), 3);
    let future = compactor.propose(99).await.unwrap_err();
    assert!(matches!(future, Failure::Refused(_)), "{future}");
}

#[tokio::test]
async fn without_a_whole_state_it_looks_again_later() {
    let settings = AutoCompaction::Periodic {
        retention_ms: 10_000,
    };
    for solo in [Solo::unjoined(), Solo::joined()] {
        solo.lose_state();
        let wait = compactor(&solo, settings).look().await.unwrap();
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
    }
}

#[tokio::test]
async fn its_thread_ends_when_it_is_told_to_also_when_it_has_nothing_to_do() {
    let solo = Solo::joined();
    let long = AutoCompaction::Revision { keep: 1 };
    for settings in [AutoCompaction::Off, long] {
        let shutdown = CancellationToken::new();
        let running = compactor(&solo, settings).start(shutdown.clone()).unwrap();
        shutdown.cancel();
        running.stopped().await;
    }
}
