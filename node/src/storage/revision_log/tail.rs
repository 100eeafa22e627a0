//! The part of the log that is not on disk yet: frames in memory, in order, shared with readers.
//!
//! Frames are gathered in an open chunk; a chunk that is full or about to be written is frozen,
//! after which readers and the flusher share it without copying. A frame never spans chunks.
//! Must not know: files, what is in a frame.

use bytes::Bytes;
use std::collections::VecDeque;

/// A chunk is frozen before it grows beyond this; a longer frame is a chunk of its own.
const CHUNK_BYTES: usize = 256 << 10;

/// A run of frames of one segment.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    /// Number of the segment.
    pub segment: u32,
    /// Offset of the first frame.
    pub start: u64,
    /// The frames.
    pub bytes: Bytes,
}

impl Chunk {
    /// Offset of what follows.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// Frames not yet durable, oldest first.
#[derive(Debug)]
pub(super) struct Tail {
    /// Frozen chunks, ascending by segment and offset, without gaps inside a segment.
    frozen: VecDeque<Chunk>,
    /// Bytes in `frozen`.
    frozen_bytes: u64,
    /// Segment that is being appended to.
    segment: u32,
    /// Offset of the first byte of `open`.
    open_start: u64,
    /// Frames of the open chunk.
    open: Vec<u8>,
}

impl Tail {
    /// An empty tail that continues `segment` at `offset`.
    pub fn new(segment: u32, offset: u64) -> Self {
        let (frozen, open) = (VecDeque::new(), Vec::new());
        Self {
            frozen,
            frozen_bytes: 0,
            segment,
            open_start: offset,
            open,
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.frozen_bytes + self.open.len() as u64
    }

    /// Where the next frame will stand.
    fn end(&self) -> u64 {
        self.open_start + self.open.len() as u64
    }

    /// Appends one frame, which must be meant for the end of the tail. Takes a large frame over
    /// instead of copying it.
    pub fn push(&mut self, frame: &mut Vec<u8>) {
        if self.open.len() + frame.len() > CHUNK_BYTES {
            self.freeze();
        }
        if frame.len() > CHUNK_BYTES {
            self.open = std::mem::take(frame);
            self.freeze();
        } else {
            self.open.extend_from_slice(frame);
            frame.clear();
        }
    }

    /// Goes on in another segment.
    pub fn roll(&mut self, segment: u32, offset: u64) {
        assert!(
            segment > self.segment,
            "segment {segment} does not follow {}",
            self.segment
        );
        self.freeze();
        self.segment = segment;
        self.open_start = offset;
    }

    /// The frame at `offset`; `None` when it is on disk only.
    pub fn get(&self, segment: u32, offset: u64, len: u32) -> Option<Bytes> {
        if segment == self.segment && offset >= self.open_start {
            let at = usize::try_from(offset - self.open_start).ok()?;
            let frame = self.open.get(at..at.checked_add(len as usize)?)?;
            return Some(Bytes::copy_from_slice(frame));
        }
        let after = self
            .frozen
            .partition_point(|c| (c.segment, c.start) <= (segment, offset));
        // The one before may be of an earlier segment: then the frame is on disk only.
        let chunk = self.frozen.get(after.checked_sub(1)?)?;
        if chunk.segment != segment {
            return None;
        }
        let at = usize::try_from(offset - chunk.start).ok()?;
        let end = at.checked_add(len as usize)?;
        (end <= chunk.bytes.len()).then(|| chunk.bytes.slice(at..end))
    }

    /// What there is of `segment` from offset `from` to `to`, frozen and shared, to be written.
    pub fn share(&mut self, segment: u32, from: u64, to: u64) -> Vec<Chunk> {
        if segment == self.segment && self.open_start < to {
            assert!(
                to <= self.end(),
                "asked for {to}, the tail ends at {}",
                self.end()
            );
            self.freeze();
        }
        let mut chunks = Vec::new();
        for chunk in self.frozen.iter().filter(|c| c.segment == segment) {
            let (start, end) = (chunk.start.max(from), chunk.end().min(to));
            if start < end {
                let cut = |offset: u64| (offset - chunk.start) as usize;
                let bytes = chunk.bytes.slice(cut(start)..cut(end));
                chunks.push(Chunk {
                    segment,
                    start,
                    bytes,
                });
            }
        }
        chunks
    }

    /// Forgets what is durable: all of earlier segments, and of `segment` what ends at `end`.
    pub fn release(&mut self, segment: u32, end: u64) {
        while let Some(chunk) = self.frozen.front() {
            if chunk.segment > segment || (chunk.segment == segment && chunk.end() > end) {
                break;
            }
            self.frozen_bytes -= chunk.bytes.len() as u64;
            self.frozen.pop_front();
        }
    }

    /// Makes the open chunk shareable.
    fn freeze(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.open));
        let chunk = Chunk {
            segment: self.segment,
            start: self.open_start,
            bytes,
        };
        self.open_start = chunk.end();
        self.frozen_bytes += chunk.bytes.len() as u64;
        self.frozen.push_back(chunk);
    }
}
