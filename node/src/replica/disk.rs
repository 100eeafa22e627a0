//! The thread that owns the log on disk: takes all that is queued, writes once, syncs once.
//!
//! While a sync runs, whatever the replica asks for next gathers in the queue and shares the next
//! one. Any error ends the process (W6): there is no way to go on from an unknown log.
//! Must not know: Raft, who waits for the completion.

use super::inbox::Inbox;
use super::input::Input;
use crate::storage::{Error, Wal};
use quorate_raft::{LogIndex, Persist, PersistId, SnapshotMeta};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// How long an idle disk thread sleeps before it looks whether it was told to end.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

/// How long an append without room waits before it is tried again.
const NO_SPACE_WAIT: Duration = Duration::from_millis(200);

/// Something for the disk thread to do, in order.
pub(super) enum DiskJob {
    /// Make durable.
    Persist(Vec<Persist>),
    /// The log begins behind an installed snapshot.
    SaveBase(Box<SnapshotMeta>, SyncSender<()>),
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
    thread: Option<std::thread::JoinHandle<()>>,
}

/// In `waiting_since_ms`: nothing waits.
pub(super) const NOTHING_WAITS: u64 = u64::MAX;

impl DiskThread {
    pub(super) fn start(wal: Wal, completions: Inbox<Input>) -> std::io::Result<Self> {
        let queue: Inbox<DiskJob> = Inbox::default();
        let owned = queue.clone();
        let thread = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || run(wal, &owned, &completions))?;
        Ok(Self {
            queue,
            submitted: PersistId(0),
            waiting_since_ms: Arc::new(AtomicU64::new(NOTHING_WAITS)),
            thread: Some(thread),
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
        // failure that ends the process.
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

    /// Waits until everything handed over is durable and the thread has ended.
    pub(super) fn stop(&mut self) {
        self.push(DiskJob::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has ended the process, or fails the test that runs here.
            let _ = thread.join();
        }
    }
}

impl Drop for DiskThread {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut wal: Wal, queue: &Inbox<DiskJob>, completions: &Inbox<Input>) {
    let mut jobs = Vec::new();
    let mut idle_noted = true;
    loop {
        let wait = if idle_noted {
            IDLE_WAIT
        } else {
            Duration::ZERO
        };
        queue.wait_and_drain(&mut jobs, wait);
        if jobs.is_empty() {
            if let Err(error) = idle(&mut wal, &mut idle_noted) {
                return fail(completions, &error);
            }
            continue;
        }
        match carry_out(&mut wal, &mut jobs, completions) {
            Ok(true) => idle_noted = false,
            Ok(false) => return,
            Err(error) => return fail(completions, &error),
        }
    }
}

/// Nothing is queued: says what is synced, and prepares the next segment.
fn idle(wal: &mut Wal, noted: &mut bool) -> Result<(), Error> {
    if *noted {
        return Ok(());
    }
    *noted = true;
    wal.note_idle()?;
    match wal.prepare() {
        // Not needed yet; the append that needs it will say so.
        Err(Error::NoSpace { .. }) => Ok(()),
        other => other,
    }
}

/// Returns whether the thread goes on.
fn carry_out(
    wal: &mut Wal,
    jobs: &mut Vec<DiskJob>,
    completions: &Inbox<Input>,
) -> Result<bool, Error> {
    let mut batch: Vec<Persist> = Vec::new();
    let mut on = true;
    for job in jobs.drain(..) {
        match job {
            DiskJob::Persist(mut persist) => batch.append(&mut persist),
            DiskJob::SaveBase(meta, done) => {
                flush(wal, &mut batch, completions)?;
                wal.save_base(&meta)?;
                // The replica waits for it, unless it is being torn down.
                let _ = done.send(());
            }
            DiskJob::Barrier(done) => {
                flush(wal, &mut batch, completions)?;
                // As above.
                let _ = done.send(());
            }
            DiskJob::Release(up_to) => wal.release(up_to)?,
            DiskJob::Commit(commit) => wal.note_commit(commit),
            DiskJob::Stop => on = false,
        }
    }
    flush(wal, &mut batch, completions)?;
    if !on {
        wal.note_idle()?;
    }
    Ok(on)
}

fn flush(wal: &mut Wal, batch: &mut Vec<Persist>, completions: &Inbox<Input>) -> Result<(), Error> {
    let Some(last) = batch.last() else {
        return Ok(());
    };
    let last = last.id;
    append(wal, batch)?;
    wal.sync()?;
    batch.clear();
    // The replica has gone when it is torn down; what is durable stays so.
    let _ = completions.push_always(Input::Persisted(last));
    Ok(())
}

/// No room for a segment is no reason to lose what was promised: nothing was written, and the same
/// batch is tried again until there is room. Meanwhile nothing is acknowledged, and the watchdog
/// of the replica sees the stall and hands leadership over.
fn append(wal: &mut Wal, batch: &[Persist]) -> Result<(), Error> {
    let mut complained = false;
    loop {
        match wal.append(batch) {
            Err(error @ Error::NoSpace { .. }) => {
                if !complained {
                    tracing::error!(%error, "the log waits for space");
                    complained = true;
                }
                std::thread::sleep(NO_SPACE_WAIT);
            }
            other => return other.map(|_| ()),
        }
    }
}

fn fail(completions: &Inbox<Input>, error: &Error) {
    let _ = completions.push_always(Input::Failed(format!("write-ahead log: {error}")));
}
