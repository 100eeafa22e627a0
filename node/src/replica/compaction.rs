//! The thread that compacts in the background, with a budget: it works a fraction of the time.
//!
//! Must not know: what is compacted, what clients see (nothing they see depends on it).

use super::inbox::Inbox;
use super::input::Input;
use crate::env::Clock;
use crate::kv::{Compactor, Progress, Pruned};
use crate::metrics::Metrics;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a segment rewritten at once.
const STEP_BYTES: u64 = 1 << 20;
/// After a step the thread rests this many times as long as the step took: a quarter of one core.
const REST: u32 = 3;
/// Shortest rest after a step.
const REST_MIN: Duration = Duration::from_micros(200);
/// How long it waits for a long read to end, or for something to become durable.
const WAITING: Duration = Duration::from_millis(100);
/// How often it looks whether there is something to do.
const IDLE: Duration = Duration::from_millis(500);

struct Stop {
    stopped: Mutex<bool>,
    wake: Condvar,
}

/// A running compactor; dropping it ends the thread within a step.
pub(super) struct CompactionThread {
    stop: Arc<Stop>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl CompactionThread {
    pub(super) fn start(
        compactor: Compactor,
        clock: Arc<dyn Clock>,
        inbox: Inbox<Input>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(Stop {
            stopped: Mutex::new(false),
            wake: Condvar::new(),
        });
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("compaction".to_owned())
            .spawn(move || run(compactor, &*clock, &told, &inbox, &metrics))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for CompactionThread {
    fn drop(&mut self) {
        *self.stop.stopped.lock() = true;
        self.stop.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(
    mut compactor: Compactor,
    clock: &dyn Clock,
    stop: &Stop,
    inbox: &Inbox<Input>,
    metrics: &Metrics,
) {
    let mut stopped = stop.stopped.lock();
    while !*stopped {
        drop(stopped);
        let began_ns = clock.monotonic_ns();
        let rest = match compactor.step(STEP_BYTES) {
            Ok(Pruned::Worked) => {
                let took = Duration::from_nanos(clock.monotonic_ns() - began_ns);
                (took * REST).max(REST_MIN)
            }
            Ok(Pruned::Waiting) => WAITING,
            Ok(Pruned::Idle) => IDLE,
            Err(error) if error.is_fatal() => {
                // The replica has gone when it is torn down.
                let _ = inbox.push_always(Input::Failed(format!("compaction: {error}")));
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "compaction is tried again later");
                IDLE
            }
        };
        let Progress { removed, finished } = compactor.take_progress();
        metrics.storage.compacted_keys.inc_by(removed);
        if finished {
            let now_s = i64::try_from(clock.unix_ms() / 1_000).unwrap_or(i64::MAX);
            metrics.storage.compaction_last.set(now_s);
        }
        stopped = stop.stopped.lock();
        if !*stopped {
            stop.wake.wait_for(&mut stopped, rest);
        }
    }
}
