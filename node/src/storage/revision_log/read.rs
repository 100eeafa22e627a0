//! Reading records from any thread, without blocking the writer.
//!
//! A record is served from the memory tail while it is there, else by one positional read whose
//! checksums are verified every time (N8). No mapping, no cache of our own: the page cache holds
//! what is hot, and resident memory stays small.
//! Must not know: which records are wanted, what a key is.

use super::Sizes;
use super::error::Error;
use super::frame;
use super::record::{Location, Stored};
use super::segment::Segment;
use super::shared::Shared;
use crate::env::{File, OpenMode, read_full};
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files kept open for reading. Beyond it, the one used longest ago is closed.
const OPEN_FILES_MAX: usize = 128;

/// Reads records from any thread. Cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    /// A reader of the log behind `shared`.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Keeps every record readable that can be looked up from now on, until the pin is dropped.
    /// Take it before looking into the key index.
    #[must_use]
    pub fn pin(&self) -> Pin {
        let epoch = Arc::clone(&self.shared.view.read().epoch);
        Pin {
            shared: Arc::clone(&self.shared),
            _epoch: epoch,
        }
    }

    /// Reports that no revision needs the record any more, so that compaction may drop it.
    pub fn note_dead(&self, location: Location) {
        self.shared.note_dead(location);
    }

    /// Bytes of the log.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.shared.sizes()
    }

    /// The first damage that any reader has found since the log was opened.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.shared.damage.get().map(String::as_str)
    }
}

/// Keeps segments readable; see [`LogReader::pin`]. While one lives, compaction deletes nothing
/// that it may need: hold it for a request, not for a session.
#[derive(Clone)]
pub struct Pin {
    shared: Arc<Shared>,
    /// Counted by `compact.rs`: a retired segment goes when no pin of its time is left.
    _epoch: Arc<()>,
}

impl Pin {
    /// Reads the record at `location`, which was looked up under this pin.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with segment and offset when a checksum does not match: never wrong
    /// data. [`Error::Read`] when the device fails. [`Error::Moved`] when the location is older
    /// than the pin and compaction has removed it.
    pub fn read(&self, location: Location) -> Result<Stored, Error> {
        let read = self.read_verified(location);
        if let Err(error @ Error::Corrupt { .. }) = &read
            && self.shared.damage.set(error.to_string()).is_ok()
        {
            tracing::error!(%error, "stored history of this member is damaged");
        }
        read
    }

    fn read_verified(&self, location: Location) -> Result<Stored, Error> {
        let (in_tail, segment) = {
            let view = self.shared.view.read();
            let (id, offset) = (location.segment(), location.offset());
            match view.tail.get(id, offset, location.disk_bytes()) {
                Some(frame) => (Some(frame), view.segments.get(&id).cloned()),
                None => (None, view.segments.get(&id).cloned()),
            }
        };
        let segment = segment.ok_or(Error::Moved {
            segment: location.segment(),
        })?;
        let frame = match in_tail {
            Some(frame) => frame,
            None => self.shared.handles.read(&self.shared, &segment, location)?,
        };
        verified(frame, &segment, location)
    }

    /// The value at `location`, without a copy when it is in memory.
    ///
    /// # Errors
    /// Those of [`Pin::read`].
    pub fn read_value(&self, location: Location) -> Result<Bytes, Error> {
        Ok(self.read(location)?.value())
    }
}

/// Checks a frame that was read: the record that was written at this location, or an error.
fn verified(frame: Bytes, segment: &Segment, location: Location) -> Result<Stored, Error> {
    let corrupt = |what| Error::Corrupt {
        path: segment.path.clone(),
        segment: segment.id,
        offset: location.offset(),
        what,
    };
    let (nonce, offset) = (segment.nonce, location.offset());
    let header = frame::decode_header(&frame, nonce, offset)
        .filter(|header| header.frame_len() == frame.len())
        .ok_or_else(|| corrupt("frame header"))?;
    let body = &frame[frame::HEADER_BYTES..];
    if !frame::body_is_whole(&header, body, nonce, offset) {
        return Err(corrupt("checksum of a record"));
    }
    if frame::decode_record(&header, &body[..header.body_len as usize]).is_none() {
        return Err(corrupt("body of a record"));
    }
    Ok(Stored::new(frame, header))
}

/// Files open for reading, bounded.
#[derive(Default)]
pub(super) struct Handles {
    open: RwLock<BTreeMap<u32, Arc<Handle>>>,
    /// Counts uses: the clock of "longest ago".
    uses: AtomicU64,
}

/// One open file.
struct Handle {
    file: Box<dyn File>,
    used: AtomicU64,
}

impl Handles {
    /// Reads the bytes at a location.
    fn read(&self, shared: &Shared, segment: &Segment, at: Location) -> Result<Bytes, Error> {
        let handle = self.get(shared, segment)?;
        let mut bytes = vec![0; at.disk_bytes() as usize];
        let read = read_full(handle.file.as_ref(), &mut bytes, at.offset());
        let read = read.map_err(Error::read(&segment.path))?;
        if read < bytes.len() {
            let (path, what) = (segment.path.clone(), "record that runs past the end");
            let (segment, offset) = (segment.id, at.offset());
            return Err(Error::Corrupt {
                path,
                segment,
                offset,
                what,
            });
        }
        Ok(Bytes::from(bytes))
    }

    /// The open file of a segment, opened when it is not.
    fn get(&self, shared: &Shared, segment: &Segment) -> Result<Arc<Handle>, Error> {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        if let Some(handle) = self.open.read().get(&segment.id) {
            handle.used.store(now, Ordering::Relaxed);
            return Ok(Arc::clone(handle));
        }
        let file = shared.disk.open(&segment.path, OpenMode::ReadOnly);
        let file = file.map_err(Error::read(&segment.path))?;
        let handle = Arc::new(Handle {
            file,
            used: AtomicU64::new(now),
        });
        let mut open = self.open.write();
        if open.len() >= OPEN_FILES_MAX {
            let used = |h: &Arc<Handle>| h.used.load(Ordering::Relaxed);
            let oldest = open.iter().min_by_key(|(_, h)| used(h)).map(|(id, _)| *id);
            oldest.and_then(|id| open.remove(&id));
        }
        open.insert(segment.id, Arc::clone(&handle));
        Ok(handle)
    }

    /// Closes the file of a segment that is about to be removed.
    pub fn close(&self, id: u32) {
        self.open.write().remove(&id);
    }
}
