//! Reading a segment from front to back, frame by frame, with every checksum verified.
//!
//! Memory is bounded: one buffer of [`READ_BYTES`], or of the longest frame.
//! Must not know: what a frame means, what to do about a bad one (`recover.rs` decides).

use super::error::Error;
use super::frame::{self, ALIGN_BYTES, Header};
use crate::env::{File, read_full};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// A reader of one segment's frames.
pub(super) struct Scanner<'f> {
    file: &'f dyn File,
    path: &'f str,
    nonce: u64,
    /// Frames end here at the latest.
    limit: u64,
    /// Where the next frame starts.
    position: u64,
    /// Bytes of the file from `buffer_start` on.
    buffer: Vec<u8>,
    buffer_start: u64,
}

/// What stands at a position.
pub(super) enum Step<'b> {
    /// A whole frame.
    Frame {
        /// Where it starts.
        offset: u64,
        /// Its header.
        header: Header,
        /// All its bytes: header, body, padding.
        bytes: &'b [u8],
    },
    /// Not a frame of this segment.
    Bad {
        /// What is wrong there.
        what: &'static str,
    },
    /// The limit.
    End,
}

impl<'f> Scanner<'f> {
    /// A scanner of `file` from `from` up to `limit`.
    pub fn new(file: &'f dyn File, path: &'f str, nonce: u64, from: u64, limit: u64) -> Self {
        let (buffer, buffer_start) = (Vec::new(), from);
        Self {
            file,
            path,
            nonce,
            limit,
            position: from,
            buffer,
            buffer_start,
        }
    }

    /// Where the next frame starts; after a bad one, where that is.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next frame.
    pub fn next(&mut self) -> Result<Step<'_>, Error> {
        let offset = self.position;
        let left = usize::try_from(self.limit - offset).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(Step::End);
        }
        let nonce = self.nonce;
        let head = self.fill(offset, frame::HEADER_BYTES.min(left))?;
        let Some(header) = frame::decode_header(head, nonce, offset) else {
            return Ok(Step::Bad {
                what: "frame header",
            });
        };
        let frame_len = header.frame_len();
        if frame_len > left {
            return Ok(Step::Bad {
                what: "frame that runs past the end",
            });
        }
        let bytes = self.fill(offset, frame_len)?;
        if bytes.len() < frame_len {
            return Ok(Step::Bad {
                what: "frame that runs past the end",
            });
        }
        if !frame::body_is_whole(&header, &bytes[frame::HEADER_BYTES..], nonce, offset) {
            return Ok(Step::Bad {
                what: "checksum of a frame",
            });
        }
        self.position = offset + frame_len as u64;
        // Borrowed again: the position could not move while `bytes` was held.
        let at = (offset - self.buffer_start) as usize;
        Ok(Step::Frame {
            offset,
            header,
            bytes: &self.buffer[at..at + frame_len],
        })
    }

    /// Goes on behind a bad position: to the next place on the grid where a frame header stands
    /// that is whole. False when there is none.
    pub fn resume(&mut self) -> Result<bool, Error> {
        loop {
            self.position += ALIGN_BYTES;
            let offset = self.position;
            if offset + frame::HEADER_BYTES as u64 > self.limit {
                self.position = self.limit;
                return Ok(false);
            }
            let nonce = self.nonce;
            let head = self.fill(offset, frame::HEADER_BYTES)?;
            if frame::decode_header(head, nonce, offset).is_some() {
                return Ok(true);
            }
        }
    }

    /// `len` bytes from `offset`, fewer at the end of the file.
    fn fill(&mut self, offset: u64, len: usize) -> Result<&[u8], Error> {
        let buffered = self.buffer_start..self.buffer_start + self.buffer.len() as u64;
        if offset < buffered.start || offset + len as u64 > buffered.end {
            let left = usize::try_from(self.limit - offset).unwrap_or(usize::MAX);
            self.buffer.resize(len.max(READ_BYTES).min(left), 0);
            let read = read_full(self.file, &mut self.buffer, offset);
            self.buffer.truncate(read.map_err(Error::read(self.path))?);
            self.buffer_start = offset;
        }
        let at = (offset - self.buffer_start) as usize;
        Ok(&self.buffer[at..(at + len).min(self.buffer.len())])
    }
}
