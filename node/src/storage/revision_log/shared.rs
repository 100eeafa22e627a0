//! State that the appender, readers, the flusher and the compactor share, and who guards what.
//!
//! | Guarded by | What | Held for |
//! |---|---|---|
//! | `view` | memory tail, known segments, pins | a copy of at most one chunk; never IO |
//! | `progress` | marks to flush, limits, what is synced | a few instructions |
//! | `flush` | the file being written | writes and syncs of the tail |
//! | `manifest` | the list of segments on disk | writing it: a few syncs |
//!
//! Taken in the order `flush`, `manifest`, `view`, `progress`; the appender takes only the last
//! two.

use super::error::Error;
use super::flush::Flush;
use super::manifest::Manifest;
use super::read::Handles;
use super::record::{AppliedMark, Location, MetaKind};
use super::segment::Segment;
use super::tail::Tail;
use super::{Options, Sizes};
use crate::env::Disk;
use parking_lot::{Condvar, Mutex, RwLock};
use quorate_raft::LogIndex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Everything behind a [`super::RevisionLog`] and its handles.
pub(super) struct Shared {
    /// The door.
    pub disk: Arc<dyn Disk>,
    /// Directory of the log.
    pub dir: String,
    /// As given at open.
    pub options: Options,
    /// What readers look at.
    pub view: RwLock<View>,
    /// What the flusher may do and has done.
    pub progress: Mutex<Progress>,
    /// Wakes the flusher when `progress` changed.
    pub wake: Condvar,
    /// The segment being written.
    pub flush: Mutex<Flush>,
    /// The list of segments, as on disk.
    pub manifest: Mutex<Manifest>,
    /// Number of the next segment, unique for the life of the directory.
    pub next_segment: AtomicU32,
    /// Open files for reading.
    pub handles: Handles,
    /// Text of the first fatal error.
    pub failure: OnceLock<String>,
    /// Text of the first damage that a reader found.
    pub damage: OnceLock<String>,
    /// The newest row of each kind and key.
    pub rows: Mutex<Rows>,
}

/// What readers look at.
pub(super) struct View {
    /// Frames not on disk yet.
    pub tail: Tail,
    /// Every segment that a location may name, retired ones included.
    pub segments: BTreeMap<u32, Arc<Segment>>,
    /// Held by every pin taken since the last retirement.
    pub epoch: Arc<()>,
    /// Segments that left the log, with the epoch of the pins that may still need them.
    pub retired: VecDeque<(Arc<()>, Vec<u32>)>,
}

/// A mark in the tail, to be flushed.
#[derive(Clone, Copy, Debug)]
pub(super) struct MarkPoint {
    /// Segment that holds it.
    pub segment: u32,
    /// Offset of what follows the mark.
    pub end: u64,
    /// What it says.
    pub said: AppliedMark,
    /// The newest compacted revision at the mark.
    pub compacted: u64,
    /// The segment ends here: seal it, and go on in this one.
    pub next: Option<u32>,
}

/// What the flusher may do and has done.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Marks not yet durable, oldest first. Bounded: each has taken bytes of the bounded tail.
    pub marks: VecDeque<MarkPoint>,
    /// Marks up to this index may become durable (W10).
    pub allowed: LogIndex,
    /// The last durable mark.
    pub synced: AppliedMark,
    /// The newest compacted revision that is durable.
    pub synced_compaction: u64,
    /// The newest compacted revision that was appended, durable or not.
    pub appended_compaction: u64,
    /// The flusher waits for something to write, rather than for more of it.
    pub idle: bool,
    /// Enough waits to be written: do not wait for more.
    pub hurry: bool,
    /// The background thread is to end.
    pub stop: bool,
}

/// One opaque row: where its newest record stands, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The newest record.
    pub newest: Location,
    /// It says that the row is gone.
    pub gone: bool,
    /// Records of this row on disk or in the tail, the newest included. A record that says "gone"
    /// may go only when it is the last one, else an older record would come back to life.
    pub copies: u32,
}

/// The newest opaque rows, by kind and key.
pub(super) type Rows = BTreeMap<(MetaKind, Box<[u8]>), Row>;

/// Notes that a record of a row was found or appended. Answers where the one before stands: nobody
/// needs that any more.
pub(super) fn note_row(
    rows: &mut Rows,
    kind: MetaKind,
    key: &[u8],
    newest: Location,
    gone: bool,
) -> Option<Location> {
    let before = rows.get(&(kind, key.into())).copied();
    let copies = before.map_or(0, |row| row.copies) + 1;
    rows.insert(
        (kind, key.into()),
        Row {
            newest,
            gone,
            copies,
        },
    );
    before.map(|row| row.newest)
}

impl Shared {
    /// Refuses to go on after a fatal error.
    pub fn check(&self) -> Result<(), Error> {
        match self.failure.get() {
            Some(first) => Err(Error::Stopped {
                first: first.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Remembers a fatal error and tells the owner.
    pub fn note_failure(&self, error: &Error) {
        if error.is_fatal() && self.failure.set(error.to_string()).is_ok() {
            tracing::error!(%error, "revision log: writing failed, the member must stop");
        }
    }

    /// The number of a new segment.
    pub fn allocate_segment(&self) -> u32 {
        let id = self.next_segment.fetch_add(1, Ordering::Relaxed);
        assert!(id < u32::MAX, "segment numbers are used up");
        id
    }

    /// Whether a record is durable.
    pub fn is_synced(&self, location: Location) -> bool {
        let view = self.view.read();
        let segment = view.segments.get(&location.segment());
        segment.is_some_and(|s| location.end() <= s.synced.load(Ordering::Acquire))
    }

    /// Bytes of a segment that are durable.
    pub fn synced_bytes(&self, id: u32) -> u64 {
        self.view.read().segments[&id]
            .synced
            .load(Ordering::Acquire)
    }

    /// Notes that nobody needs a record any more.
    pub fn note_dead(&self, location: Location) {
        let view = self.view.read();
        if let Some(segment) = view.segments.get(&location.segment()) {
            segment
                .dead
                .fetch_add(u64::from(location.disk_bytes()), Ordering::Relaxed);
        }
    }

    /// Bytes in all, and bytes that live records take.
    pub fn sizes(&self) -> Sizes {
        let view = self.view.read();
        let mut sizes = Sizes {
            total: view.tail.bytes(),
            in_use: view.tail.bytes(),
        };
        for segment in view.segments.values().filter(|s| !s.is_retired()) {
            let len = segment.len.load(Ordering::Relaxed);
            let dead = segment.dead.load(Ordering::Relaxed);
            sizes.total += len;
            sizes.in_use += len.saturating_sub(dead);
        }
        sizes
    }
}
