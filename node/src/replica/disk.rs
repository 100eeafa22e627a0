//! The thread that owns the log on disk: takes all that is queued, writes once, syncs once.
//!
//! While a sync runs, whatever the replica asks for next gathers in the queue and shares the next
//! one. Any error ends the process (W6): there is no way to go on from an unknown log.
//! Must not know: Raft, who waits for the completion.

use super::inbox::Inbox;
use super::input::Input;
use crate::env::Clock;
use crate::metrics::Metrics;
use crate::storage::{Error, Wal};
use quorate_raft::{LogIndex, Persist, PersistId, SnapshotMeta};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// How long an idle disk thread sleeps before it looks whether it was told to end.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

/// How long nothing may be queued before it is noted on disk what is synced. A mark costs two
/// writes and a block of its own; between requests that follow each other it would be worth
/// nothing, because the next record says the same.
const MARK_DELAY: Duration = Duration::from_millis(20);

/// How long an append without room waits before it is tried again.
const NO_SPACE_WAIT: Duration = Duration::from_millis(200);

/// How long the end of the process waits for a disk that hangs. Nothing more is promised by then.
const STOP_WAIT: Duration = Duration::from_secs(3);

/// Something for the disk thread to do, in order.
pub(super) enum DiskJob {
    /// Make durable.
    Persist(Vec<Persist>),
    /// The log begins behind an installed snapshot.
    SaveBase(Box<SnapshotMeta>, SyncSender<()>),
    /// The log is whole again ([`Wal::repaired`]).
    Repaired(SyncSender<()>),
    /// Tell when everything before is durable.
    Barrier(SyncSender<()>),
    /// Entries up to here are needed no more.
    Release(LogIndex),
    /// Known committed; a hint for the next start.
    Commit(LogIndex),
    /// End the thread.
    Stop,
}

/// The replica's end of the disk thread.
pub(super) struct DiskThread {
    queue: Inbox<DiskJob>,
    /// Last persist handed over; the replica's thread alone changes it.
    pub(super) submitted: PersistId,
    /// When the oldest persist that is not durable was handed over.
    pub(super) waiting_since_ms: Arc<AtomicU64>,
    /// Closed when the thread ends.
    ended: Option<Receiver<()>>,
}

/// In `waiting_since_ms`: nothing waits.
pub(super) const NOTHING_WAITS: u64 = u64::MAX;

impl DiskThread {
    pub(super) fn start(
        wal: Wal,
        completions: Inbox<Input>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let queue: Inbox<DiskJob> = Inbox::default();
        let owned = CloseAtEnd {
            queue: queue.clone(),
            completions: completions.clone(),
        };
        let (ends, ended) = sync_channel(1);
        std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || {
                let _ends: SyncSender<()> = ends;
                let owner = Owner {
                    wal,
                    completions,
                    clock,
                    metrics,
                };
                owner.run(&owned.queue);
            })?;
        Ok(Self {
            queue,
            submitted: PersistId(0),
            waiting_since_ms: Arc::new(AtomicU64::new(NOTHING_WAITS)),
            ended: Some(ended),
        })
    }

    /// Hands over what is to be made durable.
    pub(super) fn persist(&mut self, persist: Vec<Persist>, now_ms: u64) {
        let Some(last) = persist.last() else { return };
        self.submitted = last.id;
        let (unset, order) = (NOTHING_WAITS, Ordering::Relaxed);
        // Set only when nothing waited before: the watchdog looks at the oldest.
        let _ = self
            .waiting_since_ms
            .compare_exchange(unset, now_ms, order, order);
        self.push(DiskJob::Persist(persist));
    }

    /// Hands over anything else.
    pub(super) fn push(&self, job: DiskJob) {
        // The queue is bounded by what the core allows to be uncommitted. It is closed only by a
        // failure that ends the process; who waits for the job then sees its sender dropped.
        let _ = self.queue.push_always(job);
    }

    /// Everything up to `durable` is.
    pub(super) fn completed(&self, durable: PersistId, now_ms: u64) {
        let waiting = if durable >= self.submitted {
            NOTHING_WAITS
        } else {
            now_ms
        };
        self.waiting_since_ms.store(waiting, Ordering::Relaxed);
    }

    /// Waits until everything handed over is durable and the thread has ended; for a disk that
    /// hangs, or has no room, only so long: the process must be able to end (F12).
    pub(super) fn stop(&mut self) {
        self.push(DiskJob::Stop);
        if let Some(ended) = self.ended.take()
            && ended.recv_timeout(STOP_WAIT) == Err(RecvTimeoutError::Timeout)
        {
            tracing::error!("the disk hangs; what waits to be synced was never acknowledged");
        }
    }
}

impl Drop for DiskThread {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whatever ends the thread, a panic included: nobody waits for a job that nobody takes.
struct CloseAtEnd {
    queue: Inbox<DiskJob>,
    completions: Inbox<Input>,
}

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        drop(self.queue.close());
        if std::thread::panicking() {
            let reason = "the disk thread has panicked; start the member again".to_owned();
            // The replica has gone when it is torn down.
            let _ = self.completions.push_always(Input::Failed(reason));
        }
    }
}

/// What the thread owns.
struct Owner {
    wal: Wal,
    completions: Inbox<Input>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// What has been done since the queue was empty.
enum Idle {
    /// Nothing: it may be empty or not.
    Busy,
    /// The next segment is there.
    Prepared,
    /// The disk says what is synced; there is nothing left to do.
    Noted,
}

impl Idle {
    /// How long to wait for jobs before going on to the next thing.
    const fn wait(&self) -> Duration {
        match self {
            Self::Busy => Duration::ZERO,
            Self::Prepared => MARK_DELAY,
            Self::Noted => IDLE_WAIT,
        }
    }
}

impl Owner {
    fn run(mut self, queue: &Inbox<DiskJob>) {
        let mut jobs = Vec::new();
        let mut idle = Idle::Noted;
        loop {
            queue.wait_and_drain(&mut jobs, idle.wait());
            let result = if jobs.is_empty() {
                self.idle(&mut idle).map(|()| true)
            } else {
                idle = Idle::Busy;
                self.carry_out(&mut jobs)
            };
            match result {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // The replica has gone when it is torn down.
                    let reason = format!("write-ahead log: {error}");
                    let _ = self.completions.push_always(Input::Failed(reason));
                    return;
                }
            }
        }
    }

    /// Nothing is queued: prepares the next segment, and after a while says what is synced.
    fn idle(&mut self, idle: &mut Idle) -> Result<(), Error> {
        match idle {
            Idle::Busy => {
                *idle = Idle::Prepared;
                match self.wal.prepare() {
                    // Not needed yet; the append that needs it will say so.
                    Err(Error::NoSpace { .. }) => Ok(()),
                    other => other,
                }
            }
            Idle::Prepared => {
                *idle = Idle::Noted;
                self.wal.note_idle()
            }
            Idle::Noted => Ok(()),
        }
    }

    /// Returns whether the thread goes on.
    fn carry_out(&mut self, jobs: &mut Vec<DiskJob>) -> Result<bool, Error> {
        let mut batch: Vec<Persist> = Vec::new();
        let mut on = true;
        for job in jobs.drain(..) {
            match job {
                DiskJob::Persist(mut persist) => batch.append(&mut persist),
                DiskJob::SaveBase(meta, done) => {
                    self.flush(&mut batch)?;
                    self.wal.save_base(&meta)?;
                    // The replica waits for it, unless it is being torn down.
                    let _ = done.send(());
                }
                DiskJob::Repaired(done) => {
                    self.flush(&mut batch)?;
                    self.with_room(Wal::repaired)?;
                    // As above.
                    let _ = done.send(());
                }
                DiskJob::Barrier(done) => {
                    self.flush(&mut batch)?;
                    // As above.
                    let _ = done.send(());
                }
                DiskJob::Release(up_to) => self.wal.release(up_to)?,
                DiskJob::Commit(commit) => self.wal.note_commit(commit),
                DiskJob::Stop => on = false,
            }
        }
        self.flush(&mut batch)?;
        if !on {
            self.wal.note_idle()?;
        }
        Ok(on)
    }

    fn flush(&mut self, batch: &mut Vec<Persist>) -> Result<(), Error> {
        let Some(last) = batch.last() else {
            return Ok(());
        };
        let last = last.id;
        let began_ns = self.clock.monotonic_ns();
        self.with_room(|wal| wal.append(batch).map(drop))?;
        let written_ns = self.clock.monotonic_ns();
        self.wal.sync()?;
        let synced_ns = self.clock.monotonic_ns();
        // Answers wait for this; the bookkeeping does not. The replica has gone when it is torn
        // down; what is durable stays so.
        let _ = self.completions.push_always(Input::Persisted(last));
        let seconds = |from: u64, to: u64| Duration::from_nanos(to - from).as_secs_f64();
        let storage = &self.metrics.storage;
        storage
            .wal_write_seconds
            .observe(seconds(began_ns, written_ns));
        storage
            .wal_fsync_seconds
            .observe(seconds(written_ns, synced_ns));
        let entries: usize = batch.iter().map(|persist| persist.entries.len()).sum();
        storage.wal_batch.observe(entries as f64);
        let segments = i64::try_from(self.wal.segment_count()).unwrap_or(i64::MAX);
        storage.wal_segments.set(segments);
        let written = i64::try_from(self.wal.written_bytes()).unwrap_or(i64::MAX);
        storage.wal_write_bytes.set(written);
        batch.clear();
        Ok(())
    }

    /// No room for a segment is no reason to lose what was promised: nothing was written, and the
    /// same is tried again until there is room. Meanwhile nothing is acknowledged, and the
    /// watchdog of the replica sees the stall and hands leadership over.
    fn with_room(
        &mut self,
        mut write: impl FnMut(&mut Wal) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut complained = false;
        loop {
            match write(&mut self.wal) {
                Err(error @ Error::NoSpace { .. }) => {
                    if !complained {
                        tracing::error!(%error, "the log waits for space");
                        complained = true;
                    }
                    std::thread::sleep(NO_SPACE_WAIT);
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::real::{RealDisk, SystemClock};
    use crate::storage::WalOptions;

    /// A disk thread that is given an index that skips others, and ends by it.
    fn failed(root: &std::path::Path) -> (DiskThread, Inbox<Input>) {
        let disk = Arc::new(RealDisk::new(root));
        let options = WalOptions::new([1; 16], 1);
        let (wal, _) = Wal::open(disk, "wal", options).unwrap();
        let completions = Inbox::default();
        let clock = Arc::new(SystemClock::new());
        let metrics = Arc::new(Metrics::default());
        let mut thread = DiskThread::start(wal, completions.clone(), clock, metrics).unwrap();
        let id = quorate_raft::EntryId {
            term: quorate_raft::Term(1),
            index: LogIndex(7),
        };
        let gap = quorate_raft::Entry {
            id,
            payload: quorate_raft::Payload::Empty,
        };
        let persist = Persist {
            id: PersistId(1),
            hard_state: None,
            entries: vec![gap],
        };
        thread.persist(vec![persist], 0);
        (thread, completions)
    }

    #[test]
    fn f12_nobody_waits_for_a_disk_thread_that_has_failed() {
        let root = tempfile::tempdir().unwrap();
        let (mut thread, completions) = failed(root.path());
        let mut inputs = Vec::new();
        while inputs.is_empty() {
            completions.wait_and_drain(&mut inputs, IDLE_WAIT);
        }
        assert!(matches!(inputs[..], [Input::Failed(_)]));
        let (told, done) = sync_channel(1);
        thread.push(DiskJob::Barrier(told));
        assert!(done.recv().is_err(), "it is told that nobody will do it");
        thread.stop();
    }
}
