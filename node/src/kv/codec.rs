//! The bytes of replicated values: bounded little readers and writers shared by `command` and
//! `membership`.
//!
//! Integers are LEB128 varints of their 64-bit pattern, byte strings and lists carry their length
//! in front. Reading never panics, never reads past the end, and allocates only in proportion to
//! bytes that are present: a length is compared with what remains before it is believed.

use bytes::Bytes;

/// What is wrong with the bytes of a command or of membership data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends in the middle of a field.
    #[error("it ends at byte {at}, in the middle of a field")]
    Truncated {
        /// Where the field begins.
        at: usize,
    },
    /// A format version this code does not know.
    #[error("format version {0} is unknown")]
    Version(u8),
    /// A kind, flag or enumeration number this code does not know.
    #[error("unknown {what} {number} at byte {at}")]
    Unknown {
        /// Of what.
        what: &'static str,
        /// The number found.
        number: u64,
        /// Where.
        at: usize,
    },
    /// A varint of more than 64 bits.
    #[error("the number at byte {at} has more than 64 bits")]
    Overlong {
        /// Where it begins.
        at: usize,
    },
    /// More nested transactions, or more operations, than any request may have.
    #[error("too many nested items at byte {at}")]
    TooDeep {
        /// Where.
        at: usize,
    },
    /// Text that is not UTF-8.
    #[error("the text at byte {at} is not UTF-8")]
    Text {
        /// Where it begins.
        at: usize,
    },
    /// Bytes after the end of the value.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
}

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    buf: Vec<u8>,
}

impl Writer {
    /// A writer with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            buf: Vec::with_capacity(capacity),
        }
    }

    /// One raw byte.
    pub fn byte(&mut self, byte: u8) {
        self.buf.push(byte);
    }

    /// An unsigned number.
    pub fn u64(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.buf.push((number as u8) | 0x80);
            number >>= 7;
        }
        self.buf.push(number as u8);
    }

    /// A signed number, by its bit pattern: short for what is rarely negative.
    pub fn i64(&mut self, number: i64) {
        self.u64(number.cast_unsigned());
    }

    /// A length or count.
    pub fn len(&mut self, len: usize) {
        self.u64(len as u64);
    }

    /// A byte string with its length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len());
        self.buf.extend_from_slice(bytes);
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// A list of texts.
    pub fn texts(&mut self, texts: &[String]) {
        self.len(texts.len());
        for text in texts {
            self.bytes(text.as_bytes());
        }
    }

    /// Up to eight truth values in one byte, the first in the lowest bit.
    pub fn flags(&mut self, flags: &[bool]) {
        let byte = flags
            .iter()
            .rev()
            .fold(0, |byte, &flag| byte << 1 | u8::from(flag));
        self.buf.push(byte);
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.buf
    }
}

/// Takes fields from the front of shared bytes; byte strings are slices of them, not copies.
#[derive(Debug)]
pub struct Cursor<'a> {
    input: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the front of `input`.
    #[must_use]
    pub fn new(input: &'a Bytes) -> Self {
        Self { input, at: 0 }
    }

    /// Where the next field begins.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    fn remaining(&self) -> usize {
        self.input.len() - self.at
    }

    /// One raw byte.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self
            .input
            .get(self.at)
            .ok_or(DecodeError::Truncated { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    /// An unsigned number.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        let at = self.at;
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Overlong { at });
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::Overlong { at })
    }

    /// A signed number.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(self.u64()?.cast_signed())
    }

    /// A count of items of at least one byte each: never more than the bytes that remain.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let at = self.at;
        let len = self.u64()?;
        match usize::try_from(len) {
            Ok(len) if len <= self.remaining() => Ok(len),
            _ => Err(DecodeError::Truncated { at }),
        }
    }

    /// A byte string with its length.
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.count()?;
        let bytes = self.input.slice(self.at..self.at + len);
        self.at += len;
        Ok(bytes)
    }

    /// Exactly `N` bytes, without a length.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let at = self.at;
        let end = at.checked_add(N).ok_or(DecodeError::Truncated { at })?;
        let slice = self
            .input
            .get(at..end)
            .ok_or(DecodeError::Truncated { at })?;
        self.at = end;
        slice.try_into().map_err(|_| DecodeError::Truncated { at })
    }

    /// A text.
    pub fn text(&mut self) -> Result<String, DecodeError> {
        let at = self.at;
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Text { at })
    }

    /// A list of texts.
    pub fn texts(&mut self) -> Result<Vec<String>, DecodeError> {
        let count = self.count()?;
        (0..count).map(|_| self.text()).collect()
    }

    /// `N` truth values from one byte; bits beyond them must be 0.
    pub fn flags<const N: usize>(&mut self) -> Result<[bool; N], DecodeError> {
        let at = self.at;
        let byte = self.byte()?;
        if N < 8 && byte >> N != 0 {
            return Err(DecodeError::Unknown {
                what: "flags",
                number: byte.into(),
                at,
            });
        }
        Ok(std::array::from_fn(|bit| byte >> bit & 1 == 1))
    }

    /// Refuses bytes after the end.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}
