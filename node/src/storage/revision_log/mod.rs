//! The revision log: append-only, segmented history of the state machine.
//!
//! Records are appended in apply order, in memory; each apply batch ends with a mark that says how
//! far the state machine has come. In the background, batches become durable, never ahead of the
//! local WAL (W10); full segments are sealed with an index; obsolete versions are rewritten away.
//! Recovery reads to the last complete mark, and the WAL is replayed from there.
//!
//! | File | What it does |
//! |---|---|
//! | `record`, `frame` | records as values, and as bytes with their checksums |
//! | `segment`, `seal`, `scan` | one file: header, footer, trailer; reading it front to back |
//! | `manifest`, `watermark` | which segments form the log; what is known to be durable |
//! | `tail`, `flush` | frames in memory, and how they get to disk |
//! | `recover` | from what is on disk to the last complete mark |
//! | `read` | records for readers, under a pin |
//! | `choose`, `rewrite`, `compact` | rewriting segments without what nobody needs |
//! | `snapshot`, `receive` | the log as chunks: sent, and received |
//! | `inspect` | what is there, for people |
//!
//! May assume: one process per directory (the data directory is locked), a disk whose sync keeps
//! what was written. Must not know: terms and votes, what keys and metas mean, sockets, time.
//! Caveat: a single disk block that takes both the end of the last synced batch and, in another
//! file, the watermark reads as torn; the WAL still covers that batch.

mod choose;
mod compact;
mod error;
mod flush;
mod frame;
mod inspect;
mod manifest;
mod read;
mod receive;
mod record;
mod recover;
mod rewrite;
mod scan;
mod seal;
mod segment;
mod shared;
mod snapshot;
mod tail;
mod watermark;

#[cfg(test)]
pub(crate) mod tests;

pub use compact::{Compacted, Compactor, KeyIndex, Moved};
pub use error::Error;
pub use inspect::{SegmentInfo, SegmentState, inspect, peek_row};
pub use read::{LogReader, Pin};
pub use receive::{Received, SnapshotReceiver};
pub use record::{AppliedMark, Location, MetaKind, Record, Recovered, Revision, Stored};
pub use seal::CHUNK_BYTES;
pub use snapshot::{Snapshot, SnapshotId, Snapshotter};

use crate::env::Disk;
use frame::Mark;
use quorate_raft::EntryId;
use recover::Batch;
use segment::Segment;
use shared::{MarkPoint, Shared, note_row};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// How the log is run. Every field has a default that suits production.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment is sealed at the first mark beyond this many bytes.
    pub segment_bytes: u64,
    /// Frames in memory beyond which [`RevisionLog::is_over_limit`] says so.
    pub tail_bytes_max: u64,
    /// The flusher waits until this much can be written, or until `flush_delay_ms` has passed.
    pub flush_bytes: u64,
    /// Longest wait of the flusher with something to write, in milliseconds.
    pub flush_delay_ms: u64,
    /// Mixed into the nonce of every segment: unlike for any other member and incarnation.
    pub identity: u64,
    /// Whether a thread flushes; without one, the owner calls [`RevisionLog::flush_step`].
    pub background: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            tail_bytes_max: 64 << 20,
            flush_bytes: 1 << 20,
            flush_delay_ms: 100,
            identity: 0,
            background: true,
        }
    }
}

/// A snapshot that a peer's data came from, kept with it (D3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Where the snapshot stood.
    pub mark: AppliedMark,
    /// The opaque bytes that the sender gave along (the encoded snapshot meta).
    pub meta: Vec<u8>,
}

/// What `open` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The last complete mark; the WAL is replayed from there.
    pub mark: AppliedMark,
    /// The newest snapshot that was installed, if any ever was.
    pub installed: Option<Installed>,
}

/// Bytes of the log, for `db_size` and `db_size_in_use`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// All bytes, on disk and in the tail.
    pub total: u64,
    /// Without those of records reported dead.
    pub in_use: u64,
}

/// What a call of [`RevisionLog::flush_step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing may be written.
    Idle,
    /// Something was written and synced; there may be more.
    Worked,
}

/// The log, owned by the one thread that applies. Dropping it ends the flusher, which first writes
/// what it may.
pub struct RevisionLog {
    shared: Arc<Shared>,
    /// The segment being appended to.
    active: Arc<Segment>,
    /// Offset of the next frame in it.
    end: u64,
    /// The frame being encoded; kept for its memory.
    frame: Vec<u8>,
    /// The apply batch that is open.
    batch: Batch,
    /// The last mark.
    mark: AppliedMark,
    /// The newest compacted revision.
    compacted: u64,
    /// The background thread.
    flusher: Option<JoinHandle<()>>,
}

impl RevisionLog {
    /// Opens the log in `dir`, created when absent, and reports every record to `visit`, oldest
    /// first: of sealed segments from their footers, of the last one by reading it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when anything that was durable is damaged or missing: the log is left as
    /// it is, and what `visit` was told is void. [`Error::Version`] for a newer format.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        options: Options,
        visit: &mut dyn FnMut(Recovered<'_>),
    ) -> Result<(Self, Opened), Error> {
        recover::open(disk, dir, options, visit)
    }

    /// Appends one record in memory: no IO. It is readable at once through its location.
    ///
    /// # Panics
    /// When the record is longer than 256 MiB: requests are bounded far below.
    pub fn append(&mut self, record: &Record<'_>) -> Location {
        let crc = frame::encode_record(&mut self.frame, self.active.nonce, self.end, record);
        self.batch.add(crc);
        let len = u32::try_from(self.frame.len()).expect("BODY_BYTES_MAX bounds a frame");
        let location = Location::new(self.active.id, self.end, len);
        self.push();
        match *record {
            Record::Meta { kind, key, bytes } => {
                let mut rows = self.shared.rows.lock();
                let before = note_row(&mut rows, kind, key, location, bytes.is_empty());
                drop(rows);
                // A record that says "gone" is itself of use only until the older ones are gone.
                let useless = before
                    .into_iter()
                    .chain(bytes.is_empty().then_some(location));
                useless.for_each(|useless| self.shared.note_dead(useless));
            }
            Record::Compaction { revision } => {
                self.compacted = self.compacted.max(revision);
                self.shared.progress.lock().appended_compaction = self.compacted;
            }
            Record::Put { .. } | Record::Delete { .. } => {}
        }
        location
    }

    /// Ends an apply batch, also one without records. Nothing of a batch survives a crash without
    /// its mark.
    ///
    /// # Panics
    /// When `mark` is behind the last one: the state machine never goes back.
    pub fn mark(&mut self, mark: AppliedMark) {
        let last = self.mark.applied.index;
        assert!(
            mark.applied.index >= last,
            "mark {} after {last}",
            mark.applied.index
        );
        let Batch {
            records,
            crc: batch_crc,
        } = std::mem::take(&mut self.batch);
        let synced = self.active.synced.load(Ordering::Acquire);
        let on_disk = Mark {
            said: mark,
            synced,
            records,
            batch_crc,
        };
        frame::encode_mark(&mut self.frame, self.active.nonce, self.end, &on_disk);
        self.push();
        self.mark = mark;
        let (segment, end, compacted) = (self.active.id, self.end, self.compacted);
        let next = (end >= self.shared.options.segment_bytes).then(|| self.roll());
        self.announce(MarkPoint {
            segment,
            end,
            said: mark,
            compacted,
            next,
        });
    }

    /// The last mark, durable or not.
    #[must_use]
    pub const fn last_mark(&self) -> AppliedMark {
        self.mark
    }

    /// Reads a record of the owner's; see [`Pin::read`].
    ///
    /// # Errors
    /// Those of [`Pin::read`].
    pub fn read(&self, location: Location) -> Result<Stored, Error> {
        self.reader().pin().read(location)
    }

    /// A handle for readers.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// Rewrites segments; one per log, driven by a background thread.
    #[must_use]
    pub fn compactor(&self) -> Compactor {
        Compactor::new(Arc::clone(&self.shared))
    }

    /// Takes snapshots, from any thread.
    #[must_use]
    pub fn snapshotter(&self) -> Snapshotter {
        Snapshotter::new(Arc::clone(&self.shared))
    }

    /// The last entry whose effects are durable here: the WAL may be released behind it.
    #[must_use]
    pub fn synced(&self) -> EntryId {
        self.shared.progress.lock().synced.applied
    }

    /// Bytes in memory that are not durable yet.
    #[must_use]
    pub fn tail_bytes(&self) -> u64 {
        self.shared.view.read().tail.bytes()
    }

    /// Whether applying should pause until the flusher has caught up.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        self.tail_bytes() > self.shared.options.tail_bytes_max
    }

    /// Writes and syncs, in the caller's thread, what may be written.
    ///
    /// # Errors
    /// Any is final: the process must stop (W6).
    pub fn flush_step(&self) -> Result<Flushed, Error> {
        flush::step(&self.shared)
    }

    /// The text of the error that ended flushing in the background: the process must stop (W6).
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.shared.failure.get().map(String::as_str)
    }

    /// Bytes of the log.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.shared.sizes()
    }

    /// Hands the encoded frame to the tail.
    fn push(&mut self) {
        self.end += self.frame.len() as u64;
        self.shared.view.write().tail.push(&mut self.frame);
    }

    /// Goes on in a new segment, in memory; the flusher follows. Answers its number.
    fn roll(&mut self) -> u32 {
        let shared = &self.shared;
        let id = shared.allocate_segment();
        let nonce = segment::nonce(shared.options.identity, id);
        self.active = Arc::new(Segment::new(&shared.dir, id, nonce, segment::HEADER_BYTES));
        self.end = segment::HEADER_BYTES;
        let mut view = shared.view.write();
        view.tail.roll(id, self.end);
        view.segments.insert(id, Arc::clone(&self.active));
        id
    }

    /// Tells the flusher about a mark, and wakes it when it is worth waking.
    fn announce(&self, point: MarkPoint) {
        let enough = self.tail_bytes() >= self.shared.options.flush_bytes || point.next.is_some();
        let mut progress = self.shared.progress.lock();
        progress.marks.push_back(point);
        let due = point.said.applied.index <= progress.allowed;
        let wake = (progress.idle && due) || (enough && !progress.hurry);
        progress.hurry |= enough;
        drop(progress);
        if wake {
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for RevisionLog {
    fn drop(&mut self) {
        self.shared.progress.lock().stop = true;
        self.shared.wake.notify_one();
        if let Some(flusher) = self.flusher.take() {
            // A flusher that panicked has said so; there is nobody left to tell.
            let _ = flusher.join();
        }
    }
}
