//! Frames: what cuts the byte stream between two members into messages.
//!
//! A frame is `length: u32 | crc: u32 | kind: u8 | body`, little-endian; `length` counts kind and
//! body, and `crc` is CRC-32C over length, kind and body, so that a damaged length is found before
//! it is believed for long. Memory grows with the bytes received, never with a length claimed.
//! Must not know: what a body says.

use std::io::{self, Read};

/// Bytes before the kind: length and checksum.
pub const HEADER_BYTES: usize = 8;
/// Longest frame accepted (kind and body). Holds one append with its largest entry, and a batch
/// of forwarded proposals.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// Bytes asked from the socket at once.
const READ_BYTES: usize = 64 << 10;

/// Why a stream of frames cannot go on; the connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer closed the connection between two frames.
    #[error("closed by the peer")]
    Closed,
    /// The peer closed the connection within a frame.
    #[error("closed by the peer within a frame")]
    ClosedWithin,
    /// The socket failed.
    #[error("{0}")]
    Io(io::Error),
    /// The length is zero or beyond the bound.
    #[error("a frame claims {claimed} bytes; 1 to {max} are allowed: is this a Quorate peer?")]
    Length {
        /// What the header says.
        claimed: usize,
        /// The bound in force: lower until the other side has said who it is.
        max: usize,
    },
    /// The checksum does not match.
    #[error("a frame is damaged: checksum {found:08x}, expected {expected:08x}")]
    Checksum {
        /// As computed over what arrived.
        found: u32,
        /// As sent.
        expected: u32,
    },
}

/// Appends a frame of `kind` to `out`; `body` appends the body.
///
/// # Panics
/// When the body is longer than [`FRAME_BYTES_MAX`]: senders bound what they put into a frame.
pub fn put_frame(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    out.push(kind);
    body(out);
    let len = out.len() - start - HEADER_BYTES;
    assert!(
        len <= FRAME_BYTES_MAX,
        "a frame of {len} bytes is beyond the bound"
    );
    let len_bytes = u32::try_from(len).expect("bounded above").to_le_bytes();
    let crc = checksum(len_bytes, &out[start + HEADER_BYTES..]);
    out[start..start + 4].copy_from_slice(&len_bytes);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn checksum(len: [u8; 4], rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&len), rest)
}

/// Cuts a stream into frames.
pub struct FrameReader<R> {
    stream: R,
    /// Longest frame that is taken.
    frame_bytes_max: usize,
    buffer: Vec<u8>,
    /// Bytes of `buffer` handed out already.
    start: usize,
    /// Bytes of `buffer` filled.
    end: usize,
}

impl<R: Read> FrameReader<R> {
    /// Reads frames from `stream`.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            frame_bytes_max: FRAME_BYTES_MAX,
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
        }
    }

    /// From now on refuses frames longer than this: a caller who has not said who it is may not
    /// make us hold much.
    pub fn limit(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max.min(FRAME_BYTES_MAX);
    }

    /// The next frame as (kind, body); waits for bytes as the stream does.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is unusable afterwards.
    pub fn next_frame(&mut self) -> Result<(u8, &[u8]), FrameError> {
        loop {
            if let Some(len) = self.complete()? {
                let from = self.start + HEADER_BYTES;
                self.start = from + len;
                let frame = &self.buffer[from..from + len];
                return Ok((frame[0], &frame[1..]));
            }
            self.fill()?;
        }
    }

    /// Whether a whole frame has arrived already: the caller may go on without waiting.
    pub fn has_frame(&self) -> bool {
        self.complete().is_ok_and(|len| len.is_some())
    }

    /// The stream underneath.
    pub fn stream(&self) -> &R {
        &self.stream
    }

    /// Length of the frame at `start` when it is complete and whole.
    fn complete(&self) -> Result<Option<usize>, FrameError> {
        let bytes = &self.buffer[self.start..self.end];
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *header;
        let len_bytes = [l0, l1, l2, l3];
        let len = u32::from_le_bytes(len_bytes) as usize;
        if len == 0 || len > self.frame_bytes_max {
            return Err(FrameError::Length {
                claimed: len,
                max: self.frame_bytes_max,
            });
        }
        let Some(frame) = rest.get(..len) else {
            return Ok(None);
        };
        let expected = u32::from_le_bytes([c0, c1, c2, c3]);
        let found = checksum(len_bytes, frame);
        if found != expected {
            return Err(FrameError::Checksum { found, expected });
        }
        Ok(Some(len))
    }

    fn fill(&mut self) -> Result<(), FrameError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            // Doubles with what has arrived: a hostile length alone allocates nothing.
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let read = loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(FrameError::Io)?,
            }
        };
        if read == 0 {
            let within = self.end > 0;
            return Err(if within {
                FrameError::ClosedWithin
            } else {
                FrameError::Closed
            });
        }
        self.end += read;
        // A single large frame must not hold its memory for ever.
        if self.end < READ_BYTES / 2 && self.buffer.len() > 4 * READ_BYTES {
            self.buffer.truncate(READ_BYTES);
            self.buffer.shrink_to_fit();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_frame(&mut out, kind, |out| out.extend_from_slice(body));
        out
    }

    #[test]
    fn the_bytes_of_a_frame_are_fixed() {
        assert_eq!(
            frame(3, b"hi"),
            [3, 0, 0, 0, 0x56, 0x71, 0xe9, 0xed, 3, b'h', b'i'],
            "the peer protocol changed: raise its version"
        );
    }

    #[test]
    fn a_zero_or_huge_length_is_refused_before_anything_is_allocated() {
        for len in [0u32, u32::MAX, FRAME_BYTES_MAX as u32 + 1] {
            let mut bytes = len.to_le_bytes().to_vec();
            bytes.extend_from_slice(&[0; 12]);
            let mut reader = FrameReader::new(bytes.as_slice());
            assert!(
                matches!(reader.next_frame(), Err(FrameError::Length { .. })),
                "length {len}"
            );
            assert_eq!(reader.buffer.len(), READ_BYTES);
        }
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_says_so() {
        let bytes = frame(1, &[7; 100]);
        let mut reader = FrameReader::new(&bytes[..50]);
        assert!(matches!(reader.next_frame(), Err(FrameError::ClosedWithin)));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut_of_the_stream(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
            step in 1usize..97,
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(9, body)).collect();
            let mut reader = FrameReader::new(Dribble { bytes: &stream, step });
            for body in &bodies {
                let (kind, found) = reader.next_frame().unwrap();
                prop_assert_eq!(kind, 9);
                prop_assert_eq!(found, &body[..]);
            }
            prop_assert!(matches!(reader.next_frame(), Err(FrameError::Closed)));
        }

        #[test]
        fn a_flipped_bit_is_never_delivered(
            body in prop::collection::vec(any::<u8>(), 0..200),
            bit in any::<prop::sample::Index>(),
        ) {
            let mut bytes = frame(1, &body);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(FrameReader::new(bytes.as_slice()).next_frame().is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let mut reader = FrameReader::new(bytes.as_slice());
            while reader.next_frame().is_ok() {}
        }
    }

    struct Dribble<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Dribble<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let len = self.step.min(buf.len()).min(self.bytes.len());
            let (head, rest) = self.bytes.split_at(len);
            buf[..len].copy_from_slice(head);
            self.bytes = rest;
            Ok(len)
        }
    }
}
