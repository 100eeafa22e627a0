//! Automatic compaction: the leader forgets old revisions, by time or by number, as etcd does.
//!
//! [`schedule`] decides; this file looks at the replica, proposes what was decided, like any
//! client, and waits. The settings may change at any time and take effect at once.
//! Assumes nothing about who leads. Must not know: the log, the network, where settings come from.

pub mod schedule;
#[cfg(test)]
pub(crate) mod tests;

use crate::config::AutoCompaction;
use crate::env::Clock;
use crate::kv::{self, Compact, Op, Revision};
use crate::replica::{Handle, RequestError, Role};
use schedule::{Decision, Facts, Schedule, StoreFacts};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Why a compaction was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Refused(#[from] kv::Error),
}

/// Looks and compacts, one thing at a time.
pub struct AutoCompactor {
    settings: watch::Receiver<AutoCompaction>,
    handle: Handle,
    clock: Arc<dyn Clock>,
    schedule: Schedule,
}

/// The thread of an [`AutoCompactor`].
pub struct Running {
    /// Closed when the thread ends; nothing is ever sent.
    ended: oneshot::Receiver<()>,
}

impl Running {
    /// Waits until the thread has ended.
    pub async fn stopped(self) {
        let _ = self.ended.await;
    }
}

impl AutoCompactor {
    /// One that has not looked yet.
    #[must_use]
    pub fn new(
        settings: watch::Receiver<AutoCompaction>,
        handle: Handle,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            settings,
            handle,
            clock,
            schedule: Schedule::default(),
        }
    }

    /// Gives it a thread until `shutdown` is cancelled. Turned off, the thread only waits.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start(mut self, shutdown: CancellationToken) -> io::Result<Running> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("auto-compaction".to_owned())
            .spawn(move || {
                let _end: oneshot::Sender<()> = end;
                runtime.block_on(self.run(&shutdown));
            })?;
        Ok(Running { ended })
    }

    async fn run(&mut self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let wait = tokio::select! {
                wait = self.look() => wait,
                () = shutdown.cancelled() => return,
            };
            tokio::select! {
                () = pause(wait) => {}
                () = changed(&mut self.settings) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Decides from what is true now, carries it out, and says how long there is nothing to do;
    /// `None`: until the settings change.
    pub async fn look(&mut self) -> Option<Duration> {
        let settings = *self.settings.borrow_and_update();
        self.schedule.set(settings);
        let facts = self.facts();
        let Decision {
            compact,
            look_at_ms,
        } = self.schedule.look(&facts);
        if let Some(revision) = compact {
            self.compact(revision, settings, facts.now_ms).await;
        }
        let wait_ms = look_at_ms?.saturating_sub(self.now_ms());
        Some(Duration::from_millis(wait_ms))
    }

    fn facts(&self) -> Facts {
        let status = self.handle.status();
        let store = self.handle.reader().zip(status.cluster_uuid);
        Facts {
            now_ms: self.now_ms(),
            leads: status.role == Role::Leader,
            store: store.map(|(reader, cluster_uuid)| StoreFacts {
                cluster_uuid,
                revision: reader.revision().0,
                compacted: reader.compact_revision().0,
            }),
        }
    }

    async fn compact(&mut self, revision: i64, settings: AutoCompaction, at_ms: u64) {
        let done = self.propose(revision).await;
        let took = Duration::from_millis(self.now_ms().saturating_sub(at_ms));
        match done {
            Ok(()) => {
                self.schedule.compacted(at_ms);
                tracing::info!(revision, %settings, ?took, "completed auto compaction");
            }
            Err(error) => tracing::warn!(
                revision,
                %settings,
                ?took,
                %error,
                "failed auto compaction; it is tried again at the next look"
            ),
        }
    }

    async fn propose(&self, revision: i64) -> Result<(), Failure> {
        let compact = Compact {
            revision: Revision(revision),
            physical: false,
        };
        match self.handle.propose(Op::Compact(compact)).await?.result {
            // Somebody else was faster.
            Ok(_) | Err(kv::Error::Compacted { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn now_ms(&self) -> u64 {
        self.clock.monotonic_ns() / 1_000_000
    }
}

async fn pause(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

async fn changed(settings: &mut watch::Receiver<AutoCompaction>) {
    if settings.changed().await.is_err() {
        // Nobody is left who could change them.
        std::future::pending().await
    }
}
